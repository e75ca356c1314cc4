"""RotNet: every image in all four rotations, each with the number of its quarter turns as target."""

from __future__ import annotations

import math

import numpy as np
import torch

from sslprune.data.device_loader import Batch
from sslprune.data.draws import Draws
from sslprune.pretext.rotnet import RotNet


def test_each_image_is_there_in_all_four_rotations_with_their_targets() -> None:
    images = torch.randn(5, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    task = RotNet(8, num_images=5, num_classes=0)
    views, targets = task.views(Batch(images, None, torch.arange(5)), Draws(torch.Generator(), 5))
    assert views.shape == (20, 3, 6, 6)
    assert targets.bincount().tolist() == [5, 5, 5, 5]
    for place, (view, turns) in enumerate(zip(views, targets.tolist(), strict=True)):
        assert np.array_equal(view.numpy(), np.rot90(images[place % 5].numpy(), turns, (1, 2)))


def test_four_answers_and_the_loss_of_guessing() -> None:
    task = RotNet(8, num_images=5, num_classes=0)
    torch.nn.init.zeros_(task.classifier.weight)
    torch.nn.init.zeros_(task.classifier.bias)
    outputs = task(torch.randn(4, 8))
    assert outputs.shape == (4, 4)
    assert abs(task.loss(outputs, torch.arange(4)).item() - math.log(4)) < 1e-6


def test_labels_are_not_needed() -> None:
    assert not RotNet.needs_labels
