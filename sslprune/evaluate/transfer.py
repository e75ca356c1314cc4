"""What the frozen features of a backbone are worth on labelled images, stage by stage, as result rows.

Every stage is measured on the test set; which of them is called the best is decided by the held-out part of the
training set, so the test set chooses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sslprune import ranks
from sslprune.errors import DatasetError
from sslprune.evaluate.batches import Data, length
from sslprune.evaluate.features import read_labelled
from sslprune.evaluate.knn import TEMPERATURE, knn_accuracy, neighbours
from sslprune.evaluate.labelled import HELD_OUT, hold_out
from sslprune.evaluate.probe import L2_GRID, Probe, fit
from sslprune.evaluate.reader import Reader
from sslprune.evaluate.results import Row, row
from sslprune.models.anatomy import prunable
from sslprune.models.head import Head

TASKS = ("linear", "knn")


@dataclass(frozen=True)
class Transfer:
    """The rows of one backbone on one data set, and the probe of its best stage to publish beside it.

    Attributes:
        rows: One row a task and stage; `protocol["best_stage"]` marks one stage a task.
        head: The linear probe of the best stage; None where "linear" was not asked for.
    """

    rows: list[Row]
    head: Head | None


def evaluate_backbone(
    model: nn.Module,
    train: Data,
    test: Data,
    *,
    name: str,
    data: str,
    keep: float,
    seed: int,
    pool: int = 4,
    tasks: Sequence[str] = TASKS,
    classes: Sequence[str] | None = None,
    recipe_sha256: str | None = None,
    batch_size: int = 256,
    device: torch.device | str | None = None,
    preprocessing: Callable[[Tensor], Tensor] | None = None,
    progress: bool = False,
    shared: bool = False,
    runtime: str = "torch",
) -> Transfer:
    """Probe all stages of a frozen backbone.

    Args:
        model: The backbone; it stays as it is.
        train: Images and labels to fit on: (images, labels), a Dataset or a DataLoader; see
            `sslprune.evaluate.features.extract` for the images.
        test: The same, to measure on.
        name: The model's name, for the rows.
        data: The data set's name, for the rows and as the head's task.
        keep: The model's keep rate, for the rows.
        seed: Decides which training images are held out.
        pool: See `sslprune.evaluate.features.extract`.
        tasks: Any of "linear" and "knn".
        classes: Class names in label order, for the head.
        recipe_sha256: Of the recipe that made the model, for the rows.
        device: Where to extract and to measure; None extracts where the model is and measures on the CPU.
        batch_size, preprocessing, progress: See `sslprune.evaluate.features.extract`.
        shared: Whether all processes of a training make this call together: each extracts its part, rank 0 measures,
            and all get the result.
        runtime: What extracts the features, see `sslprune.evaluate.features.extract`; "auto" decides by the training
            images, for both sets. Rows have `protocol["runtime"]` where it is not torch.

    Returns:
        Rows in the order of `tasks`, stages shallow to deep; values are top-1 in per cent.

    Raises:
        DatasetError: Images and labels do not fit, a feature is not finite, or a task is unknown.
        ArchitectureError: The network has no stages to probe.
    """
    if unknown := sorted(set(tasks) - set(TASKS)):
        raise DatasetError(f"no frozen-feature task is named {', '.join(unknown)}.", f"There are: {', '.join(TASKS)}.")
    extraction: dict[str, Any] = {
        "batch_size": batch_size,
        "device": device,
        "preprocessing": preprocessing,
        "progress": progress,
        "shared": shared,
    }
    reader = Reader(model, None, pool, runtime=runtime, expected=length(train))
    train_x, train_y = read_labelled(model, reader, train, **extraction)
    test_x, test_y = read_labelled(model, reader, test, what="test", **extraction)
    pruning = prunable(model).values()
    make = partial(
        _measured,
        placed(train_x, device),
        train_y,
        placed(test_x, device),
        test_y,
        about={"name": name, "data": data, "keep": keep, "seed": seed, "recipe_sha256": recipe_sha256},
        counts={
            "prunable": sum(weight.numel() for weight in pruning),
            "nonzero": sum(int(weight.count_nonzero()) for weight in pruning),
        },
        extracted={"pool": pool, **reader.described()},
        tasks=tasks,
        classes=classes,
    )
    return ranks.on_first(make) if shared else make()


def _measured(
    train_x: Mapping[str, Tensor],
    train_y: Tensor,
    test_x: Mapping[str, Tensor],
    test_y: Tensor,
    *,
    about: Mapping[str, Any],
    counts: Mapping[str, int],
    extracted: Mapping[str, Any],
    tasks: Sequence[str],
    classes: Sequence[str] | None,
) -> Transfer:
    """The rows of given features."""
    seed, rows, head = about["seed"], list[Row](), None
    for task in tasks:
        measured = {}
        for stage, x in train_x.items():
            if task == "linear":
                measured[stage] = measure_linear(x, train_y, test_x[stage], test_y, classes=classes, seed=seed)
            else:
                measured[stage] = measure_knn(x, train_y, test_x[stage], test_y, seed=seed)
        chosen = best_stage({stage: found.held_out for stage, found in measured.items()})
        for stage, found in measured.items():
            rows.append(
                row(
                    **about,
                    task=task,
                    split="test",
                    metric="top1",
                    value=found.accuracy,
                    unit="%",
                    layer=stage,
                    protocol={**extracted, **found.protocol, "best_stage": stage == chosen},
                    counts={"n_train": len(train_y), "n_test": len(test_y), **counts, "dims": train_x[stage].shape[1]},
                )
            )
        if (probe := measured[chosen].probe) is not None:
            head = Head(about["data"], chosen, extracted["pool"], probe)
    return Transfer(rows, head)


@dataclass(frozen=True, eq=False)
class Measured:
    """One stage by one task: top-1 in per cent on the test set and on the held-out part of the training set."""

    accuracy: float
    held_out: float
    protocol: dict[str, Any]
    probe: Probe | None = None


def measure_linear(
    train_x: Tensor, train_y: Tensor, test_x: Tensor, test_y: Tensor, *, classes: Sequence[str] | None, seed: int
) -> Measured:
    """The linear probe on given features; see `sslprune.evaluate.probe.fit`."""
    probe = fit(train_x, train_y, classes=classes, seed=seed)
    protocol = {
        "standardised": True,
        "solver": "lbfgs",
        "l2": probe.l2,
        "l2_grid": list(L2_GRID),
        "held_out": HELD_OUT,
        "held_out_top1": probe.held_out,
        "converged": probe.converged,
    }
    return Measured(probe.accuracy(test_x, test_y), probe.held_out, protocol, probe)


def measure_knn(
    train_x: Tensor,
    train_y: Tensor,
    test_x: Tensor,
    test_y: Tensor,
    *,
    seed: int,
    k: int | None = None,
    temperature: float = TEMPERATURE,
) -> Measured:
    """kNN on given features; for the held-out accuracy the rest of the training set votes."""
    k = neighbours(len(train_x)) if k is None else k
    rest, held = hold_out(train_y, seed)
    held_out = knn_accuracy(
        train_x[rest], train_y[rest], train_x[held], train_y[held], k=min(k, len(rest)), temperature=temperature
    )
    accuracy = knn_accuracy(train_x, train_y, test_x, test_y, k=k, temperature=temperature)
    protocol = {
        "similarity": "cosine",
        "k": k,
        "temperature": temperature,
        "held_out": HELD_OUT,
        "held_out_top1": held_out,
    }
    return Measured(accuracy, held_out, protocol)


def placed(features: dict[str, Tensor], device: torch.device | str | None) -> dict[str, Tensor]:
    """The features where they are to be measured: on the device that was named for extraction, else on the CPU."""
    return features if device is None else {stage: x.to(device) for stage, x in features.items()}


def best_stage(held_out: dict[str, float]) -> str:
    """The stage with the best held-out accuracy, the shallowest at a draw.

    >>> best_stage({"stem": 40.0, "layer1": 60.0, "layer2": 60.0})
    'layer1'
    """
    return max(held_out, key=lambda stage: held_out[stage])
