"""Result rows of many runs as one list: each measurement once, and none that contradicts another."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sslprune.errors import ResultsError
from sslprune.evaluate import results
from sslprune.evaluate.results import Row

RESULTS = "results.jsonl"
LOG_ENDING = ".log.jsonl"
"""What a training says while it runs lies beside its results, and is none."""


@dataclass(frozen=True)
class Gathered:
    """What was read.

    Attributes:
        rows: Every measurement once, in the order of the files.
        files: How many files they came from.
        duplicates: How many rows were left out because another says the same.
    """

    rows: tuple[Row, ...]
    files: int
    duplicates: int


def gather(runs: Iterable[Path]) -> Gathered:
    """Read all result rows below some places.

    Args:
        runs: Files of rows, run folders, or folders that hold any of these at any depth.

    Raises:
        ResultsError: A place has no rows; a line is none; two rows disagree about one measurement, or one name stands
            for two recipes.
    """
    paths = list(dict.fromkeys(path.resolve() for run in runs for path in files_of(Path(run))))
    found: dict[str, tuple[Row, Path]] = {}
    read = 0
    for path in paths:
        for row in results.read(path):
            read += 1
            first, where = found.setdefault(_measurement(row), (row, path))
            if first["value"] != row["value"]:
                raise ResultsError(
                    f"{where} and {path} give {first['value']!r} and {row['value']!r} for one measurement: "
                    f"{row['task']} of {row['name']} on {row['data']}, seed {row['seed']}.",
                    "Report one of the two runs only.",
                )
    rows = [row for row, _ in found.values()]
    if not rows:
        raise ResultsError(f"no result row was found in {len(paths)} files.", "Name runs that have ended.")
    _one_recipe_a_name(rows)
    return Gathered(tuple(rows), len(paths), read - len(rows))


def files_of(run: Path) -> list[Path]:
    """The files of rows that a place stands for, sorted.

    Raises:
        ResultsError: There are none.
    """
    if run.is_file():
        return [run]
    direct = {path for path in run.glob("*.jsonl") if not path.name.endswith(LOG_ENDING)}
    if found := sorted(direct | set(run.rglob(RESULTS))):
        return found
    raise ResultsError(
        f"{run} has no {RESULTS} and no other file of rows.", "Name a finished run, or a folder of them."
    )


def _measurement(row: Row) -> str:
    """What a row measured, without what came out: equal for two rows that must agree."""
    parts = ("name", "task", "data", "split", "metric", "layer", "seed", "keep", "protocol")
    return json.dumps([row[part] for part in parts], sort_keys=True)  # type: ignore[literal-required]


def _one_recipe_a_name(rows: Sequence[Row]) -> None:
    """Refuse rows that would be taken for seeds of one run though two different recipes made them."""
    recipes: dict[tuple[str, int | None], str | None] = {}
    for row in rows:
        if row["name"].startswith("random-"):  # untrained: the same network whichever recipe asked for it
            continue
        first = recipes.setdefault((row["name"], row["seed"]), row["recipe_sha256"])
        if first != row["recipe_sha256"]:
            both = f"{_short(first)} and {_short(row['recipe_sha256'])}"
            raise ResultsError(
                f"{row['name']} is the name of models of two recipes, {both}.",
                "Give one of the recipes a variant, or report one of the two runs only.",
            )


def _short(sha256: str | None) -> str:
    return sha256[:8] if sha256 else "unknown"
