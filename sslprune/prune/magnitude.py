"""Magnitude pruning with exact counts: the weights of largest absolute value stay, ties go to the earlier position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from sslprune.errors import KeepError
from sslprune.masks import Mask

Scope = Literal["global", "layer"]


def count_kept(keep: float, prunable: int) -> int:
    """How many of `prunable` weights a keep rate means: round(keep x prunable), halves to even.

    Raises:
        KeepError: `keep` is not a fraction in (0, 1].

    >>> count_kept(0.05, 1000)
    50
    """
    if not isinstance(keep, int | float) or isinstance(keep, bool) or not 0 < keep <= 1:
        raise KeepError(f"keep = {keep!r} is not a fraction in (0, 1].", "Give 0.05 for five per cent.")
    return round(keep * prunable)


def prune(weights: Mapping[str, Tensor], keep: float, *, within: Mask | None = None, scope: Scope = "global") -> Mask:
    """The mask that keeps the weights of largest magnitude (Han et al. 2015; Caron et al. 2020, section 3).

    Exactly round(keep x prunable) weights are kept (of all together, or of each tensor in scope "layer"). Among equal
    magnitudes the earlier stays: tensors in the order given, row-major inside a tensor.

    Args:
        weights: Name -> weight tensor, any floating dtype, finite.
        keep: Fraction of all prunable weights to keep, in (0, 1]; of all of them, not of those still kept.
        within: Weights that are kept already; the new mask is a subset of it. None: all.
        scope: "global" ranks all tensors together, "layer" each by itself.

    Returns:
        The new mask, on the weights' device.

    Raises:
        KeepError: `keep` is not in (0, 1], or more than `within` still keeps.
    """
    within = Mask.full(weights) if within is None else within
    if scope == "layer":
        layers = [prune({name: weight}, keep, within=Mask({name: within[name]})) for name, weight in weights.items()]
        return Mask({name: layer[name] for layer in layers for name in layer})
    count = count_kept(keep, within.prunable)
    if count > within.kept:
        raise KeepError(
            f"keep = {keep:g} asks for {count} weights, but only {within.kept} are left.", "Give a smaller keep rate."
        )
    # Pruned weights rank below every kept one, also below kept weights that are exactly zero.
    scores = torch.cat([_score(weight, within[name]) for name, weight in weights.items()])
    kept = torch.zeros_like(scores, dtype=torch.bool)
    kept[torch.sort(scores, descending=True, stable=True).indices[:count]] = True
    pieces = kept.split([weight.numel() for weight in weights.values()])
    return Mask({name: piece.view(weight.shape) for (name, weight), piece in zip(weights.items(), pieces, strict=True)})


def _score(weight: Tensor, kept: Tensor) -> Tensor:
    magnitude = weight.detach().abs().double()
    return torch.where(kept.to(weight.device), magnitude, -torch.ones_like(magnitude)).flatten()
