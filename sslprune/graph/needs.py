"""Which channels anything that matters still depends on: the backward half of liveness."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sslprune.graph.nodes import Graph, Node
from sslprune.graph.weights import layer_of, reads


def needs(model: nn.Module, graph: Graph) -> dict[str, Tensor]:
    """By node, which channels of its result the network's output depends on through weights that are not 0.

    Args:
        model: The network that `graph` is of.
        graph: Its operations.

    Returns:
        bool [channels] by node. All channels of the output and of whatever an opaque node reads are needed.
    """
    needed = {node.name: torch.zeros(node.channels, dtype=torch.bool) for node in graph}
    needed[graph.output][:] = True
    for node in reversed(list(graph)):
        for name, read in zip(node.inputs, _read(model, graph, node, needed[node.name]), strict=True):
            needed[name] |= read
    return needed


def _read(model: nn.Module, graph: Graph, node: Node, needed: Tensor) -> list[Tensor]:
    """What of each of its inputs a node needs for the needed part of its result."""
    sources = graph.sources(node)
    match node.op:
        case "input":
            return []
        case "conv" | "linear":
            return [reads(layer_of(model, node).weight.detach(), node)[needed].any(0)]
        case "pad_channels":
            before = node.settings["before"]
            return [needed[before : before + sources[0].channels]]
        case "concat":
            return list(needed.split([source.channels for source in sources]))
        case "flatten":
            return [needed.view(sources[0].channels, -1).any(1)]
        case "opaque":
            return [torch.ones(source.channels, dtype=torch.bool) for source in sources]
        case _:
            return [needed for _ in sources]
