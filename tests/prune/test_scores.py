"""LAMP against its definition, written out; drawn scores the same for a seed."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sslprune.masks import Mask
from sslprune.prune.scores import lamp, magnitude, random

values = st.sampled_from([0.0, 0.5, -0.5, 1.0, 3.0]) | st.floats(-10, 10, width=32)


@st.composite
def layers(draw: st.DrawFn) -> tuple[dict[str, Tensor], Mask]:
    sizes = draw(st.lists(st.integers(1, 7), min_size=1, max_size=3))
    weights = {str(n): torch.tensor(draw(st.lists(values, min_size=s, max_size=s))) for n, s in enumerate(sizes)}
    kept = {
        str(n): torch.tensor(draw(st.lists(st.booleans(), min_size=size, max_size=size)))
        for n, size in enumerate(sizes)
    }
    return weights, Mask(kept)


@given(layers())
def test_lamp_is_the_square_over_the_sum_of_the_squares_that_are_not_smaller(given_: tuple[dict, Mask]) -> None:
    weights, mask = given_
    for name, scores in lamp(weights, mask).items():
        sizes = [abs(float(w)) if kept else 0.0 for w, kept in zip(weights[name], mask[name], strict=True)]
        for place, size in enumerate(sizes):
            rest = [w for n, w in enumerate(sizes) if w > size or (w == size and n <= place)]
            scale = max(sizes) or 1.0
            expected = (size / scale) ** 2 / sum((w / scale) ** 2 for w in rest) if size else 0.0
            torch.testing.assert_close(float(scores[place]), expected, rtol=1e-9, atol=0)


@given(layers())
def test_the_largest_of_each_layer_scores_one_and_lamp_orders_as_magnitude_does(given_: tuple[dict, Mask]) -> None:
    weights, _ = given_
    full = Mask.full(weights)
    for name, scores in lamp(weights, full).items():
        if weights[name].any():
            assert scores.max() == 1
        order = torch.sort(magnitude(weights)[name], descending=True, stable=True).indices
        assert (scores[order].diff() <= 0).all()


def test_tiny_weights_do_not_vanish() -> None:
    scores = lamp({"a": torch.tensor([3e-30, 4e-30])}, Mask.full({"a": torch.ones(2)}))["a"]
    torch.testing.assert_close(scores, torch.tensor([9 / 25, 1.0], dtype=torch.float64), rtol=1e-6, atol=0)


def test_drawn_scores_follow_the_seed_and_leave_the_global_state() -> None:
    weights = {"a": torch.zeros(3, 2), "b": torch.zeros(4)}
    state = torch.random.get_rng_state()
    one, same, other = random(weights, seed=1), random(weights, seed=1), random(weights, seed=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(one[name], same[name]) for name in weights)
    assert not torch.equal(one["a"], other["a"])
    assert {name: score.shape for name, score in one.items()} == {"a": (3, 2), "b": (4,)}
