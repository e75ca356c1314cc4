from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from nets import interpret, medley
from torch import nn
from torch.nn import functional as F

from sslprune import models
from sslprune.errors import ArchitectureError
from sslprune.graph.trace import trace

NETS = [
    ("resnet20_cifar", 32),
    ("resnet20_cifar_proj", 32),
    ("resnet18_cifar", 32),
    ("resnet18", 64),
    ("vgg19_onefc", 32),
    ("alexnet", 64),
    ("mobilenetv2_100", 64),
    ("densenet121", 64),
    ("resnext50_32x4d", 64),
    ("seresnet50", 64),
    ("mobilenetv3_small_100", 64),
    ("tf_efficientnet_b0", 64),
]


@pytest.mark.parametrize(("arch", "size"), NETS)
def test_a_graph_computes_what_the_network_does(arch, size):
    model = models.build(arch, seed=0, num_classes=7).eval()
    graph = trace(model, size)
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    assert not graph.of("opaque")
    with torch.no_grad():
        expected = model(images)
    torch.testing.assert_close(interpret(model, graph, images)[graph.output], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_a_medley_is_understood_whole(seed):
    model = medley(0.7, seed)
    graph = trace(model, 10)
    images = torch.randn(2, 3, 10, 10, dtype=torch.float64)
    assert not graph.of("opaque")
    torch.testing.assert_close(interpret(model, graph, images)[graph.output], model(images).detach())


@pytest.mark.parametrize(("arch", "size"), NETS[:2])
def test_shapes_and_layers_are_the_networks_own(arch, size):
    model = models.build(arch, seed=0).eval()
    graph = trace(model, size)
    values = interpret(model, graph, torch.zeros(1, 3, size, size))
    assert all(values[node.name].shape[1:] == node.shape for node in graph)
    weights = {f"{node.layer}.weight" for node in graph.of("conv", "linear")}
    assert weights == set(models.prunable(model))


def test_tracing_leaves_mode_state_and_hooks_as_they_were():
    model = models.build("resnet20_cifar", seed=0)
    model.layer1.eval()
    before = deepcopy(model)
    trace(model, 32)
    assert [module.training for module in model.modules()] == [module.training for module in before.modules()]
    assert all(
        torch.equal(one, other)
        for one, other in zip(model.state_dict().values(), before.state_dict().values(), strict=True)
    )
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_in_inference_mode_the_graph_is_the_same():
    model = models.build("resnet20_cifar", seed=0)
    with torch.inference_mode():
        inside = trace(model, 32)
    assert [node.name for node in inside] == [node.name for node in trace(model, 32)]


class Strange(nn.Module):
    """An operation without a word in the vocabulary, between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.second(torch.flip(self.first(x), (1,)))


def test_what_is_not_known_is_opaque_and_named():
    graph = trace(Strange(), 8)
    assert [node.op for node in graph] == ["input", "conv", "opaque", "conv"]
    assert graph.of("opaque")[0].settings["what"] == "flip"


class Branches(nn.Module):
    """Computes something that the output does not depend on, and adds a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

    def forward(self, x):
        self.unused(x)
        return self.used(x) + 1.5


def test_what_the_output_does_not_depend_on_is_left_out():
    graph = trace(Branches(), 8)
    assert [(node.op, node.layer) for node in graph] == [("input", ""), ("conv", "used"), ("pointwise", "")]


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.conv(F.relu(self.conv(x)))


def test_a_layer_that_runs_twice_is_two_nodes():
    assert [node.layer for node in trace(Shared(), 8).of("conv")] == ["conv", "conv"]


class IntoAView(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        y = self.conv(x)
        y[:, :2].add_(1)
        return y


class Two(nn.Module):
    def forward(self, x):
        return x, x


@pytest.mark.parametrize(
    ("model", "said"), [(IntoAView(), "in place"), (Two(), "one tensor"), (nn.Linear(7, 2), "does not run")]
)
def test_networks_that_cannot_be_traced_say_why(model, said):
    with pytest.raises(ArchitectureError, match=said):
        trace(model, 8)
