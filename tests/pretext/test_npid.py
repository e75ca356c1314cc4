"""NPID: the loss is the formula of its paper, and the memory moves as it says."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor
from torch.nn import functional as F

from sslprune import pretext
from sslprune.data.device_loader import Batch
from sslprune.data.draws import Draws
from sslprune.pretext.npid import NPID

IMAGES = 11


def task(**options) -> NPID:
    built = pretext.build("npid", 4, num_images=IMAGES, num_classes=0, seed=0, options={"dimension": 6, **options})
    assert isinstance(built, NPID)
    return built


def points(count: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(count, 6, generator=Generator().manual_seed(seed)), dim=1)


@given(st.integers(0, 99), st.floats(0.05, 2))
def test_the_full_softmax_is_the_formula(seed: int, temperature: float) -> None:
    head, outputs, images = task(temperature=temperature), points(3, seed), torch.tensor([4, 0, 10])
    expected = 0.0
    for output, image in zip(outputs, images, strict=True):
        exponents = [math.exp(float(head.bank[i] @ output) / temperature) for i in range(IMAGES)]
        expected -= math.log(exponents[int(image)] / sum(exponents)) / 3
    assert float(head.loss(outputs, images)) == pytest.approx(expected, rel=1e-4, abs=1e-5)


@given(st.integers(0, 99), st.floats(0.1, 2), st.integers(1, 5))
def test_noise_contrastive_estimation_is_the_formula(seed: int, temperature: float, negatives: int) -> None:
    head, outputs = task(temperature=temperature, negatives=negatives), points(3, seed)
    drawn = torch.randint(IMAGES, (3, negatives), generator=Generator().manual_seed(seed))
    targets = torch.cat([torch.tensor([[4], [0], [10]]), drawn], 1)
    exponents = ((head.bank[targets] * outputs[:, None]).sum(2) / temperature).double().exp()
    z = exponents.mean() * IMAGES
    for scale in (1.0, 0.5):  # the second batch is other, Z is that of the first
        p = (exponents if scale == 1 else exponents.sqrt()) / z
        h = p / (p + negatives / IMAGES)
        expected = -(h[:, 0].log() + (1 - h[:, 1:]).log().sum(1)).mean()
        assert float(head.loss(outputs * scale, targets)) == pytest.approx(float(expected), rel=1e-4, abs=1e-5)
        assert float(head.normaliser) == pytest.approx(float(z), rel=1e-4)


@given(st.integers(0, 99), st.floats(0, 0.99), st.sampled_from([0, 3]))
def test_the_memory_of_the_batch_moves_by_the_momentum_and_no_other(seed: int, momentum: float, negatives: int) -> None:
    head, outputs = task(momentum=momentum, negatives=negatives), points(3, seed)
    before, images = head.bank.clone(), torch.tensor([4, 0, 10])
    targets = images if not negatives else torch.cat([images[:, None], torch.full((3, 3), 7)], 1)
    head.after_update(outputs, targets)
    for image in range(IMAGES):
        expected = before[image]
        if image in images:
            mixed = momentum * before[image] + (1 - momentum) * outputs[images.tolist().index(image)]
            expected = mixed / mixed.norm()
        torch.testing.assert_close(head.bank[image], expected, atol=1e-6, rtol=1e-5)


def test_gradients_go_to_the_outputs_and_not_to_the_memory() -> None:
    for head, targets in ((task(), torch.arange(3)), (task(negatives=2), torch.arange(9).view(3, 3))):
        outputs = points(3, 0).double().requires_grad_()
        assert torch.autograd.gradcheck(lambda x, head=head, targets=targets: head.loss(x, targets), (outputs,))
        assert not head.bank.requires_grad


def test_the_memory_is_in_the_state_and_starts_on_the_sphere_from_the_seed() -> None:
    head = task()
    assert {"bank", "normaliser"} <= head.state_dict().keys()
    torch.testing.assert_close(head.bank.norm(dim=1), torch.ones(IMAGES))
    assert torch.equal(head.bank, task().bank)


def test_targets_are_the_images_numbers_and_then_their_negatives() -> None:
    batch = Batch(torch.rand(3, 3, 8, 8), None, torch.tensor([4, 0, 10]))
    _, targets = task().views(batch, Draws(Generator().manual_seed(0), 3))
    assert targets.tolist() == [4, 0, 10]
    _, targets = task(negatives=500).views(batch, Draws(Generator().manual_seed(0), 3))
    assert targets[:, 0].tolist() == [4, 0, 10]
    counts = targets[:, 1:].flatten().bincount(minlength=IMAGES)
    assert len(counts) == IMAGES
    assert 100 < int(counts.min()) <= int(counts.max()) < 175


def test_the_score_is_the_share_that_is_nearest_to_its_own_memory() -> None:
    head = task()
    outputs = head.bank[torch.tensor([4, 0, 10, 3])]
    assert head.score(outputs, torch.tensor([4, 0, 10, 2])) == 75
    sampled = torch.tensor([[4, 1, 2], [0, 5, 6], [10, 1, 2], [2, 3, 4]])
    assert head.score(outputs, sampled) == 75
