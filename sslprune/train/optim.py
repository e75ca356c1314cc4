"""Optimisers and learning-rate schedules; rates follow the update number alone, so resuming needs no more state."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from sslprune.config import Training
from sslprune.masks import Mask


def build(training: Training, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """SGD, or Adam with coupled (L2) weight decay as in PyTorch 1.0, which the paper used."""
    lr, decay = training.lr, training.weight_decay
    if training.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=lr, weight_decay=decay)
    return torch.optim.SGD(
        parameters, lr=lr, momentum=training.momentum, nesterov=training.nesterov, weight_decay=decay
    )


def rate(training: Training, update: int, *, total: int, per_epoch: int, peak: float | None = None) -> float:
    """The learning rate of an update in [0, total).

    Args:
        training: Schedule, warm-up, peak.
        update: The update about to be made.
        total: Updates of this training from its start to its end; a round that starts at k counts from 0 all the same.
        per_epoch: Updates an epoch.
        peak: Another peak than `training.lr`.
    """
    top = training.lr if peak is None else peak
    warmup = training.warmup.updates(per_epoch)
    if update < warmup:
        return top * (update + 1) / warmup
    if training.schedule == "cosine":
        return top * 0.5 * (1 + math.cos(math.pi * (update - warmup) / max(1, total - warmup)))
    if training.schedule == "step":
        passed = sum(update >= milestone.updates(per_epoch) for milestone in training.milestones)
        return float(top * training.gamma**passed)
    return top


def hold(mask: Mask, weights: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Keep pruned weights at exactly +0.0, and with them what the optimiser remembers of them (momentum, moments)."""
    mask.hold_(weights)
    for name, weight in weights.items():
        for remembered in optimizer.state.get(weight, {}).values():
            if isinstance(remembered, Tensor) and remembered.shape == weight.shape:
                mask.hold_({name: remembered})
