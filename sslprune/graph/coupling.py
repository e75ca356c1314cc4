"""Which channels can only go together: an addition joins a channel of one result to the same channel of another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sslprune.graph.nodes import Graph, Node
from sslprune.graph.surgery import can_shrink
from sslprune.graph.weights import layer_of, use_counts


@dataclass(frozen=True)
class Coupling:
    """Every channel's class; channels of one class are removed together or not at all.

    Attributes:
        classes: By node, int64 [channels]: the number of each channel's class.
        pinned: bool [classes]: those that must stay, because something reads them that is not understood, or the
            network's output is made of them.
    """

    classes: Mapping[str, Tensor]
    pinned: Tensor


def coupling(model: nn.Module, graph: Graph) -> Coupling:
    """The classes of all channels of a graph.

    Convolutions and linear layers begin new classes; everything else hands them on, depthwise convolutions too.
    """
    joined = _Classes()
    shared = {layer for layer, count in use_counts(graph).items() if count > 1}
    pinned: list[Tensor] = []
    for node in graph:
        read = [joined.of[name] for name in node.inputs]
        joined.of[node.name] = _written(model, node, read, joined)
        if node.op in ("input", "opaque") or node.layer in shared or _is_grouped(node) or _is_foreign(model, node):
            pinned += [joined.of[node.name], *read]
    pinned.append(joined.of[graph.output])
    roots = joined.roots()
    stays = torch.zeros(len(roots), dtype=torch.bool)
    stays[roots[torch.cat(pinned)]] = True
    return Coupling({name: roots[classes] for name, classes in joined.of.items()}, stays)


class _Classes:
    """Union-find over channels."""

    def __init__(self) -> None:
        self.of: dict[str, Tensor] = {}
        self._parent: list[int] = []

    def fresh(self, count: int) -> Tensor:
        start = len(self._parent)
        self._parent.extend(range(start, start + count))
        return torch.arange(start, start + count)

    def join(self, first: Tensor, second: Tensor) -> None:
        for one, other in zip(first.tolist(), second.tolist(), strict=True):
            low, high = sorted((self._root(one), self._root(other)))
            self._parent[high] = low

    def roots(self) -> Tensor:
        return torch.tensor([self._root(number) for number in range(len(self._parent))])

    def _root(self, number: int) -> int:
        while (parent := self._parent[number]) != number:
            self._parent[number] = self._parent[parent]
            number = parent
        return number


def _written(model: nn.Module, node: Node, read: list[Tensor], joined: _Classes) -> Tensor:
    match node.op:
        case "conv" if node.depthwise:
            return read[0].repeat_interleave(node.channels // len(read[0]))
        case "input" | "conv" | "linear" | "opaque":
            return joined.fresh(node.channels)
        case "add" | "mul":
            joined.join(*read)
            return read[0]
        case "concat":
            return torch.cat(read)
        case "pad_channels":
            return torch.cat([joined.fresh(node.settings["before"]), read[0], joined.fresh(node.settings["after"])])
        case "flatten":
            return read[0].repeat_interleave(node.channels // len(read[0]))
        case _:
            return read[0]


def _is_grouped(node: Node) -> bool:
    return int(node.settings.get("groups", 1)) > 1 and not node.depthwise


def _is_foreign(model: nn.Module, node: Node) -> bool:
    """Whether the node's channels belong to a module that cannot be told to have fewer."""
    return node.op in ("conv", "linear", "norm", "pad_channels") and not can_shrink(layer_of(model, node))
