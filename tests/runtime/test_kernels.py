from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from sslprune.errors import ArchitectureError
from sslprune.graph.trace import trace
from sslprune.runtime import kernels
from sslprune.runtime.plan import ConvStep, Plan, make_plan
from sslprune.runtime.reference import run

ISAS = kernels.isas()
needs_kernels = pytest.mark.skipif(not ISAS, reason="installed without the compiled kernels")


class Block(nn.Module):
    """One convolution of any kind, with whatever can be fused to it, between two plain ones."""

    def __init__(self, channels: tuple[int, int], groups: int, activation: str, skip: bool, **how: Any) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, channels[0], 1)
        self.conv = nn.Conv2d(*channels, groups=groups, **how)
        self.beside = nn.Conv2d(*channels, groups=groups, **how) if skip else None
        self.activation = {"": lambda x: x, "relu": F.relu, "relu6": F.relu6, "silu": F.silu}[activation]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.first(x))
        y = self.conv(x) if self.beside is None else self.conv(x) + self.beside(x)
        return self.activation(y)


@st.composite
def blocks(draw: st.DrawFn) -> tuple[nn.Module, torch.Tensor]:
    """A pruned block in float64 with float32 weights, and images that it accepts."""
    groups = draw(st.sampled_from([1, 1, 1, 2, 4]))
    channels = (groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 4)))
    pairs = {
        "kernel_size": (draw(st.integers(1, 7)), draw(st.integers(1, 5))),
        "stride": (draw(st.integers(1, 3)), draw(st.integers(1, 4))),
        "padding": (draw(st.integers(0, 4)), draw(st.integers(0, 3))),
        "dilation": (draw(st.integers(1, 2)), draw(st.integers(1, 2))),
    }
    size = [
        max(draw(st.integers(1, 27)), pairs["dilation"][axis] * (pairs["kernel_size"][axis] - 1) + 1)
        for axis in range(2)
    ]
    seed = draw(st.integers(0, 1000))
    generator = torch.Generator().manual_seed(seed)
    activation = draw(st.sampled_from(["", "relu", "relu6", "silu"]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        block = Block(channels, groups, activation, draw(st.booleans()), **pairs)
    keep = draw(st.sampled_from([0.0, 0.02, 0.2, 1.0]))
    with torch.no_grad():
        for conv in (block.conv, block.beside):
            if conv is not None:
                conv.weight.mul_(torch.rand(conv.weight.shape, generator=generator) < keep)
                conv.weight[torch.rand(len(conv.weight), generator=generator) < 0.2] = 0
    images = torch.randn(draw(st.sampled_from([1, 3, 16])), 3, *size, generator=generator)
    return block.double().eval(), images


@settings(max_examples=150)
@given(block=blocks(), lanes=st.sampled_from([1, 1, 16]))
def test_any_convolution_is_what_torch_computes_on_every_set_of_instructions_skipping_zeros_or_not(block, lanes):
    model, images = block
    images = torch.cat([images] * lanes)[: max(lanes, len(images))]
    with torch.no_grad():
        expected = model(images.double()).numpy()
    plan = _plan(model, images, lanes)
    tolerance = 1e-5 * max(1e-3, float(np.abs(expected).max()))
    exact = run(plan, images[:lanes].double().numpy()).reshape(expected[:lanes].shape)
    np.testing.assert_allclose(exact, expected[:lanes], rtol=0, atol=tolerance / 10)
    for isa in ISAS:
        ways: tuple[kernels.Paths, ...] = ("sparse", "short_strips", "dense")
        programs = [kernels.program(plan, isa=isa, paths=paths) for paths in ways]
        found = _results(programs[0], plan, images, threads=1)
        np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=0, atol=tolerance, err_msg=isa)
        for program in programs:
            again = _results(program, plan, images, threads=2)
            np.testing.assert_array_equal(again, found, err_msg=f"{isa}: two threads or another way change bits")


@needs_kernels
def test_few_zeros_are_not_skipped_and_many_are():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 48, 3, padding=1), nn.Conv2d(48, 48, 3, padding=1)).eval()
    with torch.no_grad():
        model[1].weight.mul_(torch.rand(model[1].weight.shape, generator=torch.Generator().manual_seed(0)) < 0.02)
    plan = _plan(model, torch.zeros(1, 3, 24, 24))
    tuned = kernels.program(plan)
    ways = dict(zip([step.layer for step in plan.steps], tuned.ways, strict=True))
    # The second's zeros are so many that merged rows are not even tried; of the first all ways are.
    assert ways["1"].name != "dense"
    assert kernels.program(plan, paths=tuned.ways).ways == tuned.ways
    for paths in ("sparse", "short_strips", "dense"):
        for step, way in zip(plan.steps, kernels.program(plan, paths=paths).ways, strict=True):
            assert way.name == (paths if isinstance(step, ConvStep) else "sparse")


class Pools(nn.Module):
    """Pooling of every kind, one behind the other."""

    def __init__(self, kernel: int, stride: int, padding: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 1)
        self.largest = nn.MaxPool2d(kernel, stride, padding)
        self.mean = nn.AvgPool2d(2, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.adaptive_avg_pool2d(self.mean(self.largest(self.conv(x))), (2, 3)).flatten(1)


@settings(max_examples=40)
@given(
    lanes=st.sampled_from([1, 16]),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    size=st.tuples(st.integers(4, 19), st.integers(4, 19)),
    data=st.data(),
)
def test_pooling_is_what_torch_computes(lanes, kernel, stride, size, data):
    padding = data.draw(st.integers(0, kernel // 2))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Pools(kernel, stride, padding).double().eval()
        images = torch.randn(2 * lanes, 3, *size)
    with torch.no_grad():
        expected = model(images.double()).numpy()
    plan = _plan(model, images, lanes)
    exact = run(plan, images[:lanes].double().numpy()).reshape(lanes, -1)
    np.testing.assert_allclose(exact, expected[:lanes], rtol=0, atol=1e-6)
    for isa in ISAS:
        found = _results(kernels.program(plan, isa=isa), plan, images, threads=2)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5, err_msg=isa)


@needs_kernels
@pytest.mark.parametrize("isa", ISAS)
def test_what_is_no_number_stays_none_and_spoils_no_later_image(isa):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1))
        images = torch.randn(1, 3, 9, 7)
    plan = _plan(model.eval(), images)
    program = kernels.program(plan, isa=isa)
    before = _results(program, plan, images, threads=1)
    spoiled = images.clone()
    spoiled[0, 1, 4, 3] = float("nan")
    with torch.no_grad():
        expected = model(spoiled).numpy().reshape(1, -1)
    np.testing.assert_array_equal(np.isnan(_results(program, plan, spoiled, threads=1)), np.isnan(expected))
    np.testing.assert_array_equal(_results(program, plan, images, threads=1), before)


@needs_kernels
def test_the_environment_chooses_the_instructions(monkeypatch):
    for isa in ISAS:
        monkeypatch.setenv(kernels.VARIABLE, isa)
        assert kernels.chosen_isa() == isa
    monkeypatch.setenv(kernels.VARIABLE, "mmx")
    with pytest.raises(ArchitectureError, match="mmx"):
        kernels.chosen_isa()


@needs_kernels
def test_a_plan_that_reaches_outside_of_its_memory_is_refused():
    model = nn.Conv2d(3, 4, 3, padding=1)
    plan = _plan(model, torch.zeros(1, 3, 8, 8))
    short = Plan(plan.steps, plan.lanes, plan.floats // 2, plan.image, plan.result)
    with pytest.raises(IndexError):
        kernels.program(short)


def _plan(model: nn.Module, images: torch.Tensor, lanes: int = 1) -> Plan:
    return make_plan(model, trace(model, tuple(images.shape[2:])), lanes=lanes)


def _results(program: Any, plan: Plan, images: torch.Tensor, *, threads: int) -> np.ndarray:
    results = np.empty((len(images), int(np.prod(plan.result))), np.float32)
    program.run(images.numpy().reshape(len(images), -1), results, threads)
    return results
