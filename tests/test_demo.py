"""The demo measures what it prints, and leaves nothing behind but the picture."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

import sslprune
from sslprune import demo
from sslprune.cli import main
from sslprune.demo import Family, Measured
from sslprune.zoo.index import index_table, open_index, read_index, shipped

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

NAME = "bluenet-resnet20-toy-keep5%"


@pytest.fixture
def bundled(zoo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundled family that comes, by its name, before all published ones."""
    folder = zoo.copy(NAME, tmp_path / "shop" / "bundled" / NAME.removesuffix("%"))
    path = tmp_path / "shop" / "zoo.json"
    path.write_text(json.dumps(index_table([folder], {"bluenet": "bluenet-resnet20-toy"})))
    monkeypatch.setenv("SSLPRUNE_INDEX", str(path))
    monkeypatch.setenv("SSLPRUNE_ZOO", str(tmp_path / "empty"))
    return path


def rung(name: str, keep: float) -> Measured:
    return Measured(name, keep, 70_000, 96.0, 93.0, "layer1", 2.0)


def test_the_bundled_part_from_the_shell(
    bundled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], zoo: Any
) -> None:
    picture = tmp_path / "demo.png"
    assert main(["demo", "--no-train", "--out", str(picture), "--json"]) == 0
    found = capsys.readouterr()
    document = json.loads(found.out)
    assert (document["schema"], document["picture"]) == (1, str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")
    rows = document["rows"]
    assert [row["name"] for row in rows] == [NAME, "random network"]
    assert rows[0]["family"] == "Bundled: bluenet-resnet20-toy"
    assert rows[0]["keep"] == zoo.masks[NAME].keep
    assert rows[0]["bytes"] == (zoo.folder(NAME) / "sparse.safetensors").stat().st_size
    assert rows[0]["bytes"] < rows[0]["dense_bytes"] / 10
    for row in rows:
        assert 50 < row["linear"] <= 100
        assert 50 < row["knn"] <= 100
        assert row["milliseconds"] > 0
    assert NAME in found.err


def test_the_next_step_names_a_model_that_is_there(bundled: Path) -> None:
    there = Family("Bundled", [rung(NAME.replace("5%", "100%"), 1.0), rung(NAME, 0.05)], rung("random", 1.0), 10**6)
    gone = Family("Trained", [rung("rotnet-resnet20-nowhere-keep5%", 0.05)], rung("random", 1.0), 10**6)
    for families in ([there], [there, gone], [gone, there]):
        line = demo.next_step(families)
        assert f"sslprune.load('{NAME}')" in line
        assert "\n" not in line
    assert sslprune.load(NAME).sslprune.name == NAME
    for families in ([gone], []):
        assert "nowhere" not in demo.next_step(families)


def test_nothing_bundled_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if read_index(shipped())[0]:
        pytest.skip("there are bundled models")
    monkeypatch.delenv("SSLPRUNE_INDEX", raising=False)
    monkeypatch.setenv("SSLPRUNE_ZOO", str(tmp_path))
    assert main(["demo", "--no-train", "--out", str(tmp_path / "demo.png")]) == 1
    assert "no model is bundled" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_bundled_networks_are_measured() -> None:
    entries = [entry for entry in open_index().entries if entry.status == "bundled"]
    if not entries:
        pytest.skip("no model is bundled")
    said: list[str] = []
    family = demo.bundled_family(say=said.append)
    assert family is not None
    assert [rung.name for rung in family.rungs] == [
        str(entry.name) for entry in entries if entry.name.family == entries[0].name.family
    ]
    assert len(said) == len(family.rungs)
    best = max(rung.linear for rung in family.rungs)
    assert best > family.floor.linear


@pytest.mark.slow
def test_the_whole_chain_in_small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    said: list[str] = []
    family = demo.own_family(say=said.append, progress=False)
    assert dict(os.environ) == before
    assert list(tmp_path.iterdir()) == []
    assert [round(rung.keep, 3) for rung in family.rungs] == [1.0, 0.2, 0.05, 0.01]
    sizes = [rung.bytes for rung in family.rungs]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < family.dense_bytes / 20
    assert len(said) == 4
    assert all(80 < rung.linear <= 100 for rung in family.rungs)
