"""From seconds to rows: medians, minima, and ratios to the faster of the dense runtimes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from sslprune.bench.contest import DENSE, OTHER_CLASS


@dataclass(frozen=True)
class Setting:
    """What was run, and how.

    Attributes:
        name: The model's name, or the architecture's.
        arch: The architecture.
        mask: What chose the weights; "zoo" for published models.
        keep: Kept / prunable weights.
        size: Height and width of the images, in pixels.
        batch: Images a call.
        threads: That an engine may use.
    """

    name: str
    arch: str
    mask: str
    keep: float
    size: int
    batch: int
    threads: int


@dataclass(frozen=True)
class Row:
    """One engine in one setting; None where it failed, or has no such figure.

    Attributes:
        setting: What was run.
        engine: Ours is "sslprune".
        variant: The fastest of the ways to run it.
        accuracy_class: "fp32" or "int8".
        runs: How many there were.
        median_ms: Of a call, in milliseconds.
        min_ms: Likewise.
        ratio_to_best_dense: How many times as fast as the faster dense runtime, by medians.
        ratio_to_best_dense_min: The same by minima.
        ratio_to_torch: How many times as fast as torch eager, by medians.
        max_rel_err: Largest difference to the float64 outputs, over the largest of them.
        facts: What else the engine said: seconds and megabytes, see `child.opened`; ours, MACs by path.
        failed: Why it could not be run.
    """

    setting: Setting
    engine: str
    variant: str
    accuracy_class: str
    runs: int
    median_ms: float | None
    min_ms: float | None
    ratio_to_best_dense: float | None
    ratio_to_best_dense_min: float | None
    ratio_to_torch: float | None
    max_rel_err: float | None
    facts: Mapping[str, Any]
    failed: str | None = None

    def to_json(self) -> dict[str, Any]:
        """One flat table."""
        content = asdict(self)
        return {**content.pop("setting"), **{key: content[key] for key in content if key != "facts"}, **self.facts}


@dataclass(frozen=True)
class Result:
    """What came of one engine in a setting, before it is held against the others."""

    engine: str
    seconds: Sequence[float] = ()
    variant: str = ""
    max_rel_err: float | None = None
    facts: Mapping[str, Any] | None = None
    failed: str | None = None


def rows_of(setting: Setting, results: Sequence[Result]) -> list[Row]:
    """One row an engine, in order. Engines that failed count for nothing.

    >>> setting = Setting("net", "net", "uniform", 0.05, 32, 1, 1)
    >>> rows = rows_of(setting, [Result("sslprune", [0.001, 0.001]), Result("ort", [0.004, 0.002])])
    >>> [row.ratio_to_best_dense for row in rows], rows[0].ratio_to_best_dense_min
    ([3.0, 1.0], 2.0)
    """
    ran = {result.engine: result for result in results if result.seconds}
    medians = {engine: median(result.seconds) for engine, result in ran.items()}
    minima = {engine: min(result.seconds) for engine, result in ran.items()}
    best = min((medians[engine] for engine in DENSE if engine in ran), default=None)
    best_minimum = min((minima[engine] for engine in DENSE if engine in ran), default=None)
    return [
        Row(
            setting,
            result.engine,
            result.variant,
            "int8" if result.engine in OTHER_CLASS else "fp32",
            len(result.seconds),
            _milliseconds(medians.get(result.engine)),
            _milliseconds(minima.get(result.engine)),
            _ratio(best, medians.get(result.engine)),
            _ratio(best_minimum, minima.get(result.engine)),
            _ratio(medians.get("torch"), medians.get(result.engine)),
            result.max_rel_err,
            result.facts or {},
            result.failed,
        )
        for result in results
    ]


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3


def _ratio(other: float | None, own: float | None) -> float | None:
    return None if other is None or own is None else other / own
