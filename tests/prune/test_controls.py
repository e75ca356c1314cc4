"""Controls keep as much as what they are compared with, elsewhere or from other weights."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from torch import nn

from sslprune.masks import Mask
from sslprune.prune.controls import (
    only_first_convs,
    permute,
    permute_within_layers,
    random_among_nonzero,
    reinitialise,
    ticket,
)
from sslprune.prune.rewind import snapshot

seeds = st.integers(0, 2**31)
masks = st.fixed_dictionaries(
    {"a": npst.arrays(bool, (3, 4)), "b": npst.arrays(bool, (5,)), "c": npst.arrays(bool, (2, 1, 2))}
).map(lambda arrays: Mask({name: torch.from_numpy(array) for name, array in arrays.items()}))


@given(masks, seeds)
def test_a_permuted_mask_keeps_as_many_of_all(mask: Mask, seed: int) -> None:
    control = permute(mask, seed=seed)
    assert control.kept == mask.kept
    assert {name: kept.shape for name, kept in control.items()} == {name: kept.shape for name, kept in mask.items()}
    assert control == permute(mask, seed=seed)


@given(masks, seeds)
def test_a_mask_permuted_within_layers_keeps_as_many_of_each(mask: Mask, seed: int) -> None:
    control = permute_within_layers(mask, seed=seed)
    assert control.table() == mask.table()
    assert control == permute_within_layers(mask, seed=seed)


def test_permuting_reaches_every_place_alike() -> None:
    mask = Mask({"a": torch.tensor([True, False]), "b": torch.tensor([[False, False]])})
    places, within = torch.zeros(4), torch.zeros(2)
    for seed in range(4000):
        control = permute(mask, seed=seed)
        places += torch.cat([control["a"], control["b"].flatten()])
        inside = permute_within_layers(mask, seed=seed)
        within += inside["a"]
        assert not inside["b"].any()
    assert all(900 < int(count) < 1100 for count in places)
    assert all(1850 < int(count) < 2150 for count in within)


def test_controls_leave_the_global_random_state_and_the_mask_alone() -> None:
    mask = Mask({"a": torch.tensor([True, False, True, False])})
    before, state = mask["a"].clone(), torch.random.get_rng_state()
    permute(mask, seed=1)
    permute_within_layers(mask, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(mask["a"], before)


def test_a_reinitialised_network_has_fresh_weights_under_the_same_mask() -> None:
    def build(seed: int) -> nn.Module:
        layer = nn.Linear(3, 2)
        nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(seed))
        return layer

    mask = Mask({"weight": torch.tensor([[True, False, True], [False, True, False]])})
    network = reinitialise(build, mask, seed=5)
    assert torch.equal(network.weight, torch.where(mask["weight"], build(5).weight, 0.0))
    assert not torch.equal(network.weight, reinitialise(build, mask, seed=6).weight)


@given(
    npst.arrays("float32", (4, 5), elements=st.sampled_from([0.0, -0.0, 1e-9, 0.5, -2.0])),
    st.floats(0.01, 1),
    st.floats(0.01, 1),
    seeds,
)
def test_the_corrected_control_prunes_zeros_first_and_then_at_random(values, one: float, other: float, seed) -> None:
    weights = {"a": torch.from_numpy(values[:3]), "b": torch.from_numpy(values[3])}
    for threshold in (0.0, 1e-8):
        alive = Mask({name: weight.abs() > threshold for name, weight in weights.items()})
        high, low = max(one, other), min(one, other)
        mask = random_among_nonzero(weights, high, seed=seed, threshold=threshold)
        below = random_among_nonzero(weights, low, seed=seed, threshold=threshold)
        assert mask.kept == min(round(high * 20), alive.kept)
        assert mask.is_subset_of(alive)
        assert below.is_subset_of(mask)
        assert below == random_among_nonzero(weights, low, seed=seed, threshold=threshold, within=mask)


def test_the_corrected_control_does_not_follow_magnitude() -> None:
    weights = {"a": torch.arange(8.0)}
    counts = torch.zeros(8)
    for seed in range(2000):
        counts += random_among_nonzero(weights, 0.25, seed=seed)["a"]
    assert counts[0] == 0
    assert all(450 < int(count) < 700 for count in counts[1:])


@given(masks)
def test_only_the_first_convolutions_are_pruned(mask: Mask) -> None:
    assert only_first_convs(mask, 0) == Mask.full(mask)
    control = only_first_convs(mask, 1)  # "c" is the only one with more than two axes
    assert torch.equal(control["c"], mask["c"])
    assert control["a"].all()
    assert control["b"].all()


def test_a_ticket_is_the_rewound_network_under_its_mask() -> None:
    network = nn.Linear(2, 2)
    origin = snapshot(network)
    mask = Mask({"weight": torch.tensor([[True, False], [False, True]])})
    with torch.no_grad():
        network.weight.add_(3)
        network.bias.add_(3)
    ticket(network, {"weight": network.weight}, origin, mask)
    assert torch.equal(network.bias, origin["bias"])
    assert torch.equal(network.weight, torch.where(mask["weight"], origin["weight"], 0.0))
