"""The digits of scikit-learn."""

import hashlib
import sys

import numpy as np
import pytest

from sslprune.data import sources
from sslprune.errors import MissingExtraError

datasets = pytest.importorskip("sklearn.datasets", reason="the extra eval is not installed")


@pytest.fixture(scope="module")
def digits():
    source = sources.open("digits")
    return source, source.split("train"), source.split("test")


def test_the_two_splits_are_rgb_images_of_32_pixels(digits):
    source, train, test = digits
    assert source.splits() == ("train", "test")
    assert train.images.shape == (1297, 32, 32, 3)
    assert test.images.shape == (500, 32, 32, 3)
    for split in (train, test):
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int64
        assert (split.images == split.images[..., :1]).all()
    assert test.images.max() > 200


def test_together_they_are_all_the_digits_once(digits):
    _, train, test = digits
    counts = np.bincount(np.concatenate([train.labels, test.labels]))
    assert counts.tolist() == np.bincount(datasets.load_digits().target).tolist()


def test_classes_are_in_proportion(digits):
    _, train, test = digits
    assert (np.abs(np.bincount(test.labels) - np.bincount(train.labels) * 500 / 1297) < 2).all()


def test_the_split_is_the_same_for_ever(digits):
    _, _, test = digits
    assert hashlib.sha256(test.labels.astype("<i8").tobytes()).hexdigest()[:16] == "1a1c269c30b1ec0d"


def test_enlarging_keeps_the_mean_grey_and_draws_no_staircase(digits):
    _, train, test = digits
    images = np.concatenate([train.images, test.images])
    assert images.mean() == pytest.approx(datasets.load_digits().images.mean() * 255 / 16, abs=0.5)
    jumps = np.abs(np.diff(images[..., 0].astype(int), axis=1)).max()
    assert jumps < 255 / 2


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r"(?s)digits.*sslprune\[eval\]"):
        sources.open("digits")
