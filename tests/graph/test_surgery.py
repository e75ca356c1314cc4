from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sslprune import models
from sslprune.errors import ArchitectureError
from sslprune.graph.surgery import Kept, shrink_


def some(count):
    return st.lists(st.booleans(), min_size=count, max_size=count).map(torch.tensor)


@given(inner=some(6).filter(lambda kept: bool(kept.any())))
def test_what_stays_are_the_same_numbers(inner):
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 4, 1))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    image, out = torch.ones(3, dtype=torch.bool), torch.ones(4, dtype=torch.bool)
    shrink_(net, {"0": Kept(image, inner), "1": Kept(inner, inner), "2": Kept(inner, inner), "3": Kept(inner, out)})
    after = net.state_dict()
    assert after.keys() == before.keys()
    for name in ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "2.weight", "2.bias"):
        assert torch.equal(after[name], before[name][inner])
    assert torch.equal(after["3.weight"], before["3.weight"][:, inner])
    assert net(torch.zeros(1, 3, 8, 8)).shape == (1, 4, 4, 4)
    assert (net[0].out_channels, net[2].groups, net[3].in_channels) == (int(inner.sum()),) * 3


def test_a_zero_padding_shortcut_adds_fewer_channels():
    net = models.build("resnet20_cifar", seed=0)
    before, after = torch.ones(16, dtype=torch.bool), torch.ones(32, dtype=torch.bool)
    after[[0, 1, 31]] = False
    shrink_(net, {"layer2.0.downsample": Kept(before, after)})
    assert net.layer2[0].downsample(torch.ones(1, 16, 4, 4)).sum((2, 3)).tolist() == [
        [0.0] * 6 + [4.0] * 16 + [0.0] * 7
    ]


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"), [("9", 3, 6), ("0", 3, 5), ("0", 4, 6), ("2", 6, 6), ("0", 3, 0)]
)
def test_what_does_not_fit_is_refused(name, inputs, outputs):
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
    kept = torch.arange(6)[: outputs or 6] < outputs - 1
    with pytest.raises(ArchitectureError):
        shrink_(net, {name: Kept(torch.ones(inputs, dtype=torch.bool), kept)})
