"""ERK counts: exact, within their bounds, and the published formula's wherever nothing is rounded."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sslprune.errors import KeepError
from sslprune.masks import Mask
from sslprune.prune.scopes import erk

shapes = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 12), st.integers(1, 12)),
        st.tuples(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 3]), st.sampled_from([1, 3])),
    ),
    min_size=1,
    max_size=5,
)


def published(sizes: list[tuple[int, ...]], count: int) -> list[float]:
    """The weights that each layer keeps by Evci et al.'s rule: make full what would exceed 1, and begin again."""
    full: set[int] = set()
    while True:
        open_ = [n for n in range(len(sizes)) if n not in full]
        left = count - sum(math.prod(sizes[n]) for n in full)
        factor = left / sum(sum(sizes[n]) for n in open_) if open_ else 0.0
        over = {n for n in open_ if factor * sum(sizes[n]) > math.prod(sizes[n])}
        if not over:
            return [math.prod(size) if n in full else factor * sum(size) for n, size in enumerate(sizes)]
        full |= over


@given(shapes, st.floats(0, 1))
def test_counts_are_the_published_ones_rounded_and_their_total_is_exact(sizes: list, keep: float) -> None:
    weights = {str(n): torch.zeros(size) for n, size in enumerate(sizes)}
    count = round(keep * sum(math.prod(size) for size in sizes))
    found = erk(weights, count, within=Mask.full(weights), least={})
    assert sum(found.values()) == count
    for name, expected in zip(weights, published(sizes, count), strict=True):
        assert abs(found[name] - expected) < 1 + 1e-6
        assert 0 <= found[name] <= weights[name].numel()


@given(shapes, st.data())
def test_bounds_hold_and_ladders_are_nested(sizes: list, data: st.DataObject) -> None:
    weights = {str(n): torch.zeros(size) for n, size in enumerate(sizes)}
    within, total = Mask.full(weights), sum(math.prod(size) for size in sizes)
    guard = data.draw(st.integers(0, 3))
    least = {name: min(guard, weight.numel()) for name, weight in weights.items()}
    promised = sum(least.values())
    for count in sorted(data.draw(st.lists(st.integers(promised, total), max_size=4)), reverse=True):
        found = erk(weights, count, within=within, least=least)
        assert sum(found.values()) == count
        assert all(least[name] <= found[name] <= int(within[name].sum()) for name in found)
        within = Mask({name: torch.arange(w.numel()).view(w.shape) < found[name] for name, w in weights.items()})


def test_impossible_counts_are_refused() -> None:
    weights = {"a": torch.zeros(2, 2), "b": torch.zeros(3, 3)}
    with pytest.raises(KeepError, match="only 13 are left"):
        erk(weights, 14, within=Mask.full(weights), least={})
    with pytest.raises(KeepError, match="4 are promised"):
        erk(weights, 3, within=Mask.full(weights), least={"a": 2, "b": 2})
