"""Run a sweep's cells on this machine, a few at a time; one that fails does not stop the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence

from sslprune.errors import SslpruneError
from sslprune.sweep.cells import Cell
from sslprune.sweep.launch import Outcome, Training, launch, stop
from sslprune.sweep.place import Place

POLL = 0.1
"""Seconds between two looks at what runs."""

Report = Callable[[Outcome], None]


def run(cells: Sequence[Cell], place: Place, *, jobs: int, report: Report) -> list[Outcome]:
    """Run the cells, `jobs` at a time, each after those that it needs; finished ones are not run again.

    Interrupted, it interrupts its trainings, and waits for them; killed, it takes them along.

    Args:
        cells: What to run; needs that are not among them are left to the zoo.
        place: Where; its recipes are written already.
        jobs: How many at a time.
        report: Told of every cell as it ends.

    Returns:
        How each cell ended, in the order of `cells`.
    """
    chosen = {cell.name for cell in cells}
    waiting, ended = list(cells), dict[str, Outcome]()
    running: list[Training] = []

    def end(outcome: Outcome) -> None:
        ended[outcome.cell] = outcome
        report(outcome)

    try:
        while waiting or running:
            for training in list(running):
                if outcome := training.outcome():
                    running.remove(training)
                    end(outcome)
            for cell in startable(waiting, chosen, ended):
                if outcome := settled(cell, place, (ended[need] for need in cell.needs if need in ended)):
                    end(outcome)
                elif len(running) < jobs:
                    running.append(launch(cell, place))
                else:
                    continue
                waiting.remove(cell)
            if running:
                time.sleep(POLL)
    finally:
        stop(running)
    return [ended[cell.name] for cell in cells]


def startable(waiting: Sequence[Cell], chosen: Collection[str], ended: Collection[str]) -> list[Cell]:
    """The waiting cells of which every need has ended, well or not, or is not among the chosen."""
    return [cell for cell in waiting if all(need in ended or need not in chosen for need in cell.needs)]


def settled(cell: Cell, place: Place, needed: Iterable[Outcome]) -> Outcome | None:
    """How a cell ends without being run, if it does: it had finished before, or needs what has failed."""
    try:
        if place.folder(cell).finished() is not None:
            return Outcome(cell.name, "finished")
    except SslpruneError as error:
        return Outcome(cell.name, "failed", error=str(error))
    for need in needed:
        if need.state != "finished":
            return Outcome(cell.name, "not run", error=f"it needs {need.cell}, which has not finished.")
    return None
