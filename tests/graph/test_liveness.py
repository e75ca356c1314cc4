"""Laws of constants, needs and coupling together, against brute force on graphs that are run node by node."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import interpret, medley
from torch import nn

from sslprune import models
from sslprune.graph.constants import constants, live
from sslprune.graph.coupling import coupling
from sslprune.graph.needs import needs
from sslprune.graph.trace import trace
from sslprune.graph.weights import biases

KEEPS = st.sampled_from([0.02, 0.1, 0.3, 0.8])
SEEDS = st.integers(0, 10_000)


def images(size, seed=0):
    return torch.randn(3, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 3


@settings(max_examples=40)
@given(keep=KEEPS, seed=SEEDS)
def test_a_constant_channel_is_that_number_everywhere(keep, seed):
    model = medley(keep, seed)
    graph = trace(model, 10)
    found = constants(model, graph, biases(model, graph))
    for name, value in interpret(model, graph, images(10, seed)).items():
        steady = ~live(found[name])
        pixels = value.transpose(0, 1).flatten(1)[steady]
        torch.testing.assert_close(pixels, found[name][steady, None].expand_as(pixels), rtol=1e-9, atol=1e-9)


@settings(max_examples=40)
@given(keep=KEEPS, seed=SEEDS)
def test_what_is_not_needed_can_be_anything(keep, seed):
    model = medley(keep, seed)
    graph = trace(model, 10)
    needed = needs(model, graph)

    def garbage(name, value):
        noise = torch.randn(value.shape, dtype=value.dtype, generator=torch.Generator().manual_seed(seed))
        return torch.where(needed[name].view(1, -1, *[1] * (value.ndim - 2)), value, noise)

    clean = interpret(model, graph, images(10, seed))[graph.output]
    torch.testing.assert_close(interpret(model, graph, images(10, seed), garbage)[graph.output], clean)


def test_a_dead_filter_is_its_bias_then_what_batch_norm_and_relu_make_of_it():
    net = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 2, 3, padding=1))
    with torch.no_grad():
        net[0].weight[1] = 0
        net[0].bias.copy_(torch.tensor([0.0, 2.0]))
        net[1].running_mean.fill_(1)
        net[1].running_var.fill_(1 - net[1].eps)
        net[1].weight.fill_(3)
        net[1].bias.fill_(0.5)
        net[3].weight[0, 0] = 0  # reads the constant alone, but with zeros around it
        net[3].weight[1] = 0
    graph = trace(net.eval(), 8)
    found = list(constants(net, graph, biases(net, graph)).values())
    assert [round(float(constant[1]), 5) for constant in found[1:4]] == [2.0, 3.5, 3.5]
    assert live(found[4]).tolist() == [True, False]


def test_an_addition_couples_and_a_convolution_does_not():
    graph = trace(model := models.build("resnet20_cifar_proj", seed=0), 32)
    classes = coupling(model, graph).classes
    stream = {node.layer: classes[node.name].tolist() for node in graph.of("conv")}
    assert stream["layer1.0.conv2"] == stream["layer1.2.conv2"] == stream["conv1"]
    assert not set(stream["layer1.0.conv1"]) & set(stream["layer1.0.conv2"])
    assert not set(stream["layer2.0.conv2"]) & set(stream["layer1.0.conv2"])


def test_zero_channels_are_coupled_with_what_is_added_to_them_alone():
    graph = trace(model := models.build("resnet20_cifar", seed=0), 32)
    coupled = coupling(model, graph)
    stream = {node.layer: coupled.classes[node.name] for node in graph.of("conv")}
    assert torch.equal(stream["layer2.0.conv2"][8:24], stream["layer1.0.conv2"])
    assert coupled.pinned[stream["layer3.2.conv2"]].all()  # the network's output
    assert not coupled.pinned[stream["layer2.0.conv1"]].any()


class Silenced(nn.Module):
    """Three ways for a live channel to end: scaled by nothing, gated by nothing, and a constant in a frame of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        scaled = self.norm(self.conv(x))
        gated = scaled * self.gate(x).relu()
        return nn.functional.pad(gated, (1, 0, 1, 0))


def test_a_channel_ends_where_its_scale_or_its_gate_is_zero_and_padding_makes_constants_vary():
    net = Silenced().double().eval()
    with torch.no_grad():
        net.norm.weight.copy_(torch.tensor([0.0, 1.0, 0.0, 1.0]))
        net.norm.bias.copy_(torch.tensor([2.0, 1.0, 3.0, 1.0]))
        net.gate.weight[1:3] = 0
        net.gate.bias[1:3] = torch.tensor([-1.0, 5.0], dtype=torch.float64)
    graph = trace(net, 6)
    found = constants(net, graph, biases(net, graph))
    norm, gated, padded = (found[graph.of(op)[-1].name] for op in ("norm", "mul", "pad"))
    assert live(norm).tolist() == [False, True, False, True]
    assert norm[[0, 2]].tolist() == [2.0, 3.0]
    assert live(gated).tolist() == [True, False, False, True]
    assert gated[[1, 2]].tolist() == [0.0, 15.0]
    assert live(padded).tolist() == [True, False, True, True]
    steady = ~live(padded)
    pixels = interpret(net, graph, images(6))[graph.output].transpose(0, 1).flatten(1)
    assert (pixels[steady] == padded[steady, None]).all()


class Widened(nn.Module):
    """Zero channels around four others; the last layer reads one of the zeros and one of the four."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(9, 1, 1)

    def forward(self, x):
        return self.last(nn.functional.pad(self.first(x), (0, 0, 0, 0, 2, 3)))


def test_of_widened_channels_those_are_needed_that_are_read_at_their_new_place():
    net = Widened()
    with torch.no_grad():
        net.last.weight[:, [0, 2, 3, 4, 6, 7, 8]] = 0
    graph = trace(net, 4)
    needed = needs(net, graph)
    assert needed[graph.of("conv")[0].name].tolist() == [False, False, False, True]
