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


def colours(count: int, height: int = 5, width: int = 4, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, height, width, generator=Generator().manual_seed(seed))


strengths = st.builds(
    views.Jitter,
    brightness=st.floats(0, 1),
    contrast=st.floats(0, 1),
    saturation=st.floats(0, 1),
    hue=st.floats(0, 0.5),
    probability=st.floats(0, 1),
)


@given(seeds, strengths)
def test_colours_stay_in_range_and_follow_from_the_generator(seed: int, strength: views.Jitter) -> None:
    images = colours(6)
    one, other = (views.jitter(images, strength, Generator().manual_seed(seed)) for _ in range(2))
    assert torch.equal(one, other)
    assert one.shape == images.shape
    assert float(one.min()) >= 0
    assert float(one.max()) <= 1


@given(seeds, strengths, st.integers(0, 5))
def test_each_image_is_changed_by_its_own_draw_alone(seed: int, strength: views.Jitter, place: int) -> None:
    images, others = colours(6), colours(6, seed=1)
    others[place] = images[place]
    for view in (
        lambda batch: views.jitter(batch, strength, Generator().manual_seed(seed)),
        lambda batch: views.resized_crop(batch, 0.3, Generator().manual_seed(seed), degrees=20),
        lambda batch: views.grey(batch, 0.5, Generator().manual_seed(seed)),
    ):
        torch.testing.assert_close(view(images)[place], view(others)[place])


@given(seeds)
def test_no_strength_and_no_probability_change_nothing(seed: int) -> None:
    images, generator = colours(4), Generator().manual_seed(seed)
    torch.testing.assert_close(views.jitter(images, views.Jitter(), generator), images)
    strong = views.Jitter(1, 1, 1, 0.5, probability=0)
    assert torch.equal(views.jitter(images, strong, generator), images)
    assert torch.equal(views.grey(images, 0, generator), images)
    assert torch.equal(views.resized_crop(images, 1, generator), images)


def test_strengths_are_the_factors_that_they_say() -> None:
    images = colours(500) * 0.2 + 0.3
    grey = (images * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    brighter = views.jitter(images, views.Jitter(brightness=0.5), Generator().manual_seed(0))
    factors = (brighter / images).flatten(1)
    torch.testing.assert_close(factors, factors[:, :1].expand_as(factors))
    assert 0.5 <= float(factors.min()) < 0.52
    assert 1.48 < float(factors.max()) <= 1.5 + 1e-5
    harder = views.jitter(images, views.Jitter(contrast=0.5), Generator().manual_seed(0))
    level = grey.mean((2, 3), keepdim=True)
    assert 0.5 - 1e-3 <= float(((harder - level) / (images - level)).flatten(1).median(1)[0].min()) < 0.52
    fuller = views.jitter(images, views.Jitter(saturation=0.5), Generator().manual_seed(0))
    torch.testing.assert_close((fuller * images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1), grey[:, 0])
    turned = views.jitter(images, views.Jitter(hue=0.5), Generator().manual_seed(0))
    assert not torch.allclose(turned, images, atol=0.05)
    torch.testing.assert_close(
        views.jitter(grey.expand_as(images), views.Jitter(hue=0.5, saturation=1), Generator().manual_seed(0)),
        grey.expand_as(images),
        atol=1e-5,
        rtol=0,
    )


def test_hue_turns_colours_as_many_turns_as_it_says() -> None:
    torch.testing.assert_close(views._turn_hue(colours(1), torch.ones(1)), colours(1), atol=1e-5, rtol=0)
    half = views._turn_hue(colours(1), torch.tensor([0.5]))
    torch.testing.assert_close(views._turn_hue(half, torch.tensor([-0.5])), colours(1), atol=1e-5, rtol=0)


@given(seeds, st.integers(2, 7), st.integers(2, 7), st.floats(0.1, 1), st.floats(0, 180))
def test_windows_show_colours_of_the_image_or_black(
    seed: int, height: int, width: int, smallest: float, degrees: float
) -> None:
    images = colours(5, height, width)
    one, other = (
        views.resized_crop(images, smallest, Generator().manual_seed(seed), degrees=degrees) for _ in range(2)
    )
    assert torch.equal(one, other)
    assert one.shape == images.shape
    assert float(one.min()) >= 0
    assert bool((one.amax((2, 3)) <= images.amax((2, 3)) + 1e-6).all())


def test_windows_have_the_area_that_was_asked_for() -> None:
    ramp = torch.linspace(0, 1, 64)
    images = torch.stack([ramp.expand(64, 64), ramp[:, None].expand(64, 64), torch.zeros(64, 64)]).expand(
        800, 3, 64, 64
    )
    shown = views.resized_crop(images, 0.25, Generator().manual_seed(0))
    wide = (shown[:, 0, 32, -2] - shown[:, 0, 32, 1]) * 63 / 61
    high = (shown[:, 1, -2, 32] - shown[:, 1, 1, 32]) * 63 / 61
    area, aspect = wide * high, wide / high
    assert 0.24 < float(area.min()) < 0.27
    assert 0.9 < float(area.max()) < 1.02
    assert abs(float(area.mean()) - 0.62) < 0.03
    assert 0.74 < float(aspect.min()) < 0.77
    assert 1.30 < float(aspect.max()) < 1.35


def test_a_quarter_turn_of_a_window_is_a_rotation() -> None:
    image = colours(1, 6, 6).expand(300, 3, 6, 6)
    turned = views.resized_crop(image, 1, Generator().manual_seed(0), degrees=90)
    angles = torch.rand(5, 300, generator=Generator().manual_seed(0))[4] * 2 - 1
    quarter = torch.rot90(image, 1, (2, 3))
    other = torch.rot90(image, -1, (2, 3))
    near, far = int(angles.argmax()), int(angles.argmin())
    distance = {
        (place, name): float((turned[place] - target[place]).abs().mean())
        for place in (near, far)
        for name, target in (("quarter", quarter), ("other", other))
    }
    assert distance[near, "quarter"] < 0.03 < distance[near, "other"]
    assert distance[far, "other"] < 0.03 < distance[far, "quarter"]


def test_grey_images_have_equal_channels_and_come_as_often_as_asked() -> None:
    images = colours(1).expand(4000, 3, 5, 4)
    shown = views.grey(images, 0.3, Generator().manual_seed(0))
    dull = (shown[:, 0] == shown[:, 1]).flatten(1).all(1)
    assert 1100 < int(dull.sum()) < 1300
    assert torch.equal(shown[~dull], images[~dull])
