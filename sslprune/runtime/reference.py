"""Run a plan in numpy and float64, step by step as the kernels do: slow, and the planner's own test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sslprune.runtime.ops import Activation
from sslprune.runtime.plan import OUTSIDE, AverageStep, ConvStep, MaxPoolStep, Place, Plan, SplitStep

Array = NDArray[np.float64]


def run(plan: Plan, images: Array) -> Array:
    """The results for as many images as the plan has lanes.

    Args:
        plan: What to run.
        images: Of [lanes,C,H,W]; [C,H,W] for one.

    Returns:
        float64 [lanes, result], from float32 weights; flat for one.
    """
    block = np.zeros(plan.floats)
    images = images.astype(np.float64).reshape(plan.lanes, -1)
    result = np.zeros((plan.lanes, int(np.prod(plan.result))))
    for step in plan.steps:
        match step:
            case ConvStep():
                _convolve(step, block)
            case SplitStep():
                source = images if step.source.start == OUTSIDE else block
                _split(step, source, result if step.target.start == OUTSIDE else block)
            case MaxPoolStep():
                _max_pool(step, block)
            case AverageStep():
                _average(step, block)
    return result[0] if plan.lanes == 1 else result


def _convolve(step: ConvStep, block: Array) -> None:
    geometry = step.target.geometry
    pixels = geometry.pixels if step.is_map else 1
    computed = np.empty((len(step.channel), pixels))
    position = np.arange(pixels)
    for row in range(len(step.channel)):
        taps = slice(step.starts[row], step.starts[row + 1])
        read = block[step.source.start + step.offsets[taps, None] + position]
        total = step.values[taps].astype(np.float64) @ read + step.bias[row]
        computed[row] = total * float(step.scale[row]) + step.shift[row]
    row = geometry.pitch * geometry.lanes
    inside = (position % row < geometry.width * geometry.lanes) & (position // row < geometry.height)
    for row, channel in enumerate(step.channel):
        value = computed[row]
        if step.residual is not None:
            value = value + block[step.residual.start + channel * step.residual.geometry.plane + position]
        block[step.target.start + channel * geometry.plane + position] = np.where(
            inside, _activated(value, step.activation), 0
        )


def _activated(value: Array, activation: Activation) -> Array:
    match activation:
        case "relu":
            return np.maximum(value, 0)
        case "relu6":
            return np.clip(value, 0, 6)
        case "silu":
            return np.asarray(value / (1 + np.exp(-value)))
        case _:
            return value


def _split(step: SplitStep, source: Array, target: Array) -> None:
    read, written = _view(step.source, source), _view(step.target, target)
    for number, (row, column) in enumerate(step.phases):
        phase = read[:, row :: step.stride[0], column :: step.stride[1]]
        planes = written[number :: len(step.phases)]
        planes[:] = 0
        planes[:, : phase.shape[1], : phase.shape[2]] = phase


def _max_pool(step: MaxPoolStep, block: Array) -> None:
    read, written = _view(step.source, block), _view(step.target, block)
    for y in range(written.shape[1]):
        for x in range(written.shape[2]):
            rows = _inside(y * step.stride[0] - step.padding[0], step.kernel[0], step.dilation[0], read.shape[1])
            columns = _inside(x * step.stride[1] - step.padding[1], step.kernel[1], step.dilation[1], read.shape[2])
            written[:, y, x] = read[:, rows][:, :, columns].max((1, 2))


def _inside(first: int, count: int, step: int, length: int) -> list[int]:
    return [first + index * step for index in range(count) if 0 <= first + index * step < length]


def _average(step: AverageStep, block: Array) -> None:
    read, written = _view(step.source, block), _view(step.target, block)
    height, width = written.shape[1:3]
    for y in range(height):
        for x in range(width):
            rows = slice(y * read.shape[1] // height, -(-(y + 1) * read.shape[1] // height))
            columns = slice(x * read.shape[2] // width, -(-(x + 1) * read.shape[2] // width))
            written[:, y, x] = read[:, rows, columns].mean((1, 2))


def _view(place: Place, block: Array) -> Array:
    """A map's pixels in memory, [C,H,W,lanes]."""
    geometry, size = place.geometry, block.itemsize
    if place.start == OUTSIDE:
        return block.reshape(-1, place.channels, geometry.height, geometry.width).transpose(1, 2, 3, 0)
    step = geometry.lanes * size
    return np.lib.stride_tricks.as_strided(
        block[place.start :],
        (place.channels, geometry.height, geometry.width, geometry.lanes),
        (geometry.plane * size, geometry.pitch * step, step, size),
    )
