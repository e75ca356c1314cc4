"""Batch norm measured anew: exact averages, and nothing else changes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sslprune import models
from sslprune.errors import DatasetError
from sslprune.prune.recalibrate import recalibrate_


def batches(count: int = 3) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(4, 3, 8, 8, generator=draw) * 2 + 1 for _ in range(count)]


def test_statistics_are_the_plain_averages_over_the_batches() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3, momentum=0.3)).eval()
    assert recalibrate_(net, batches()) == 3
    means = torch.stack([batch.mean((0, 2, 3)) for batch in batches()]).mean(0)
    variances = torch.stack([batch.transpose(0, 1).flatten(1).var(1) for batch in batches()]).mean(0)
    torch.testing.assert_close(net[0].running_mean, means)
    torch.testing.assert_close(net[0].running_var, variances)


def test_weights_modes_momenta_and_the_counter_stay() -> None:
    net = models.build("resnet20_cifar", seed=0, drop_rate=0.5).train()
    net.layer1.eval()
    net.bn1.momentum = 0.3
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    recalibrate_(net, batches())
    assert [module.training for module in net.modules()] == modes
    assert (net.bn1.momentum, net.layer1[0].bn1.momentum) == (0.3, 0.1)
    changed = {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in before if name.endswith(("running_mean", "running_var"))}
    once = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    recalibrate_(net, batches())  # nothing is left of what was there before, and nothing is drawn
    assert all(torch.equal(tensor, once[name]) for name, tensor in net.state_dict().items())


def test_without_images_nothing_changes_and_it_is_an_error() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3))
    net[0].running_mean.fill_(7)
    with pytest.raises(DatasetError, match="no image"):
        recalibrate_(net, [])
    assert net[0].running_mean.tolist() == [7, 7, 7]


def test_networks_without_running_statistics_are_left_alone() -> None:
    for net in (nn.Conv2d(3, 1, 1), nn.BatchNorm2d(3, track_running_stats=False)):
        assert recalibrate_(net, batches()) == 0
