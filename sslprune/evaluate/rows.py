"""Result rows of the protocols: each says which splits it used and every constant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from sslprune.evaluate.finetune import FinetuneResult
from sslprune.evaluate.results import Row, row
from sslprune.evaluate.sgd_probe import SgdResult
from sslprune.evaluate.svm import SvmResult
from sslprune.models.anatomy import prunable


@dataclass(frozen=True)
class About:
    """What a row says beside the measurement.

    Attributes:
        name: The model.
        keep: Its keep rate.
        data: The data set.
        train_split, split: What was trained on, and what was measured on.
        seed: Of the measurement.
        recipe_sha256: Of the recipe that made the model.
        size: Height and width of the images as the network saw them.
        more: Further entries of `protocol`, such as `FewLabels.constants()`.
    """

    name: str
    keep: float
    data: str
    train_split: str
    split: str
    seed: int
    recipe_sha256: str | None
    size: int
    more: Mapping[str, Any] = field(default_factory=dict)


def svm_rows(result: SvmResult, model: nn.Module, about: About) -> list[Row]:
    """One row: mean average precision, with the average precision and the cost of every class."""
    counts = {**result.counts, **_weights(model), "dims": result.dims}
    return [_row(about, "svm", "map", result.value, result.stage, result.described(), counts)]


def sgd_rows(result: SgdResult, model: nn.Module, about: About) -> list[Row]:
    """One row a stage; no stage is called the best, for nothing was held out to choose it."""
    protocol = {**result.protocol.constants(), **result.extracted, "augmented": result.augmented}
    return [
        _row(
            about,
            "sgd",
            "top1",
            value,
            stage,
            {**protocol, "train_loss": result.losses[stage]},
            {**result.counts, **_weights(model), "dims": result.dims[stage]},
        )
        for stage, value in result.accuracy.items()
    ]


def finetune_rows(result: FinetuneResult, about: About, classes: tuple[str, ...] = ()) -> list[Row]:
    """One row, or none where nothing was measured."""
    if result.value is None:
        return []
    protocol = {**result.protocol.constants(), "augmented": result.augmented, "train_loss": result.losses[-1]}
    if result.per_class:
        names = classes or tuple(str(number) for number in range(len(result.per_class)))
        protocol["ap"] = dict(zip(names, (round(ap, 4) for ap in result.per_class), strict=True))
    return [_row(about, "finetune", result.metric, result.value, None, protocol, result.counts)]


def _row(
    about: About,
    task: str,
    metric: str,
    value: float,
    layer: str | None,
    protocol: Mapping[str, Any],
    counts: Mapping[str, int],
) -> Row:
    return row(
        name=about.name,
        task=task,
        data=about.data,
        split=about.split,
        metric=metric,
        value=value,
        unit="%",
        keep=about.keep,
        seed=about.seed,
        layer=layer,
        protocol={**protocol, "train_split": about.train_split, "image_size": about.size, **about.more},
        counts=counts,
        recipe_sha256=about.recipe_sha256,
    )


def _weights(model: nn.Module) -> dict[str, int]:
    weights = prunable(model).values()
    return {
        "prunable": sum(weight.numel() for weight in weights),
        "nonzero": sum(int(weight.count_nonzero()) for weight in weights),
    }
