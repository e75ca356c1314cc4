"""Result rows as runs write them, with whatever effect a test wants to plant."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sslprune.evaluate.results import SCHEMA, Row

ARCH = "vgg11w16"
TRAINING = {"length": "3ep", "batch": 128, "optimizer": "adam", "lr": 0.001}
STAGES = ("block1", "block2", "block3")


def row(**fields: Any) -> Row:
    """`results.row`, without asking the installation for its versions each time, which takes milliseconds."""
    missing = {"layer": None, "counts": {}, "recipe_sha256": None, "versions": {}}
    made: Row = {"schema": SCHEMA, **missing, **fields}  # type: ignore[typeddict-item]
    assert made.keys() == Row.__annotations__.keys()
    return made


def frozen_rows(
    pretext: str, keep: float, values: Iterable[float], *, task: str = "linear", best: str = "block2", arch: str = ARCH
) -> list[Row]:
    """A family's rung, a seed a value: its last stage has the value, the best stage 5 more, the first 5 less."""
    return [
        row(
            name=f"{pretext}-{arch}-cifar10-s{seed}-keep{keep * 100:g}%",
            task=task,
            data="cifar10",
            split="test",
            metric="top1",
            value=value + {"block1": -5.0, "block3": 0.0}.get(stage, 5.0),
            unit="%",
            keep=keep,
            seed=seed,
            layer=stage,
            protocol={"pool": 1, "best_stage": stage == best},
            counts={"prunable": 576_432},
            recipe_sha256=f"{pretext}{seed}",
        )
        for seed, value in enumerate(values)
        for stage in STAGES
    ]


def floor_rows(values: Iterable[float], *, task: str = "linear") -> list[Row]:
    """Untrained networks."""
    return [
        row(
            name=f"random-{ARCH}",
            task=task,
            data="cifar10",
            split="test",
            metric="top1",
            value=value,
            unit="%",
            keep=1.0,
            seed=seed,
            layer=stage,
            protocol={"pool": 1, "best_stage": stage == "block1"},
        )
        for seed, value in enumerate(values, 1)
        for stage in STAGES
    ]


def retrain_rows(criterion: str, keep: float, values: Iterable[float], init: str = "reinit", **more: Any) -> list[Row]:
    """Re-training on labels, a seed a value; `more` goes into the protocol."""
    return [
        row(
            name=f"retrain-{criterion}-{keep}-{init}-{seed}-{sorted(more.items())}",
            task="retrain",
            data="cifar10",
            split="test",
            metric="top1",
            value=value,
            unit="%",
            keep=keep,
            seed=seed,
            protocol={
                "criterion": criterion,
                "family": f"{criterion}-{ARCH}-cifar10-s{seed}",
                "family_seed": seed,
                "subset": "",
                "rewind": "100it",
                "init": init,
                "control": "",
                "first_convs": None,
                "training": TRAINING,
                **more,
            },
            counts={"prunable": 576_432},
        )
        for seed, value in enumerate(values)
    ]


def tuned_rows(pretext: str, keep: float, values: Iterable[float], *, during: bool) -> list[Row]:
    """Fine-tuning on VOC07, pruned during it or before."""
    return [
        row(
            name=f"{pretext}-{ARCH}-cifar10-s{seed}-ft-voc07-keep{keep * 100:g}%",
            task="finetune",
            data="voc07",
            split="val",
            metric="map",
            value=value,
            unit="%",
            keep=keep,
            seed=seed,
            protocol={"epochs": 9, "lr": 0.01, **({"pruned_during": {"keeps": [keep]}} if during else {})},
            counts={"n_train": 2501},
        )
        for seed, value in enumerate(values)
    ]


def zero_rows(optimizer: str, values: Iterable[float], *, threshold: float = 0.0, updates: int = 1000) -> list[Row]:
    """What converged to zero by itself."""
    return [
        row(
            name=f"labels-{ARCH}-cifar10-{optimizer}-s{seed}-keep100%",
            task="zeros",
            data="cifar10",
            split="train",
            metric="zeros",
            value=value,
            unit="%",
            keep=1.0,
            seed=seed,
            protocol={
                "threshold": threshold,
                "pretext": "labels",
                "optimizer": optimizer,
                "lr": 0.001,
                "weight_decay": 1e-4,
                "updates": updates,
            },
            counts={"zeros": 1, "prunable": 576_432},
        )
        for seed, value in enumerate(values)
    ]
