"""Laws of the ladder's coding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from sslprune.export.malformed import Malformed
from sslprune.export.rounds import Rounds, decode_rounds, encode_rounds

deaths = npst.arrays(
    np.uint8, st.integers(0, 70), elements=st.one_of(st.sampled_from([0, 1, 2, 3, 255]), st.integers(0, 255))
)


@settings(deadline=None)
@given(deaths)
def test_decoding_gives_the_rounds_back(died: np.ndarray) -> None:
    rounds, stream = encode_rounds(died)
    rounds.check(died.size)
    assert stream.size == sum(rounds.bytes_each(died.size))
    np.testing.assert_array_equal(decode_rounds(rounds, stream, died.size), died)


@settings(deadline=None)
@given(deaths)
def test_only_rounds_with_deaths_are_stored(died: np.ndarray) -> None:
    rounds, _ = encode_rounds(died)
    assert list(rounds.rounds) == (sorted(set(died.tolist()) - {0}) or ([1] if died.size else []))
    assert list(rounds.alive) == [int(((died == 0) | (died > number)).sum()) for number in rounds.rounds]


def test_twenty_per_cent_a_round_takes_at_most_five_bits_a_weight() -> None:
    order = np.random.default_rng(0).permutation(100_000)
    died = np.zeros(order.size, np.uint8)
    alive = order
    for number in range(1, 32):
        dying = alive.size // 5
        died[alive[:dying]] = number
        alive = alive[dying:]
    assert encode_rounds(died)[1].size * 8 <= 5 * died.size


@pytest.mark.parametrize(
    "rounds",
    [
        Rounds((), ()),
        Rounds((1,), ()),
        Rounds((0,), (5,)),
        Rounds((256,), (5,)),
        Rounds((2, 1), (5, 4)),
        Rounds((1, 1), (5, 4)),
        Rounds((1,), (11,)),
        Rounds((1, 2), (4, 5)),
    ],
)
def test_rounds_that_contradict_themselves_are_refused(rounds: Rounds) -> None:
    with pytest.raises(Malformed):
        rounds.check(10)


def test_a_count_that_lies_is_refused() -> None:
    rounds, stream = encode_rounds(np.array([0, 1, 2, 2, 0], np.uint8))
    with pytest.raises(Malformed, match="keeps 2 weights where the header says 1"):
        decode_rounds(Rounds(rounds.rounds, (4, 1)), stream, 5)
