from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import sslprune
from sslprune.errors import ArchitectureError
from sslprune.graph.trace import trace
from sslprune.runtime import kernels
from sslprune.runtime.lower import lower
from sslprune.runtime.plan import place
from sslprune.runtime.prepare import lowered
from sslprune.runtime.reference import run


class Then(nn.Module):
    """A convolution, then what is tested."""

    def __init__(self, *after: object) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 4, 3)
        self.after = after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        for each in self.after:
            x = each(x)
        return x


def image(height: int, width: int) -> torch.Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "after",
    [
        lambda x: x + 2,
        lambda x: 0 + x,
        lambda x: x - 0.25,
        lambda x: torch.add(x, 3, alpha=2),
        lambda x: x * -3,
        lambda x: x * 0,
        lambda x: x / 7,
        lambda x: -x,
        lambda x: x.mul_(2).relu_(),
        lambda x: F.relu(x.flatten(1) * 2 - 1),
        lambda x: F.relu(x.mean((2, 3)) + 1),
    ],
)
def test_arithmetic_with_a_number_is_a_convolution(after):
    model, x = Then(after).eval(), image(8, 9)
    with torch.no_grad():
        expected = model.double()(x.double()).numpy().ravel()
    found = run(place(lowered(model.float(), (8, 9))), x[0].double().numpy())
    assert abs(found - expected).max() < 1e-5


@pytest.mark.parametrize("after", [lambda x: torch.div(x, 4, rounding_mode="floor"), lambda x: 1 - x.abs()])
def test_what_only_looks_like_it_is_not_taken_for_it(after):
    model = Then(after).eval()
    with pytest.raises(ArchitectureError):
        lower(model, trace(model, 8))


@pytest.mark.parametrize(("size", "runs"), [(10, True), (9, False)])
@pytest.mark.parametrize("counted", [True, False])
def test_averages_that_round_up_run_where_no_window_is_cut(size, runs, counted):
    # As in the shortcuts of timm's "d" ResNets: of an even map nothing is cut.
    model = Then(lambda x: F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=counted)).eval()
    x = image(size, size)
    with torch.no_grad():
        expected = model(x)
    engine = sslprune.compile(model)
    torch.testing.assert_close(engine(x), expected, rtol=1e-4, atol=1e-5)
    if kernels.isas():
        assert (engine.reason is None) == runs


UNKNOWN = {
    "windows of different sizes": lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    "sigmoid": lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)),
    "hardswish": F.hardswish,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.1),
    "upsample_nearest2d": lambda x: F.interpolate(x, scale_factor=2),
    "split": lambda x: torch.cat(torch.split(x, 2, 1)[::-1], 1),
    "permute": lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (4,)).permute(0, 3, 1, 2),
    "another number than 0": lambda x: F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=float("-inf")), 3),
    "mul": lambda x: x * F.relu(x),
    "in place": lambda x: [x, x[:, :2].add_(1)][0],
    "convolution": lambda x: F.conv2d(x, torch.ones(2, 4, 1, 1, dtype=x.dtype)),
    "slice": lambda x: x[:, 1:3],
    "view": lambda x: x.view(x.shape[0], 2, 2, *x.shape[2:]).mean(1),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_keeps_other_networks_out_is_named_and_answered_dense(what):
    model, x = Then(UNKNOWN[what]).eval(), image(10, 9)
    with torch.no_grad():
        expected = model(x)
    engine = sslprune.compile(model)
    torch.testing.assert_close(engine(x), expected)
    assert engine.reason
    if kernels.isas():
        assert what in engine.reason
