"""What the sparse engine computes with: five operations over channel maps, whatever the network was written in.

Nearly everything is a `Conv`: a list of non-zero taps. Batch norm, activations, additions, strided slices, padded
channels, average pooling and linear layers are convolutions with few taps, so one kernel serves them all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Activation = Literal["", "relu", "relu6", "silu"]
Shape = tuple[int, int, int]
"""Channels, height, width; a vector of features is [C,1,1]."""


Index = NDArray[np.signedinteger[Any]]


@dataclass(frozen=True)
class Taps:
    """The non-zero weights of a convolution, one entry each, sorted by output channel.

    Attributes:
        row: int32 [n], the output channel.
        channel: int32 [n], the input channel.
        dy: int32 [n], the input row that output row 0 reads: kernel row times dilation, less the padding.
        dx: int32 [n], likewise for columns.
        value: float32 [n].
    """

    row: Index
    channel: Index
    dy: Index
    dx: Index
    value: NDArray[np.float32]

    def __post_init__(self) -> None:
        # A network has millions of them: half of what numpy's searches give.
        for name in ("row", "channel", "dy", "dx"):
            object.__setattr__(self, name, getattr(self, name).astype(np.int32, copy=False))

    def __len__(self) -> int:
        return len(self.row)

    def where(self, kept: NDArray[np.bool_]) -> Taps:
        """Some of them."""
        return Taps(self.row[kept], self.channel[kept], self.dy[kept], self.dx[kept], self.value[kept])

    @staticmethod
    def of(
        weight: NDArray[np.float32],
        *,
        padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
    ) -> Taps:
        """Of a dense weight [outputs, inputs a group, kernel height, kernel width].

        >>> len(Taps.of(np.eye(3, dtype=np.float32)[:, :, None, None]))
        3
        """
        row, own, ky, kx = np.nonzero(weight)
        channel = row // (weight.shape[0] // groups) * weight.shape[1] + own
        value = weight[row, own, ky, kx]
        return Taps(row, channel, ky * dilation[0] - padding[0], kx * dilation[1] - padding[1], value)

    @staticmethod
    def diagonal(value: NDArray[np.float32], *, first: int = 0) -> Taps:
        """Channel c times value[c], read from channel first + c."""
        row = np.flatnonzero(value)
        none = np.zeros_like(row)
        return Taps(row, row + first, none, none, value[row])


@dataclass
class Conv:
    """target = activation((taps * source + bias) * scale + shift + residual).

    Attributes:
        layer: The module that it comes from, by its dotted name.
        source: The tensor that is read.
        target: The tensor that is written: channels `first` to `first + len(bias)` of it.
        taps: Its weights.
        bias: float64 [outputs].
        scale: float64 [outputs]; None for 1. Batch norm is kept apart from the weights: they need no rounding then, and
            its mean is taken off before a small variance magnifies the difference.
        shift: float64 [outputs]; None for 0.
        stride: Rows and columns of the source that one step in the target takes.
        activation: What comes last.
        residual: A tensor of the target's shape that is added before the activation.
        first: The first channel that is written (of a concatenation).
    """

    layer: str
    source: str
    target: str
    taps: Taps
    bias: NDArray[np.float64]
    stride: tuple[int, int] = (1, 1)
    activation: Activation = ""
    residual: str | None = None
    first: int = 0
    scale: NDArray[np.float64] | None = None
    shift: NDArray[np.float64] | None = None

    @property
    def bare(self) -> bool:
        """Whether nothing was fused to it yet."""
        return not self.activation and self.residual is None and self.scale is None


@dataclass
class Split:
    """Copy a map's every (sh, sw)-th pixel into planes of their own, one a channel and phase.

    Attributes:
        phases: (row, column) of each phase's first pixel; plane c * len(phases) + k of the target is phase k of
            channel c.
    """

    layer: str
    source: str
    target: str
    stride: tuple[int, int] = (1, 1)
    phases: tuple[tuple[int, int], ...] = ((0, 0),)


@dataclass
class MaxPool:
    """The largest number in each window; what lies outside of the map never wins."""

    layer: str
    source: str
    target: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]


@dataclass
class Average:
    """The mean over each of target-height x target-width windows that cover the map (torch's adaptive pooling)."""

    layer: str
    source: str
    target: str


Op = Conv | Split | MaxPool | Average


@dataclass
class Lowered:
    """A network as a list of operations.

    Attributes:
        shapes: By tensor.
        ops: In the order of computation.
        source: The image.
        output: The tensor that is returned.
        result: Its shape for one image as the network gives it, without the batch.
    """

    shapes: dict[str, Shape]
    ops: list[Op]
    source: str
    output: str
    result: tuple[int, ...]
    macs: dict[str, int] = field(default_factory=dict)

    def readers(self, tensor: str) -> list[Op]:
        """The operations that read a tensor."""
        return [op for op in self.ops if tensor in reads(op)]


def reads(op: Op) -> tuple[str, ...]:
    """The tensors that an operation reads."""
    if isinstance(op, Conv) and op.residual is not None:
        return (op.source, op.residual)
    return (op.source,)
