from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import prune_at_random
from torch import nn
from torch.nn import functional as F

from sslprune.bench.synthetic import pruned
from sslprune.errors import ArchitectureError
from sslprune.graph.trace import trace
from sslprune.runtime.plan import ConvStep, make_plan, place
from sslprune.runtime.prepare import lowered, prepare
from sslprune.runtime.reference import run

NETS = [
    ("resnet20_cifar", 32),
    ("resnet20_cifar_proj", 32),
    ("resnet18", 64),
    ("resnet50", 64),
    ("vgg19_onefc", 32),
    ("mobilenetv2_100", 64),
    ("densenet121", 64),
]


@pytest.mark.parametrize("mask", ["global", "uniform"])
@pytest.mark.parametrize("keep", [0.1, 0.01, 0.001])
@pytest.mark.parametrize(("arch", "size"), [NETS[0], *(pytest.param(*net, marks=pytest.mark.slow) for net in NETS[1:])])
def test_the_plan_of_a_real_network_computes_its_outputs(arch, size, keep, mask):
    model = pruned(arch, keep, size=size, mask=mask)
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    found = run(place(lowered(model, (size, size))), images[0].double().numpy())
    with torch.no_grad():
        rounded = model(images).double().numpy().ravel()
        exact = deepcopy(model).double()(images.double()).numpy().ravel()
    largest = np.abs(exact).max()
    own = np.abs(rounded - exact).max() / largest
    assert np.abs(found - exact).max() / largest <= max(1e-5, 2 * own)


class Kinds(nn.Module):
    """Padded channels, slices, a batch norm behind a concatenation, an addition of what was flattened, a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, 2, 1)
        self.depthwise = nn.Conv2d(6, 12, 3, padding=1, groups=6)
        self.norm = nn.BatchNorm2d(18)
        self.narrow = nn.Conv2d(18, 4, (1, 3), stride=(1, 2))
        self.hidden = nn.LazyLinear(8)
        self.last = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu6(self.stem(x))
        y = F.silu(self.norm(torch.cat([x, self.depthwise(x)], 1)))
        z = F.pad(x[:, :, ::2, 1::2], (0, 0, 0, 0, 7, 5))
        y = F.max_pool2d(y, 3, 1)[:, :, : z.shape[2], : z.shape[3]] + F.avg_pool2d(z, 3, 1, 1)
        y = F.relu(self.hidden(self.narrow(y).flatten(1)))
        return F.relu(y + self.last(y))


@settings(max_examples=40)
@given(
    keep=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    seed=st.integers(0, 1000),
    size=st.tuples(st.integers(14, 23), st.integers(14, 23)),
)
def test_everything_that_is_planned_is_planned_right(keep, seed, size):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Kinds().eval()
        model(torch.zeros(1, 3, *size))
        prune_at_random(model, keep, seed)
        image = torch.randn(1, 3, *size)
    plan = place(lowered(model, size))
    with torch.no_grad():
        expected = model.double()(image.double()).numpy().ravel()
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(run(plan, image[0].double().numpy()), expected, rtol=0, atol=1e-5 * scale)


def test_batch_norm_activation_and_addition_cost_no_step_of_their_own():
    plan = place(lowered(pruned("resnet18", 0.1, size=32), (32, 32)))
    assert sum(isinstance(step, ConvStep) for step in plan.steps) == 20
    added = [step for step in plan.steps if isinstance(step, ConvStep) and step.residual is not None]
    assert len(added) == 8
    assert all(step.activation == "relu" for step in added)
    # The stream of residuals is updated where it lies.
    assert all(step.residual == step.target for step in added)


def test_only_weights_that_are_left_are_multiplied():
    model = pruned("resnet20_cifar", 0.05, size=32)
    planned, graph = prepare(model, (32, 32))
    weights = {node.layer: planned.get_submodule(node.layer).weight for node in graph.of("conv")}
    for step in make_plan(planned, graph).steps:
        if isinstance(step, ConvStep) and step.layer in weights:
            assert len(step.values) == int((weights[step.layer].float() != 0).sum())


def test_maps_whose_time_is_over_make_room():
    plan = place(lowered(pruned("resnet50", 0.1, size=64), (64, 64)))
    written = sum(step.target.geometry.floats(step.target.channels) for step in plan.steps if step.target.start >= 0)
    assert plan.floats < written / 3


class Gate(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x)


@pytest.mark.parametrize(
    ("foreign", "named"),
    [(Gate(), "tanh"), (nn.PixelShuffle(2), "pixel_shuffle|view|permute"), (nn.Softmax(1), "softmax")],
)
def test_what_is_not_known_is_named(foreign, named):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), foreign)
    with pytest.raises(ArchitectureError, match=named):
        make_plan(model, trace(model, 8))
