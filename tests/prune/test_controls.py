"""Controls keep as much as what they are compared with, elsewhere or from other weights."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from torch import nn

from sslprune.masks import Mask
from sslprune.prune.controls import permute, permute_within_layers, reinitialise

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
