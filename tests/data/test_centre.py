"""Evaluation of large data sets: centres in order, and errors by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sslprune import linear_eval, models
from sslprune.data.centre import CentreCrops, centre_crops
from sslprune.data.crops import centre_crop
from sslprune.data.encoded import ImageFiles
from sslprune.errors import DatasetError
from sslprune.evaluate.batches import batches, length
from sslprune.models import Preprocessing


@pytest.fixture
def images(tmp_path: Path) -> ImageFiles:
    """Forty pictures in two colours."""
    draw = np.random.default_rng(0)
    for number in range(40):
        pixels = draw.integers(0, 128, (*draw.integers(30, 50, 2), 3), np.uint8)
        pixels[..., number % 2] += 127
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    return ImageFiles(tmp_path, [f"{number}.png" for number in range(40)], np.arange(40) % 2)


def test_every_image_comes_once_in_order_with_its_label(images: ImageFiles) -> None:
    expected = np.stack([centre_crop(images.read(number), 28, 24) for number in range(40)])
    plain = CentreCrops(images, resized=28, cropped=24)
    for data in (plain, *(centre_crops(images, batch=16, workers=n, resized=28, cropped=24) for n in (0, 2))):
        assert length(data) == 40
        found = list(batches(data, 16))
        assert (torch.cat([pictures for pictures, _ in found]).numpy() == expected).all()
        assert torch.cat([labels for _, labels in found]).tolist() == [0, 1] * 20


def test_images_without_labels_come_alone(images: ImageFiles) -> None:
    images.labels = None
    for data in (CentreCrops(images), centre_crops(images, workers=0)):
        pictures, labels = next(iter(batches(data, 3)))
        assert labels is None
        assert pictures[0].shape == (224, 224, 3)


def test_a_linear_probe_takes_them(images: ImageFiles) -> None:
    model = models.build("resnet20_cifar", seed=0)
    preprocessing = Preprocessing((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 24)
    train, test = (centre_crops(images, batch=16, workers=n, resized=28, cropped=24) for n in (2, 0))
    assert linear_eval(model, train, test, pool=1, preprocessing=preprocessing).accuracy == 100


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_an_error_by_name(images: ImageFiles, tmp_path: Path, workers: int) -> None:
    (tmp_path / "17.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"17\.png"):
        list(centre_crops(images, batch=8, workers=workers))
