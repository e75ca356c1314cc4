"""The numbers behind a graph's convolutions, linear layers and batch norms, in one shape for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sslprune.graph.nodes import Graph, Node


def layer_of(model: nn.Module, node: Node) -> Any:
    """The module that owns a node's parameters."""
    return model.get_submodule(node.layer)


def reads(weight: Tensor, node: Node) -> Tensor:
    """Which input channels each output channel of a convolution or linear layer reads: bool [outputs, inputs]."""
    pattern = (weight != 0).flatten(2).any(2) if weight.ndim > 2 else weight != 0
    return ungrouped(pattern, node)


def ungrouped(block: Tensor, node: Node) -> Tensor:
    """[outputs, inputs a group] as [outputs, inputs], zero where a group does not reach."""
    groups = int(node.settings.get("groups", 1))
    if groups == 1:
        return block
    outputs, each = block.shape[0] // groups, block.shape[1]
    full = block.new_zeros(block.shape[0], each * groups)
    for group in range(groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        full[rows, group * each : (group + 1) * each] = block[rows]
    return full


def pull(weight: Tensor, node: Node, inputs: Tensor) -> Tensor:
    """How much each output of a convolution or linear layer gets from a 1 on all of these input channels' pixels.

    Args:
        weight: [outputs, inputs a group, ...].
        node: Its convolution or linear layer.
        inputs: Indices of input channels [n].

    Returns:
        float64 [outputs, n].
    """
    if int(node.settings.get("groups", 1)) > 1:
        return ungrouped(_sums(weight), node)[:, inputs]
    return _sums(weight[:, inputs])


def columns(weight: Tensor, node: Node, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Where the weights that read these input channels lie: row and column indices into `weight`.

    Args:
        weight: [outputs, inputs a group, ...].
        node: Its convolution or linear layer.
        inputs: Indices of input channels [n].

    Returns:
        Rows [n, outputs a group] and columns [n, 1], which index `weight` together.
    """
    groups = int(node.settings.get("groups", 1))
    outputs, each = weight.shape[0] // groups, weight.shape[1]
    rows = (inputs // each)[:, None] * outputs + torch.arange(outputs)
    return rows, (inputs % each)[:, None]


def biases(model: nn.Module, graph: Graph) -> dict[str, Tensor]:
    """By node, what every convolution and linear layer adds: float64 [outputs], zeros where it has no bias."""
    found = {}
    for node in graph.of("conv", "linear"):
        bias = layer_of(model, node).bias
        found[node.name] = torch.zeros(node.channels, dtype=torch.float64) if bias is None else bias.detach().double()
    return found


def norm_map(model: nn.Module, node: Node) -> tuple[Tensor, Tensor]:
    """What batch norm with its running statistics does to each channel: scale and shift, float64 [channels]."""
    mean, scale, shift = norm_parts(model, node)
    return scale, shift - mean * scale


def norm_parts(model: nn.Module, node: Node) -> tuple[Tensor, Tensor, Tensor]:
    """The mean that batch norm takes off, what it multiplies by, and what it adds then: float64 [channels] each."""
    norm = layer_of(model, node)
    mean, variance = norm.running_mean.double(), norm.running_var.double()
    scale = (variance + node.settings["eps"]).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach().double()
    return mean, scale, torch.zeros_like(mean) if norm.bias is None else norm.bias.detach().double()


def use_counts(graph: Graph) -> Mapping[str, int]:
    """How many nodes use each layer's parameters."""
    counts: dict[str, int] = {}
    for node in graph.of("conv", "linear", "norm"):
        counts[node.layer] = counts.get(node.layer, 0) + 1
    return counts


def _sums(weight: Tensor) -> Tensor:
    return weight.flatten(2).sum(2, dtype=torch.float64) if weight.ndim > 2 else weight.double()
