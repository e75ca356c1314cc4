"""Magnitude pruning with exact counts: the weights of largest absolute value stay, ties go to the earlier position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from sslprune.masks import Mask
from sslprune.prune import scopes, scores
from sslprune.prune.select import count_kept, top, top_of_each

__all__ = ["Scope", "count_kept", "prune"]

Scope = Literal["global", "layer"]


def prune(weights: Mapping[str, Tensor], keep: float, *, within: Mask | None = None, scope: Scope = "global") -> Mask:
    """The mask that keeps the weights of largest magnitude (Han et al. 2015; Caron et al. 2020, section 3).

    Exactly round(keep x prunable) weights are kept (of all together, or of each tensor in scope "layer"). Among equal
    magnitudes the earlier stays: tensors in the order given, row-major inside a tensor. Other scores and scopes are in
    `criteria`.

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
        return top_of_each(scores.magnitude(weights), scopes.uniform(weights, keep), within=within)
    return top(scores.magnitude(weights), count_kept(keep, within.prunable), within=within)
