"""SynFlow's laws: scores are not negative, every layer of a chain carries the same flow, and no layer is emptied."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sslprune import models
from sslprune.errors import ArchitectureError
from sslprune.masks import Mask
from sslprune.models import prunable
from sslprune.prune.criteria import Criterion, find
from sslprune.prune.synflow import steps, synflow


class Chain(nn.Module):
    """Convolutions one after the other, the last of a single weight a channel."""

    def __init__(self, seed: int, norm: bool = True) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        parts: list[nn.Module] = []
        for inputs, outputs, kernel in ((3, 8, 3), (8, 16, 3), (16, 4, 1), (4, 2, 1)):
            parts += [nn.Conv2d(inputs, outputs, kernel), nn.BatchNorm2d(outputs) if norm else nn.Identity(), nn.ReLU()]
        self.body = nn.Sequential(*parts)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=draw)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=draw))
                module.running_var.copy_(torch.rand(module.running_var.shape, generator=draw) + 0.1)

    def get_classifier(self) -> nn.Module:
        return nn.Identity()

    def forward(self, x):
        return self.body(x).mean((2, 3))


@given(st.integers(0, 10**6), st.booleans(), st.floats(0.2, 1))
def test_every_layer_of_a_chain_carries_the_same_flow(seed: int, norm: bool, keep: float) -> None:
    net = Chain(seed, norm)
    mask = find(prunable(net), keep)
    scores = synflow(net, mask, 8)
    flows = [float(score.sum()) for score in scores.values()]
    assert all(bool((score >= 0).all()) for score in scores.values())
    assert all(flow == pytest.approx(flows[0], rel=1e-9) for flow in flows)
    assert all(not bool(scores[name][~kept].any()) for name, kept in mask.items())


@settings(max_examples=12)
@given(st.integers(0, 10**6), st.sampled_from([0.1, 0.02, 0.006]))
def test_no_layer_is_emptied_where_magnitude_would(seed: int, keep: float) -> None:
    net = Chain(seed)
    weights = prunable(net)
    mask = find(weights, keep, Criterion("synflow"), model=net, size=8)
    assert mask.kept == round(keep * mask.prunable)
    assert all(line.kept > 0 for line in mask.table())


def test_the_model_and_its_mode_are_left_alone() -> None:
    net = models.build("resnet20_cifar", seed=0)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    scores = synflow(net, Mask.full(prunable(net)), 16)
    assert net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(score.dtype == torch.float64 and bool((score > 0).all()) for score in scores.values())


def test_on_an_untrained_network_it_is_the_papers_own() -> None:
    net = models.build("resnet20_cifar", seed=0).eval()
    theirs = models.build("resnet20_cifar", seed=0).double().eval()
    for tensor in theirs.state_dict().values():
        tensor.abs_()
    weights = prunable(theirs)
    slopes = torch.autograd.grad(theirs(torch.ones(1, 3, 16, 16, dtype=torch.float64)).sum(), list(weights.values()))
    scores = synflow(net, Mask.full(prunable(net)), 16)
    for (name, weight), slope in zip(weights.items(), slopes, strict=True):
        torch.testing.assert_close(scores[name], (weight * slope).detach(), rtol=1e-6, atol=0)


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(1, 20))
def test_steps_fall_and_end_where_they_should(one: int, other: int, rounds: int) -> None:
    start, end = max(one, other, 1), min(one, other)
    counts = list(steps(start, end, rounds))
    assert len(counts) == rounds
    assert counts[-1] == end
    assert all(start >= above >= below for above, below in pairwise(counts))


def test_what_overflows_is_refused() -> None:
    net = Chain(0, norm=False)
    net.body[0].weight.data.fill_(1e38)
    net.double()
    net.body[0].weight.data.fill_(1e308)
    with pytest.raises(ArchitectureError, match="beyond float64"):
        synflow(net, Mask.full(prunable(net)), 8)
