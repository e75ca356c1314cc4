"""Pruned networks without training, for benches and tests: heavy-tailed weights, plausible batch norm, exact counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sslprune import models
from sslprune.errors import KeepError
from sslprune.masks import Mask
from sslprune.prune.scopes import erk
from sslprune.prune.select import count_kept

Masks = Literal["uniform", "global", "normalised", "erk"]
MASKS: tuple[Masks, ...] = get_args(Masks)


@torch.no_grad()
def pruned(
    arch: str,
    keep: float,
    *,
    size: int,
    mask: Masks = "global",
    seed: int = 0,
    num_classes: int = 0,
) -> nn.Module:
    """A random network pruned by magnitude, in eval mode; the same for the same arguments.

    Args:
        arch: A name that `sslprune.models.build` knows.
        keep: Kept / prunable weights, in (0, 1].
        size: Height and width of the images that batch norm is calibrated on, in pixels.
        mask: "global" ranks all weights together by magnitude, which spares early layers of few inputs, whose weights
            are larger and cost most; "normalised" likewise, each divided by its tensor's root mean square; "uniform"
            keeps the same share of every tensor; "erk" gives tensors Erdos-Renyi-kernel shares
            (`sslprune.prune.scopes.erk`).
        seed: Of weights, batch norm and calibration images.
        num_classes: Outputs of the classifier, which is not pruned; 0 for none.

    Raises:
        KeepError: `keep` is not in (0, 1], or there is no such mask.
        ArchitectureError: The architecture is not known.
    """
    if mask not in MASKS:
        raise KeepError(f"there is no mask {mask!r}.", f"Choose one of {', '.join(MASKS)}.")
    count_kept(keep, 0)
    draw = torch.Generator().manual_seed(seed)
    model = models.build(arch, seed=seed, num_classes=num_classes)
    weights = models.prunable(model)
    for weight in weights.values():
        # Trained filters differ in norm, and their weights have heavier tails than a normal's.
        scales = torch.randn(len(weight), *[1] * (weight.ndim - 1), generator=draw).mul(0.7).exp()
        weight.mul_(scales * torch.empty(weight.shape).exponential_(generator=draw))
    _zero(weights, keep, mask)
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.weight.copy_(torch.rand(norm.weight.shape, generator=draw) + 0.5)
        norm.bias.copy_(torch.randn(norm.bias.shape, generator=draw) * 0.3)
        norm.reset_running_stats()
        norm.momentum = None
    if norms:
        model.train()
        for _ in range(2):
            model(torch.randn(8, 3, size, size, generator=draw))
    for norm in norms:
        norm.momentum = 0.1
        # A variance of nearly nothing would make the network magnify rounding until no two engines agree.
        if norm.running_var is not None:
            norm.running_var.clamp_(min=max(float(norm.running_var.mean()) / 100, 1e-3))
    return model.eval()


def _zero(weights: Mapping[str, Tensor], keep: float, mask: Masks) -> None:
    if mask in ("global", "normalised"):
        sizes = {name: weight.pow(2).mean().sqrt() if mask == "normalised" else 1 for name, weight in weights.items()}
        scored = [(weight, weight.abs() / sizes[name]) for name, weight in weights.items()]
        _keep_largest(scored, round(keep * sum(weight.numel() for weight in weights.values())))
        return
    counts = {name: round(keep * weight.numel()) for name, weight in weights.items()}
    if mask == "erk":
        total = count_kept(keep, sum(weight.numel() for weight in weights.values()))
        counts = erk(weights, total, within=Mask.full(weights), least={})
    for name, weight in weights.items():
        _keep_largest([(weight, weight.abs())], counts[name])


def _keep_largest(scored: list[tuple[Tensor, Tensor]], count: int) -> None:
    scores = torch.cat([score.flatten() for _, score in scored])
    kept = torch.zeros(len(scores), dtype=torch.bool)
    kept[scores.argsort(descending=True, stable=True)[: max(1, count)]] = True
    for (weight, _), here in zip(scored, kept.split([weight.numel() for weight, _ in scored]), strict=True):
        weight[~here.view(weight.shape)] = 0
