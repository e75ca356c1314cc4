"""A linear probe as it is published beside a backbone, and the classifier that the two make.

The probe's file is described, and read, in `sslprune.models.head_file`; writing it is in `sslprune.evaluate.head`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslprune.errors import ArchitectureError, DatasetError
from sslprune.models.anatomy import forward_stages, stages
from sslprune.models.head_file import METADATA, TENSORS, VERSION, HeadFile, check_head_file, read_head_file, refuse
from sslprune.models.head_file import POOLED as POOLED
from sslprune.models.head_file import head_filename as head_filename

_ROWS = 8192


@dataclass(frozen=True, eq=False)
class Probe:
    """Multinomial logistic regression on standardised features.

    Attributes:
        mean: Float32 [D], subtracted from the features.
        std: Float32 [D], positive, divided by.
        weight: Float32 [C,D].
        bias: Float32 [C].
        l2: The penalty `l2 / 2 * |weight|^2` beside the mean cross entropy.
        classes: The C class names, in label order.
        held_out: Top-1 in per cent on the part of the training set that chose `l2`.
        converged: Whether the solver stopped by itself, and not at its limit of iterations.
    """

    mean: Tensor
    std: Tensor
    weight: Tensor
    bias: Tensor
    l2: float
    classes: tuple[str, ...]
    held_out: float
    converged: bool

    def logits(self, x: Tensor) -> Tensor:
        """Float32 features [N,D] to logits [N,C].

        Raises:
            DatasetError: The features have another width than the probe.
        """
        if x.ndim != 2 or x.shape[1] != len(self.mean):
            raise DatasetError(
                f"features are {tuple(x.shape)}, but the probe takes [N,{len(self.mean)}].",
                "Extract them at the probe's own stage and pool size, from images of the size it was fitted on.",
            )
        mean, std, weight, bias = (t.to(x.device) for t in (self.mean, self.std, self.weight, self.bias))
        return torch.cat([F.linear((rows - mean) / std, weight, bias) for rows in x.split(_ROWS)])

    def accuracy(self, x: Tensor, y: Tensor) -> float:
        """Top-1 in per cent of float32 features [N,D] with integer labels [N].

        Raises:
            DatasetError: The features have another width than the probe, or another length than the labels.
        """
        if y.shape != x.shape[:1] or len(y) == 0:
            raise DatasetError(
                f"{len(x)} features go with labels {tuple(y.shape)}.", "Give one label a feature vector."
            )
        return float((self.logits(x).argmax(1) == y.to(x.device)).double().mean() * 100)


@dataclass(frozen=True, eq=False)
class Head:
    """A probe, and where on the backbone it sits.

    Attributes:
        task: What it classifies, usually a data set's name ("cifar10"); the file is `head-{task}.safetensors`.
        stage: A name of `stages(backbone)`, or `POOLED`.
        pool: Each map of that stage is average-pooled to `pool` x `pool` cells at most.
        probe: Its weights.
    """

    task: str
    stage: str
    pool: int
    probe: Probe


def pool_flat(maps: Tensor, pool: int) -> Tensor:
    """Average each map to at most `pool` x `pool` cells (never more cells than pixels): [N,C,H,W] to [N,C*h*w].

    >>> pool_flat(torch.zeros(2, 16, 8, 8), 4).shape, pool_flat(torch.zeros(2, 16, 2, 2), 4).shape
    (torch.Size([2, 256]), torch.Size([2, 64]))
    """
    height, width = maps.shape[-2:]
    return F.adaptive_avg_pool2d(maps, (min(pool, height), min(pool, width))).flatten(1)


def stage_features(model: nn.Module, x: Tensor, stage: str, pool: int) -> Tensor:
    """The features of one stage: pre-processed images float [N,3,H,W] to float [N,D].

    Args:
        model: A backbone with timm's API.
        x: The images.
        stage: A name of `stages(model)`, or `POOLED`, for which `pool` plays no part.
        pool: See `pool_flat`.
    """
    if stage == POOLED:
        pooled: Tensor = model.forward_head(model.forward_features(x), pre_logits=True)  # type: ignore[operator]
        return pooled.flatten(1)
    return pool_flat(forward_stages(model, x)[check_stage(model, stage)], pool)


def check_stage(model: nn.Module, stage: str) -> int:
    """The position of a stage's name among the model's stages.

    Raises:
        ArchitectureError: The model has no such stage.
    """
    names = stages(model)
    if stage not in names:
        raise ArchitectureError(
            f"{type(model).__name__} has no stage {stage!r}.", f"It has: {', '.join(names)}; or {POOLED!r}."
        )
    return names.index(stage)


class HeadedBackbone(nn.Module):
    """A backbone that classifies through a probe; whatever else one asks of it, the backbone answers.

    `forward_features`, `forward_head`, `num_features`, `feature_info`, `.sslprune` and so on are the backbone's.
    `reset_classifier` drops the probe and gives the backbone a fresh classifier, which `forward` then uses.

    Args:
        backbone: The network, with timm's API.
        head: The probe and its place.

    Attributes:
        classes: Class names in the order of the logits; empty after `reset_classifier`.

    Raises:
        ArchitectureError: The backbone lacks the head's stage.
    """

    backbone: nn.Module
    probe: nn.Module | None

    def __init__(self, backbone: nn.Module, head: Head) -> None:
        super().__init__()
        if head.stage != POOLED:
            check_stage(backbone, head.stage)
        self.backbone = backbone
        self.probe = _ProbeLayer(head.probe)
        self.task = head.task
        self.stage = head.stage
        self.pool = head.pool
        self.classes = head.probe.classes
        self.train(backbone.training)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "backbone":  # not yet set, as while copying: asking it for itself would never end
                raise
            return getattr(self.backbone, name)

    def forward(self, x: Tensor) -> Tensor:
        """Pre-processed images float [N,3,H,W] to logits [N,C]."""
        if self.probe is None:
            return self.backbone(x)  # type: ignore[no-any-return]
        return self.probe(stage_features(self.backbone, x, self.stage, self.pool))  # type: ignore[no-any-return]

    def reset_classifier(self, num_classes: int, *args: Any, **kwargs: Any) -> None:
        """Drop the probe; give the backbone a fresh classifier (timm's `reset_classifier`)."""
        self.probe = None
        self.classes = ()
        self.backbone.reset_classifier(num_classes, *args, **kwargs)  # type: ignore[operator]


class _ProbeLayer(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self, probe: Probe) -> None:
        super().__init__()
        self.register_buffer("mean", probe.mean.clone())
        self.register_buffer("std", probe.std.clone())
        self.weight = nn.Parameter(probe.weight.clone())
        self.bias = nn.Parameter(probe.bias.clone())

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] != self.mean.shape[0]:
            raise ArchitectureError(
                f"the backbone gives {x.shape[1]} features, but the head takes {self.mean.shape[0]}.",
                "Give images of the size that the head was fitted on (the model's own pre-processing makes them).",
            )
        return F.linear((x - self.mean) / self.std, self.weight, self.bias)


def read_head(path: Path) -> Head:
    """Read a head file, all or nothing.

    Raises:
        SparseFileError: The file is missing, truncated or malformed, says something impossible, or holds a number
            that is not finite.
    """
    found = read_head_file(path)
    tensors = {name: torch.from_numpy(getattr(found, name)) for name in TENSORS}
    probe = Probe(**tensors, l2=found.l2, classes=found.classes, held_out=found.held_out, converged=found.converged)
    return Head(found.task, found.stage, found.pool, probe)


def check_head(head: Head, path: Path) -> None:
    """Refuse a head that no file may hold: shapes that do not fit, a number that is not finite, and the like.

    Args:
        head: The head.
        path: The file that the message names.

    Raises:
        SparseFileError: It is such a head.
    """
    probe = head.probe
    arrays = {}
    for name in TENSORS:
        tensor: Tensor = getattr(probe, name)
        if tensor.dtype != torch.float32:
            refuse(path, f"{name} is {tensor.dtype}, not float32")
        arrays[name] = tensor.detach().cpu().numpy()
    file = HeadFile(
        head.task,
        head.stage,
        head.pool,
        **arrays,
        l2=probe.l2,
        classes=probe.classes,
        held_out=probe.held_out,
        converged=probe.converged,
    )
    check_head_file(file, path)


def head_metadata(head: Head) -> dict[str, str]:
    """The metadata of a head's file: one entry, so that equal heads make equal files."""
    probe = head.probe
    fields = {
        "version": VERSION,
        "task": head.task,
        "stage": head.stage,
        "pool": head.pool,
        "classes": list(probe.classes),
        "l2": probe.l2,
        "held_out": probe.held_out,
        "converged": probe.converged,
    }
    return {METADATA: json.dumps(fields, sort_keys=True, allow_nan=False)}
