"""From a traced network to the engine's operations, with activations and additions fused to the convolution before."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sslprune.errors import ArchitectureError
from sslprune.graph.nodes import Graph, Node
from sslprune.graph.weights import layer_of, norm_parts, use_counts
from sslprune.runtime.ops import Activation, Average, Conv, Lowered, MaxPool, Op, Shape, Split, Taps


def lower(model: nn.Module, graph: Graph, *, consume: bool = False) -> Lowered:
    """The operations of a network in eval mode.

    Args:
        model: The network that `graph` is of.
        graph: Its operations for one size of image.
        consume: Whether each weight leaves the model once it is read, so that all of them are never there twice.

    Raises:
        ArchitectureError: It does something that the engine does not know; the message names it.
    """
    lowering = _Lowering(model, graph, consume)
    for node in graph:
        lowering.lower(node)
    return lowering.finish()


class _Lowering:
    """Operations so far, and where each node's result lies."""

    def __init__(self, model: nn.Module, graph: Graph, consume: bool) -> None:
        self._model = model
        self._graph = graph
        self._consume = consume
        self._uses = dict(use_counts(graph))
        self._ops: list[Op] = []
        self._shapes: dict[str, Shape] = {}
        # Nodes that share a tensor with the one before them: flattened maps, and what was fused.
        self._tensor: dict[str, str] = {}

    def lower(self, node: Node) -> None:
        match node.op:
            case "input":
                self._new(node)
            case "conv":
                self._conv(node)
            case "linear":
                self._linear(node)
            case "norm":
                self._norm(node)
            case "pointwise":
                self._pointwise(node)
            case "add":
                self._add(node)
            case "max_pool":
                how = node.settings
                self._ops.append(
                    MaxPool(
                        node.layer,
                        self._source(node),
                        self._new(node),
                        how["kernel"],
                        how["stride"],
                        how["margin"],
                        how["dilation"],
                    )
                )
            case "avg_pool":
                self._avg_pool(node)
            case "global_pool" | "adaptive_pool":
                self._ops.append(Average(node.layer, self._source(node), self._new(node)))
            case "subsample":
                self._subsample(node)
            case "pad":
                self._pad(node)
            case "pad_channels":
                self._pad_channels(node)
            case "concat":
                self._concat(node)
            case "flatten":
                # A map is flattened by whoever reads it.
                self._tensor[node.name] = self._source(node)
            case _:
                raise _unknown(node, str(node.settings.get("what", node.op)))

    def finish(self) -> Lowered:
        output = self._tensor[self._graph.output]
        source = self._tensor[next(iter(self._graph)).name]
        lowered = Lowered(self._shapes, self._ops, source, output, self._graph[self._graph.output].shape)
        if prod(lowered.result) != prod(self._shapes[output]):
            raise ArchitectureError("the network returns a map that is flattened in an unknown way.", "Run it dense.")
        _split_strides(lowered)
        return lowered

    def _conv(self, node: Node) -> None:
        layer, how = layer_of(self._model, node), node.settings
        weight = self._weight(node)
        taps = Taps.of(weight, padding=how["padding"], dilation=how["dilation"], groups=int(how["groups"]))
        self._emit(node, taps, _bias(layer, node), tuple(how["stride"]))

    def _weight(self, node: Node) -> NDArray[np.float32]:
        layer = layer_of(self._model, node)
        weight = _numbers(layer.weight)
        self._uses[node.layer] -= 1
        if self._consume and not self._uses[node.layer]:
            layer.weight = None
        return weight

    def _linear(self, node: Node) -> None:
        layer = layer_of(self._model, node)
        weight = self._weight(node)
        row, feature = np.nonzero(weight)
        # A flattened map is read where it lies.
        _, height, width = self._shapes[self._source(node)]
        channel, y, x = np.unravel_index(feature, self._shapes[self._source(node)])
        if height * width * self._shapes[self._source(node)][0] != weight.shape[1]:
            raise _unknown(node, "a linear layer over one axis of a map")
        self._emit(node, Taps(row, channel, y, x, weight[row, feature]), _bias(layer, node))

    def _norm(self, node: Node) -> None:
        if node.channels != self._shapes[self._source(node)][0]:
            raise _unknown(node, "batch norm over a flattened map")
        mean, scale, shift = (_exact(part) for part in norm_parts(self._model, node))
        op = self._fusable(node.inputs[0])
        if op is not None and op.bare:
            op.bias = op.bias - mean
            self._tensor[node.name] = op.target
        else:
            op = self._emit(node, Taps.diagonal(np.ones(node.channels, np.float32)), -mean)
        op.scale, op.shift = scale, shift

    def _pointwise(self, node: Node) -> None:
        if straight := _straight(node):
            self._line(node, *straight)
            return
        activation = _activation(node)
        if activation is None:
            raise _unknown(node, str(node.settings["what"]))
        op = self._fusable(node.inputs[0])
        if op is not None and not op.activation:
            op.activation = activation
            self._tensor[node.name] = op.target
            return
        self._emit_same(node, self._source(node)).activation = activation

    def _line(self, node: Node, scale: float, shift: float) -> None:
        """A number that everything is multiplied by, and one that is added."""
        if (scale, shift) == (1, 0):
            self._tensor[node.name] = self._source(node)
            return
        op = self._emit_same(node, self._source(node))
        op.taps = Taps.diagonal(np.full(len(op.bias), scale, np.float32))
        op.bias = np.full(len(op.bias), shift)

    def _add(self, node: Node) -> None:
        tensors = [self._tensor[name] for name in node.inputs]
        if self._shapes[tensors[0]] != self._shapes[tensors[1]]:
            raise _unknown(node, "an addition of maps of different sizes")
        # The convolution that runs last takes the other operand as its residual: that one is there by then.
        places = [self._last_writer(tensor) for tensor in tensors]
        late = int(places[1] >= places[0])
        op = self._fusable(node.inputs[late])
        if op is not None and not op.activation and op.residual is None and places[0] != places[1]:
            op.residual = tensors[1 - late]
            self._tensor[node.name] = op.target
            return
        self._emit_same(node, tensors[0]).residual = tensors[1]

    def _avg_pool(self, node: Node) -> None:
        how = node.settings
        outside = any(how["padding"]) and not how["count_include_pad"]
        if outside or (how["ceil"] and self._overhangs(node)):
            raise _unknown(node, "average pooling with windows of different sizes")
        height, width = how["kernel"]
        weight = np.full((node.channels, 1, height, width), 1 / (height * width), np.float32)
        taps = Taps.of(weight, padding=how["padding"], groups=node.channels)
        self._emit(node, taps, np.zeros(node.channels), how["stride"])

    def _overhangs(self, node: Node) -> bool:
        """Whether the last windows of a pool reach beyond the map and its padding."""
        read, how = self._graph.sources(node)[0].shape, node.settings
        lasts = [(node.shape[axis] - 1) * how["stride"][axis - 1] + how["kernel"][axis - 1] for axis in (1, 2)]
        return any(lasts[axis] > read[axis + 1] + 2 * how["padding"][axis] for axis in (0, 1))

    def _subsample(self, node: Node) -> None:
        how = node.settings
        if how["step"] < 1 or how["start"] < 0:
            raise _unknown(node, "a slice from the end")
        ones = Taps.diagonal(np.ones(node.channels, np.float32))
        along = how["axis"] - 2
        start = np.full_like(ones.row, how["start"])
        taps = replace(ones, dy=start) if along == 0 else replace(ones, dx=start)
        stride = (how["step"], 1) if along == 0 else (1, how["step"])
        self._emit(node, *self._behind_selection(node, taps, stride))

    def _pad(self, node: Node) -> None:
        if node.settings["value"] != 0:
            raise _unknown(node, "padding by another number than 0")
        left, _, top, _ = node.settings["amounts"]
        ones = Taps.diagonal(np.ones(node.channels, np.float32))
        taps = replace(ones, dy=ones.dy - top, dx=ones.dx - left)
        self._emit(node, taps, np.zeros(node.channels))

    def _pad_channels(self, node: Node) -> None:
        how = node.settings
        before, source = how["before"], self._graph.sources(node)[0].channels
        ones = Taps.diagonal(np.ones(source, np.float32))
        taps = replace(ones, row=ones.row + before)
        bias = np.full(node.channels, float(how["value"]))
        bias[before : before + source] = 0
        taps, nothing, stride = self._behind_selection(node, taps, (1, 1))
        self._emit(node, taps, nothing + bias, stride)

    def _concat(self, node: Node) -> None:
        parts = [self._tensor[name] for name in node.inputs]
        if len(node.shape) != 3 and any(self._shapes[part][1:] != (1, 1) for part in parts):
            raise _unknown(node, "a concatenation of flattened maps")
        target, first = self._new(node), 0
        for part in parts:
            count = self._shapes[part][0]
            taps = Taps.diagonal(np.ones(count, np.float32))
            self._ops.append(Conv(node.layer, part, target, taps, np.zeros(count), first=first))
            first += count

    def _behind_selection(
        self, node: Node, taps: Taps, stride: tuple[int, int]
    ) -> tuple[Taps, NDArray[np.float64], tuple[int, int]]:
        """A selection of pixels or channels, put together with the one that it reads, which is then not computed."""
        none = np.zeros(node.channels)
        before = self._fusable(node.inputs[0])
        if before is None or not before.bare or self._graph[node.inputs[0]].op not in ("subsample", "pad_channels"):
            return taps, none, stride
        if before.bias.any() or before.first:
            return taps, none, stride
        # One tap a row at most: where each channel came from.
        position = np.full(len(before.bias), -1)
        position[before.taps.row] = np.arange(len(before.taps))
        taps = taps.where(position[taps.channel] >= 0)
        found = position[taps.channel]
        down, right = before.stride
        taps = Taps(
            taps.row,
            before.taps.channel[found],
            taps.dy * down + before.taps.dy[found],
            taps.dx * right + before.taps.dx[found],
            taps.value,
        )
        self._ops.remove(before)
        self._tensor[node.inputs[0]] = before.source
        return taps, none, (stride[0] * down, stride[1] * right)

    def _emit(self, node: Node, taps: Taps, bias: NDArray[np.float64], stride: tuple[int, int] = (1, 1)) -> Conv:
        op = Conv(node.layer, self._source(node), self._new(node), taps, bias, stride)
        self._ops.append(op)
        return op

    def _emit_same(self, node: Node, source: str) -> Conv:
        """A copy that something is fused to."""
        shape = self._shapes[source]
        self._tensor[node.name] = node.name
        self._shapes[node.name] = shape
        ones = Taps.diagonal(np.ones(shape[0], np.float32))
        op = Conv(node.layer, source, node.name, ones, np.zeros(shape[0]))
        self._ops.append(op)
        return op

    def _fusable(self, name: str) -> Conv | None:
        """The convolution that computes a node's result, if only one node reads it."""
        tensor = self._tensor[name]
        # Also of the maps that it is the flattened form of, or was fused to.
        sharing = [node for node, shared in self._tensor.items() if shared == tensor]
        if any(len(self._graph.readers(node)) != 1 or node == self._graph.output for node in sharing):
            return None
        writers = [op for op in self._ops if op.target == tensor]
        return writers[0] if len(writers) == 1 and isinstance(writers[0], Conv) else None

    def _last_writer(self, tensor: str) -> int:
        return max((index for index, op in enumerate(self._ops) if op.target == tensor), default=-1)

    def _source(self, node: Node) -> str:
        return self._tensor[node.inputs[0]]

    def _new(self, node: Node) -> str:
        shape = (*node.shape, 1, 1)[:3] if len(node.shape) < 3 else node.shape
        if len(shape) != 3 or not all(shape):
            raise _unknown(node, f"a result of shape {list(node.shape)}")
        self._tensor[node.name] = node.name
        self._shapes[node.name] = (shape[0], shape[1], shape[2])
        return node.name


def _split_strides(lowered: Lowered) -> None:
    """Put a `Split` before what cannot read its source as it lies: strided convolutions, and all that reads images."""
    split: dict[tuple[str, tuple[int, int]], Split] = {}
    ops: list[Op] = []
    for op in lowered.ops:
        strided = isinstance(op, Conv) and op.stride != (1, 1) and lowered.shapes[op.target][1:] != (1, 1)
        if isinstance(op, Conv) and op.residual == lowered.source:
            op.residual = _split(lowered, split, ops, op.layer, op.residual, (1, 1), [(0, 0)])[0].target
        if strided and isinstance(op, Conv):
            rows, columns = op.taps.dy % op.stride[0], op.taps.dx % op.stride[1]
            wanted = sorted(set(zip(rows.tolist(), columns.tolist(), strict=True))) or [(0, 0)]
            made, known = _split(lowered, split, ops, op.layer, op.source, op.stride, wanted)
            phase = np.array([known[pair] for pair in zip(rows.tolist(), columns.tolist(), strict=True)], np.int64)
            op.taps = Taps(
                op.taps.row,
                op.taps.channel * len(made.phases) + phase,
                op.taps.dy // op.stride[0],
                op.taps.dx // op.stride[1],
                op.taps.value,
            )
            op.source, op.stride = made.target, (1, 1)
        elif op.source == lowered.source:
            op.source = _split(lowered, split, ops, op.layer, op.source, (1, 1), [(0, 0)])[0].target
        ops.append(op)
    lowered.ops = ops
    if lowered.output == lowered.source:
        raise ArchitectureError("the network computes nothing.", "Run it dense.")


def _split(
    lowered: Lowered,
    done: dict[tuple[str, tuple[int, int]], Split],
    ops: list[Op],
    layer: str,
    source: str,
    stride: tuple[int, int],
    wanted: list[tuple[int, int]],
) -> tuple[Split, dict[tuple[int, int], int]]:
    """A split of this source that has these phases, made now if there is none, and the number of each phase."""
    made = done.get((source, stride))
    if made is None or not set(wanted) <= set(made.phases):
        name = f"{source}/{stride[0]}x{stride[1]}/{len(ops)}"
        made = Split(layer, source, name, stride, tuple(wanted))
        channels, height, width = lowered.shapes[source]
        lowered.shapes[name] = (channels * len(wanted), -(-height // stride[0]), -(-width // stride[1]))
        done[source, stride] = made
        ops.append(made)
    return made, {pair: number for number, pair in enumerate(made.phases)}


def _straight(node: Node) -> tuple[float, float] | None:
    """Scale and shift of arithmetic with a number, where that is all it is (division may also round)."""
    if node.settings["what"] not in ("add", "sub", "mul", "div", "neg") or node.function is None:
        return None
    points = torch.tensor([0.0, 1.0, -7.5, 1000.0], dtype=torch.float64)
    values = node.function(points)
    shift, scale = values[0], values[1] - values[0]
    if not torch.allclose(values, points * scale + shift, rtol=1e-12, atol=1e-12):
        return None
    return float(scale), float(shift)


def _activation(node: Node) -> Activation | None:
    what, rest = node.settings["what"], tuple(node.settings["arguments"])
    if what == "relu" or (what == "clamp_min" and rest == (0,)):
        return "relu"
    if what in ("hardtanh", "clamp") and rest == (0, 6):
        return "relu6"
    return "silu" if what == "silu" else None


def _unknown(node: Node, what: str) -> ArchitectureError:
    return ArchitectureError(f"the sparse engine does not know {what} (in {node.layer or 'forward'}).", "Run it dense.")


def _bias(layer: Any, node: Node) -> NDArray[np.float64]:
    return np.zeros(node.channels) if layer.bias is None else _exact(layer.bias)


def _exact(tensor: Tensor) -> NDArray[np.float64]:
    return np.asarray(tensor.detach().double().cpu().numpy())


def _numbers(tensor: Tensor) -> NDArray[np.float32]:
    return np.asarray(tensor.detach().float().cpu().numpy())
