from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sslprune.bench.synthetic import pruned
from sslprune.runtime import kernels
from sslprune.runtime.cut import cuts
from sslprune.runtime.ops import Lowered
from sslprune.runtime.plan import place
from sslprune.runtime.prepare import lowered
from sslprune.runtime.side_by_side import LANES, SideBySide, if_faster

pytestmark = pytest.mark.skipif(not kernels.isas(), reason="installed without the compiled kernels")

IMAGES = np.random.default_rng(0).standard_normal((3 * LANES, 3 * 24 * 24), np.float32)


@pytest.fixture(scope="module")
def network() -> Lowered:
    return lowered(pruned("resnet20_cifar", 0.1, size=24), (24, 24))


@pytest.mark.parametrize("isa", kernels.isas())
@pytest.mark.parametrize("threads", [1, 2])
def test_wherever_it_is_cut_many_are_what_each_is_alone(network, isa, threads):
    expected = np.empty((len(IMAGES), 64), np.float32)
    kernels.program(place(network), isa=isa).run(IMAGES, expected, 1)
    places = [0, *cuts(network)]
    for before in places[:: len(places) // 3]:
        found = np.empty_like(expected)
        SideBySide(network, before, isa).run(IMAGES, found, threads)
        np.testing.assert_array_equal(found, expected)


class Instant:
    """A program that takes no time."""

    def __init__(self, program: Any) -> None:
        self.ways = program.ways

    def run(self, *_: object) -> None: ...

    def times(self, _: object) -> list[float]:
        return [0.0] * len(self.ways)


def test_it_is_taken_only_if_it_is_faster(network):
    program = kernels.program(place(network))
    assert if_faster(network, Instant(program), IMAGES[:LANES], None) is None
    taken = if_faster(network, program, IMAGES[:LANES], None)
    assert taken is None or isinstance(taken, SideBySide)
