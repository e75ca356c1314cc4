"""At which scale the rows were measured, read off the rows themselves, beside the paper's scale."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import MISSING, fields
from typing import Any

from sslprune.config import Training
from sslprune.errors import UnknownModelError
from sslprune.evaluate.results import Row
from sslprune.report.tables import FROZEN, UNTRAINED, Tables, distinct
from sslprune.report.words import optimiser, percent, pretext, task
from sslprune.zoo.names import Name

PAPER = (
    ("network", "ResNet-50 on ImageNet; ResNet-18, VGG-19 on CIFAR-10"),
    ("pretexts", "Labels, RotNet, Exemplar; NPID for frozen features only"),
    ("seeds", "6 on CIFAR-10, 3 on ImageNet"),
    ("keep rates", "14 rates from 80 % to 0.1 %, 20 % of the remaining weights a round"),
    ("training on CIFAR-10", "Adam, lr 0.001 (Exemplar 0.0003), 160 epochs (Exemplar 180), batches of 512"),
    ("frozen features", "linear SVMs on VOC07; linear classifiers by SGD on Places205 and ImageNet; last stage"),
    ("fine-tuning", "VOC07 trainval to test, 90 epochs, lr 0.01"),
    ("re-training on labels", "the whole schedule again, from the weights of epoch 1 (CIFAR-10)"),
)
"""What the paper states of its own scale."""


def beside_the_paper(rows: Sequence[Row], tables: Tables) -> list[tuple[str, str, str]]:
    """(what, the paper, here): read off the rows, "no rows" where there is nothing to read it off."""
    here = {
        "network": _networks(rows, tables),
        "pretexts": _pretexts(tables),
        "seeds": _seeds(tables),
        "keep rates": _keeps(tables),
        "training on CIFAR-10": _trainings(tables),
        "frozen features": _frozen(rows),
        "fine-tuning": _tuned(rows),
        "re-training on labels": _retrainings(rows),
    }
    return [(what, paper, here[what] or "no rows") for what, paper in PAPER]


def _networks(rows: Sequence[Row], tables: Tables) -> str:
    sizes: dict[str, int] = {}
    for row in rows:
        arch = _arch(row)
        if arch and "prunable" in row["counts"]:
            sizes.setdefault(arch, row["counts"]["prunable"])
    pairs = distinct(tables.frozen, lambda key: (key.arch, key.trained)) + distinct(tables.zeros, lambda key: key[:2])
    pairs += distinct(tables.retrained, lambda key: key[:2])
    found = [
        f"{arch} ({sizes[arch]:,} prunable weights) on {trained}" if arch in sizes else f"{arch} on {trained}"
        for arch, trained in dict.fromkeys(pairs)
    ]
    return "; ".join(found)


def _pretexts(tables: Tables) -> str:
    families = distinct(tables.frozen, lambda key: key.pretext)
    criteria = [name for name in distinct(tables.retrained, lambda key: key.criterion) if name != "random"]
    parts = []
    if families:
        parts.append(f"frozen features of {', '.join(map(pretext, families))}")
    if criteria:
        parts.append(f"masks of {', '.join(map(pretext, criteria))}")
    return "; ".join(parts)


def _seeds(tables: Tables) -> str:
    found = {
        "frozen features": {sample.n for sample in tables.frozen.values()},
        "untrained networks": {sample.n for sample in tables.floor.values()},
        "fine-tuning": {sample.n for sample in tables.tuned.values()},
        "re-training": {sample.n for sample in tables.retrained.values()},
        "zeros": {sample.n for sample in tables.zeros.values()},
    }
    return "; ".join(f"{what} {_range(counts)}" for what, counts in found.items() if counts)


def _range(counts: Iterable[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def _keeps(tables: Tables) -> str:
    rates = {
        "families": {key.keep for key in tables.frozen},
        "fine-tuning": {key.keep for key in tables.tuned},
        "re-training": {key.keep for key in tables.retrained},
    }
    return "; ".join(
        f"{what} {', '.join(percent(keep) for keep in sorted(found, reverse=True))}"
        for what, found in rates.items()
        if found
    )


def _trainings(tables: Tables) -> str:
    found = distinct(tables.zeros, lambda key: (key.pretext, key.optimizer, key.lr, key.weight_decay, key.updates))
    return "; ".join(
        f"{pretext(name)}: {optimiser(optimizer)}, lr {lr:g}, weight decay {decay:g}, {updates:,} updates"
        for name, optimizer, lr, decay, updates in found
    )


def _frozen(rows: Sequence[Row]) -> str:
    found = {f"{task(row['task'])} on {row['data']} ({row['split']})": None for row in rows if row["task"] in FROZEN}
    return "; ".join(found)


def _tuned(rows: Sequence[Row]) -> str:
    found: dict[str, None] = {}
    for row in rows:
        if row["task"] == "finetune":
            said = row["protocol"]
            splits = f"{said.get('train_split', 'unknown')} to {row['split']}"
            size = f", {said['image_size']} pixels" if "image_size" in said else ""
            images = f"{row['counts'].get('n_train', 0):,} images"
            text = f"{row['data']}, {splits}, {images}{size}, {said.get('epochs', 'unknown')} epochs"
            found[f"{text}, lr {said['lr']:g}" if "lr" in said else text] = None
    return "; ".join(found)


def _retrainings(rows: Sequence[Row]) -> str:
    found: dict[str, None] = {}
    for row in rows:
        if row["task"] == "retrain":
            training = {**_defaults(), **row["protocol"].get("training", {})}
            text = (
                f"{training['length']} in batches of {training['batch']}, {optimiser(training['optimizer'])}, "
                f"lr {training['lr']:g}, weight decay {training['weight_decay']:g}; rewound to "
                f"{row['protocol'].get('rewind', 'unknown')}"
            )
            found[text] = None
    return "; ".join(found)


def _defaults() -> dict[str, Any]:
    """What a recipe's training says where it says nothing."""
    known = {field.name: field.default for field in fields(Training) if field.default is not MISSING}
    return {"length": "unknown", **known}


def _arch(row: Row) -> str:
    if row["name"].startswith(UNTRAINED):
        return row["name"].removeprefix(UNTRAINED)
    name = row["protocol"].get("family")
    try:
        return Name.parse(f"{name}-keep100%" if name else row["name"]).arch
    except UnknownModelError:
        return ""
