"""Views stay images of the same size, drawn by the generator alone."""

from __future__ import annotations

import pytest
import torch
from torch import Generator

from sslprune.errors import DatasetError
from sslprune.evaluate.augment import AUGMENTATIONS, augment, resized_crop


@pytest.mark.parametrize("how", AUGMENTATIONS)
def test_a_seed_gives_its_views(how):
    images = torch.rand(6, 3, 16, 16)
    one = augment(images, how, Generator().manual_seed(0))
    assert one.shape == images.shape
    assert torch.equal(one, augment(images, how, Generator().manual_seed(0)))
    assert torch.equal(one, augment(images, how, Generator().manual_seed(1))) == (how == "none")


def test_the_whole_image_is_itself():
    images = torch.rand(3, 3, 9, 9)
    same = resized_crop(images, Generator().manual_seed(0), area=(1.0, 1.0), ratio=(1.0, 1.0))
    torch.testing.assert_close(same, images, atol=1e-5, rtol=0)


def test_a_crop_shows_a_rectangle_of_the_image_only():
    ramp = torch.linspace(0, 1, 64).expand(200, 3, 64, 64)  # brightness is the column
    found = resized_crop(ramp, Generator().manual_seed(0))
    width = found.amax((1, 2, 3)) - found.amin((1, 2, 3))
    assert (found[..., 1:] - found[..., :-1] >= -1e-6).all()
    assert width.min() > (0.08 * 3 / 4) ** 0.5 - 0.05
    assert width.max() > 0.9
    assert found.min() >= 0
    assert found.max() <= 1


def test_an_unknown_one_is_refused():
    with pytest.raises(DatasetError, match="no augmentation 'cutmix'"):
        augment(torch.rand(1, 3, 4, 4), "cutmix", Generator())
