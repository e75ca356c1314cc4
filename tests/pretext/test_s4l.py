"""S4L: rotations of all images, labels of the labelled ones, two losses in one sum."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator
from torch.nn import functional as F

from sslprune.data.device_loader import Batch
from sslprune.data.draws import Draws
from sslprune.errors import DatasetError
from sslprune.pretext.s4l import S4L, S4LOptions


def task(weight: float = 1.0) -> S4L:
    return S4L(8, num_images=9, num_classes=3, options=S4LOptions(weight=weight))


def batch() -> Batch:
    images = torch.randn(7, 3, 6, 6, generator=Generator().manual_seed(0))
    labelled = Batch(images[3:6], torch.tensor([2, 0, 1]), torch.tensor([5, 7, 8]))
    return Batch(images[:3], torch.tensor([0, -1, -1]), torch.arange(3), labelled=labelled)


def test_all_images_in_four_rotations_with_labels_only_for_the_labelled() -> None:
    shown, targets = task().views(batch(), Draws(Generator(), 7))
    assert shown.shape == (24, 3, 6, 6)
    images = torch.cat([batch().images, batch().labelled.images])
    for place, (view, (label, turns)) in enumerate(zip(shown, targets.tolist(), strict=True)):
        assert torch.equal(view, torch.rot90(images[place % 6], turns, (1, 2)))
        assert label == [-1, -1, -1, 2, 0, 1][place % 6]
    assert targets[:, 1].bincount().tolist() == [6] * 4


@given(st.integers(0, 99), st.floats(0, 3))
def test_the_loss_is_the_sum_of_two_means(seed: int, weight: float) -> None:
    outputs = torch.randn(24, 7, generator=Generator().manual_seed(seed))
    _, targets = task().views(batch(), Draws(Generator(), 7))
    labels = F.log_softmax(outputs[:, :3], 1)
    turns = F.log_softmax(outputs[:, 3:], 1)
    known = [(row, label) for row, label in enumerate(targets[:, 0].tolist()) if label >= 0]
    assert len(known) == 12
    expected = -sum(labels[row, label] for row, label in known) / 12
    expected -= weight * sum(turns[row, turn] for row, turn in enumerate(targets[:, 1].tolist())) / 24
    torch.testing.assert_close(task(weight).loss(outputs, targets), expected)


def test_the_score_is_of_the_labels() -> None:
    _, targets = task().views(batch(), Draws(Generator(), 7))
    outputs = torch.zeros(24, 7)
    outputs[:, 2] = 1
    assert task().score(outputs, targets) == pytest.approx(100 / 3)
    assert task()(torch.randn(5, 8)).shape == (5, 7)


def test_data_without_labels_is_refused() -> None:
    with pytest.raises(DatasetError, match="needs labels"):
        task().views(Batch(torch.randn(3, 3, 6, 6), None, torch.arange(3)), Draws(Generator(), 3))
