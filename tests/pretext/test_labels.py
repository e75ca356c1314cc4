"""The supervised control: the images as they are, and their own labels."""

from __future__ import annotations

import pytest
import torch

from sslprune.data.device_loader import Batch
from sslprune.data.draws import Draws
from sslprune.errors import DatasetError
from sslprune.pretext.labels import Labels


def test_images_and_labels_go_through_untouched() -> None:
    images, labels = torch.randn(5, 3, 6, 6), torch.tensor([2, 0, 1, 1, 0])
    task = Labels(8, num_images=5, num_classes=3)
    views, targets = task.views(Batch(images, labels, torch.arange(5)), Draws(torch.Generator(), 5))
    assert views is images
    assert targets is labels
    assert Labels.needs_labels
    assert task(torch.randn(5, 8)).shape == (5, 3)


def test_data_without_labels_is_refused() -> None:
    task = Labels(8, num_images=5, num_classes=3)
    with pytest.raises(DatasetError, match="needs labels"):
        task.views(Batch(torch.randn(5, 3, 6, 6), None, torch.arange(5)), Draws(torch.Generator(), 5))
