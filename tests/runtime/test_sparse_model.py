"""What is loaded for the sparse engine: torch's numbers, the conveniences of the other runtimes."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import sslprune
from sslprune.errors import ArchitectureError, DatasetError
from sslprune.evaluate.features import extract
from sslprune.runtime import kernels
from sslprune.runtime.sparse_model import SparseModel

NAME = "rotnet-resnet20-cifar10-keep5%"
Pictures = NDArray[np.uint8]
needs_kernels = pytest.mark.skipif(not kernels.isas(), reason="installed without the compiled kernels")


@pytest.fixture(scope="module")
def model() -> SparseModel:
    return sslprune.load(NAME, runtime="sparse")


def relative(found: Any, expected: Any) -> float:
    """The largest difference, as a fraction of the largest value."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert (found.dtype, found.shape) == (np.float32, expected.shape)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def in_torch(network: Any, pictures: Pictures) -> NDArray[np.float32]:
    with torch.inference_mode():
        found: NDArray[np.float32] = network(network.sslprune.preprocessing(pictures)).numpy()
    return found


@needs_kernels
@pytest.mark.parametrize("head", [None, "cifar10"])
@pytest.mark.parametrize("keep", [1.0, 0.05, 0.001])
def test_it_gives_torchs_numbers(pictures: Pictures, keep: float, head: str | None) -> None:
    network = sslprune.load("rotnet-resnet20-cifar10", keep=keep, head=head)
    model = sslprune.load("rotnet-resnet20-cifar10", keep=keep, head=head, runtime="sparse")
    assert model.reason is None
    assert relative(model(pictures), in_torch(network, pictures)) <= 1e-5
    assert tuple(model.classes) == (tuple(network.classes) if head else ())
    assert sum(cost.macs for cost in model.summary()) > 0


def test_it_says_what_it_is(model: SparseModel) -> None:
    network = sslprune.load(NAME)
    assert model.sslprune == network.sslprune
    assert model.preprocessing == network.sslprune.preprocessing
    assert (model.num_features, model.stages) == (64, ["layer1", "layer2", "layer3"])
    assert NAME in repr(model)


def test_tensors_for_tensors_arrays_for_arrays_pre_processed_or_not(model: SparseModel, pictures: Pictures) -> None:
    some = pictures[:5]
    expected = model(some)
    assert isinstance(expected, np.ndarray)
    for images in (some[::-1][::-1], some.copy(), model.preprocessing.numpy(some)):
        images.setflags(write=False)
        np.testing.assert_allclose(model(images), expected, rtol=0, atol=1e-5)
    for images in (torch.from_numpy(some), model.preprocessing(some)):
        with torch.inference_mode():
            found = model(images)
        assert isinstance(found, torch.Tensor)
        torch.testing.assert_close(found, torch.from_numpy(expected))


def test_inference_mode_hides_nothing_from_the_engine(pictures: Pictures) -> None:
    with torch.inference_mode():
        model = sslprune.load(NAME, runtime="sparse")
        found = model(pictures[:20])  # so many at once are planned for when they come
    assert relative(found, in_torch(model.network, pictures[:20])) <= 1e-5


def test_any_number_of_pictures_in_chunks(
    model: SparseModel, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = model(pictures[:50])
    monkeypatch.setattr("sslprune.runtime.sparse_model.CHUNK_BYTES", 7 * 3 * 32 * 32 * 4)
    np.testing.assert_allclose(model(pictures[:50]), whole, rtol=0, atol=1e-5)
    assert model(pictures[:0]).shape == (0, 64)
    assert model.features(pictures[:0], stage="layer3", pool=2).shape == (0, 256)


def test_pictures_of_another_size_are_resized_as_by_torch(model: SparseModel) -> None:
    odd = np.random.default_rng(1).integers(0, 256, (5, 48, 40, 3), np.uint8)
    assert relative(model(odd), in_torch(model.network, odd)) <= 1e-5


@pytest.mark.parametrize(("stage", "pool"), [("pooled", 1), ("layer1", 3), ("layer3", 4)])
def test_features_of_a_stage_are_torchs_with_a_head_and_without(pictures: Pictures, stage: str, pool: int) -> None:
    expected = extract(sslprune.load(NAME), pictures[:20], stage=stage, pool=pool)
    for head in (None, "cifar10"):
        model = sslprune.load(NAME, head=head, runtime="sparse")
        assert relative(model.features(pictures[:20], stage=stage, pool=pool), expected) <= 1e-5


def test_a_network_with_a_classifier_of_its_own_gives_logits(tmp_path: Path, pictures: Pictures) -> None:
    tuned = sslprune.load(NAME, num_classes=3)
    sslprune.save(tuned, tmp_path / "mine")
    model = sslprune.load(tmp_path / "mine", runtime="sparse")
    assert relative(model(pictures[:9]), in_torch(tuned, pictures[:9])) <= 1e-5
    assert model.features(pictures[:9]).shape == (9, 64)


def test_a_pickled_one_is_the_same(model: SparseModel, pictures: Pictures) -> None:
    again = pickle.loads(pickle.dumps(model))
    assert again.sslprune == model.sslprune
    np.testing.assert_array_equal(again(pictures[:3]), model(pictures[:3]))


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 32, 32, 3), np.float32),
        np.zeros((2, 3, 32, 32), np.float64),
        np.zeros((3, 32, 32), np.float32),
        np.zeros((32, 32, 3), np.uint8),
        np.zeros((2, 32, 32, 4), np.uint8),
        np.zeros((2, 0, 32, 3), np.uint8),
        np.zeros((2, 3, 32, 32), np.dtype(">f4")),
        torch.zeros(2, 3, 32, 32, device="meta"),
        torch.zeros(2, 3, 32, 32, dtype=torch.half),
        [[0]],
        "cat.jpg",
    ],
    ids=lambda images: f"{getattr(images, 'dtype', type(images))} {getattr(images, 'shape', '')}",
)
def test_other_images_are_refused(model: SparseModel, images: Any) -> None:
    for call in (model, model.features):
        with pytest.raises(DatasetError, match=r"\[N,H,W,3\].*\[N,3,H,W\]"):
            call(images)


def test_a_stage_that_there_is_not_is_named(model: SparseModel, pictures: Pictures) -> None:
    with pytest.raises(ArchitectureError, match="no stage 'layer9'"):
        model.features(pictures, stage="layer9")


@pytest.mark.parametrize("head", [None, "cifar10"])
def test_without_kernels_it_runs_dense_and_says_why(
    pictures: Pictures, head: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sslprune.runtime._kernels", None)
    model = sslprune.load(NAME, head=head, runtime="sparse")
    assert "without its compiled kernels" in str(model.reason)
    assert "dense" in repr(model)
    assert relative(model(pictures[:5]), in_torch(model.network, pictures[:5])) <= 1e-5
    assert model.summary() == ()
