"""Exact compaction as graph algebra: channels that the output does not depend on go, and it stays the same.

A channel goes where nothing reads it, or where it is the same number at every pixel of every image and what it
contributes can be put elsewhere: into the biases of convolutions without padding and of linear layers, or, where zero
padding makes the constant vary at the border, into the weights of one constant channel that speaks for all. Merely
dropping filters without weights is wrong: batch norm and ReLU make relu(bias) of them, not 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sslprune.graph.constants import constants, live
from sslprune.graph.coupling import Coupling, coupling
from sslprune.graph.needs import needs
from sslprune.graph.nodes import Graph, Node
from sslprune.graph.surgery import Kept, shrink_
from sslprune.graph.weights import biases, columns, layer_of, pull, reads, use_counts

_SMALLEST_CARRIER = 0.1
"""A constant channel that speaks for others is at least this fraction of the largest constant beside it: others are
divided by it."""


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
