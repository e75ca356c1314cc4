"""SynFlow: what flows through a weight when the image is all ones and no number is negative (Tanaka et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import torch
from torch import Tensor, nn

from sslprune.errors import ArchitectureError
from sslprune.masks import Mask

ROUNDS = 100
"""Steps from what is kept to what shall be kept, each by the same factor (the paper, section 7: 100)."""


def synflow(model: nn.Module, mask: Mask, size: int) -> dict[str, Tensor]:
    """The score of every masked weight: |w x dR/dw|, R the sum of the outputs (arXiv 2006.05467, equation 3).

    R is of a copy in float64 and eval mode whose weights are the absolute values of the kept ones, for one image of
    ones. Batch norm is made what it is to the flow, a positive factor |gamma| / sqrt(running variance + eps) for each
    channel; its shift, its running mean and all biases are 0, for the flow is conserved only without them. On an
    untrained network that is the paper's own (mean 0, variance 1). No data is needed, and the model is not changed.

    Args:
        model: Its parameters have the names that the mask uses.
        mask: Pruned weights count as 0, and score 0.
        size: Height and width of the image, in pixels.

    Returns:
        Name -> float64 scores >= 0, on the model's device. Where a layer is all that leads from image to output, its
        scores add up to R, like those of any other such layer.

    Raises:
        ArchitectureError: R is not finite.
    """
    flow = deepcopy(model).eval().double()
    mask.apply_(flow)
    _make_positive_(flow)
    weights = mask.weights_of(flow)
    image = torch.ones(1, 3, size, size, dtype=torch.float64, device=next(flow.parameters()).device)
    total = flow(image).sum()
    if not bool(total.isfinite()):
        raise ArchitectureError(
            f"what flows through this {type(model).__name__} is beyond float64.", "Choose another score than synflow."
        )
    slopes = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
    return {
        name: torch.zeros_like(weight) if slope is None else (weight.detach() * slope).abs()
        for (name, weight), slope in zip(weights.items(), slopes, strict=True)
    }


def steps(start: int, end: int, rounds: int = ROUNDS) -> Iterator[int]:
    """The counts of an exponential schedule, from below `start` to exactly `end`.

    >>> list(steps(1000, 125, 3))
    [500, 250, 125]
    """
    for number in range(1, rounds + 1):
        yield end if number == rounds else max(end, round(start * (max(end, 1) / start) ** (number / rounds)))


@torch.no_grad()
def _make_positive_(flow: nn.Module) -> None:
    for module in flow.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.running_mean.zero_()
        if isinstance(bias := getattr(module, "bias", None), nn.Parameter):
            bias.zero_()
    for parameter in flow.parameters():
        parameter.abs_()
        parameter.requires_grad_(True)
