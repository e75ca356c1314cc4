"""Run a sweep's cells on a Ray cluster: a task each, run again elsewhere when its node is lost.

Runs, zoo and data must lie on storage that all nodes see under the same paths, and the same sslprune must be installed
on each. A cell that starts again goes on from the last checkpoint of its run folder.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sslprune.errors import SweepError
from sslprune.extras import require
from sslprune.sweep.cells import Cell
from sslprune.sweep.launch import Outcome, launch, stop
from sslprune.sweep.local import POLL, Report, settled
from sslprune.sweep.place import Place

RETRIES = 10
"""How often a cell is run again after its node or worker was lost. One that fails by itself is not."""

LET_GO = 60.0
"""Seconds to wait for a lost node's training to let go of its run folder: a node may be lost before it is dead."""

PASSED_ON = ("SSLPRUNE_", "HF_")
"""Beginnings of the environment variables that the cells get as they are here."""


def run(
    cells: Sequence[Cell], place: Place, *, address: str, cpus: float, gpus: float, report: Report
) -> list[Outcome]:
    """Run the cells on a cluster, each after those that it needs; finished ones are not run again.

    Args:
        cells: What to run, needs first; needs that are not among them are left to the zoo.
        place: Where; its recipes are written already.
        address: Of the cluster: "auto", "HOST:PORT", "ray://HOST:PORT", or "local" to start one on this machine.
        cpus: CPUs that a cell occupies; also the threads that it computes with unless `place.flags` say more.
        gpus: GPUs that a cell occupies.
        report: Told of every cell as it ends.

    Returns:
        How each cell ended, in the order of `cells`.

    Raises:
        MissingExtraError: Ray is not installed.
        SweepError: No cluster answers there.
    """
    ray = require("ray", extra="ray", purpose="a sweep on a Ray cluster")
    variables = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    try:
        ray.init(address=address, runtime_env={"env_vars": variables}, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        problem = str(error).partition("\n")[0]
        raise SweepError(f"no Ray cluster answers at {address}: {problem}", "Start one with `ray start`.") from error
    try:
        return _run(ray, cells, place, cpus=cpus, gpus=gpus, report=report)
    finally:
        ray.shutdown()  # takes along the tasks that still run


def _run(ray: Any, cells: Sequence[Cell], place: Place, *, cpus: float, gpus: float, report: Report) -> list[Outcome]:
    task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)(run_cell)
    tasks: dict[str, Any] = {}
    ended: dict[str, Outcome] = {}
    for cell in cells:
        if outcome := settled(cell, place, ()):  # needs are looked at where and when the cell runs
            report(ended.setdefault(cell.name, outcome))
        else:
            tasks[cell.name] = task.remote(cell, place, *(tasks[need] for need in cell.needs if need in tasks))
    names = {ref: name for name, ref in tasks.items()}
    waiting = list(names)
    while waiting:
        done, waiting = ray.wait(waiting, num_returns=1, timeout=1.0)
        for ref in done:
            try:
                outcome = ray.get(ref)
            except ray.exceptions.RayError as error:
                said = str(error).strip().splitlines()
                outcome = Outcome(names[ref], "failed", error=f"{type(error).__name__}: {said[-1] if said else ''}")
            report(ended.setdefault(outcome.cell, outcome))
    return [ended[cell.name] for cell in cells]


def run_cell(cell: Cell, place: Place, *needed: Outcome) -> Outcome:
    """Run one cell on this node, unless another life of it has finished it; the task of the cluster."""
    if outcome := settled(cell, place, needed):
        return outcome
    _wait_until_free(place.folder(cell).path)
    training = launch(cell, place, where=f"on {socket.gethostname()}, node {_node()}")
    try:
        while (outcome := training.outcome()) is None:
            time.sleep(POLL)
        return outcome
    finally:
        stop([training])


def _node() -> str:
    return str(require("ray", extra="ray", purpose="this").get_runtime_context().get_node_id())


def _wait_until_free(folder: Path) -> None:
    """Wait until nobody trains in a run folder. After `LET_GO` the training itself says that somebody does."""
    deadline = time.monotonic() + LET_GO
    while time.monotonic() < deadline and _held(folder / ".lock"):
        time.sleep(POLL)


def _held(lock: Path) -> bool:
    try:
        with open(lock) as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
