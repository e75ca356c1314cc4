"""Numpy in, numpy out, and the same numbers as torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import sslprune
from sslprune.errors import ArchitectureError, DatasetError, SparseFileError
from sslprune.evaluate.features import extract
from sslprune.runtime import OnnxModel, open_onnx
from sslprune.zoo.listing import list_models

NAME = "rotnet-resnet20-cifar10-keep5%"
Pictures = NDArray[np.uint8]


@pytest.fixture(scope="module")
def network() -> Any:
    return sslprune.load(NAME)


@pytest.fixture(scope="module")
def model() -> OnnxModel:
    return sslprune.load(NAME, runtime="onnx")


def relative(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The largest difference, as a fraction of the largest value."""
    assert (found.dtype, found.shape) == (np.float32, expected.shape)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("head", [None, "cifar10"])
@pytest.mark.parametrize("name", list_models("rotnet-resnet20-cifar10"))
def test_every_bundled_model_gives_torchs_numbers(pictures: Pictures, name: str, head: str | None) -> None:
    network, model = sslprune.load(name, head=head), sslprune.load(name, head=head, runtime="onnx")
    with torch.inference_mode():
        expected = network(network.sslprune.preprocessing(pictures)).numpy()
    assert relative(model(pictures), expected) <= 1e-5
    assert tuple(model.classes) == (tuple(network.classes) if head else ())


def test_it_says_what_it_is(model: OnnxModel, network: Any) -> None:
    mine, torchs = model.sslprune, network.sslprune
    for name in ("name", "keep", "preprocessing", "manifest", "folder", "architecture"):
        assert getattr(mine, name) == getattr(torchs, name)
    assert model.num_features == network.num_features
    assert (model.metadata.name, model.metadata.values) == (NAME, "fp32")
    assert NAME in repr(model)


def test_pictures_may_be_pre_processed_already(model: OnnxModel, pictures: Pictures) -> None:
    np.testing.assert_array_equal(model(model.preprocessing.numpy(pictures)), model(pictures))


def test_pictures_of_another_size_are_resized_as_by_torch(model: OnnxModel, network: Any) -> None:
    pictures = np.random.default_rng(1).integers(0, 256, (5, 48, 40, 3), np.uint8)
    with torch.inference_mode():
        expected = network(network.sslprune.preprocessing(pictures)).numpy()
    assert relative(model(pictures), expected) <= 1e-4


@pytest.mark.parametrize("stage", ["pooled", "layer3"])
@pytest.mark.parametrize("pool", [1, 3, 4])
def test_features_of_a_stage_are_torchs(
    model: OnnxModel, network: Any, pictures: Pictures, stage: str, pool: int
) -> None:
    expected = extract(network, pictures[:20], stage=stage, pool=pool).numpy()
    assert relative(model.features(pictures[:20], stage=stage, pool=pool), expected) <= 1e-5


def test_a_headed_model_still_gives_features(model: OnnxModel, pictures: Pictures) -> None:
    headed = sslprune.load(NAME, head="cifar10", runtime="onnx")
    np.testing.assert_array_equal(headed.features(pictures), model(pictures))


@settings(max_examples=20)
@given(order=st.permutations(range(8)), many=st.integers(0, 8))
def test_a_picture_does_not_depend_on_its_neighbours(
    model: OnnxModel, pictures: Pictures, order: list[int], many: int
) -> None:
    alone = np.concatenate([model(pictures[i : i + 1]) for i in range(8)])
    chosen = order[:many]
    np.testing.assert_allclose(model(pictures[chosen]), alone[chosen], rtol=0, atol=1e-5)


def test_many_pictures_are_run_in_chunks(model: OnnxModel, pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = model(pictures[:50])
    sizes = []
    run = model._session.run
    monkeypatch.setattr(model._session, "run", lambda output, x: sizes.append(len(x)) or run(output, x))
    monkeypatch.setattr("sslprune.runtime.onnx_model.CHUNK_BYTES", 7 * 3 * 32 * 32 * 4)
    np.testing.assert_allclose(model(pictures[:50]), whole, rtol=0, atol=1e-5)
    assert sizes == [7] * 7 + [1]


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 32, 32, 3), np.float32),
        np.zeros((2, 3, 32, 32), np.float64),
        np.zeros((2, 3, 31, 32), np.float32),
        np.zeros((3, 32, 32), np.float32),
        np.zeros((32, 32, 3), np.uint8),
        np.zeros((2, 32, 32, 4), np.uint8),
        np.zeros((2, 0, 32, 3), np.uint8),
        np.zeros((2, 3, 32, 32), np.dtype(">f4")),
        [[0]],
        "cat.jpg",
    ],
    ids=lambda images: f"{getattr(images, 'dtype', type(images))} {getattr(images, 'shape', '')}",
)
def test_other_images_are_refused(model: OnnxModel, images: Any) -> None:
    for call in (model, model.features):
        with pytest.raises(DatasetError, match=r"\[N,H,W,3\].*\[N,3,32,32\]") as caught:
            call(images)
        assert len(str(caught.value).splitlines()) == 2


def test_a_stage_that_the_file_lacks_is_named(model: OnnxModel, pictures: Pictures) -> None:
    with pytest.raises(ArchitectureError, match="'layer1'") as caught:
        model.features(pictures, stage="layer1")
    assert "It gives: pooled, layer3." in caught.value.hint


def test_a_file_is_opened_by_itself(folder: Path, model: OnnxModel, pictures: Pictures) -> None:
    path = (folder / "model.onnx").rename(folder / "mine.onnx")
    alone = open_onnx(path)
    assert alone.sslprune is None
    assert alone.metadata == model.metadata
    np.testing.assert_array_equal(alone(pictures), model(pictures))
    with pytest.raises(SparseFileError, match=r"model\.onnx.*No such file"):
        open_onnx(folder / "model.onnx")


def test_nothing_is_printed(model: OnnxModel, pictures: Pictures, capfd: pytest.CaptureFixture[str]) -> None:
    sslprune.load(NAME, runtime="onnx")(pictures)
    assert capfd.readouterr() == ("", "")
