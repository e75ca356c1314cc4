"""How a map lies in memory, so that every tap of a convolution is one constant offset.

A channel is a flat plane of rows. Behind each row are a few zeros, which the next row's left border shares, and
between planes lies a gap of zeros: so what a tap finds outside of the map is 0, and the pixels of a whole plane can be
computed as one long vector. What that vector computes between the rows is masked to 0 when it is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeGuard

from sslprune.runtime.ops import Conv, Lowered, Op, reads

ALIGNED = 16
"""Planes begin on multiples of so many floats: 64 bytes, the longest vector and a cache line."""


@dataclass(frozen=True)
class Geometry:
    """A map [C,H,W] in memory; pixel (y,x) of channel c is `gap + c * plane + (y * pitch + x) * lanes`.

    Attributes:
        height: In pixels.
        width: In pixels.
        pitch: From one row to the next, in pixels; at least the width.
        gap: Zeros, in floats, before the first plane; at least as many lie behind every plane.
        plane: From one channel to the next, in floats.
        lanes: Images that lie side by side: pixel after pixel, each one's number for all of them. To a convolution that
            is one image with longer rows, and small maps fill whole vectors.
    """

    height: int
    width: int
    pitch: int
    gap: int
    plane: int
    lanes: int = 1

    @property
    def pixels(self) -> int:
        """Floats that a convolution computes of a plane: its rows and what lies between, in whole vectors."""
        return rounded(self.height * self.pitch * self.lanes)

    def floats(self, channels: int) -> int:
        """Of a map with so many channels."""
        return rounded(self.gap + channels * self.plane)


def rounded(count: int) -> int:
    """Up to whole vectors.

    >>> rounded(17)
    32
    """
    return -(-count // ALIGNED) * ALIGNED


def geometries(lowered: Lowered, lanes: int = 1) -> dict[str, Geometry]:
    """How every tensor but the image lies in memory.

    A convolution's source, target and residual must have equal rows (`pitch`); the zeros must suffice for all readers.
    """
    tensors = {name for op in lowered.ops for name in (*reads(op), op.target)} - {lowered.source}
    rows = _Rows(tensors)
    for op in lowered.ops:
        if _is_map(op, lowered):
            rows.join(op.source, op.target)
            if op.residual is not None:
                rows.join(op.residual, op.target)
    pitch = dict.fromkeys(tensors, 1)
    for name in tensors:
        pitch[rows.of(name)] = max(pitch[rows.of(name)], lowered.shapes[name][2])
    for op in lowered.ops:
        if _is_map(op, lowered) and len(op.taps):
            width, needed = lowered.shapes[op.source][2], lowered.shapes[op.target][2]
            beyond = needed - 1 + int(op.taps.dx.max()) - (width - 1)
            root = rows.of(op.source)
            pitch[root] = max(pitch[root], width + max(0, beyond, -int(op.taps.dx.min())))
    gap = dict.fromkeys(tensors, 0)
    for op in lowered.ops:
        if _is_map(op, lowered) and len(op.taps):
            length = pitch[rows.of(op.source)]
            offsets = (op.taps.dy * length + op.taps.dx) * lanes
            row = length * lanes
            more = rounded(lowered.shapes[op.target][1] * row) - rounded(lowered.shapes[op.source][1] * row)
            gap[op.source] = max(gap[op.source], -int(offsets.min()), int(offsets.max()) + more)
    # Equal gaps in all maps of one size let them take each other's places.
    widest: dict[tuple[int, int], int] = {}
    for name in tensors:
        key = (pitch[rows.of(name)], lowered.shapes[name][1])
        widest[key] = max(widest.get(key, 0), gap[name])
    found = {}
    for name in tensors:
        _, height, width = lowered.shapes[name]
        length = pitch[rows.of(name)]
        if height * width == 1 and length == 1 and not gap[name]:
            found[name] = Geometry(1, 1, 1, 0, lanes, lanes)
            continue
        zeros = rounded(widest[length, height])
        found[name] = Geometry(height, width, length, zeros, rounded(height * length * lanes) + zeros, lanes)
    return found


def _is_map(op: Op, lowered: Lowered) -> TypeGuard[Conv]:
    """Whether it is a convolution whose result has more than one pixel."""
    return isinstance(op, Conv) and lowered.shapes[op.target][1:] != (1, 1)


class _Rows:
    """Union-find over tensors: those whose rows must be equally long."""

    def __init__(self, names: set[str]) -> None:
        self._parent = {name: name for name in names}

    def of(self, name: str) -> str:
        while self._parent[name] != name:
            name = self._parent[name]
        return name

    def join(self, first: str, second: str) -> None:
        low, high = sorted((self.of(first), self.of(second)))
        self._parent[high] = low
