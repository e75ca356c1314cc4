"""Views are exact: every pixel of a view is a pixel of its image, where it should be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from sslprune.data import views

seeds = st.integers(0, 2**31)
dtypes = st.sampled_from([torch.uint8, torch.float32, torch.float16])
sizes = st.integers(1, 7)


def pictures(count: int, height: int, width: int, dtype: torch.dtype = torch.uint8, seed: int = 0) -> Tensor:
    return torch.randint(1, 256, (count, 3, height, width), generator=Generator().manual_seed(seed)).to(dtype)


@given(seeds, dtypes, sizes, sizes, st.integers(1, 4))
def test_a_crop_is_a_window_of_the_image_padded_with_zeros(
    seed: int, dtype: torch.dtype, height: int, width: int, padding: int
) -> None:
    images = pictures(4, height, width, dtype)
    cropped = views.crop(images, padding, Generator().manual_seed(seed))
    assert (cropped.shape, cropped.dtype) == (images.shape, dtype)
    for image, view in zip(images, cropped, strict=True):
        padded = torch.zeros(3, height + 2 * padding, width + 2 * padding, dtype=dtype)
        padded[:, padding : padding + height, padding : padding + width] = image
        windows = (
            padded[:, top : top + height, left : left + width]
            for top in range(2 * padding + 1)
            for left in range(2 * padding + 1)
        )
        assert any(torch.equal(view, window) for window in windows)


@given(seeds, dtypes)
def test_without_padding_a_crop_is_the_image_and_draws_nothing(seed: int, dtype: torch.dtype) -> None:
    images, generator = pictures(3, 4, 5, dtype), Generator().manual_seed(seed)
    assert torch.equal(views.crop(images, 0, generator), images)
    assert torch.equal(generator.get_state(), Generator().manual_seed(seed).get_state())


def test_crops_reach_every_offset_alike_and_each_image_has_its_own() -> None:
    images = pictures(1, 3, 3).expand(2500, 3, 3, 3)
    cropped = views.crop(images, 2, Generator().manual_seed(0)).contiguous()
    _, counts = torch.unique(cropped, dim=0, return_counts=True)
    assert len(counts) == 25
    assert all(60 < count < 140 for count in counts.tolist())


@given(seeds, dtypes, sizes, sizes)
def test_a_flip_mirrors_an_image_or_leaves_it(seed: int, dtype: torch.dtype, height: int, width: int) -> None:
    images = pictures(6, height, width, dtype)
    flipped = views.flip(images, Generator().manual_seed(seed))
    assert (flipped.shape, flipped.dtype) == (images.shape, dtype)
    for image, view in zip(images, flipped, strict=True):
        assert torch.equal(view, image) or torch.equal(view, image.flip(2))


def test_half_of_the_images_are_flipped() -> None:
    images = pictures(1, 1, 2).expand(4000, 3, 1, 2)
    flipped = views.flip(images, Generator().manual_seed(0))
    assert 1850 < int((flipped == images.flip(3)).all(dim=(1, 2, 3)).sum()) < 2150


@given(seeds)
def test_equal_generators_give_equal_views(seed: int) -> None:
    images = pictures(5, 4, 4)
    one, other = Generator().manual_seed(seed), Generator().manual_seed(seed)
    for _ in range(2):
        assert torch.equal(views.crop(images, 2, one), views.crop(images, 2, other))
        assert torch.equal(views.flip(images, one), views.flip(images, other))


@given(st.integers(1, 3), sizes, dtypes)
def test_rotations_are_exact_quarter_turns_anticlockwise(count: int, size: int, dtype: torch.dtype) -> None:
    images = pictures(count, size, size, dtype)
    turned = views.rotations(images)
    assert (turned.shape, turned.dtype) == ((4 * count, 3, size, size), dtype)
    for turns, group in enumerate(turned.split(count)):
        assert np.array_equal(group.numpy(), np.rot90(images.numpy(), turns, (2, 3)))


@given(st.integers(1, 3), sizes)
def test_four_quarter_turns_are_none(count: int, size: int) -> None:
    images = pictures(count, size, size)
    turned = images
    for _ in range(4):
        turned = views.rotations(turned)[count : 2 * count]
    assert torch.equal(turned, images)


@pytest.mark.parametrize("view", [lambda i, g: views.crop(i, 1, g), views.flip, lambda i, g: views.rotations(i)])
def test_views_leave_images_and_global_random_state_alone(view) -> None:
    images = pictures(3, 4, 4)
    before, state = images.clone(), torch.random.get_rng_state()
    view(images, Generator().manual_seed(0))
    assert torch.equal(images, before)
    assert torch.equal(torch.random.get_rng_state(), state)
