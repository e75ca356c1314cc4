"""The drift check must see each kind of drift, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools/check_map.py"
MAP = "- `sslprune/`: the facade\n- `sslprune/masks.py`: masks\n- `sslprune/prune/`: the laws\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    files = {
        "CONTRIBUTING.md": MAP,
        "sslprune/__init__.py": "",
        "sslprune/masks.py": "",
        "sslprune/prune/__init__.py": "",
        ".ci/run": "ls ../neighbour/pictures\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    return tmp_path


def check(checkout: Path) -> tuple[int, str]:
    done = subprocess.run([sys.executable, str(TOOL), str(checkout)], capture_output=True, text=True)
    return done.returncode, done.stderr


def test_agreement_passes(checkout: Path) -> None:
    assert check(checkout) == (0, "")


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("sslprune/step.py", "", "0 lines for `sslprune/step.py`"),
        ("sslprune/zoo/__init__.py", "", "0 lines for `sslprune/zoo/`"),
        ("CONTRIBUTING.md", MAP + "- `sslprune/masks.py`: again\n", "2 lines for `sslprune/masks.py`"),
        ("CONTRIBUTING.md", MAP + "- `sslprune/gone.py`: was here\n", "`sslprune/gone.py` is on the map but not"),
        ("notes.md", "see " + "/home" + "/ada/data\n", "notes.md: names a place outside of the project"),
        ("recipe.toml", 'data = "../neighbour/pictures"\n', "recipe.toml: names a place outside of the project"),
    ],
)
def test_drift_is_named(checkout: Path, name: str, text: str, complaint: str) -> None:
    (checkout / name).parent.mkdir(exist_ok=True)
    (checkout / name).write_text(text)
    code, said = check(checkout)
    assert code == 1
    assert complaint in said
    assert said.count("\n") == 1


def test_an_imaginary_home_a_web_address_and_binary_files_are_no_places(checkout: Path) -> None:
    (checkout / "links.md").write_text("https://example.org" + "/home" + "/page, ./work/here, /home/someone/data\n")
    (checkout / "weights.bin").write_bytes(b"\xff\xfe" + b"/root" + b"/x")
    assert check(checkout) == (0, "")
