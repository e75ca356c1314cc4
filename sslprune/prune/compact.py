"""Exact compaction: a pruned network as a smaller ordinary one with the same outputs.

The algebra is in `sslprune.graph.shrink`; here its result is compared with the original.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field

import torch
from torch import nn

from sslprune.errors import ArchitectureError
from sslprune.graph.nodes import Graph
from sslprune.graph.shrink import shrink_exactly_
from sslprune.graph.surgery import Kept
from sslprune.graph.trace import trace
from sslprune.graph.weights import layer_of

TOLERANCE = 1e-5
"""The largest difference between the outputs in float64, as a fraction of the largest output, that passes as equal; or,
where it is more, the distance of the network itself, run in float32, from float64."""


@dataclass(frozen=True)
class Size:
    """What a network costs: parameters, MACs for one image, channels of its convolutions and linear layers."""

    parameters: int
    macs: int
    channels: int


@dataclass(frozen=True)
class Compaction:
    """What `compact` did.

    Attributes:
        before: Cost of the network that was given.
        after: Cost of the one that was returned.
        channels: By layer, the channels that stayed, as they were numbered before; empty if none went.
        reason: Why the network was returned as it was; None if channels were removed.
        difference: Largest difference of the outputs in float64 on random images, divided by the largest output.
        rounding: Likewise, of the network that was given, run in float32, from itself in float64.
    """

    before: Size
    after: Size
    channels: Mapping[str, Kept] = field(default_factory=dict)
    reason: str | None = None
    difference: float = 0.0
    rounding: float = 0.0


def compact_exactly(model: nn.Module, size: int) -> tuple[nn.Module, Compaction]:
    """Remove every channel that the network's output does not depend on; the output stays the same.

    Args:
        model: A float32 network of one output, whose zeros are what pruning left. Not changed.
        size: Height and width of its images, in pixels.

    Returns:
        A smaller copy in eval mode on the model's device, and what was done. A network that cannot be traced, has
        nothing to remove, or fails the comparison of outputs comes back as a plain copy, and the report says why.
    """
    original = deepcopy(model).cpu().eval()
    try:
        graph = trace(original, size)
    except ArchitectureError as error:
        nothing = Size(_parameters(original), 0, 0)
        return deepcopy(model).eval(), Compaction(nothing, nothing, reason=error.problem)
    before = cost(original, graph)
    smaller = deepcopy(original)
    try:
        channels = shrink_exactly_(smaller, graph)
        if not channels:
            return deepcopy(model).eval(), Compaction(before, before, reason="no channel can be removed")
        after = cost(smaller, trace(smaller, size))
        difference, rounding = compare(original, smaller, size)
    except ArchitectureError as error:
        return deepcopy(model).eval(), Compaction(before, before, reason=error.problem)
    if not difference <= max(TOLERANCE, rounding):
        reason = f"its outputs would change by {difference:.2g} of the largest"
        return deepcopy(model).eval(), Compaction(before, before, reason=reason)
    device = next(model.parameters()).device
    return smaller.to(device), Compaction(before, after, channels, None, difference, rounding)


def cost(model: nn.Module, graph: Graph) -> Size:
    """Parameters of the whole network; MACs and channels of what its graph runs."""
    macs = channels = 0
    for node in graph.of("conv", "linear"):
        positions = node.shape[1] * node.shape[2] if len(node.shape) == 3 else 1
        macs += layer_of(model, node).weight.numel() * positions
        channels += node.channels
    return Size(_parameters(model), macs, channels)


@torch.no_grad()
def compare(original: nn.Module, smaller: nn.Module, size: int) -> tuple[float, float]:
    """How far a smaller network is from the original, and how far that is from itself.

    Returns:
        The largest differences of the outputs, on two seeded random images, from the original's in float64, divided by
        the largest of those: the smaller network's in float64, and the original's as it is.

    Raises:
        ArchitectureError: The smaller network does not run.
    """
    images = torch.randn(2, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact = deepcopy(original).double()(images)
    try:
        found = deepcopy(smaller).double()(images)
    except (RuntimeError, ValueError, IndexError) as error:
        raise ArchitectureError(f"the smaller network does not run: {error}", "Report it.") from error
    rounded = original(images.to(next(original.parameters()).dtype)).double()
    largest = exact.abs().max().clamp_min(1e-30)
    return float((found - exact).abs().max() / largest), float((rounded - exact).abs().max() / largest)


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
