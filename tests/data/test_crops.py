"""Crops by torchvision's laws."""

from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sslprune.compat import patch_torchvision
from sslprune.data.crops import AREA, ASPECT, centre_crop, random_box, random_crop

sides = st.integers(1, 700)


@given(sides, sides, st.integers(0, 2**32))
def test_a_random_box_lies_in_the_image_and_follows_from_the_chance(width: int, height: int, seed: int) -> None:
    left, top, right, bottom = box = random_box(width, height, Random(seed))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert random_box(width, height, Random(seed)) == box


@given(st.integers(100, 700), st.integers(100, 700), st.integers(0, 2**32))
def test_a_random_box_has_a_lawful_share_and_ratio(width: int, height: int, seed: int) -> None:
    left, top, right, bottom = random_box(width, height, Random(seed))
    wide, high = right - left, bottom - top
    assert wide * high >= AREA[0] * width * height * 0.95  # rounding to pixels moves both a little
    assert ASPECT[0] * 0.95 <= wide / high <= ASPECT[1] * 1.05


def test_random_boxes_are_even_in_share_and_log_even_in_ratio() -> None:
    chance = Random(0)
    boxes = np.array([random_box(1000, 1000, chance) for _ in range(4000)], float)
    wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    shares, ratios = wide * high / 1e6, np.log(wide / high)
    small = shares < 0.7  # above, some ratios no longer fit and are drawn again
    assert np.histogram(shares[small], 4, (AREA[0], 0.7))[0].std() / small.sum() < 0.02
    assert np.histogram(ratios[small], 4, np.log(ASPECT))[0].std() / small.sum() < 0.02
    assert abs((boxes[:, 0] / (1000 - wide + 1)).mean() - 0.5) < 0.02
    assert abs((boxes[:, 1] / (1000 - high + 1)).mean() - 0.5) < 0.02


def test_an_image_too_long_for_any_draw_gives_its_centre() -> None:
    assert random_box(3000, 10, Random(0)) == (1493, 0, 1506, 10)
    assert random_box(10, 3000, Random(0)) == (0, 1493, 10, 1506)


def test_half_of_the_views_are_mirrored() -> None:
    image = Image.fromarray(np.tile(np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None], (64, 1, 3)))
    rising = Counter(
        bool(view[0, 0, 0] < view[0, -1, 0])
        for view in (random_crop(image, 8, Random(seed), flip=True) for seed in range(400))
    )
    assert 160 < rising[True] < 240
    assert all(
        view[0, 0, 0] < view[0, -1, 0]
        for view in (random_crop(image, 8, Random(seed), flip=False) for seed in range(50))
    )


@pytest.mark.parametrize("measure", [(64, 48), (48, 64), (33, 57), (300, 41), (32, 32)])
def test_crops_are_those_of_torchvision(measure: tuple[int, int]) -> None:
    patch_torchvision()
    from torchvision.transforms import functional as F

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*measure[::-1], 3), np.uint8))
    resized = F.resize(image, 28, F.InterpolationMode.BILINEAR)
    assert (centre_crop(image, 28, 24) == np.asarray(F.center_crop(resized, [24, 24]))).all()
    left, top, right, bottom = random_box(*image.size, Random(7))
    theirs = F.resized_crop(image, top, left, bottom - top, right - left, [24, 24], F.InterpolationMode.BILINEAR)
    assert (random_crop(image, 24, Random(7), flip=False) == np.asarray(theirs)).all()
