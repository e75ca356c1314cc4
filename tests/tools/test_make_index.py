import json
import subprocess
import sys
from pathlib import Path

from sslprune.zoo.index import open_index, shipped

ROOT = Path(__file__).resolve().parents[2]


def test_the_index_and_the_readme_follow_from_the_bundled_models():
    check = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "make_index.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stderr


def test_every_alias_leads_to_a_family(monkeypatch, tmp_path):
    monkeypatch.setenv("SSLPRUNE_ZOO", str(tmp_path))
    index = open_index()
    aliases = json.loads(shipped().read_text())["aliases"]
    assert aliases.items() <= index.aliases.items()
    assert set(aliases.values()) <= set(index.families())
