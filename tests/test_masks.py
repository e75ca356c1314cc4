"""A mask counts what it keeps, and sets what it does not keep to exactly +0.0."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from torch import Tensor, nn

from sslprune.errors import MaskError
from sslprune.masks import LayerCount, Mask

SHAPES = {"0.weight": (3, 2, 2, 2), "2.weight": (4, 3), "3.weight": (1, 4)}


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(3, 4), nn.Linear(4, 1))


def tensors_of(shape: tuple[int, ...]) -> st.SearchStrategy[Tensor]:
    return npst.arrays(bool, shape).map(torch.from_numpy)


masks = st.tuples(*map(tensors_of, SHAPES.values())).map(lambda kept: Mask(dict(zip(SHAPES, kept, strict=True))))


@given(masks)
def test_counts_are_the_counts_of_true(mask: Mask) -> None:
    flat = [bool(kept) for tensor in mask.values() for kept in tensor.flatten()]
    assert (mask.kept, mask.prunable) == (sum(flat), len(flat))
    assert mask.keep == sum(flat) / len(flat)
    assert [(line.name, line.prunable) for line in mask.table()] == [
        ("0.weight", 24),
        ("2.weight", 12),
        ("3.weight", 4),
    ]
    assert sum(line.kept for line in mask.table()) == mask.kept


@given(masks, masks)
def test_overlap_is_intersection_over_union_and_one_for_equals_alone(one: Mask, other: Mask) -> None:
    assert 0 <= one.overlap(other) == other.overlap(one) <= 1
    assert (one.overlap(other) == 1) == (one == other)


@given(masks, masks)
def test_a_subset_keeps_nothing_that_the_other_does_not(one: Mask, other: Mask) -> None:
    both = Mask({name: one[name] & other[name] for name in one})
    assert both.is_subset_of(one)
    assert both.is_subset_of(other)
    assert one.is_subset_of(other) == (both == one)
    assert one.is_subset_of(Mask.full(one))


@given(masks, st.sampled_from([torch.float32, torch.bfloat16, torch.float64]))
def test_applying_leaves_kept_weights_alone_and_makes_the_others_positive_zero(mask: Mask, dtype: torch.dtype) -> None:
    net = network().to(dtype)
    with torch.no_grad():
        net[0].weight.neg_()
        net[2].weight[0, 0] = float("nan")
        net[2].weight[0, 1] = -float("inf")
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    mask.apply_(net)
    for name, tensor in net.state_dict().items():
        kept = mask.get(name, torch.ones_like(tensor, dtype=torch.bool))
        assert torch.equal(tensor[kept].view(torch.uint8), before[name][kept].view(torch.uint8))
        assert not tensor[~kept].any()
        assert not tensor[~kept].signbit().any()


@given(masks)
def test_the_mask_of_the_non_zero_weights_undoes_applying(mask: Mask) -> None:
    ones = {name: torch.ones(shape) for name, shape in SHAPES.items()}
    mask.hold_(ones)
    assert Mask.nonzero(ones) == mask


def test_holding_passes_over_tensors_without_a_mask_and_masks_without_a_tensor() -> None:
    mask = Mask({"a": torch.tensor([True, False]), "b": torch.tensor([False])})
    tensors = {"a": torch.tensor([1.0, 2.0]), "c": torch.tensor([3.0])}
    mask.hold_(tensors)
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {"a": [1, 0], "c": [3]}


def test_a_layer_line_knows_its_keep_rate() -> None:
    assert LayerCount("a", 1, 4).keep == 0.25
    assert LayerCount("a", 0, 0).keep == 1


def test_masks_that_keep_nothing_or_cover_nothing() -> None:
    nothing = Mask({"a": torch.zeros(3, dtype=torch.bool)})
    assert (nothing.keep, nothing.overlap(nothing)) == (0, 1)
    assert Mask({}).keep == 1


def test_a_mask_of_numbers_is_refused() -> None:
    with pytest.raises(MaskError, match=r"a is torch\.uint8"):
        Mask({"a": torch.ones(2, dtype=torch.uint8)})


def test_a_mask_of_another_network_is_refused_and_the_network_untouched() -> None:
    net = network()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    full = Mask.full({name: torch.ones(shape) for name, shape in SHAPES.items()})
    with pytest.raises(MaskError, match=r"no weight '9\.weight'"):
        Mask({**full, "9.weight": torch.zeros(2, dtype=torch.bool)}).apply_(net)
    with pytest.raises(MaskError, match=r"2\.weight has shape \(4, 3\), its mask \(3, 4\)"):
        Mask({"0.weight": torch.zeros(3, 2, 2, 2, dtype=torch.bool), "2.weight": ~full["2.weight"].T}).apply_(net)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("other", [{}, {"a": torch.ones(3, dtype=torch.bool)}, {"b": torch.ones(2, dtype=torch.bool)}])
def test_masks_of_different_networks_are_not_compared(other: dict[str, Tensor]) -> None:
    mask = Mask({"a": torch.ones(2, dtype=torch.bool)})
    assert mask != Mask(other)
    with pytest.raises(MaskError, match="different weights"):
        mask.overlap(Mask(other))
    with pytest.raises(MaskError, match="different weights"):
        mask.is_subset_of(Mask(other))
    assert mask != "a mask"


def test_a_mask_goes_to_another_device() -> None:
    mask = Mask({"a": torch.ones(2, dtype=torch.bool)}).to("meta")
    assert mask["a"].device.type == "meta"
