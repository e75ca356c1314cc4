from __future__ import annotations

from copy import deepcopy

import pytest
import torch
import torch_pruning
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import Medley, medley, prune_at_random
from torch import nn

from sslprune import models
from sslprune.bench.synthetic import pruned
from sslprune.graph.shrink import removable
from sslprune.graph.surgery import Kept, shrink_
from sslprune.graph.trace import trace
from sslprune.prune.compact import compact_exactly, compare, cost


@settings(max_examples=60)
@given(keep=st.sampled_from([0.02, 0.1, 0.3, 0.8]), seed=st.integers(0, 10_000))
def test_outputs_are_equal_whatever_is_zero(keep, seed):
    model = medley(keep, seed)
    smaller, done = compact_exactly(model, 10)
    images = torch.randn(3, 3, 10, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 3
    with torch.no_grad():
        expected = model(images)
        torch.testing.assert_close(smaller(images), expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))
    assert done.reason in (None, "no channel can be removed")


@settings(max_examples=20)
@given(keep=st.sampled_from([0.02, 0.1, 0.3]), seed=st.integers(0, 10_000))
def test_a_second_time_nothing_is_left_to_do(keep, seed):
    smaller, _ = compact_exactly(medley(keep, seed), 10)
    again, done = compact_exactly(smaller, 10)
    assert done.reason == "no channel can be removed"
    assert done.before == done.after
    state = smaller.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.state_dict().items())


NETS = [
    ("resnet20_cifar", 32),
    ("resnet20_cifar_proj", 32),
    ("resnet56_cifar", 32),
    ("resnet18_cifar", 32),
    ("resnet18", 64),
    ("resnet50", 64),
    ("vgg19_onefc", 32),
    ("alexnet", 64),
    ("mobilenetv2_100", 64),
    ("densenet121", 64),
    ("seresnet50", 64),
    ("efficientnet_b0", 64),
]


@pytest.mark.parametrize("mask", ["normalised", "uniform"])
@pytest.mark.parametrize("keep", [0.01, 0.001])
@pytest.mark.parametrize(
    ("arch", "size"),
    [*NETS[:2], *(pytest.param(*net, marks=pytest.mark.slow) for net in NETS[2:])],
)
def test_real_networks_become_smaller_and_say_the_same(arch, size, keep, mask):
    model = pruned(arch, keep, size=size, mask=mask)
    smaller, done = compact_exactly(model, size)
    assert done.reason is None
    assert done.difference <= 1e-5
    assert done.after.macs < done.before.macs
    assert done.after.parameters == sum(parameter.numel() for parameter in smaller.parameters())
    assert done.after.channels < done.before.channels
    assert done.before == cost(model, trace(model, size))


@pytest.mark.slow
@pytest.mark.parametrize(("keep", "least", "most"), [(0.01, 0.3, 0.6), (0.001, 0.005, 0.05)])
def test_resnet50_keeps_half_of_its_macs_at_one_per_cent_and_a_few_per_cent_at_a_tenth(keep, least, most):
    _, done = compact_exactly(pruned("resnet50", keep, size=96), 96)
    assert least < done.after.macs / done.before.macs < most


@pytest.mark.parametrize("keep", [0.01, 0.001])
def test_naive_removal_by_torch_pruning_is_wrong_where_ours_is_right(keep):
    model = pruned("resnet18", keep, size=64)
    naive = deepcopy(model)
    graph = torch_pruning.DependencyGraph().build_dependency(naive, torch.zeros(1, 3, 64, 64))
    removed = 0
    for block in (block for stage in (naive.layer1, naive.layer2, naive.layer3, naive.layer4) for block in stage):
        dead = (block.conv1.weight == 0).flatten(1).all(1).nonzero().flatten().tolist()[: len(block.conv1.weight) - 1]
        if dead:
            graph.get_pruning_group(block.conv1, torch_pruning.prune_conv_out_channels, dead).prune()
            removed += len(dead)
    assert removed
    assert compare(model, naive, 64)[0] > 1e-2
    smaller, _ = compact_exactly(model, 64)
    assert compare(model, smaller, 64)[0] <= 1e-5


def test_removing_idle_channels_without_moving_constants_is_wrong():
    model = pruned("resnet20_cifar", 0.01, size=32)
    naive = deepcopy(model)
    for layer in naive.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data[:, (layer.weight == 0).flatten(2).all(2).all(0)] = 0
    graph = trace(naive, 32)
    dead = {node.layer: (naive.get_submodule(node.layer).weight != 0).flatten(1).any(1) for node in graph.of("conv")}
    inner = [f"layer{stage}.{block}" for stage in (1, 2, 3) for block in range(3)]
    channels = {}
    for name in inner:
        kept = dead[f"{name}.conv1"]
        every = torch.ones(len(kept), dtype=torch.bool)
        read = torch.ones(naive.get_submodule(f"{name}.conv1").in_channels, dtype=torch.bool)
        channels |= {
            f"{name}.conv1": Kept(read, kept),
            f"{name}.bn1": Kept(kept, kept),
            f"{name}.conv2": Kept(kept, every),
        }
    shrink_(naive, channels)
    assert compare(model, naive, 32)[0] > 1e-3


def test_what_is_given_is_left_alone():
    model = pruned("resnet20_cifar", 0.01, size=32).train()
    before = deepcopy(model.state_dict())
    smaller, _ = compact_exactly(model, 32)
    assert model.training
    assert not smaller.training
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in before.items())


def test_state_dict_keys_and_classes_stay():
    model = pruned("resnet20_cifar", 0.001, size=32)
    smaller, _ = compact_exactly(model, 32)
    assert list(smaller.state_dict()) == list(model.state_dict())
    assert [type(module) for module in smaller.modules()] == [type(module) for module in model.modules()]


def test_a_smaller_network_trains():
    smaller, _ = compact_exactly(pruned("resnet20_cifar", 0.01, size=32, num_classes=4), 32)
    optimiser = torch.optim.SGD(smaller.train().parameters(), lr=0.05)
    draw = torch.Generator().manual_seed(0)
    images, labels = torch.randn(16, 3, 32, 32, generator=draw), torch.arange(16) % 4
    losses = []
    for _ in range(12):
        loss = nn.functional.cross_entropy(smaller(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


def test_the_channels_that_stayed_are_those_of_the_original():
    model = medley(0.1, 3)
    smaller, done = compact_exactly(model, 10)
    for name, kept in done.channels.items():
        layer = smaller.get_submodule(name)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert layer.weight.shape[0] == int(kept.outputs.sum())
            assert len(kept.outputs) == len(model.get_submodule(name).weight)


def test_a_dense_network_comes_back_with_the_reason():
    model = models.build("resnet20_cifar", seed=0)
    same, done = compact_exactly(model, 32)
    assert done.reason == "no channel can be removed"
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in same.state_dict().items())


class Flipped(nn.Module):
    """Reads its own channels backwards: nobody may remove one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return self.second(self.first(x).flip(1).relu())


def test_around_what_is_not_understood_nothing_is_removed():
    model = prune_at_random(Flipped(), 0.1, 0)
    _, done = compact_exactly(model, 8)
    assert done.reason == "no channel can be removed"


class Sized(Medley):
    """Its forward pass has a width written into it."""

    def forward(self, x):
        x = self.stem(x)
        return x.reshape(len(x), 8, -1).mean(2)


class Unruly(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = self.first(x)
        if x.shape[1] != 8:
            raise ValueError("eight channels, please")
        return self.second(x)


class Counting(Unruly):
    """Runs with fewer channels, and then says something else."""

    def forward(self, x):
        return self.second(self.first(x) * self.first.out_channels)


@pytest.mark.parametrize(
    ("network", "said"), [(Sized(), "no channel"), (Unruly(), "eight channels"), (Counting(), "would change")]
)
def test_networks_that_insist_on_their_widths_come_back_as_they_were(network, said):
    model = prune_at_random(network, 0.4, 1)
    same, done = compact_exactly(model, 10)
    assert said in done.reason
    assert [tensor.shape for tensor in same.state_dict().values()] == [t.shape for t in model.state_dict().values()]


def test_no_layer_loses_all_of_its_channels():
    model = pruned("resnet20_cifar", 0.0001, size=32)
    smaller, done = compact_exactly(model, 32)
    assert min(layer.weight.numel() for layer in smaller.modules() if isinstance(layer, nn.Conv2d)) > 0
    assert done.difference <= 1e-5
    assert not removable(smaller, trace(smaller, 32))


def test_a_variance_of_nearly_nothing_magnifies_no_rounding():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1, bias=False), nn.BatchNorm2d(2)).eval()
    with torch.no_grad():
        net[0].weight.mul_(torch.tensor([1e-5, 0, 0, 0]).view(4, 1, 1, 1))
        net[0].bias.copy_(torch.tensor([1.0, 3.7, 1.3, 0.9]))
        # What varies is a hundred-thousandth of what stays.
        net[3].running_mean.copy_((net[2].weight[:, :, 0, 0].double() @ net[0].bias.double()).float())
        net[3].running_var.fill_(1e-10)
        net[3].eps = 1e-12
    smaller, done = compact_exactly(net, 8)
    assert smaller[2].in_channels == 1
    assert done.difference < 1e-6 < 1e-4 < done.rounding
