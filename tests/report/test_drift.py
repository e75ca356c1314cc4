"""The committed page and figures are what the committed rows give."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from sslprune.cli import main

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "paper.md"
FIGURES = ROOT / "docs" / "figures"


@pytest.mark.skipif(not PAGE.exists(), reason="docs/paper.md is not there yet")
def test_the_page_and_its_figures_are_made_of_the_committed_rows(tmp_path, monkeypatch, capsys):
    matplotlib = pytest.importorskip("matplotlib")
    shutil.copytree(ROOT / "docs" / "results", tmp_path / "docs" / "results")
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    command = shlex.split(text.rpartition("```sh\n")[2].partition("\n```")[0])
    assert command == ["sslprune", "report", "docs/results", "--out", "docs"]
    assert main(command[1:]) == 0, capsys.readouterr().err

    assert (tmp_path / "docs" / "paper.md").read_text(encoding="utf-8") == text, f"run: {shlex.join(command)}"
    linked = set(re.findall(r"figures/([\w.-]+\.(?:svg|png))", text))
    made = {path.name for path in (tmp_path / "docs" / "figures").iterdir()}
    assert made == linked
    assert linked <= {path.name for path in FIGURES.iterdir()}
    for name in sorted(linked):
        committed, fresh = (FIGURES / name).read_bytes(), (tmp_path / "docs" / "figures" / name).read_bytes()
        if name.endswith(".svg") and f"Matplotlib v{matplotlib.__version__},".encode() in committed:
            assert fresh == committed, f"docs/figures/{name} has drifted: run {shlex.join(command)}"
