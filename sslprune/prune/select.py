"""Choose the weights of highest score: exact counts, ties by position, never one that is gone already."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sslprune.errors import KeepError
from sslprune.masks import Mask

Scores = Mapping[str, Tensor]
"""Name of a prunable weight -> float64 tensor of its shape; the higher, the more it should stay."""


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


def top(scores: Scores, count: int, *, within: Mask, least: Mapping[str, int] | None = None) -> Mask:
    """The mask that keeps the `count` weights of highest score, of all tensors together.

    Among equal scores the earlier stays: tensors in the order given, row-major inside a tensor.

    Args:
        scores: Of every weight.
        count: How many to keep; exactly so many are.
        within: Weights that are kept already; the new mask is a subset of it.
        least: By name, how many weights of a tensor stay in any case (its highest); fewer where `within` has fewer.

    Raises:
        KeepError: `within` keeps fewer than `count`, or `least` asks for more.
    """
    names = list(scores)
    held = {name: min((least or {}).get(name, 0), int(within[name].count_nonzero())) for name in names}
    # Pruned weights rank below every kept one, also below kept weights whose score is zero; promised ones above all.
    ranked = [_ranked(scores[name], within[name], held[name]) for name in names]
    check_count(count, sum(int(within[name].count_nonzero()) for name in names), sum(held.values()))
    flat = torch.cat(ranked)
    kept = _first(flat, count)
    pieces = kept.split([scores[name].numel() for name in names])
    return Mask({name: piece.view(scores[name].shape) for name, piece in zip(names, pieces, strict=True)})


def top_of_each(scores: Scores, counts: Mapping[str, int], *, within: Mask) -> Mask:
    """The mask that keeps of every tensor the `counts[name]` weights of highest score."""
    layers = [top({name: scores[name]}, counts[name], within=within) for name in scores]
    return Mask({name: kept for layer in layers for name, kept in layer.items()})


def check_count(count: int, left: int, promised: int = 0) -> None:
    """Refuse to keep more than is left, or fewer than the layers are promised.

    Raises:
        KeepError: It is so.
    """
    if count > left:
        raise KeepError(
            f"the keep rate asks for {count} weights, but only {left} are left.", "Give a smaller keep rate."
        )
    if count < promised:
        raise KeepError(
            f"the keep rate asks for {count} weights, but {promised} are promised to single layers.",
            "Give a larger keep rate, or a lower guard or stem_keep.",
        )


def _first(flat: Tensor, count: int) -> Tensor:
    """Where the `count` highest values are, the earlier ones among equals; sorting would take many times as long."""
    if count == 0:
        return torch.zeros_like(flat, dtype=torch.bool)
    least = flat.kthvalue(len(flat) - count + 1).values
    kept = flat > least
    equal = (flat == least).nonzero()[:, 0]
    kept[equal[: count - int(kept.count_nonzero())]] = True
    return kept


def _ranked(score: Tensor, kept: Tensor, held: int) -> Tensor:
    flat = score.detach().double().flatten()
    flat = torch.where(kept.to(flat.device).flatten(), flat, -torch.inf)
    if held:
        flat[_first(flat, held)] = torch.inf
    return flat
