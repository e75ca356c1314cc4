"""A sweep on a cluster of two nodes, one of which is lost: its cell is run again on the other."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from sslprune.errors import MissingExtraError
from sslprune.sweep import on_ray
from sslprune.sweep.cells import cells_of
from sslprune.sweep.grid import Grid
from sslprune.sweep.launch import Outcome
from sslprune.sweep.place import Place

GRID = """
[[runs]]
recipe = "family.toml"
[[runs]]
recipe = "again.toml"
masks_of = ["family.toml"]
grid = { mask.keep = [0.2] }
"""
SMALL = {"object_store_memory": 100 * 2**20}


def place_of(recipes: Path) -> tuple[Place, tuple]:
    (recipes / "grid.toml").write_text(GRID)
    cells = cells_of(Grid.load(recipes / "grid.toml"))
    return Place.of("grid", cells, runs=recipes / "runs", zoo=recipes / "zoo"), cells


def trainings(place: Place) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(place.sweep).encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_the_cell_of_a_lost_node_is_run_again_on_another(recipes: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'sslprune[ray]'")
    from ray.cluster_utils import Cluster

    place, cells = place_of(recipes)
    place.write_recipes(cells)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **SMALL})
    nodes = {node.node_id: node for node in (cluster.add_node(num_cpus=1, **SMALL) for _ in range(2))}
    log = place.log(cells[0])

    def lose_its_node() -> None:
        """Once a cell has a checkpoint: its training stands still, then its node is gone."""
        while not (place.folder(cells[0]).path / "rounds" / "00.pt").exists():
            time.sleep(0.005)
        for process in trainings(place):
            os.kill(process, signal.SIGSTOP)
        (lost,) = re.findall(r"node (\w+):", log.read_text())
        cluster.remove_node(nodes[lost], allow_graceful=False)

    loser = threading.Thread(target=lose_its_node, daemon=True)
    loser.start()
    ended: list[Outcome] = []
    try:
        outcomes = on_ray.run(cells, place, address=cluster.address, cpus=1, gpus=0, report=ended.append)
        assert [outcome.state for outcome in outcomes] == ["finished", "finished"], outcomes
        assert ended == outcomes
        loser.join()
        lives = re.findall(r"node (\w+):", log.read_text())
        assert len(lives) == len(set(lives)) == 2
        again = re.findall(r"node (\w+):", place.log(cells[1]).read_text())
        assert again == lives[1:]
        assert all(place.state(cell) == "finished" for cell in cells)
    finally:
        cluster.shutdown()


@pytest.mark.skipif(find_spec("ray") is not None, reason="ray is installed")
def test_without_ray_the_extra_is_named(recipes: Path) -> None:
    place, cells = place_of(recipes)
    with pytest.raises(MissingExtraError, match=r"sslprune\[ray\]"):
        on_ray.run(cells, place, address="auto", cpus=1, gpus=0, report=print)
