"""A network as a graph: what is computed from what, for one image, in a vocabulary of a dozen operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

Op = Literal[
    "input",
    "conv",
    "linear",
    "norm",
    "pointwise",
    "add",
    "mul",
    "max_pool",
    "avg_pool",
    "adaptive_pool",
    "global_pool",
    "subsample",
    "pad",
    "pad_channels",
    "concat",
    "flatten",
    "opaque",
]


@dataclass(frozen=True)
class Node:
    """One operation and its result.

    Attributes:
        name: Unique in its graph.
        op: What is done. "norm" is batch norm with its running statistics; "pointwise" maps every number by itself;
            "subsample" takes every n-th row and column; "pad" adds rows and columns, "pad_channels" channels;
            "flatten" makes [C,H,W] to [C*H*W]; "opaque" is anything that these words do not cover.
        inputs: Names of the nodes whose results it takes.
        shape: Of its result for one image: (C,H,W), (C,), or whatever an opaque node gives.
        layer: "conv", "linear", "norm": the module that owns the parameters, by its dotted name. Others: the module in
            whose forward pass the operation happened ("" for the network's own).
        settings: The operation's constants: `stride`, `padding`, `dilation` (pairs), `groups`; `kernel`, `ceil`,
            `count_include_pad`; `size`; `before`, `after`, `value`; `what` (an opaque one's own name).
        function: "pointwise": the map, tensor to tensor.
    """

    name: str
    op: Op
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    layer: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    function: Callable[[Tensor], Tensor] | None = None

    @property
    def channels(self) -> int:
        """Channels, or features where there are no maps; 1 where an opaque node gives a single number."""
        return self.shape[0] if self.shape else 1

    @property
    def padded(self) -> bool:
        """Whether zeros from outside of the map enter the result."""
        return any(self.settings.get("padding", ())) or bool(self.settings.get("ceil", False))

    @property
    def depthwise(self) -> bool:
        """A convolution each of whose outputs reads one input, in order."""
        groups = int(self.settings.get("groups", 1))
        return groups > 1 and groups == self.settings["inputs"] and self.channels % groups == 0


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which they can be computed; the first is the image.

    Attributes:
        nodes: By name.
        output: The node that the network returns.
    """

    nodes: Mapping[str, Node]
    output: str

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def readers(self, name: str) -> list[Node]:
        """The nodes that take this one's result."""
        return [node for node in self if name in node.inputs]

    def of(self, *ops: Op) -> list[Node]:
        """The nodes of these operations, in order."""
        return [node for node in self if node.op in ops]

    def sources(self, node: Node) -> list[Node]:
        """The nodes whose results it takes."""
        return [self.nodes[name] for name in node.inputs]
