"""Magnitude pruning: exact counts, ties by position, nested masks, and torch's answer wherever it is the only one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from sslprune.errors import KeepError
from sslprune.masks import Mask
from sslprune.prune.magnitude import count_kept, prune

keeps = st.floats(0, 1, exclude_min=True)
# Few different magnitudes, both signs, and zeros of both signs: ties everywhere.
tied = st.sampled_from([0.0, -0.0, 0.25, -0.25, 0.5, -0.5, 1.0, 1e-30, -1e-30])
values = st.one_of(tied, st.floats(-10, 10, width=32))


@st.composite
def weights(draw: st.DrawFn) -> dict[str, Tensor]:
    """One to four tensors, some of one element."""
    shapes = draw(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3), min_size=1, max_size=4))
    made = {}
    for number, shape in enumerate(shapes):
        size = int(torch.Size(shape).numel())
        flat = draw(st.lists(values, min_size=size, max_size=size))
        made[f"{number}.weight"] = torch.tensor(flat).view(shape)
    return made


def oracle(tensors: dict[str, Tensor], keep: float, within: Mask | None = None) -> set[tuple[str, int]]:
    """The kept positions, found one at a time: always the largest magnitude left, the earliest of several."""
    places = [(name, index) for name, tensor in tensors.items() for index in range(tensor.numel())]
    left = [place for place in places if within is None or bool(within[place[0]].flatten()[place[1]])]
    kept = set()
    for _ in range(round(keep * len(places))):
        best = left[0]
        for place in left:
            if abs(float(tensors[place[0]].flatten()[place[1]])) > abs(float(tensors[best[0]].flatten()[best[1]])):
                best = place
        left.remove(best)
        kept.add(best)
    return kept


def kept_places(mask: Mask) -> set[tuple[str, int]]:
    return {(name, int(index)) for name, kept in mask.items() for index in kept.flatten().nonzero()}


@given(weights(), keeps)
def test_global_masks_are_those_of_the_oracle(tensors: dict[str, Tensor], keep: float) -> None:
    mask = prune(tensors, keep)
    assert kept_places(mask) == oracle(tensors, keep)
    assert mask.kept == round(keep * sum(tensor.numel() for tensor in tensors.values()))
    assert {name: kept.shape for name, kept in mask.items()} == {name: tensor.shape for name, tensor in tensors.items()}


@given(weights(), keeps)
def test_layer_masks_are_those_of_the_oracle_on_each_layer(tensors: dict[str, Tensor], keep: float) -> None:
    mask = prune(tensors, keep, scope="layer")
    assert list(mask) == list(tensors)
    for name, tensor in tensors.items():
        assert kept_places(Mask({name: mask[name]})) == oracle({name: tensor}, keep)
        assert int(mask[name].sum()) == round(keep * tensor.numel())


@given(weights(), weights(), st.lists(keeps, min_size=2, max_size=4), st.sampled_from(["global", "layer"]))
def test_masks_are_nested_down_a_ladder_whatever_training_does(
    tensors: dict[str, Tensor], trained: dict[str, Tensor], ladder: list[float], scope: str
) -> None:
    mask = Mask.full(tensors)
    for keep in sorted(ladder, reverse=True):
        below = prune(tensors, keep, within=mask, scope=scope)  # type: ignore[arg-type]
        assert below.is_subset_of(mask)
        if scope == "global":
            assert kept_places(below) == oracle(tensors, keep, mask)
        else:
            assert all(int(kept.sum()) == round(keep * kept.numel()) for kept in below.values())
        # Training moves the weights before the next round, here to zero in places.
        tensors = {name: tensor + trained.get(name, tensor).flatten()[0] for name, tensor in tensors.items()}
        mask = below


def test_the_pruned_stay_pruned_where_kept_weights_are_exactly_zero() -> None:
    tensors = {"a": torch.tensor([5.0, 0.0, 0.0, 4.0])}
    within = Mask({"a": torch.tensor([False, True, True, False])})
    assert prune(tensors, 0.5, within=within) == within
    assert prune(tensors, 0.25, within=within)["a"].tolist() == [False, True, False, False]


def test_ties_go_to_the_earlier_tensor_and_the_earlier_place_in_rows() -> None:
    tensors = {"b": torch.ones(2, 2), "a": -torch.ones(3)}
    mask = prune(tensors, 3 / 7)
    assert mask["b"].tolist() == [[True, True], [True, False]]
    assert mask["a"].tolist() == [False] * 3
    columns = {"b": torch.ones(2, 2).T.contiguous().T}
    assert prune(columns, 0.5)["b"].tolist() == [[True, True], [False, False]]


@pytest.mark.parametrize("seed", range(30))
def test_global_masks_equal_torchs_own_where_there_is_only_one_answer(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1), nn.Flatten(), nn.Linear(18, 5))
    modules = {"0.weight": net[0], "1.weight": net[1], "3.weight": net[3]}
    levels = int(torch.randint(2, 40, (), generator=generator))  # few: many ties
    with torch.no_grad():
        for module in modules.values():
            module.weight.copy_(torch.randint(-levels, levels + 1, module.weight.shape, generator=generator) / levels)
    weights = {name: module.weight.detach().clone() for name, module in modules.items()}
    flat = torch.cat([weight.abs().flatten() for weight in weights.values()]).sort(descending=True).values
    prunable, unambiguous = len(flat), 0
    for count in range(1, prunable + 1):
        mask = prune(weights, count / prunable)
        assert mask.kept == count
        if count < prunable and flat[count - 1] == flat[count]:
            continue  # a tie across the cut: torch takes any of them
        unambiguous += 1
        fresh = {name: nn.Linear(1, 1) for name in modules}
        for name, module in fresh.items():
            module.weight = nn.Parameter(weights[name].clone())
        torch_prune.global_unstructured(
            [(module, "weight") for module in fresh.values()], torch_prune.L1Unstructured, amount=prunable - count
        )
        assert all(torch.equal(mask[name], module.weight_mask.bool()) for name, module in fresh.items())
    assert unambiguous > 1


@given(st.integers(0, 10**9), st.integers(1, 10**9))
def test_a_fraction_of_counts_means_that_count(kept: int, more: int) -> None:
    prunable = kept + more
    assert kept == 0 or count_kept(kept / prunable, prunable) == kept


@pytest.mark.parametrize(
    ("keep", "prunable", "count"), [(0.5, 5, 2), (0.5, 7, 4), (0.29, 100, 29), (1, 9, 9), (1e-9, 9, 0)]
)
def test_counts_are_rounded_halves_to_even(keep: float, prunable: int, count: int) -> None:
    assert count_kept(keep, prunable) == count


@pytest.mark.parametrize("keep", [0, -0.1, 1.0001, float("nan"), float("inf"), True, "0.5", None])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_keep_rates_that_are_none_are_refused(keep: object, scope: str) -> None:
    with pytest.raises(KeepError, match=r"not a fraction in \(0, 1\]"):
        prune({"a": torch.ones(3)}, keep, scope=scope)  # type: ignore[arg-type]


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_more_than_is_left_is_refused(scope: str) -> None:
    within = Mask({"a": torch.tensor([True, False, False, False])})
    with pytest.raises(KeepError, match="asks for 2 weights, but only 1 are left"):
        prune({"a": torch.ones(4)}, 0.5, within=within, scope=scope)  # type: ignore[arg-type]


@settings(max_examples=30)
@given(weights(), keeps, st.sampled_from([torch.float16, torch.bfloat16, torch.float64]))
def test_other_dtypes_are_ranked_by_their_own_values(
    tensors: dict[str, Tensor], keep: float, dtype: torch.dtype
) -> None:
    cast = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    assert kept_places(prune(cast, keep)) == oracle(cast, keep)
