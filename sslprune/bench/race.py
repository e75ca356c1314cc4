"""The whole bench: build a network, open every engine on it, let them run in turns, say what came of it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslprune.bench.contest import OURS, Heat, Opened, check_engines, open_all
from sslprune.bench.machine import machine, versions
from sslprune.bench.rows import Result, Row, Setting, rows_of
from sslprune.bench.subjects import Subject, write_files
from sslprune.bench.turns import in_turns
from sslprune.errors import BenchError
from sslprune.export.parity import relative_error

WARM_UP = 3
"""Rounds that are not counted, after the five runs of opening."""


@dataclass(frozen=True)
class Plan:
    """How a network is raced.

    Attributes:
        against: Engines beside ours.
        settings: Images a call and threads, in order.
        repeat: Rounds that count.
        deepsparse_python: The interpreter of DeepSparse's environment.
        settle: Runs before each timed one, see `in_turns`.
    """

    against: Sequence[str]
    settings: Sequence[tuple[int, int]]
    repeat: int
    deepsparse_python: Path | None = None
    settle: int = 0


def bench(
    subjects: Iterable[Callable[[], Subject]], plan: Plan, *, command: str, say: Callable[[str], None]
) -> dict[str, Any]:
    """Race networks.

    Args:
        subjects: Each makes a network when its turn comes: one is in memory at a time.
        plan: How.
        command: What the result says it came from.
        say: Told of progress.

    Returns:
        The document of `sslprune bench --json`.

    Raises:
        BenchError: An engine is unknown, or ours failed; another's failure is a row that says so.
        MissingExtraError: A package of the extra `bench` is not installed.
    """
    check_engines(plan.against, plan.deepsparse_python)
    before, rows = machine(), []
    for make in subjects:
        rows += race(make(), plan, say)
    isas = {row.facts["isa"] for row in rows if "isa" in row.facts}
    deepsparse = {row.facts["version"] for row in rows if "version" in row.facts}
    return {
        "schema": 1,
        "command": command,
        "machine": {**before, "isa": ", ".join(sorted(isas))},
        "versions": {**versions(), **({"deepsparse": deepsparse.pop()} if deepsparse else {})},
        "repeat": plan.repeat,
        "settle": plan.settle,
        "rows": [row.to_json() for row in rows],
    }


def race(subject: Subject, plan: Plan, say: Callable[[str], None]) -> list[Row]:
    """One network in all settings."""
    engines = (OURS, *plan.against)
    say(f"{subject.title}, keep {subject.keep:.3g}: writing its files")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="sslprune-bench-") as temporary:
        folder = Path(temporary)
        files = write_files(subject, folder, engines)
        most = subject.batch(max(batch for batch, _ in plan.settings))
        exact = subject.exact(most)
        for batch, threads in plan.settings:
            images = folder / "images.npy"
            np.save(images, most[:batch])
            say(f"{subject.title}, keep {subject.keep:.3g}, batch {batch}, threads {threads}")
            heat = Heat(subject, files, images, batch, threads, plan.deepsparse_python)
            results = run_heat(heat, plan, exact[:batch], say)
            how = Setting(subject.name, subject.arch, subject.mask, subject.keep, subject.size, batch, threads)
            rows += rows_of(how, results)
    return rows


def run_heat(heat: Heat, plan: Plan, exact: NDArray[np.float64], say: Callable[[str], None]) -> list[Result]:
    """Open all engines on one batch, and let them run in turns.

    Raises:
        BenchError: Ours failed.
    """
    opened: dict[str, Opened] = {}
    failures: dict[str, BenchError] = {}
    with ExitStack() as stack:
        for engine, found in open_all(heat, (OURS, *plan.against), stack):
            if isinstance(found, BenchError):
                failures[engine] = found
            else:
                opened[engine] = found
        children = {engine: found.child for engine, found in opened.items()}
        in_turns(children, WARM_UP)
        seconds, died = in_turns(children, plan.repeat, plan.settle)
    failures |= died
    errors = {engine: relative_error(found.outputs, exact) for engine, found in opened.items()}
    for engine, error in errors.items():
        if not isfinite(error):
            failures[engine] = BenchError(f"the engine {engine} gives outputs that are not numbers.", "Leave it out.")
    if OURS in failures:
        raise failures[OURS]
    for failure in failures.values():
        say(failure.problem)
    dense, left = heat.subject.macs
    return [
        Result(engine, failed=failures[engine].problem)
        if engine in failures
        else Result(
            engine,
            seconds[engine],
            opened[engine].variant,
            errors[engine],
            {**opened[engine].child.facts, **({"macs": dense, "macs_left": left} if engine == OURS else {})},
        )
        for engine in (OURS, *plan.against)
    ]
