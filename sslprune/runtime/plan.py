"""A network for one size of image as a list of steps over one block of memory: what the kernels run.

A plan is data: integers and arrays, the same for every image and thread, and never written to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sslprune.graph.nodes import Graph
from sslprune.runtime.geometry import Geometry, geometries
from sslprune.runtime.lower import lower
from sslprune.runtime.ops import Activation, Average, Conv, Lowered, MaxPool, Op, Split, Taps, reads

OUTSIDE = -1
"""Where a place is expected: the caller's own image or result, dense [C,H,W]."""


@dataclass(frozen=True)
class Place:
    """A map in memory.

    Attributes:
        start: Of channel 0's first pixel, in floats from the beginning of the block; `OUTSIDE` if the caller's.
        channels: How many planes.
        geometry: How they lie.
    """

    start: int
    channels: int
    geometry: Geometry


@dataclass(frozen=True)
class ConvStep:
    """A sparse convolution, an output channel at a time: those with most taps first.

    Attributes:
        layer: The module that it comes from.
        source: What is read.
        target: What is written.
        residual: What is added, or None; it may be the target.
        channel: int32 [rows], the target's channel that each row of taps computes.
        starts: int32 [rows + 1], each row's first tap.
        offsets: int32 [taps], from a pixel of the target's plane to the source's number, in floats.
        values: float32 [taps].
        bias: float32 [rows], what each sum begins with.
        scale: float32 [rows], what the sum is multiplied by.
        shift: float32 [rows], what is added then.
        activation: What comes last.
        macs: Multiplications for one image, those with zeros left out.
    """

    layer: str
    source: Place
    target: Place
    residual: Place | None
    channel: NDArray[np.int32]
    starts: NDArray[np.int32]
    offsets: NDArray[np.int32]
    values: NDArray[np.float32]
    bias: NDArray[np.float32]
    scale: NDArray[np.float32]
    shift: NDArray[np.float32]
    activation: Activation
    macs: int

    @property
    def is_map(self) -> bool:
        """Whether the result is more than one number."""
        geometry = self.target.geometry
        return geometry.height * geometry.width * geometry.lanes > 1


@dataclass(frozen=True)
class SplitStep:
    """A copy of every (sh, sw)-th pixel, one plane a channel and phase."""

    layer: str
    source: Place
    target: Place
    stride: tuple[int, int]
    phases: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class MaxPoolStep:
    """The largest number in each window."""

    layer: str
    source: Place
    target: Place
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]


@dataclass(frozen=True)
class AverageStep:
    """The mean over windows that cover the map."""

    layer: str
    source: Place
    target: Place


Step = ConvStep | SplitStep | MaxPoolStep | AverageStep


@dataclass(frozen=True)
class Plan:
    """A network for one size of image.

    Attributes:
        steps: In order.
        lanes: How many images are run at once.
        floats: Size of the block of memory that they need; it must be zero at first, and may be used again.
        image: The caller's image.
        result: The shape that the network gives for one image.
    """

    steps: tuple[Step, ...]
    lanes: int
    floats: int
    image: Place
    result: tuple[int, ...]

    @property
    def macs(self) -> int:
        """Multiplications for one image."""
        return sum(step.macs for step in self.steps if isinstance(step, ConvStep))


def make_plan(model: nn.Module, graph: Graph, *, lanes: int = 1) -> Plan:
    """Plan a network that `graph` is of, best folded and compacted, for so many images at once.

    Raises:
        ArchitectureError: The network does something that the engine does not know.
    """
    return place(lower(model, graph), lanes)


def place(lowered: Lowered, lanes: int = 1) -> Plan:
    """Give every tensor its place in memory, and every tap its offset."""
    places, floats = _places(lowered, lanes)
    steps = [_step(op, places, lowered) for op in lowered.ops]
    last = places[lowered.output]
    steps.append(SplitStep("", last, _outside(lowered, lowered.output), (1, 1), ((0, 0),)))
    return Plan(tuple(steps), lanes, floats, places[lowered.source], lowered.result)


def memory(lowered: Lowered, lanes: int = 1) -> int:
    """Floats that a network needs for so many images at once."""
    return _places(lowered, lanes)[1]


def _places(lowered: Lowered, lanes: int) -> tuple[dict[str, Place], int]:
    """Every tensor's, and how many floats they take together."""
    block = _Memory(lowered, geometries(lowered, lanes))
    places = {lowered.source: _outside(lowered, lowered.source)}
    for number, op in enumerate(lowered.ops):
        if op.target not in places:
            places[op.target] = block.take(number, op, places)
        block.release(number, op)
    return places, block.floats


class _Memory:
    """Hands out places, and takes them back after the last reader.

    A place is only used again by a map whose zeros lie where the former's lay: nobody ever writes those.
    """

    def __init__(self, lowered: Lowered, geometry: dict[str, Geometry]) -> None:
        self.floats = 0
        self._lowered = lowered
        self._geometry = geometry
        self._free: dict[Geometry, list[tuple[int, int]]] = {}
        self._held: dict[str, tuple[int, int]] = {}
        self._last = {name: number for number, op in enumerate(lowered.ops) for name in (op.target, *reads(op))}
        self._last[lowered.output] = len(lowered.ops)

    def take(self, number: int, op: Op, places: dict[str, Place]) -> Place:
        """A place for an operation's target: its residual's, if nothing reads that again."""
        geometry, channels = self._geometry[op.target], self._lowered.shapes[op.target][0]
        if isinstance(op, Conv) and op.residual is not None and op.residual != op.source:
            there = places[op.residual]
            if self._last[op.residual] == number and there.geometry == geometry and there.channels == channels:
                self._held[op.target] = self._held.pop(op.residual)
                return there
        free = self._free.setdefault(self._zeros(op.target), [])
        fitting = [place for place in free if place[1] >= channels]
        if fitting:
            start, room = min(fitting, key=lambda place: place[1])
            free.remove((start, room))
        else:
            start, room = self.floats, channels
            self.floats += geometry.floats(channels)
        self._held[op.target] = (start, room)
        return Place(start + geometry.gap, channels, geometry)

    def release(self, number: int, op: Op) -> None:
        """Take back what nothing reads after this operation."""
        for name in {op.target, *reads(op)}:
            if self._last[name] == number and name in self._held:
                self._free.setdefault(self._zeros(name), []).append(self._held.pop(name))

    def _zeros(self, name: str) -> Geometry:
        return self._geometry[name]


def _outside(lowered: Lowered, tensor: str) -> Place:
    channels, height, width = lowered.shapes[tensor]
    return Place(OUTSIDE, channels, Geometry(height, width, width, 0, height * width))


def _step(op: Op, places: dict[str, Place], lowered: Lowered) -> Step:
    source, target = places[op.source], places[op.target]
    match op:
        case Conv():
            return _conv_step(op, source, target, places)
        case Split():
            return SplitStep(op.layer, source, target, op.stride, op.phases)
        case MaxPool():
            return MaxPoolStep(op.layer, source, target, op.kernel, op.stride, op.padding, op.dilation)
        case Average():
            return AverageStep(op.layer, source, target)


def _conv_step(op: Conv, source: Place, target: Place, places: dict[str, Place]) -> ConvStep:
    taps = op.taps
    read, written = source.geometry, target.geometry
    pixels = written.height * written.width
    if pixels == 1:
        # A single pixel reads no zeros around the map: such taps do nothing.
        inside = (taps.dy >= 0) & (taps.dy < read.height) & (taps.dx >= 0) & (taps.dx < read.width)
        taps = taps.where(inside)
    offsets = (
        taps.channel.astype(np.int64) * read.plane + (taps.dy.astype(np.int64) * read.pitch + taps.dx) * read.lanes
    )
    counts = np.bincount(taps.row, minlength=len(op.bias))
    # Rows of equal length follow each other: the end of the inner loop is foreseen.
    order = np.argsort(-counts, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    sequence = _in_order(taps, rank)
    return ConvStep(
        op.layer,
        source,
        target,
        None if op.residual is None else places[op.residual],
        (order + op.first).astype(np.int32),
        np.concatenate([[0], counts[order].cumsum()]).astype(np.int32),
        offsets[sequence].astype(np.int32),
        np.ascontiguousarray(taps.value[sequence]),
        op.bias[order].astype(np.float32),
        _or(op.scale, np.ones(len(order)))[order].astype(np.float32),
        _or(op.shift, np.zeros(len(order)))[order].astype(np.float32),
        op.activation,
        len(taps) * pixels,
    )


def _or(given: NDArray[np.float64] | None, default: NDArray[np.float64]) -> NDArray[np.float64]:
    return default if given is None else given


def _in_order(taps: Taps, rank: NDArray[np.int64]) -> NDArray[np.int64]:
    """Row after row, and in a row by channel, then by place in the kernel: in every layout the same, as rounding wants.

    Args:
        taps: Of one convolution.
        rank: int64 [outputs], where each row comes.
    """
    key = rank[taps.row].astype(np.int64)
    for part in (taps.channel, taps.dy, taps.dx):
        lowest, highest = (int(part.min()), int(part.max())) if len(part) else (0, 0)
        key = key * (highest - lowest + 1) + part - lowest
    return np.argsort(key, kind="stable")
