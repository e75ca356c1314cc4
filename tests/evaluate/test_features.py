"""Extraction gives what the network gives, and leaves no trace in the network."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sslprune.errors import ArchitectureError, DatasetError
from sslprune.evaluate.features import extract, extract_stages, stage_name
from sslprune.models import Preprocessing, build, forward_stages, stages

PREPROCESSING = Preprocessing((0.5, 0.4, 0.3), (0.2, 0.3, 0.4), 32)


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def net() -> nn.Module:
    return build("resnet20_cifar", seed=3)


def snapshot(model: nn.Module) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def test_backbone_bytes_and_training_flags_are_as_before(net: nn.Module) -> None:
    net.train()
    net.layer2.eval()
    flags = {name: module.training for name, module in net.named_modules()}
    before = snapshot(net)

    extract_stages(net, pictures(9), preprocessing=PREPROCESSING, batch_size=4)

    assert snapshot(net) == before
    assert {name: module.training for name, module in net.named_modules()} == flags


def test_flags_are_restored_after_a_failure(net: nn.Module) -> None:
    def broken(images: Tensor) -> Tensor:
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        extract(net.train(), pictures(2), preprocessing=broken)
    assert all(module.training for module in net.modules())


@settings(max_examples=8)
@given(count=st.integers(1, 9), batch_size=st.integers(1, 10), pool=st.sampled_from([1, 2, 3, 4]))
def test_all_stages_in_one_pass_equal_each_stage_computed_plainly(count: int, batch_size: int, pool: int) -> None:
    net = build("resnet20_cifar", seed=3)
    images = pictures(count)
    found = extract_stages(net, images, pool=pool, batch_size=batch_size, preprocessing=PREPROCESSING)

    net.eval()
    with torch.no_grad():
        maps = forward_stages(net, PREPROCESSING(images))
    assert tuple(found) == stages(net)
    for (name, features), expected in zip(found.items(), maps, strict=True):
        plain = nn.functional.adaptive_avg_pool2d(expected, pool).flatten(1)
        torch.testing.assert_close(features, plain, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            extract(net, images, stage=name, pool=pool, preprocessing=PREPROCESSING), plain, rtol=1e-4, atol=1e-5
        )


def test_twice_is_bitwise_the_same(net: nn.Module) -> None:
    first = extract_stages(net, pictures(20), preprocessing=PREPROCESSING, batch_size=8)
    second = extract_stages(net, pictures(20), preprocessing=PREPROCESSING, batch_size=8)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_pooled_is_what_the_network_gives(net: nn.Module) -> None:
    x = PREPROCESSING(pictures(5))
    with torch.no_grad():
        expected = net.eval()(x)
    found = extract(net, x, stage="pooled")
    assert found.shape == (5, net.num_features)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(extract(net, x), expected)  # the last stage, pooled to 1x1, is the same thing here


def test_a_map_smaller_than_the_pool_stays_as_it_is() -> None:
    net = build("resnet20_cifar", seed=0)
    features = extract_stages(net, torch.randn(2, 3, 8, 8), pool=4)
    assert [rows.shape[1] for rows in features.values()] == [16 * 4 * 4, 32 * 4 * 4, 64 * 2 * 2]


def test_features_can_take_part_in_training(net: nn.Module) -> None:
    features = extract(net, pictures(3), preprocessing=PREPROCESSING)
    weight = torch.zeros(features.shape[1], requires_grad=True)
    (features @ weight).sum().backward()
    assert weight.grad is not None


def test_images_come_as_uint8_arrays_tensors_or_preprocessed(net: nn.Module) -> None:
    images = pictures(4)
    images.flags.writeable = False
    expected = extract(net, images, preprocessing=PREPROCESSING)
    for same in (torch.from_numpy(images.copy()), images[::-1][::-1]):
        assert torch.equal(extract(net, same, preprocessing=PREPROCESSING), expected)
    for same in (PREPROCESSING(images), PREPROCESSING(images).numpy(), PREPROCESSING(images).double()):
        assert torch.equal(extract(net, same), expected)


def test_the_models_own_preprocessing_is_the_default(net: nn.Module) -> None:
    expected = extract(net, pictures(4), preprocessing=PREPROCESSING)
    net.sslprune = SimpleNamespace(preprocessing=PREPROCESSING)
    assert torch.equal(extract(net, pictures(4)), expected)


def test_any_timm_convnet(net: nn.Module) -> None:
    other = build("mobilenetv3_small_050", seed=0)
    found = extract_stages(other, torch.randn(2, 3, 64, 64), pool=1)
    assert tuple(found) == stages(other)
    assert all(rows.isfinite().all() for rows in found.values())


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 3, 32, 32), np.uint8),
        np.zeros((32, 32, 3), np.uint8),
        np.zeros((2, 32, 32, 3), np.float32),
        np.zeros((0, 32, 32, 3), np.uint8),
        np.zeros((2, 32, 32, 3), np.int64),
    ],
)
def test_other_forms_are_refused(net: nn.Module, images: np.ndarray) -> None:
    with pytest.raises(DatasetError, match="images are"):
        extract(net, images, preprocessing=PREPROCESSING)


def test_raw_pictures_without_preprocessing_are_refused(net: nn.Module) -> None:
    with pytest.raises(DatasetError, match="pre-processed"):
        extract(net, pictures(2))


def test_stages_by_name_and_position(net: nn.Module) -> None:
    assert [stage_name(net, stage) for stage in (-1, 0, "layer2", "pooled")] == ["layer3", "layer1", "layer2", "pooled"]
    for stage in ("layer9", 3, -4):
        with pytest.raises(ArchitectureError, match="layer1, layer2, layer3"):
            extract(net, torch.zeros(1, 3, 32, 32), stage=stage)
    with pytest.raises(ArchitectureError, match="0 x 0"):
        extract(net, torch.zeros(1, 3, 32, 32), pool=0)
