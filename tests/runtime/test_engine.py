from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

import sslprune
from sslprune.bench.synthetic import pruned
from sslprune.errors import ArchitectureError
from sslprune.runtime import kernels

needs_kernels = pytest.mark.skipif(not kernels.isas(), reason="installed without the compiled kernels")
NETS = [
    ("resnet20_cifar", 32),
    ("resnet18", 64),
    ("resnet50", 64),
    ("vgg19_onefc", 32),
    ("alexnet", 64),
    ("mobilenetv2_100", 64),
    ("densenet121", 64),
]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return pruned("resnet20_cifar", 0.05, size=32)


def images(count: int, height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(count))


@needs_kernels
@pytest.mark.parametrize("mask", ["global", "uniform"])
@pytest.mark.parametrize("keep", [0.1, 0.01, 0.001])
@pytest.mark.parametrize(("arch", "size"), [NETS[0], *(pytest.param(*net, marks=pytest.mark.slow) for net in NETS[1:])])
def test_real_networks_say_the_same_on_every_set_of_instructions(arch, size, keep, mask, monkeypatch):
    model = pruned(arch, keep, size=size, mask=mask)
    batch = images(3, size, size)
    with torch.no_grad():
        exact = deepcopy(model).double()(batch.double())
        own = float((model(batch).double() - exact).abs().max())
    tolerance = max(1e-5 * float(exact.abs().max()), 2 * own)
    for isa in kernels.isas():
        monkeypatch.setenv(kernels.VARIABLE, isa)
        engine = sslprune.compile(model, threads=2)
        found = engine(batch)
        assert engine.reason is None
        assert float((found.double() - exact).abs().max()) <= tolerance, isa
        # One at a time they are shared out otherwise, and are the same to the last bit.
        assert torch.equal(torch.cat([engine(batch[number : number + 1]) for number in range(3)]), found)


@needs_kernels
def test_any_size_and_number_of_images_as_tensors_or_arrays(model):
    engine = sslprune.compile(model, threads=1)
    for shape in [(1, 32, 32), (16, 32, 32), (3, 33, 47), (0, 32, 32)]:
        batch = images(*shape)
        with torch.no_grad():
            expected = model(batch)
        found = engine(batch)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        array = engine(batch.numpy())
        assert isinstance(array, np.ndarray)
        np.testing.assert_array_equal(array, found.numpy())
    flipped = images(2).flip(3)
    np.testing.assert_array_equal(engine(flipped.numpy()[:, :, :, ::-1]), engine(flipped.numpy()[:, :, :, ::-1].copy()))


@needs_kernels
def test_eight_threads_at_once_get_what_one_gets(model):
    engine = sslprune.compile(model, threads=2)
    batch = images(2)
    expected = engine(batch)
    with ThreadPoolExecutor(8) as crowd:
        found = list(crowd.map(lambda number: engine(batch[: 1 + number % 2]), range(200)))
    assert all(torch.equal(result, expected[: len(result)]) for result in found)


@needs_kernels
@pytest.mark.parametrize("faster", [True, False])
def test_sixteen_side_by_side_say_what_each_says_alone(model, faster, monkeypatch):
    times = iter([1.0, 2.0] if faster else [2.0, 1.0])
    monkeypatch.setattr("sslprune.runtime.side_by_side._seconds", lambda *_: next(times))
    engine = sslprune.compile(model, threads=2)
    batch = images(35)
    expected = torch.cat([engine(image[None]) for image in batch])
    assert torch.equal(engine(batch), expected)
    assert torch.equal(engine(batch[:16]), expected[:16])
    assert (engine._compiled[32, 32].together is not None) == faster


@needs_kernels
def test_it_travels_as_its_module(model):
    engine = sslprune.compile(model, threads=1)
    again = pickle.loads(pickle.dumps(engine))
    assert torch.equal(again(images(2)), engine(images(2)))


@needs_kernels
def test_its_summary_accounts_for_every_multiplication(model):
    engine = sslprune.compile(model)
    layers = engine.summary(32, 32)
    assert sum(layer.macs for layer in layers) == engine.plan(32, 32).macs
    assert all(layer.seconds >= 0 for layer in layers)
    assert {layer.path for layer in layers} == {"sparse", "copy", "average"}


def test_a_network_that_it_does_not_know_runs_dense_and_it_says_why():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softmax(1)).eval()
    engine = sslprune.compile(model)
    batch = images(2)
    with torch.no_grad():
        torch.testing.assert_close(engine(batch), model(batch))
    assert engine.reason
    assert engine.summary(32, 32) == ()


def test_without_kernels_it_runs_dense_and_it_says_why(model, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sslprune.runtime._kernels", None)
    engine = sslprune.compile(model)
    with torch.no_grad():
        torch.testing.assert_close(engine(images(2)), model(images(2)))
    assert "without its compiled kernels" in engine.reason


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (np.zeros((1, 3, 32, 32)), "float32"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.float64), "float32"),
        (np.zeros((1, 32, 32, 3), np.float32), r"\[1, 32, 32, 3\]"),
        (np.zeros((3, 32, 32), np.float32), "shape"),
        (np.zeros((1, 3, 0, 32), np.float32), "shape"),
        ([[1.0]], "float32"),
        (np.zeros((1, 3, 1, 1), ">f4"), "float32"),
    ],
)
def test_wrong_images_are_named(model, wrong, named):
    with pytest.raises(ArchitectureError, match=named):
        sslprune.compile(model)(wrong)


@pytest.mark.parametrize("how", [{"threads": 0}, {"batch": -1}])
def test_impossible_numbers_are_named(model, how):
    with pytest.raises(ArchitectureError, match="not a positive number"):
        sslprune.compile(model, **how)
