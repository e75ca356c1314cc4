"""Rows sorted into what can be compared: a sample of seeds for every cell of every experiment."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from sslprune.errors import ResultsError, UnknownModelError
from sslprune.evaluate.results import Row
from sslprune.report.sample import Sample
from sslprune.zoo.names import Name

FROZEN = ("linear", "knn", "svm", "sgd")
"""Tasks on frozen features."""

UNTRAINED = "random-"
_SEED = re.compile(r"s\d+")
_FINETUNED = re.compile(r"-?ft-.*\Z")


class Frozen(NamedTuple):
    """A cell of Fig. 1: frozen features, one stage of them."""

    arch: str
    trained: str
    tested: str
    task: str
    stage: str  # "best" on held-out images, or "last"
    pretext: str
    variant: str
    keep: float


class Floor(NamedTuple):
    """The same of untrained networks."""

    arch: str
    tested: str
    task: str
    stage: str


class Tuned(NamedTuple):
    """A cell of Fig. 2: fine-tuned as a whole, pruned "before" it or "during" it."""

    arch: str
    trained: str
    tested: str
    pretext: str
    variant: str
    pruned: str
    keep: float


class Retrained(NamedTuple):
    """A cell of Fig. 3 to 5: trained on labels under a mask that was found before."""

    arch: str
    tested: str
    training: str  # canonical JSON
    rewind: str
    criterion: str  # "random" where the places of the weights were drawn
    subset: str
    init: str  # "ticket", "reinit"
    control: str
    first_convs: int | None
    keep: float


class Zeros(NamedTuple):
    """A bar of Fig. 6 and 10: what converged to zero by itself."""

    arch: str
    data: str
    pretext: str
    optimizer: str
    lr: float
    weight_decay: float
    updates: int
    threshold: float


Key = TypeVar("Key", bound=tuple[Any, ...])
Cell = tuple[Key, Hashable, float]
"""A key, which seed it was, and the figure."""


@dataclass(frozen=True)
class Tables:
    """Every experiment's cells.

    Attributes:
        frozen, floor, tuned, retrained, zeros: Key to sample, in the order of the rows.
        used: How many rows of each task went in.
        unused: How many rows of each task belong to no experiment of the paper.
    """

    frozen: Mapping[Frozen, Sample]
    floor: Mapping[Floor, Sample]
    tuned: Mapping[Tuned, Sample]
    retrained: Mapping[Retrained, Sample]
    zeros: Mapping[Zeros, Sample]
    used: Mapping[str, int]
    unused: Mapping[str, int]


def tables(rows: Sequence[Row]) -> Tables:
    """Sort rows; rows that are equal in all but the seed become one sample.

    Raises:
        ResultsError: A row's protocol does not say what decides where it belongs.
    """
    families = [row for row in rows if row["task"] in FROZEN and _name(row) is not None]
    untrained = [row for row in rows if row["task"] in FROZEN and row["name"].startswith(UNTRAINED)]
    tuned = [row for row in rows if row["task"] == "finetune" and _name(row) is not None]
    retrained = [row for row in rows if row["task"] == "retrain" and _family(row) is not None]
    zeros = [row for row in rows if row["task"] == "zeros" and _name(row) is not None]
    used = [*families, *untrained, *tuned, *retrained, *zeros]
    known = {id(row) for row in used}
    return Tables(
        frozen=_samples(_frozen_cells(families)),
        floor=_samples(_floor_cells(untrained)),
        tuned=_samples(map(_tuned_cell, tuned)),
        retrained=_samples(_complete(_retrained_cell, retrained)),
        zeros=_samples(_complete(_zeros_cell, zeros)),
        used=_by_task(used),
        unused=_by_task(row for row in rows if id(row) not in known),
    )


def nominal(keep: float) -> float:
    """A keep rate as rungs are named, so that 0.0500007 and 0.05 are one.

    >>> nominal(0.050000747), nominal(0.1999992)
    (0.05, 0.2)
    """
    return float(f"{keep:.2g}")


def distinct(table: Mapping[Key, Sample], of: Callable[[Key], Hashable]) -> list[Any]:
    """What a table's keys have in some field, each once, sorted."""
    return sorted({of(key) for key in table}, key=repr)


def _samples(cells: Iterable[Cell[Key]]) -> dict[Key, Sample]:
    """Seeds become a sample; what has one seed twice (the random control of several criteria) is averaged first."""
    found: dict[Key, dict[Hashable, list[float]]] = {}
    for key, seed, value in cells:
        found.setdefault(key, {}).setdefault(seed, []).append(value)
    return {key: Sample(tuple(sum(same) / len(same) for same in seeds.values())) for key, seeds in found.items()}


def _complete(cell: Callable[[Row], Cell[Key]], rows: Iterable[Row]) -> Iterator[Cell[Key]]:
    for row in rows:
        try:
            yield cell(row)
        except KeyError as error:
            raise ResultsError(
                f"the {row['task']} row of {row['name']} lacks protocol[{error}].",
                "Measure it again with this version.",
            ) from error


def _frozen_cells(rows: Sequence[Row]) -> Iterator[Cell[Frozen]]:
    for row, stage in _stages(rows):
        name, variant, seed = _parsed(row)
        yield (
            Frozen(name.arch, name.data, row["data"], row["task"], stage, name.pretext, variant, name.keep),
            (row["seed"], seed),
            row["value"],
        )


def _floor_cells(rows: Sequence[Row]) -> Iterator[Cell[Floor]]:
    for row, stage in _stages(rows):
        arch = row["name"].removeprefix(UNTRAINED)
        yield Floor(arch, row["data"], row["task"], stage), row["seed"], row["value"]


def _stages(rows: Sequence[Row]) -> Iterator[tuple[Row, str]]:
    """Rows of the best stage as "best", of the last one as "last"; rows name stages shallow to deep."""
    last: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        if row["protocol"].get("best_stage"):
            yield row, "best"
        last[row["name"], row["task"], row["data"], row["split"], row["seed"], row["recipe_sha256"]] = row
    for row in last.values():
        yield row, "last"


def _tuned_cell(row: Row) -> Cell[Tuned]:
    name, variant, seed = _parsed(row)
    pruned = "during" if "pruned_during" in row["protocol"] else "before"
    key = Tuned(name.arch, name.data, row["data"], name.pretext, variant, pruned, name.keep)
    return key, (row["seed"], seed), row["value"]


def _retrained_cell(row: Row) -> Cell[Retrained]:
    protocol, family = row["protocol"], _family(row)
    assert family is not None
    drawn = protocol["control"] == "permuted"  # nothing of the criterion is left in it but the keep rate
    key = Retrained(
        arch=family.arch,
        tested=row["data"],
        training=json.dumps(protocol.get("training", {}), sort_keys=True),
        rewind=str(protocol.get("rewind", "")),
        criterion="random" if drawn else protocol["criterion"],
        subset="" if drawn else protocol.get("subset") or "",
        init=protocol["init"],
        control=protocol["control"],
        first_convs=protocol.get("first_convs"),
        keep=nominal(protocol.get("keep", row["keep"])),
    )
    return key, (row["seed"], None if drawn else protocol.get("family_seed")), row["value"]


def _zeros_cell(row: Row) -> Cell[Zeros]:
    protocol, (name, _, seed) = row["protocol"], _parsed(row)
    key = Zeros(
        name.arch,
        row["data"],
        protocol["pretext"],
        protocol["optimizer"],
        protocol["lr"],
        protocol["weight_decay"],
        protocol["updates"],
        protocol["threshold"],
    )
    return key, (row["seed"], seed), row["value"]


def _parsed(row: Row) -> tuple[Name, str, str]:
    """A row's name, its variant without seed and fine-tuning, and the seed that the variant spells."""
    name = Name.parse(row["name"])
    parts = [part for part in _FINETUNED.sub("", name.variant).split("-") if part]
    seeds = [part for part in parts if _SEED.fullmatch(part)]
    return name, "-".join(part for part in parts if part not in seeds), "-".join(seeds)


def _name(row: Row) -> Name | None:
    try:
        return Name.parse(row["name"])
    except UnknownModelError:
        return None


def _family(row: Row) -> Name | None:
    try:
        return Name.parse(f"{row['protocol'].get('family')}-keep100%")
    except UnknownModelError:
        return None


def _by_task(rows: Iterable[Row]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["task"]] = counts.get(row["task"], 0) + 1
    return dict(sorted(counts.items()))
