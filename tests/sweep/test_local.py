"""A sweep here: killed and run again it gives what it gives otherwise, and one cell that fails stops no other."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sslprune import jsonl, pipeline
from sslprune.run_folder import RunFolder
from sslprune.setting import Options
from sslprune.sweep.cells import Cell, cells_of
from sslprune.sweep.grid import Grid
from sslprune.sweep.launch import Outcome, last_words
from sslprune.sweep.local import settled, startable
from sslprune.sweep.place import Place

GRID = """
[[runs]]
recipe = "family.toml"
grid = { seed = [0, 1] }

[[runs]]
recipe = "family.toml"
grid = { training.lr = [1e30] }

[[runs]]
recipe = "again.toml"
masks_of = ["family.toml"]
grid = { seed = [1], "mask.keep" = [0.2], "mask.init" = ["ticket"] }
"""


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums in another order are other sums: a comparison bit for bit fixes the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def content(folder: Path) -> dict[str, bytes]:
    """All files below a folder, except those that hold the time of day, or hashes of them."""
    timed = ("manifest.json", "train.log.jsonl", ".lock")
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in timed]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def alive(what: str) -> list[int]:
    """The processes whose command names something."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if what.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.skipif(sys.platform != "linux", reason="a killed parent takes its trainings along on Linux only")
def test_killed_in_the_middle_and_run_again_it_gives_the_same_and_a_failing_cell_stops_no_other(recipes: Path) -> None:
    (recipes / "grid.toml").write_text(GRID)
    cells = cells_of(Grid.load(recipes / "grid.toml"))
    place = Place.of("grid", cells, runs=recipes / "runs", zoo=recipes / "zoo")
    first, second, diverging, again = (place.folder(cell) for cell in cells)
    command = [sys.executable, "-m", "sslprune", "sweep", str(recipes / "grid.toml"), "--json", "--threads", "1"]
    command += ["--runs", str(place.runs), "--zoo", str(place.zoo)]

    sweep = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(second.path / "rounds" / "00.pt", sweep)
    sweep.kill()
    sweep.communicate()
    assert place.state(cells[0]) == "finished"
    assert place.state(cells[1]) == "started"
    before = {path: path.stat().st_mtime_ns for path in first.path.rglob("*")}
    while alive(str(place.sweep)):
        time.sleep(0.05)

    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "sslprune: 1 of 4 cells have not finished" in done.stderr
    ended = {cell["name"]: cell for cell in json.loads(done.stdout)["cells"]}
    assert {name: cell["state"] for name, cell in ended.items()} == {
        "family-s0": "finished",
        "family-s1": "finished",
        "family-lr1e30": "failed",
        "again-family-s1-keep0.2-ticket": "finished",
    }
    assert ended["family-s0"]["seconds"] == 0
    assert "the loss is nan" in ended["family-lr1e30"]["error"]
    assert "Lower training.lr" in ended["family-lr1e30"]["error"]
    assert not (diverging.path / "finished.json").exists()
    assert {path: path.stat().st_mtime_ns for path in first.path.rglob("*")} == before

    whole = recipes / "whole"
    for cell, there in zip((cells[1], cells[3]), (second, again), strict=True):
        folder = RunFolder.of(cell.recipe, runs=whole / "runs", zoo=whole / "zoo")
        pipeline.run(cell.recipe, folder, Options(progress=False))
        assert content(there.path) == content(folder.path)
    for model in sorted((whole / "zoo").iterdir()):
        assert content(place.zoo / model.name) == content(model)
    (row,) = jsonl.read(again.path / "results.jsonl")
    assert row["protocol"]["family"] == "rotnet-test_byobnet-folder-s1"


@pytest.mark.slow
def test_on_a_full_disk_it_fails_by_name_leaves_no_half_file_and_goes_on_with_more_room(recipes: Path) -> None:
    (recipes / "grid.toml").write_text('[[runs]]\nrecipe = "family.toml"\ngrid = { seed = [0] }\n')
    (cell,) = cells_of(Grid.load(recipes / "grid.toml"))
    place = Place.of("grid", [cell], runs=recipes / "runs", zoo=recipes / "zoo")
    command = [sys.executable, "-m", "sslprune", "sweep", str(recipes / "grid.toml"), "--json", "--threads", "1"]
    command += ["--runs", str(place.runs), "--zoo", str(place.zoo)]

    def little_room() -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))

    full = subprocess.run(command, capture_output=True, text=True, preexec_fn=little_room)
    assert full.returncode == 1
    (ended,) = json.loads(full.stdout)["cells"]
    assert ended["state"] == "failed"
    assert ended["error"].startswith("cannot write ")
    assert place.state(cell) == "started"
    assert not list(recipes.rglob("*.tmp"))
    assert not list(recipes.rglob("*.pt"))
    assert not place.zoo.exists()

    room = subprocess.run(command, capture_output=True, text=True)
    assert room.returncode == 0, room.stderr
    assert place.state(cell) == "finished"


def test_a_cell_starts_when_all_that_it_needs_has_ended(recipes: Path) -> None:
    (recipes / "grid.toml").write_text(GRID)
    cells = cells_of(Grid.load(recipes / "grid.toml"))
    names = [cell.name for cell in cells]
    again, needed = cells[-1], cells[-1].needs
    assert needed == ("family-s1",)
    assert startable(cells, names, ()) == list(cells[:-1])
    assert startable([again], names, needed) == [again]
    assert startable([again], [again.name], ()) == [again]  # left to the zoo


def test_a_cell_ends_unrun_where_it_had_finished_or_needs_what_failed(recipes: Path) -> None:
    (recipes / "grid.toml").write_text(GRID)
    cells = cells_of(Grid.load(recipes / "grid.toml"))
    place = Place.of("grid", cells, runs=recipes / "runs", zoo=recipes / "zoo")
    again: Cell = cells[-1]
    assert settled(again, place, [Outcome("family-s1", "finished")]) is None
    ended = settled(again, place, [Outcome("family-s1", "failed", error="no")])
    assert ended is not None
    assert (ended.state, ended.error) == ("not run", "it needs family-s1, which has not finished.")
    place.folder(again).finish()
    assert settled(again, place, []) == Outcome(again.name, "finished")


def test_the_last_words_are_the_named_error_else_the_signal_else_the_last_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("sslprune: of an earlier life\nhint\n")
    since = log.stat().st_size
    log.write_text(log.read_text() + "run a\nsslprune: the loss is nan\nLower it.\n")
    assert last_words(log, 1, since=since) == "the loss is nan\nLower it."
    assert last_words(log, -signal.SIGKILL, since=since).startswith("killed by SIGKILL")
    log.write_text("Traceback\nValueError: odd\n\n")
    assert last_words(log, 1).startswith("ValueError: odd\nSee ")
    assert last_words(log, 3, since=log.stat().st_size).startswith("exit code 3")
