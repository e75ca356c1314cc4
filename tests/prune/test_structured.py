"""Whole channels: the slim network says what the masked one says, masks are nested, and what is promised stays."""

from __future__ import annotations

import sys
from copy import deepcopy

import pytest
import torch

from sslprune import models
from sslprune.errors import KeepError, MissingExtraError
from sslprune.graph.surgery import shrink_
from sslprune.masks import Mask
from sslprune.models import prunable
from sslprune.prune.criteria import Criterion, find
from sslprune.prune.structured import channel_mask, slim

NETS = [
    ("resnet20_cifar", 32),
    ("resnet20_cifar_proj", 32),
    pytest.param("resnet18_cifar", 32, marks=pytest.mark.slow),
    pytest.param("vgg19_onefc", 32, marks=pytest.mark.slow),
    pytest.param("alexnet", 64, marks=pytest.mark.slow),
    pytest.param("mobilenetv2_100", 64, marks=pytest.mark.slow),
]


def trained(arch: str, **options: int) -> torch.nn.Module:
    """A network whose batch norm is not as it was made."""
    model = models.build(arch, seed=0, **options).eval()
    draw = torch.Generator().manual_seed(1)
    for name, tensor in model.state_dict().items():
        if tensor.ndim == 1 and tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=draw) + (0.1 if "var" in name else -0.3))
    return model


@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize(("arch", "size"), NETS)
def test_a_slim_network_says_what_the_masked_one_says(arch: str, size: int, norm: int) -> None:
    model, above = trained(arch, num_classes=10), None
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    for keep in (0.6, 0.2):
        smaller, done = slim(model, keep, size, norm=norm)
        masked = deepcopy(model)
        done.mask.apply_(masked)
        with torch.no_grad():
            expected = masked(images)
            torch.testing.assert_close(smaller(images), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
        assert list(smaller.state_dict()) == list(model.state_dict())
        assert sum(weight.numel() for weight in prunable(smaller).values()) == done.mask.kept
        assert done.mask.kept <= round(keep * done.mask.prunable)
        assert done.mask.keep > 0.9 * keep
        assert above is None or done.mask.is_subset_of(above)
        above = done.mask


def test_channels_are_one_more_criterion_of_the_same_ladder() -> None:
    model = models.build("resnet20_cifar", seed=0)
    weights, mask = prunable(model), None
    for keep in (0.8, 0.4, 0.15):
        below = find(weights, keep, Criterion("channels-l2"), within=mask, model=model, size=32)
        assert mask is None or below.is_subset_of(mask)
        assert below.keep <= keep
        mask = below
        mask.apply_(model)
        with torch.no_grad():  # training moves what is left
            for weight in weights.values():
                weight.mul_(1 + 0.5 * torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)))
    for name in ("layer1.0.conv1.weight", "layer3.2.conv1.weight"):
        rows = mask[name].flatten(1).any(1)
        columns = mask[name].flatten(2).any(2).any(0)
        assert torch.equal(mask[name].flatten(2).all(2), rows[:, None] & columns)


def test_the_channels_rebuild_the_network() -> None:
    model = trained("resnet20_cifar")
    smaller, done = slim(model, 0.3, 32)
    again = models.build("resnet20_cifar", seed=5)
    shrink_(again, done.channels)
    again.load_state_dict(smaller.state_dict())
    assert again.num_features == model.num_features
    assert smaller(torch.zeros(1, 3, 32, 32)).shape == (1, 64)


def test_the_norm_decides_and_small_filters_go() -> None:
    model = models.build("resnet20_cifar", seed=0)
    with torch.no_grad():
        model.layer1[0].conv1.weight[3:] *= 1e-3
        model.layer1[0].conv2.weight[:, 3:] *= 1e-3
        model.layer1[0].bn1.weight[3:] = 1e-3
    kept = channel_mask(model, 0.97, 32)["layer1.0.conv1.weight"].flatten(1).any(1)
    assert kept[:3].all()
    assert not kept[3:].all()


def test_what_cannot_be_is_refused_and_the_model_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.build("resnet20_cifar", seed=0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(KeepError, match="whole channels keep at least"):
        slim(model, 0.0001, 32)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(MissingExtraError, match=r"sslprune\[slim\]"):
        channel_mask(model, 0.5, 32, within=Mask.full(prunable(model)))
