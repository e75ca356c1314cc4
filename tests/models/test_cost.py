"""MACs are counted as torch's own counter counts them, and counting leaves no trace."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import sslprune
from sslprune.models import build, prunable
from sslprune.models.cost import share_left, uses


def counted(model: nn.Module, size: int) -> int:
    """MACs of every convolution and matrix product, by torch: two operations each."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.eval()(torch.zeros(1, 3, size, size))
    return counter.get_total_flops() // 2


def total(model: nn.Module, size: int) -> int:
    return sum(weight.numel() * uses(model, size)[name] for name, weight in prunable(model).items())


@pytest.mark.parametrize(
    ("arch", "size"),
    [
        ("resnet20_cifar", 32),
        ("resnet20_cifar", 24),
        ("resnet20_cifar_proj", 32),
        ("resnet18_cifar", 32),
        ("resnet18", 64),
        ("mobilenetv2_035", 64),
        ("vgg19_onefc", 32),
    ],
)
def test_macs_are_torch_s_own_count(arch: str, size: int) -> None:
    model = build(arch)
    assert total(model, size) == counted(model, size)


def test_the_classifier_is_not_counted() -> None:
    assert total(build("resnet20_cifar", num_classes=10), 32) == total(build("resnet20_cifar"), 32)
    assert counted(build("resnet20_cifar", num_classes=10), 32) == counted(build("resnet20_cifar"), 32) + 640


class Chain(nn.Module):
    """Convolutions of any geometry, one used twice and one not at all, then a hidden linear layer."""

    def __init__(self, width: int, kernel: int, stride: int, groups: int, transposed: bool) -> None:
        super().__init__()
        make = nn.ConvTranspose2d if transposed else nn.Conv2d
        self.first = nn.Conv2d(3, width * groups, 1)
        self.odd = make(width * groups, width * groups, kernel, stride, padding=kernel // 2, groups=groups)
        self.twice = nn.Conv2d(width * groups, width * groups, 3, padding=1, groups=groups)
        self.never = nn.Conv2d(3, 3, 3)
        self.hidden = nn.Linear(width * groups, 5)
        self.fc = nn.Identity()

    def get_classifier(self) -> nn.Module:
        return self.fc

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.twice(self.twice(self.odd(self.first(x))))
        return self.fc(self.hidden(x.mean((2, 3))))


@settings(max_examples=40)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.booleans(), st.integers(6, 9))
def test_any_geometry_is_counted_right(
    width: int, kernel: int, stride: int, groups: int, transposed: bool, size: int
) -> None:
    model = Chain(width, kernel, stride, groups, transposed)
    assert total(model, size) == counted(model, size)
    found = uses(model, size)
    assert found["never.weight"] == 0
    assert found["first.weight"] == size * size
    assert found["hidden.weight"] == 1


def test_a_token_network_s_linear_layer_is_used_at_every_token() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(3, 4)

        def get_classifier(self) -> nn.Module:
            return nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.mix(x.flatten(2).transpose(1, 2))

    assert uses(Tokens(), 5) == {"mix.weight": 25}


@pytest.mark.parametrize("size", [32, 0])
def test_counting_leaves_no_trace(size: int) -> None:
    model = build("resnet20_cifar", seed=0)
    model.layer1.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if size:
        uses(model, size)
    else:  # a size that the network cannot take
        with pytest.raises(RuntimeError):
            uses(model, size)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("keep", [1.0, 0.05, 0.001])
def test_the_share_that_is_left_is_what_manifests_state(keep: float) -> None:
    model = sslprune.load("rotnet-resnet20-cifar10", keep=keep)
    manifest = model.sslprune.manifest
    assert share_left(model, 32) == share_left(model, (32, 32)) == manifest.macs_left / manifest.macs
