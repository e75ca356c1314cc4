"""Several stages from one output of the engine: the same features as torch's."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

import sslprune
from sslprune.bench.synthetic import pruned
from sslprune.evaluate.reader import cells, stage_reader
from sslprune.models.head import POOLED
from sslprune.runtime import kernels
from sslprune.runtime.features import FeatureEngine
from sslprune.zoo.listing import list_models

needs_kernels = pytest.mark.skipif(not kernels.isas(), reason="installed without the compiled kernels")
slow = pytest.mark.slow


def images(count: int, size: int) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(count))


def check(model: Any, stage: str | None, pool: int | None, x: Tensor) -> None:
    """Within 1e-5 of the largest feature, or twice as far from float64 as torch is."""
    engine = FeatureEngine(model, stage, lambda channels: pool or cells(channels))
    with torch.inference_mode():
        assert engine.reason(*x.shape[2:]) is None
        own, found = stage_reader(model, stage, pool)(x), engine(x)
        exact = stage_reader(deepcopy(model).double(), stage, pool)(x.double())
    assert list(found) == list(exact)
    for name, features in exact.items():
        assert (found[name].dtype, found[name].shape) == (torch.float32, features.shape)
        tolerance = max(1e-5 * float(features.abs().max()), 2 * float((own[name] - features).abs().max()))
        assert float((found[name] - features).abs().max()) <= tolerance, name


@needs_kernels
@pytest.mark.parametrize("name", list_models("rotnet-resnet20-cifar10"))
def test_every_bundled_network_gives_torchs_features(name: str) -> None:
    model = sslprune.load(name)
    for stage, pool in ((None, 4), (POOLED, 1)):
        check(model, stage, pool, images(17, 32))


@needs_kernels
@pytest.mark.parametrize("stage", ["layer1", "layer3", None])
@pytest.mark.parametrize("pool", [1, 3, None])
def test_any_stage_and_pool(stage: str | None, pool: int | None) -> None:
    check(sslprune.load("rotnet-resnet20-keep2%"), stage, pool, images(3, 32))


@needs_kernels
@pytest.mark.parametrize(
    ("arch", "size"),
    [
        ("vgg11_quarter_onefc", 32),
        pytest.param("vgg19_onefc", 32, marks=slow),
        pytest.param("resnet50", 64, marks=slow),
    ],
)
def test_stages_whose_maps_are_smaller_than_others(arch: str, size: int) -> None:
    model = pruned(arch, 0.1, size=size)
    check(model, None, 4, images(3, size))


@needs_kernels
def test_one_engine_takes_images_of_several_sizes() -> None:
    model = sslprune.load("rotnet-resnet20-keep5%")
    engine = FeatureEngine(model, None, lambda _: 4)
    for size in (32, 24, 32):
        found, expected = engine(images(2, size)), stage_reader(model, None, 4)(images(2, size))
        for name, features in expected.items():
            torch.testing.assert_close(found[name], features, rtol=1e-4, atol=1e-5)


def test_no_images_have_no_features() -> None:
    engine = FeatureEngine(sslprune.load("rotnet-resnet20-keep5%"), None, lambda _: 2)
    assert {name: each.shape for name, each in engine(images(0, 32)).items()} == {
        "layer1": (0, 64),
        "layer2": (0, 128),
        "layer3": (0, 256),
    }
