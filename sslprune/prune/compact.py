"""Exact compaction: a pruned network as a smaller ordinary one with the same outputs.

A channel goes where nothing reads it, or where it is the same number at every pixel of every image and what it
contributes can be put elsewhere: into the biases of convolutions without padding and of linear layers, or, where zero
padding makes the constant vary at the border, into the weights of one constant channel that speaks for all. Merely
dropping filters without weights is wrong: batch norm and ReLU make relu(bias) of them, not 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sslprune.errors import ArchitectureError
from sslprune.graph.constants import constants, live
from sslprune.graph.coupling import Coupling, coupling
from sslprune.graph.needs import needs
from sslprune.graph.nodes import Graph, Node
from sslprune.graph.surgery import Kept, shrink_
from sslprune.graph.trace import trace
from sslprune.graph.weights import biases, columns, layer_of, pull, reads, use_counts

TOLERANCE = 1e-5
"""The largest difference between the outputs in float64, as a fraction of the largest output, that passes as equal; or,
where it is more, the distance of the network itself, run in float32, from float64."""

_SMALLEST_CARRIER = 0.1
"""A constant channel that speaks for others is at least this fraction of the largest constant beside it: others are
divided by it."""


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


def shrink_exactly_(model: nn.Module, graph: Graph) -> dict[str, Kept]:
    """Remove channels in place, without comparing outputs.

    Args:
        model: Its weights and biases are changed even if no channel goes.
        graph: Its operations; of what it was before.

    Returns:
        By layer that lost some, the channels that stay.

    Raises:
        ArchitectureError: A layer has other channels than the graph says.
    """
    bias = simplify_(model, graph)
    channels = removable(model, graph)
    _settle_(model, graph, bias)
    shrink_(model, channels)
    return channels


@torch.no_grad()
def simplify_(model: nn.Module, graph: Graph) -> dict[str, Tensor]:
    """Let no weight read a constant that can be put elsewhere; to a fixed point.

    Args:
        model: Its weights are changed in place; with the biases that are returned it computes what it did.
        graph: Its operations.

    Returns:
        By node, what convolutions and linear layers must add: float64 [outputs].
    """
    bias = biases(model, graph)
    shared = {layer for layer, count in use_counts(graph).items() if count > 1}
    weighted = [node for node in graph.of("conv", "linear") if node.layer not in shared]
    changed = True
    while changed:
        constant = constants(model, graph, bias)
        changed = False
        for node in weighted:
            changed |= _fold_(model, node, constant[node.inputs[0]], bias)
        changed |= _merge_(model, graph, weighted, constant, bias)
    return bias


def removable(model: nn.Module, graph: Graph) -> dict[str, Kept]:
    """By layer that loses some, the channels that stay once the weights are simplified; never none of a layer's."""
    coupled = coupling(model, graph)
    stays = coupled.pinned.clone()
    for name, needed in needs(model, graph).items():
        stays[coupled.classes[name][needed]] = True
    for node in graph:
        # A layer without channels is no layer.
        if not stays[classes := coupled.classes[node.name]].any():
            stays[classes[0]] = True
    kept = {
        node.layer: Kept(stays[coupled.classes[node.inputs[0]]], stays[coupled.classes[node.name]])
        for node in graph.of("conv", "linear", "norm", "pad_channels")
    }
    return {layer: each for layer, each in kept.items() if not bool(each.inputs.all() and each.outputs.all())}


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


def _fold_(model: nn.Module, node: Node, read: Tensor, bias: dict[str, Tensor]) -> bool:
    """Move what constants contribute to a layer into its bias, where every output pixel gets the same of it."""
    weight = layer_of(model, node).weight
    steady = ~live(read) & ((read == 0) | (not node.padded))
    folded = (steady & reads(weight, node).any(0)).nonzero().flatten()
    if not len(folded):
        return False
    bias[node.name] = bias[node.name] + pull(weight, node, folded) @ read[folded]
    rows, cols = columns(weight, node, folded)
    weight[rows, cols] = 0
    return True


def _merge_(
    model: nn.Module, graph: Graph, weighted: list[Node], constant: Mapping[str, Tensor], bias: dict[str, Tensor]
) -> bool:
    """In padded convolutions, let one constant channel speak for all: its weights take over theirs."""
    coupled = coupling(model, graph)
    waiting = []
    for node in weighted:
        read = constant[node.inputs[0]]
        there = ~live(read) & (read != 0)
        spoken = there & reads(layer_of(model, node).weight, node).any(0)
        if node.padded and node.settings["groups"] == 1 and bool(spoken.any()):
            waiting.append((node, spoken, there & (read.abs() >= _SMALLEST_CARRIER * read[there].abs().max())))
    changed = False
    for node, spoken, carrier in _carried(waiting, coupled):
        read, weight = constant[node.inputs[0]], layer_of(model, node).weight
        others = spoken.clone()
        others[carrier] = False
        if not others.any():
            continue
        shares = (read[others] / read[carrier]).view(1, -1, 1, 1)
        merged = weight[:, carrier].double() + (weight[:, others].double() * shares).sum(1)
        weight[:, others] = 0
        weight[:, carrier] = merged.to(weight.dtype)
        # What rounding took, the bias gives back everywhere but at the border.
        lost = (merged - weight[:, carrier].double()).flatten(1).sum(1) * read[carrier]
        bias[node.name] = bias[node.name] + lost
        changed = True
    return changed


def _carried(waiting: list[tuple[Node, Tensor, Tensor]], coupled: Coupling) -> list[tuple[Node, Tensor, int]]:
    """For every padded reader of constants the channel that carries them; few classes for all readers (greedily)."""
    found = []
    while waiting:
        votes = torch.cat([coupled.classes[node.inputs[0]][able] for node, _, able in waiting])
        # The class that can serve most readers; of several, the first.
        best = int(votes.bincount().argmax())
        left = []
        for node, spoken, able in waiting:
            serving = (able & (coupled.classes[node.inputs[0]] == best)).nonzero().flatten()
            if len(serving):
                found.append((node, spoken, int(serving[0])))
            else:
                left.append((node, spoken, able))
        waiting = left
    return found


@torch.no_grad()
def _settle_(model: nn.Module, graph: Graph, bias: Mapping[str, Tensor]) -> None:
    """Give each layer its bias: its own, the running mean of the batch norm behind it, or a new one."""
    for node in graph.of("conv", "linear"):
        layer: Any = layer_of(model, node)
        if layer.bias is not None:
            layer.bias.copy_(bias[node.name])
            continue
        if not bias[node.name].any():
            continue
        readers = graph.readers(node.name)
        if len(readers) == 1 and readers[0].op == "norm" and node.name != graph.output:
            _shift_mean_(layer_of(model, readers[0]), readers[0], bias[node.name])
        else:
            layer.bias = nn.Parameter(bias[node.name].to(layer.weight.dtype))


def _shift_mean_(norm: Any, node: Node, shift: Tensor) -> None:
    """Let batch norm add what its convolution no longer does.

    A small variance magnifies what rounding takes from the mean; the channel's own bias, which it does not magnify,
    makes up for it.
    """
    exact = norm.running_mean.double() - shift
    norm.running_mean.copy_(exact)
    if norm.bias is not None:
        scale = (norm.running_var.double() + node.settings["eps"]).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight.double()
        norm.bias.copy_(norm.bias.double() + (norm.running_mean.double() - exact) * scale)


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
