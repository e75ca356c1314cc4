"""Which channels are the same number at every pixel of every image, and which number: the forward half of liveness.

A filter without weights gives its bias; batch norm and activations make another constant of it; and a filter that
reads nothing but constants gives one itself, unless zero padding spoils it at the border.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sslprune.graph.nodes import Graph, Node
from sslprune.graph.weights import layer_of, norm_map, pull, reads

LIVE = float("nan")
"""Stands for: not the same everywhere."""


def constants(model: nn.Module, graph: Graph, bias: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The constant of every channel of every node, NaN where it is live.

    Args:
        model: The network that `graph` is of.
        graph: Its operations.
        bias: By node, what convolutions and linear layers add (`weights.biases`).

    Returns:
        By node, float64 [channels]. Exact but for float64's rounding; nothing is called constant that only happens to
        be so on some images.
    """
    found: dict[str, Tensor] = {}
    for node in graph:
        found[node.name] = _constant(model, node, [found[name] for name in node.inputs], bias)
    return found


def live(constant: Tensor) -> Tensor:
    """Which channels are live: bool [channels]."""
    return constant.isnan()


def _constant(model: nn.Module, node: Node, inputs: list[Tensor], bias: Mapping[str, Tensor]) -> Tensor:
    match node.op:
        case "conv" | "linear":
            return _of_weights(layer_of(model, node).weight.detach(), node, inputs[0], bias[node.name])
        case "norm":
            scale, shift = norm_map(model, node)
            # Where nothing is left of the channel, what it was does not matter.
            return torch.where(scale == 0, shift, inputs[0] * scale + shift)
        case "pointwise" if node.function is not None:
            return torch.where(live(inputs[0]), LIVE, node.function(inputs[0]))
        case "add":
            return inputs[0] + inputs[1]
        case "mul":
            nothing = (inputs[0] == 0) | (inputs[1] == 0)
            return torch.where(nothing, 0.0, inputs[0] * inputs[1])
        case "max_pool" | "adaptive_pool" | "global_pool" | "subsample":
            return inputs[0]
        case "avg_pool":
            return _spoiled_by_zeros(inputs[0]) if node.padded else inputs[0]
        case "pad":
            return torch.where(inputs[0] == node.settings["value"], inputs[0], LIVE)
        case "pad_channels":
            before, after = (inputs[0].new_full((node.settings[side],), node.settings["value"]) for side in _SIDES)
            return torch.cat([before, inputs[0], after])
        case "concat":
            return torch.cat(inputs)
        case "flatten":
            return inputs[0].repeat_interleave(node.channels // len(inputs[0]))
        case _:
            return torch.full((node.channels,), LIVE, dtype=torch.float64)


_SIDES = ("before", "after")


def _of_weights(weight: Tensor, node: Node, read: Tensor, bias: Tensor) -> Tensor:
    """Of a convolution or linear layer: constant where it reads no live channel, and no border."""
    pattern = reads(weight, node)
    varying = live(_spoiled_by_zeros(read) if node.padded else read)
    # Sums over constant inputs alone; the others would only be multiplied by nothing.
    steady = (~live(read) & (read != 0)).nonzero().flatten()
    total = bias + pull(weight, node, steady) @ read[steady]
    return torch.where(pattern[:, varying].any(1), LIVE, total)


def _spoiled_by_zeros(constant: Tensor) -> Tensor:
    """What a constant is once zeros are put around it."""
    return torch.where(constant == 0, constant, LIVE)
