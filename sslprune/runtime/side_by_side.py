"""Many images at once: one by one where their maps are large, side by side where they are small.

A small map wastes most of a vector, and 16 images side by side fill it; large maps of 16 images leave the caches. So a
network is cut where it is fastest, found out by timing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslprune.runtime import kernels
from sslprune.runtime.cut import cut, cuts
from sslprune.runtime.kernels import Paths
from sslprune.runtime.ops import Lowered
from sslprune.runtime.plan import memory, place

LANES = 16
"""Images that are run side by side: a vector of the widest instructions."""

_MOST_MEMORY = 2**26
"""Bytes that a thread may need for that: beyond it the maps leave the caches anyway."""

_LONG = 0.1
"""Seconds that are enough to measure something."""

_Array = NDArray[np.float32]


class SideBySide:
    """A network, or its second part behind a first one that takes images one by one."""

    def __init__(
        self, lowered: Lowered, before: int, isa: str | None, *, paths: tuple[Paths, Paths] = ("fastest", "fastest")
    ) -> None:
        """Cut `before` so many operations; 0 leaves the network whole. `paths` are those of the two parts."""
        head, tail = cut(lowered, before)
        self._head = kernels.program(place(head), isa=isa, paths=paths[0]) if before else None
        self._between = int(np.prod(head.result))
        self._tail = kernels.program(place(tail, LANES), isa=isa, paths=paths[1])

    def run(self, images: _Array, results: _Array, threads: int) -> None:
        """Of a multiple of `LANES` images, [N, image] and [N, result]."""
        if self._head is None:
            self._tail.run(images, results, threads)
            return
        # A few at a time: what lies between the parts should not leave the caches.
        step = LANES * threads
        between = np.empty((min(step, len(images)), self._between), np.float32)
        for first in range(0, len(images), step):
            some = slice(first, first + step)
            count = len(images[some])
            self._head.run(images[some], between[:count], threads)
            self._tail.run(between[:count], results[some], threads)


def if_faster(lowered: Lowered, alone: Any, images: _Array, isa: str | None) -> SideBySide | None:
    """The fastest way to run so many images together, or None if one by one is.

    Args:
        lowered: The network.
        alone: Its program for one image.
        images: `LANES` of them to measure with, [LANES, image].
        isa: The set of instructions.
    """
    if (earliest := _earliest(lowered)) is None:
        return None
    found = _fastest(lowered, earliest, alone, images[0], isa)
    results = np.empty((len(images), int(np.prod(lowered.result))), np.float32)
    return found if _seconds(found, images, results) < _seconds(alone, images, results) else None


def _earliest(lowered: Lowered) -> int | None:
    """The first place from which on everything fits into the memory."""
    for before in (0, *cuts(lowered)):
        if memory(cut(lowered, before)[1], LANES) * 4 <= _MOST_MEMORY:
            return before
    return None


def _fastest(lowered: Lowered, earliest: int, alone: Any, image: _Array, isa: str | None) -> SideBySide:
    """Cut at the best place by what each operation takes either way; the copies between the parts are left out."""
    all_lanes = cut(lowered, earliest)[1]
    program = kernels.program(place(all_lanes, LANES), isa=isa)
    # A tail's first operation is the copy that the cut added.
    added = int(earliest > 0)
    together = program.times(_noise(all_lanes))[added:]
    one_by_one = [LANES * seconds for seconds in alone.times(image)]
    before = min(
        (before for before in (0, *cuts(lowered)) if before >= earliest),
        key=lambda before: _total(one_by_one, together, before, earliest),
    )
    # What was settled for each step holds wherever the network is cut.
    copy = alone.ways[-1:]
    head = alone.ways[:before]
    tail = program.ways[added + before - earliest :]
    return SideBySide(lowered, before, isa, paths=([*head, *copy], [*copy, *tail] if before else tail))


def _total(alone: Sequence[float], together: Sequence[float], before: int, earliest: int) -> float:
    return [0.0, *accumulate(alone)][before] + sum(together[before - earliest :])


def _noise(lowered: Lowered) -> _Array:
    """Images for all lanes."""
    floats = int(np.prod(lowered.shapes[lowered.source]))
    return np.random.default_rng(0).standard_normal(LANES * floats, np.float32)


def _seconds(program: Any, images: _Array, results: _Array) -> float:
    """The fastest of a few runs on one thread; of what takes long, two are enough."""
    times: list[float] = []
    while len(times) < 2 or (len(times) < 4 and sum(times) < _LONG):
        start = perf_counter()
        program.run(images, results, 1)
        times.append(perf_counter() - start)
    return min(times)
