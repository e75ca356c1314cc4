"""The ladder falls, hits every rung exactly, and never removes more than its share at once."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslprune.config import LADDER
from sslprune.errors import RecipeError
from sslprune.prune.schedule import MOST_ROUNDS, rounds

ladders = st.sets(st.floats(1e-3, 1, exclude_max=True), min_size=1, max_size=6).map(lambda s: sorted(s, reverse=True))
shares = st.floats(0.05, 1, exclude_max=True)


@given(ladders, shares)
def test_a_descent(rungs: list[float], per_round: float) -> None:
    descent = list(rounds(rungs, per_round))
    keeps = [this.keep for this in descent]
    assert [this.number for this in descent] == list(range(len(descent)))
    assert keeps[0] == 1
    assert [this.keep for this in descent if this.is_rung] == [1, *rungs]
    assert keeps[-1] == rungs[-1]
    for above, below in pairwise(keeps):
        assert below < above
        assert below >= above * (1 - per_round) * (1 - 1e-9)


@given(ladders, shares)
def test_no_round_is_wasted(rungs: list[float], per_round: float) -> None:
    descent = list(rounds(rungs, per_round))
    for above, below in pairwise(descent):
        if not below.is_rung:
            assert below.keep == pytest.approx(above.keep * (1 - per_round), rel=1e-9)


def test_the_paper_removes_a_fifth_a_round() -> None:
    descent = list(rounds(LADDER, 0.2))
    assert [this.keep for this in descent[:6]] == [1.0, 0.8, 0.64, 0.512, 0.5, 0.4]
    assert len(descent) == 39


def test_powers_of_the_share_are_rungs_at_once() -> None:
    assert [this.keep for this in rounds([0.8, 0.64, 0.512], 0.2)] == [1.0, 0.8, 0.64, 0.512]


def test_without_rungs_only_the_unpruned_network_is_trained() -> None:
    assert [(this.keep, this.is_rung) for this in rounds([], 0.2)] == [(1.0, True)]


def test_tiny_rungs_are_reached() -> None:
    assert [this.keep for this in rounds([1e-15], 0.9)][-1] == 1e-15


def test_a_ladder_has_at_most_as_many_rounds_as_one_byte_counts() -> None:
    assert len(list(rounds([0.99**MOST_ROUNDS], 0.01))) == MOST_ROUNDS + 1
    with pytest.raises(RecipeError, match="more than 255 rounds"):
        list(rounds([0.5, 0.001], 0.01))
    with pytest.raises(RecipeError, match="more than 255 rounds"):
        list(rounds([0.5], 1e-17))
