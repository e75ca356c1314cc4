"""Measured numbers as rows of JSON lines: what was measured, on what, by which protocol, with which counts."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, TypedDict, cast

from sslprune import jsonl
from sslprune.errors import ResultsError

SCHEMA = 1


class Row(TypedDict):
    """One measured number."""

    schema: int
    name: str
    task: str
    data: str
    split: str
    metric: str
    value: float
    unit: str
    keep: float
    seed: int | None
    layer: str | None
    protocol: dict[str, Any]
    counts: dict[str, int]
    recipe_sha256: str | None
    versions: dict[str, str]


def row(
    *,
    name: str,
    task: str,
    data: str,
    split: str,
    metric: str,
    value: float,
    unit: str,
    keep: float,
    seed: int | None = None,
    layer: str | None = None,
    protocol: Mapping[str, Any] | None = None,
    counts: Mapping[str, int] | None = None,
    recipe_sha256: str | None = None,
) -> Row:
    """A result row of this process: `versions` are those installed here.

    Args:
        name: The model's name.
        task: "linear", "knn", "svm", "finetune", ...
        data: The data set it was measured on.
        split: "test", "val", ...
        metric: "top1", "map", ...
        value: The number; finite.
        unit: "%", "ms", "bytes", ...
        keep: Kept prunable weights / prunable weights, in (0,1].
        seed: Of the measurement, None where chance has no part in it.
        layer: The stage that was probed, if one was.
        protocol: The constants of the protocol and what it chose.
        counts: What was counted: images, dimensions, weights.
        recipe_sha256: Of the recipe that made the model.

    Raises:
        ResultsError: The value is not finite, or keep is outside (0,1].
    """
    made: Row = {
        "schema": SCHEMA,
        "name": name,
        "task": task,
        "data": data,
        "split": split,
        "metric": metric,
        "value": value,
        "unit": unit,
        "keep": keep,
        "seed": seed,
        "layer": layer,
        "protocol": dict(protocol or {}),
        "counts": dict(counts or {}),
        "recipe_sha256": recipe_sha256,
        "versions": versions(),
    }
    _check(made, f"the {task} row of {name}")
    return made


def append(path: Path, rows: Iterable[Row]) -> None:
    """Append rows in one synced write; a last line that a crash tore is cut off first. One writer at a time.

    Raises:
        ResultsError: A row is impossible; nothing was written.
        StorageError: The disk is full or not writable.
    """
    rows = list(rows)
    for each in rows:
        _check(each, f"a row for {path}")
    jsonl.append(Path(path), rows)


def read(path: Path) -> list[Row]:
    """All rows of a file, in order; a last line that a crash tore is passed over, a missing file has no rows.

    Raises:
        ResultsError: Another line is not a result row.
    """
    path = Path(path)
    if not path.exists():
        return []
    whole, _, _torn = path.read_bytes().rpartition(b"\n")
    return [_parse(line, f"{path}:{number}") for number, line in enumerate(whole.split(b"\n"), 1) if line.strip()]


def versions() -> dict[str, str]:
    """What the numbers were measured with: name to version, of Python and of the packages that compute."""
    found = {"python": platform.python_version()}
    for package in ("sslprune", "torch", "timm", "numpy"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _parse(line: bytes, where: str) -> Row:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise ResultsError(f"{where} is not JSON.", "Remove that line, or fetch the file again.") from error
    _check(found, where)
    return cast(Row, found)


def _check(found: Any, where: str) -> None:
    if not isinstance(found, dict) or found.get("schema") != SCHEMA or found.keys() != Row.__annotations__.keys():
        raise ResultsError(
            f"{where} is not a result row of schema {SCHEMA}.", f"A row has exactly: {', '.join(Row.__annotations__)}."
        )
    value, keep = found["value"], found["keep"]
    if not _finite(value) or not _finite(keep) or not 0 < keep <= 1:
        raise ResultsError(
            f"{where} says value {value!r} at keep {keep!r}.", "Give a finite value and a fraction in (0, 1] as keep."
        )


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
