"""The registry: a pretext is found by name, its head is drawn from a seed alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from sslprune import pretext
from sslprune.data.device_loader import Batch
from sslprune.data.draws import Draws
from sslprune.errors import UnknownPretextError
from sslprune.pretext.base import Pretext

NAMES = sorted(pretext.PRETEXTS)


def build(name: str, seed: int = 0) -> Pretext:
    return pretext.build(name, 8, num_images=6, num_classes=3, seed=seed)


def batch(copies: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(6, 3, 4, 4, generator=generator)
    labelled = Batch(images, torch.arange(6) % 3, torch.arange(6))
    return replace(labelled, images=images.repeat(copies, 1, 1, 1), labelled=labelled)


@pytest.mark.parametrize("name", NAMES)
def test_equal_seeds_give_equal_heads_and_the_global_state_stays(name: str) -> None:
    state = torch.random.get_rng_state()
    one, same, other = build(name, 1), build(name, 1), build(name, 2)
    assert torch.equal(torch.random.get_rng_state(), state)
    weights = [nn.utils.parameters_to_vector(head.parameters()) for head in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("name", NAMES)
def test_views_are_a_multiple_of_the_images_and_the_loss_is_one_finite_number_with_a_gradient(name: str) -> None:
    task = build(name)
    views, targets = task.views(batch(task.copies), Draws(torch.Generator().manual_seed(0), 6))
    assert views.shape[1:] == (3, 4, 4)
    assert len(views) == len(targets)
    assert len(views) % 6 == 0
    outputs = task(torch.randn(len(views), 8, generator=torch.Generator().manual_seed(1)))
    loss = task.loss(outputs, targets)
    loss.backward()
    assert loss.ndim == 0
    assert bool(loss.isfinite())
    assert all(parameter.grad is not None for parameter in task.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_views_follow_from_the_generator_and_leave_the_batch_alone(name: str) -> None:
    task = build(name)
    given = batch(task.copies)
    (one, targets), (other, same) = (task.views(given, Draws(torch.Generator().manual_seed(5), 6)) for _ in range(2))
    assert torch.equal(one, other)
    assert torch.equal(targets, same)
    assert torch.equal(given.images, batch(task.copies).images)


@pytest.mark.parametrize("name", ["labels", "rotnet"])
def test_the_score_is_the_share_of_right_answers_in_per_cent(name: str) -> None:
    outputs = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    assert build(name).score(outputs, torch.tensor([1, 0, 2, 1])) == 75


def test_an_unknown_pretext_names_the_nearest() -> None:
    with pytest.raises(UnknownPretextError, match=r"no pretext 'rotnte'\.\n.*: rotnet"):
        pretext.find("rotnte")
