"""Exemplar: the mined triplets are those of three nested loops, and the loss does not see the order of the views."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor
from torch.nn import functional as F

from sslprune.data.device_loader import Batch
from sslprune.data.draws import Draws
from sslprune.pretext.exemplar import Exemplar, ExemplarOptions, partners, semi_hard, squared_distances


def task(copies: int = 3, margin: float = 0.5) -> Exemplar:
    return Exemplar(4, num_images=9, num_classes=0, options=ExemplarOptions(copies=copies, margin=margin, dimension=5))


def points(count: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(count, 5, generator=Generator().manual_seed(seed), dtype=torch.float64), dim=1)


def loops(outputs: Tensor, targets: list[int], margin: float) -> Tensor:
    """The loss by the book: FaceNet's semi-hard negatives, one pair at a time."""
    losses = []
    for a in range(len(outputs)):
        for p in range(len(outputs)):
            if a == p or targets[a] != targets[p]:
                continue
            near = (outputs[a] - outputs[p]).square().sum()
            far = [(outputs[a] - outputs[n]).square().sum() for n in range(len(outputs)) if targets[n] != targets[a]]
            farther = [each for each in far if each > near]
            losses.append((margin + near - (min(farther) if farther else max(far))).clamp(min=0))
    return torch.stack(losses).mean()


@given(st.integers(2, 4), st.integers(2, 4), st.floats(0.01, 4), st.integers(0, 99), st.randoms(use_true_random=False))
def test_the_loss_and_its_gradient_are_those_of_nested_loops(
    images: int, copies: int, margin: float, seed: int, shuffled
) -> None:
    targets = [7 * image for image in range(images)] * copies
    shuffled.shuffle(targets)
    fast, slow = (points(images * copies, seed).requires_grad_() for _ in range(2))
    loss = task(copies, margin).loss(fast, torch.tensor(targets))
    expected = loops(slow, targets, margin)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    # The distance is 2 - 2 cos here, so gradients agree along the sphere, where normalised points can move.
    tangent = [grad - (grad * at).sum(1, keepdim=True) * at for grad, at in ((fast.grad, fast), (slow.grad, slow))]
    torch.testing.assert_close(tangent[0].detach(), tangent[1].detach())


@given(st.integers(2, 5), st.integers(2, 4), st.integers(0, 99))
def test_the_order_of_the_views_makes_no_difference(images: int, copies: int, seed: int) -> None:
    outputs, targets = points(images * copies, seed), torch.arange(images).repeat(copies)
    order = torch.randperm(len(targets), generator=Generator().manual_seed(seed))
    one, other = task(copies).loss(outputs, targets), task(copies).loss(outputs[order], targets[order])
    torch.testing.assert_close(one, other)
    assert task(copies).score(outputs, targets) == pytest.approx(task(copies).score(outputs[order], targets[order]))


@given(st.integers(1, 5), st.integers(2, 5), st.randoms(use_true_random=False))
def test_partners_are_all_other_copies_once(images: int, copies: int, shuffled) -> None:
    targets = list(range(images)) * copies
    shuffled.shuffle(targets)
    listed = torch.stack(partners(torch.tensor(targets), copies), 1)
    for view, others in enumerate(listed.tolist()):
        assert sorted(others) == [o for o, target in enumerate(targets) if target == targets[view] and o != view]


def test_without_a_farther_negative_the_farthest_is_taken() -> None:
    distance = torch.tensor([[0.0, 3.0, 1.0, 2.0], [3.0, 0, 1, 1], [1, 1, 0, 0.5], [2, 1, 0.5, 0]])
    same = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]).bool()
    assert semi_hard(distance, same, torch.tensor([1, 0, 3, 2])).tolist() == [3, 2, 0, 1]


def test_every_copy_has_views_of_its_own_and_the_number_of_its_image() -> None:
    batch = Batch(
        torch.rand(6, 3, 8, 8, generator=Generator().manual_seed(0)).repeat(3, 1, 1, 1), None, torch.arange(6)
    )
    shown, targets = task().views(batch, Draws(Generator().manual_seed(0), 6))
    assert shown.shape == (18, 3, 8, 8)
    assert targets.tolist() == [*range(6)] * 3
    first, second, third = shown.split(6)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)
    assert task().copies == 3


def test_outputs_lie_on_the_sphere_each_for_itself() -> None:
    head, features = task(), torch.randn(6, 4, generator=Generator().manual_seed(0))
    torch.testing.assert_close(head(features).norm(dim=1), torch.ones(6))
    torch.testing.assert_close(head(features)[2:3], head(features[2:3]))
    torch.testing.assert_close(
        squared_distances(head(features)), torch.cdist(head(features), head(features)).square(), atol=1e-5, rtol=1e-5
    )


def test_the_score_counts_views_that_are_nearest_to_a_copy() -> None:
    outputs = F.normalize(torch.tensor([[1.0, 0], [0.9, 0.1], [0, 1], [0.8, 0.3]]), dim=1)
    assert task(2).score(outputs, torch.tensor([0, 0, 1, 1])) == 75


def test_a_negative_that_is_as_near_as_the_positive_is_not_farther() -> None:
    distance = torch.tensor([[0.0, 1, 1, 2], [1, 0, 3, 3], [1, 3, 0, 1], [2, 3, 1, 0]])
    same = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]).bool()
    assert semi_hard(distance, same, torch.tensor([1, 0, 3, 2]))[0] == 3
