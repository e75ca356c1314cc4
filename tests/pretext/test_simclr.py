"""SimCLR: NT-Xent against a loop, blind to the order of the views."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor
from torch.nn import functional as F

from sslprune.data.device_loader import Batch
from sslprune.data.draws import Draws
from sslprune.pretext.simclr import SimCLR, SimCLROptions


def task(temperature: float = 0.5) -> SimCLR:
    return SimCLR(4, num_images=9, num_classes=0, options=SimCLROptions(temperature=temperature))


def points(count: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(count, 5, generator=Generator().manual_seed(seed), dtype=torch.float64), dim=1)


@given(st.integers(1, 5), st.floats(0.1, 2), st.integers(0, 99), st.randoms(use_true_random=False))
def test_the_loss_is_the_formula(images: int, temperature: float, seed: int, shuffled) -> None:
    outputs, targets = points(2 * images, seed), [*range(images)] * 2
    shuffled.shuffle(targets)
    terms = []
    for i in range(2 * images):
        weights = {j: math.exp(float(outputs[i] @ outputs[j]) / temperature) for j in range(2 * images) if j != i}
        (partner,) = [j for j in weights if targets[j] == targets[i]]
        terms.append(-math.log(weights[partner] / sum(weights.values())))
    loss = task(temperature).loss(outputs, torch.tensor(targets))
    assert float(loss) == pytest.approx(sum(terms) / len(terms), abs=1e-9)


@given(st.integers(2, 5), st.integers(0, 99))
def test_the_order_of_the_views_makes_no_difference(images: int, seed: int) -> None:
    outputs, targets = points(2 * images, seed), torch.arange(images).repeat(2)
    order = torch.randperm(2 * images, generator=Generator().manual_seed(seed))
    torch.testing.assert_close(task().loss(outputs, targets), task().loss(outputs[order], targets[order]))
    assert task().score(outputs, targets) == pytest.approx(task().score(outputs[order], targets[order]))


def test_gradients_are_those_of_differences() -> None:
    outputs, targets = points(6, 0).requires_grad_(), torch.arange(3).repeat(2)
    assert torch.autograd.gradcheck(lambda x: task().loss(x, targets), (outputs,))


def test_two_different_views_of_each_image() -> None:
    batch = Batch(
        torch.rand(6, 3, 8, 8, generator=Generator().manual_seed(0)).repeat(2, 1, 1, 1), None, torch.arange(6)
    )
    shown, targets = task().views(batch, Draws(Generator().manual_seed(0), 6))
    assert targets.tolist() == [*range(6)] * 2
    assert not torch.equal(*shown.split(6))
    assert task().copies == 2


def test_the_score_counts_views_that_are_nearest_to_their_partner() -> None:
    outputs = F.normalize(torch.tensor([[1.0, 0], [0, 1], [0.9, 0.1], [0.8, 0.3]]), dim=1)
    assert task().score(outputs, torch.tensor([0, 1, 0, 1])) == 75
