"""Every score in every scope obeys the same laws: exact counts, nested masks, the guard, the stem, the first layers."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from sslprune import models
from sslprune.errors import ArchitectureError, KeepError
from sslprune.masks import Mask
from sslprune.models import prunable
from sslprune.prune.criteria import Criterion, convolutions, find, pruner
from sslprune.prune.magnitude import prune

PAIRS = [("magnitude", "global"), ("magnitude", "layer"), ("magnitude", "erk"), ("lamp", "global")]
PAIRS += [("random", "global"), ("random", "layer"), ("random", "erk")]
values = st.sampled_from([0.0, -0.0, 0.25, -0.25, 0.5]) | st.floats(-5, 5, width=32)


@st.composite
def networks(draw: st.DrawFn) -> dict[str, Tensor]:
    """Two to four layers, the first a convolution, with many ties."""
    sizes = [(draw(st.integers(1, 3)), 2, 1, 2), *draw(st.lists(st.sampled_from([(2, 3), (3, 1, 1, 1)]), min_size=1))]
    made = {}
    for number, size in enumerate(sizes[:4]):
        count = torch.Size(size).numel()
        made[f"{number}.weight"] = torch.tensor(draw(st.lists(values, min_size=count, max_size=count))).view(size)
    return made


criteria = st.builds(
    lambda pair, **options: Criterion(*pair, **options),
    st.sampled_from(PAIRS),
    guard=st.integers(0, 2),
    stem_keep=st.none() | st.sampled_from([0.5, 1.0]),
    first_convs=st.none() | st.integers(2, 3),
    seed=st.integers(0, 99),
)


@settings(max_examples=200)
@given(networks(), criteria, st.lists(st.floats(0.01, 1), min_size=1, max_size=3))
def test_the_laws_that_all_criteria_obey(weights: dict, criterion: Criterion, keeps: list[float]) -> None:
    convs = convolutions(weights)
    free = list(weights) if criterion.first_convs is None else list(convs[: criterion.first_convs])
    mask = Mask.full(weights)
    for keep in sorted(keeps, reverse=True):
        try:
            below = find(weights, keep, criterion, within=mask)
        except KeepError:
            assume(False)
        assert below.is_subset_of(mask)
        assert list(below) == list(weights)
        for name, weight in weights.items():
            kept, size = int(below[name].sum()), weight.numel()
            if name not in free:
                assert kept == size
                continue
            assert kept >= min(criterion.guard, size)
            if criterion.stem_keep is not None and name == convs[0]:
                assert kept == max(round(criterion.stem_keep * size), min(criterion.guard, size))
            elif criterion.scope == "layer":
                assert kept == max(round(keep * size), min(criterion.guard, size))
        if criterion.scope != "layer":
            assert sum(int(below[n].sum()) for n in free) == round(keep * sum(weights[n].numel() for n in free))
        assert find(weights, keep, criterion, within=mask) == below
        mask = below


@given(networks(), st.floats(0.01, 1), st.sampled_from(["global", "layer"]))
def test_without_options_it_is_plain_magnitude_pruning(weights: dict, keep: float, scope: Any) -> None:
    assert find(weights, keep, Criterion(scope=scope)) == prune(weights, keep, scope=scope)


@given(networks(), st.floats(0.01, 1))
def test_erk_and_layers_keep_the_largest_of_each_layer(weights: dict, keep: float) -> None:
    mask = find(weights, keep, Criterion(scope="erk"))
    for name, weight in weights.items():
        alone = prune({name: weight}, 1.0)
        if count := int(mask[name].sum()):
            alone = prune({name: weight}, count / weight.numel())
            assert torch.equal(mask[name], alone[name])


@pytest.mark.parametrize("keep", [0.5, 0.1, 0.02])
def test_layers_equal_torchs_own_where_there_is_only_one_answer(keep: float) -> None:
    weights = {name: weight.detach() for name, weight in prunable(models.build("resnet20_cifar", seed=3)).items()}
    mask = find(weights, keep, Criterion(scope="erk", guard=1))
    for name, weight in weights.items():
        layer = nn.Module()
        layer.weight = nn.Parameter(weight.clone())
        torch_prune.l1_unstructured(layer, "weight", amount=weight.numel() - int(mask[name].sum()))
        assert torch.equal(layer.weight_mask.bool(), mask[name])


def test_lamp_keeps_a_weight_of_every_layer_where_global_magnitude_empties_one() -> None:
    weights = {"0": torch.tensor([[[[5.0, 4.0, 3.0]]]]), "1": torch.tensor([[0.1, 0.2]])}
    assert find(weights, 0.4, Criterion())["1"].sum() == 0
    assert find(weights, 0.4, Criterion(guard=1))["1"].tolist() == [[False, True]]
    assert find(weights, 0.4, Criterion("lamp"))["1"].tolist() == [[False, True]]


@pytest.mark.parametrize("score", [pytest.param("synflow", marks=pytest.mark.slow), "lamp", "magnitude"])
def test_a_network_is_pruned_with_all_options(score: Any) -> None:
    net = models.build("resnet20_cifar", seed=0)
    find_mask = pruner(Criterion(score, guard=3, stem_keep=1.0), model=net, size=8)
    weights = prunable(net)
    one = find_mask(weights, 0.3)
    two = find_mask(weights, 0.02, within=one)
    assert two.is_subset_of(one)
    assert two.kept == round(0.02 * two.prunable)
    assert two["conv1.weight"].all()
    assert all(line.kept >= 3 for line in two.table())


def test_synflow_needs_the_network() -> None:
    with pytest.raises(ArchitectureError, match="'synflow' needs the network"):
        find({"0": torch.ones(2, 2, 1, 1)}, 0.5, Criterion("synflow"))


def test_first_layers_need_convolutions() -> None:
    for options in ({"stem_keep": 0.5}, {"first_convs": 1}):
        with pytest.raises(ArchitectureError, match="no convolution"):
            find({"0": torch.ones(2, 2)}, 0.5, Criterion(**options))


@pytest.mark.parametrize(
    "options",
    [
        {"score": "loudness"},
        {"scope": "village"},
        {"score": "lamp", "scope": "layer"},
        {"score": "synflow", "scope": "erk"},
        {"score": "channels-l1", "guard": 1},
        {"guard": -1},
        {"stem_keep": 0.0},
        {"stem_keep": 1.5},
        {"first_convs": 0},
        {"first_convs": 1, "stem_keep": 0.5},
    ],
)
def test_criteria_that_cannot_be_are_refused(options: dict) -> None:
    with pytest.raises(KeepError, match="does not hold"):
        Criterion(**options)


def test_promises_beyond_the_keep_rate_are_refused() -> None:
    weights = {"0": torch.rand(4, 1, 1, 1), "1": torch.rand(4, 1, 1, 1)}
    for criterion in (Criterion(guard=2), Criterion(guard=2, scope="erk"), Criterion(stem_keep=1.0)):
        with pytest.raises(KeepError, match="promised"):
            find(weights, 0.25, criterion)


def test_a_criterion_states_its_options() -> None:
    assert Criterion("lamp", guard=2).to_json() == {
        "score": "lamp",
        "scope": "global",
        "guard": 2,
        "stem_keep": None,
        "first_convs": None,
        "seed": 0,
    }
    assert isinstance(pruner(Criterion(), model=nn.Identity(), size=8), partial)
