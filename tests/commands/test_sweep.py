"""`sslprune sweep`: what it lists and prints without running, and who may sweep."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from sslprune.cli import main
from sslprune.config import Recipe
from sslprune.sweep.cells import cells_of
from sslprune.sweep.grid import Grid
from sslprune.sweep.place import Place

GRID = """
[[runs]]
recipe = "retrain.toml"
masks_of = ["rotnet-test_byobnet-digits"]
grid = { seed = [0, 1], "mask.keep" = [0.2] }
[[runs]]
recipe = "rotnet-test_byobnet-digits"
grid = { seed = [0, 1] }
"""
RETRAIN = 'pretext = "labels"\narch = "test_byobnet"\ndata = "digits"\n[training]\nlength = "1ep"\n'


@pytest.fixture
def sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    (tmp_path / "small.toml").write_text(GRID)
    (tmp_path / "retrain.toml").write_text(RETRAIN)

    def call(*arguments: object) -> tuple[int, str, str]:
        places = ["--runs", tmp_path / "my runs", "--zoo", tmp_path / "zoo"]
        code = main([str(each) for each in ["sweep", tmp_path / "small.toml", *places, *arguments]])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def test_it_lists_the_cells_and_touches_nothing(sweep: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, out, err = sweep("--list")
    assert code == 0
    assert out.splitlines()[2].split() == ["rotnet-test_byobnet-digits-s0", "to", "do"]
    assert err.startswith("0 of 4 finished")
    assert not (tmp_path / "my runs").exists()
    document = json.loads(sweep("--list", "--json", "--only", "retrain*-s1-*")[1])
    assert [(cell["name"], cell["needs"]) for cell in document["cells"]] == [
        ("rotnet-test_byobnet-digits-s1", []),
        ("retrain-rotnet-test_byobnet-digits-s1-keep0.2", ["rotnet-test_byobnet-digits-s1"]),
    ]


def test_it_prints_a_line_for_each_cell_to_do_families_first(
    sweep: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    cells = cells_of(Grid.load(tmp_path / "small.toml"))
    place = Place.of("small", cells, runs=tmp_path / "my runs", zoo=tmp_path / "zoo")
    place.folder(cells[-1]).path.mkdir(parents=True)
    assert place.state(cells[-1]) == "started"
    place.folder(cells[-1]).finish()
    assert place.state(cells[-1]) == "finished"
    code, out, err = sweep("--print", "--threads", 3, "--data-dir", tmp_path)
    assert code == 0
    lines = [shlex.split(line) for line in out.splitlines()]
    recipes = [Recipe.load(line[2]) for line in lines]
    assert [recipe.sha256() for recipe in recipes] == [cell.recipe.sha256() for cell in cells[:-1]]
    assert [recipe.run_name for recipe in recipes] == [cell.recipe.run_name for cell in cells[:-1]]
    assert all(line[:2] == ["sslprune", "train"] for line in lines)
    flags = ["--device", "cpu", "--data-dir", str(tmp_path), "--threads", "3"]
    assert lines[0][3:] == ["--runs", str(tmp_path / "my runs"), "--zoo", str(tmp_path / "zoo"), *flags]
    assert "The first 2 must have ended" in err
    assert json.loads(sweep("--print", "--json")[1])["cells"][0]["command"].startswith("sslprune train ")


def test_two_cannot_sweep_one_grid(sweep: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    cells = cells_of(Grid.load(tmp_path / "small.toml"))
    with Place.of("small", cells, runs=tmp_path / "my runs", zoo=tmp_path / "zoo").locked():
        code, out, err = sweep()
    assert (code, out) == (1, "")
    assert err.startswith("sslprune: another process sweeps ")
    assert err.count("\n") == 2


def test_finished_cells_are_not_run_again(sweep: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(GRID.partition('[[runs]]\nrecipe = "rotnet')[0])
    cells = cells_of(Grid.load(tmp_path / "small.toml"))
    place = Place.of("small", cells, runs=tmp_path / "my runs", zoo=tmp_path / "zoo")
    for cell in cells:
        place.folder(cell).finish()
    code, out, _ = sweep()
    assert code == 0
    assert [line.split()[1] for line in out.splitlines()[2:]] == ["finished", "finished"]
    assert not (place.sweep / "logs").exists()
