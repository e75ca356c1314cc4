"""Pictures to network input."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sslprune.errors import DatasetError, ManifestError
from sslprune.models.preprocess import CIFAR_MEAN, CIFAR_STD, Preprocessing

channels = st.tuples(*[st.floats(-2, 2)] * 3)
scales = st.tuples(*[st.floats(0.01, 10)] * 3)
settings = st.builds(
    Preprocessing,
    mean=channels,
    std=scales,
    size=st.integers(1, 40),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
)
pictures = st.tuples(st.integers(0, 3), st.integers(1, 40)).flatmap(lambda n: arrays(np.uint8, (n[0], n[1], n[1], 3)))
PLAIN = Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 8)


@given(images=pictures, mean=channels, std=scales)
def test_pictures_of_the_right_size_keep_their_pixels_exactly(images, mean, std):
    expected = (images.astype(np.float32) / 255 - np.float32(mean)) / np.float32(std)
    x = Preprocessing(mean, std, images.shape[1])(images)
    assert x.dtype == torch.float32
    assert x.is_contiguous()
    np.testing.assert_array_equal(x.numpy(), expected.transpose(0, 3, 1, 2))


@given(images=pictures, settings=settings)
def test_the_result_has_the_size_asked_for_whatever_came_in(images, settings):
    x = settings(images)
    assert x.shape == (len(images), 3, settings.size, settings.size)
    assert torch.equal(x, settings(torch.from_numpy(images.copy())))


@given(images=pictures, settings=settings)
def test_a_picture_does_not_depend_on_its_neighbours(images, settings):
    alone = [settings(images[i : i + 1]) for i in range(len(images))]
    torch.testing.assert_close(settings(images), torch.cat([settings(images[:0]), *alone]), rtol=0, atol=1e-4)


@given(
    value=st.integers(0, 255),
    size=st.integers(1, 40),
    height=st.integers(1, 50),
    kind=st.sampled_from(["bilinear", "bicubic"]),
)
def test_a_plain_colour_stays_plain_under_resizing(value, size, height, kind):
    x = Preprocessing((0, 0, 0), (1, 1, 1), size, kind)(np.full((1, height, 9, 3), value, np.uint8))
    torch.testing.assert_close(x, torch.full_like(x, value / 255), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
def test_resizing_is_pillows(kind):
    image = pytest.importorskip("PIL.Image")
    noise = np.random.default_rng(0).integers(0, 256, (48, 37, 3), np.uint8)
    expected = np.asarray(image.fromarray(noise).resize((16, 16), getattr(image.Resampling, kind.upper())))
    ours = Preprocessing((0, 0, 0), (1, 1, 1), 16, kind)(noise[None])[0].permute(1, 2, 0) * 255
    assert np.abs(ours.numpy() - expected).max() <= 1.0, "Pillow rounds to whole levels"


@given(images=pictures, mean=channels, std=scales, kind=st.sampled_from(["bilinear", "bicubic"]))
def test_without_torch_pictures_of_the_right_size_are_equal_bit_for_bit(images, mean, std, kind):
    settings = Preprocessing(mean, std, images.shape[1], kind)
    x = settings.numpy(images)
    assert x.dtype == np.float32
    assert x.flags.c_contiguous
    assert x.tobytes() == settings(images).numpy().tobytes()


@given(
    height=st.integers(1, 200),
    width=st.integers(1, 200),
    size=st.integers(1, 200),
    kind=st.sampled_from(["bilinear", "bicubic"]),
    seed=st.integers(0, 999),
)
def test_without_torch_pictures_of_other_sizes_agree(height, width, size, kind, seed):
    images = np.random.default_rng(seed).integers(0, 256, (2, height, width, 3), np.uint8)
    plain = Preprocessing((0, 0, 0), (1, 1, 1), size, kind)
    found = plain.numpy(images)
    assert 0 <= found.min() <= found.max() <= 1
    np.testing.assert_allclose(found, plain(images).numpy(), rtol=0, atol=3e-5)
    # Where torch places its filters in float64, too, nothing is left of the difference.
    exact = torch.from_numpy(images).permute(0, 3, 1, 2).double() / 255
    if exact.shape[2:] != (size, size):
        exact = torch.nn.functional.interpolate(exact, size=(size, size), mode=kind, antialias=True).clamp(0, 1)
    np.testing.assert_allclose(found, exact.numpy(), rtol=0, atol=3e-7)


def test_without_torch_other_sizes_are_normalised_too():
    settings = Preprocessing(CIFAR_MEAN, CIFAR_STD, 16, "bicubic")
    images = np.random.default_rng(0).integers(0, 256, (2, 9, 40, 3), np.uint8)
    np.testing.assert_allclose(settings.numpy(images), settings(images).numpy(), rtol=0, atol=1e-4)
    assert settings.numpy(images[:0]).shape == (0, 3, 16, 16)


def test_the_input_is_not_changed_and_may_be_read_only_or_a_view():
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    kept = images.copy()
    images.flags.writeable = False
    mirrored = PLAIN(images[:, :, ::-1])
    assert torch.equal(mirrored, PLAIN(images).flip(3))
    np.testing.assert_array_equal(PLAIN.numpy(images[:, :, ::-1]), mirrored.numpy())
    np.testing.assert_array_equal(images, kept)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((1, 3, 8, 8), np.uint8),
        np.zeros((1, 8, 8, 1), np.uint8),
        np.zeros((1, 0, 8, 3), np.uint8),
        torch.zeros(1, 8, 8, 3, dtype=torch.int64),
    ],
)
def test_other_arrays_are_refused(images):
    for prepare in (PLAIN, PLAIN.numpy):
        with pytest.raises(DatasetError, match=r"uint8 \[N,H,W,3\]"):
            prepare(images)


@given(settings)
def test_json_round_trip(settings):
    assert Preprocessing.from_json(json.loads(json.dumps(settings.to_json()))) == settings


GOOD = Preprocessing(CIFAR_MEAN, CIFAR_STD, 32).to_json()


@pytest.mark.parametrize(
    "change",
    [
        {"mean": [0.5, 0.5]},
        {"mean": [0.5, 0.5, math.nan]},
        {"mean": "0.5"},
        {"mean": [0.5, 0.5, "0.5"]},
        {"std": [1, 1, 0]},
        {"std": [1, 1, -1]},
        {"std": [1, 1, math.inf]},
        {"std": None},
        {"size": 0},
        {"size": 32.0},
        {"size": True},
        {"interpolation": "nearest"},
        {"crop": 0.9},
    ],
)
def test_foreign_constants_are_checked(change):
    with pytest.raises(ManifestError):
        Preprocessing.from_json({**GOOD, **change})


@pytest.mark.parametrize("values", [{}, [], None, {"mean": [0, 0, 0]}])
def test_all_four_constants_are_needed(values):
    with pytest.raises(ManifestError, match="interpolation"):
        Preprocessing.from_json(values)


def test_it_is_a_value():
    assert Preprocessing([0, 0, 0], [1, 1, 1], 8) == PLAIN
    assert hash(PLAIN) == hash(dataclasses.replace(PLAIN))
    with pytest.raises(dataclasses.FrozenInstanceError):
        PLAIN.size = 9
