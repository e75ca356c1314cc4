"""What a weight is worth: its magnitude, its share of its layer (LAMP), or a drawn number."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sslprune.masks import Mask


def magnitude(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The absolute value (Han et al. 2015; Caron et al. 2020, section 3)."""
    return {name: weight.detach().abs().double() for name, weight in weights.items()}


def lamp(weights: Mapping[str, Tensor], mask: Mask) -> dict[str, Tensor]:
    """Layer-adaptive magnitude (Lee et al. 2021, arXiv 2010.07611, equation 2).

    A weight's square, divided by the sum of the squares of all surviving weights of its layer that are not smaller, its
    own included. Of equal weights the earlier counts as the larger. The largest of each layer scores 1, so no layer is
    emptied while there are as many weights as layers.

    Args:
        weights: Name -> weight tensor, finite.
        mask: The surviving weights; the others score 0.

    Returns:
        Name -> float64 scores in [0, 1].

    >>> lamp({"a": torch.tensor([2.0, -1.0])}, Mask.full({"a": torch.zeros(2)}))["a"].tolist()
    [1.0, 0.2]
    """
    return {name: _lamp(weight.detach(), mask[name].to(weight.device)) for name, weight in weights.items()}


def random(weights: Mapping[str, Tensor], *, seed: int) -> dict[str, Tensor]:
    """A number in [0, 1) for every weight, drawn on the CPU; the same seed gives nested masks down a ladder."""
    draw = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(weight.shape, generator=draw, dtype=torch.float64).to(weight.device)
        for name, weight in weights.items()
    }


def _lamp(weight: Tensor, kept: Tensor) -> Tensor:
    size = torch.where(kept, weight.abs().double(), 0.0).flatten()
    if not bool(size.any()):
        return size.view(weight.shape)
    # Squares of tiny weights would vanish; a score is a ratio, so the layer's scale may be taken out first.
    square = (size / size.max()).square()
    order = torch.sort(size, descending=True, stable=True).indices
    scores = torch.empty_like(square)
    scores[order] = square[order] / square[order].cumsum(0)
    return scores.view(weight.shape)
