"""What was taken is put back, bit for bit, into the tensors that were there."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sslprune.errors import MaskError
from sslprune.prune.rewind import restore, snapshot


def network(seed: int = 0, width: int = 3) -> nn.Module:
    torch.default_generator.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, width, 3), nn.BatchNorm2d(width), nn.Flatten(), nn.Linear(width, 2))


def bits(net: nn.Module) -> dict[str, bytes]:
    return {name: tensor.contiguous().numpy().tobytes() for name, tensor in net.state_dict().items()}


@given(st.integers(0, 2**31), st.booleans())
def test_everything_comes_back_bit_for_bit_and_in_place(seed: int, channels_last: bool) -> None:
    net = network(seed)
    net[1].running_mean.normal_()
    with torch.no_grad():
        net[0].weight[0, 0, 0, :] = torch.tensor([-0.0, 1e-45, float("inf")])
    state, before = snapshot(net), bits(net)
    tensors = {name: tensor.data_ptr() for name, tensor in net.state_dict().items()}
    net(torch.ones(4, 2, 3, 3)).sum().backward()
    torch.optim.SGD(net.parameters(), lr=1.0).step()
    assert bits(net) != before
    if channels_last:
        net.to(memory_format=torch.channels_last)
        tensors = {name: tensor.data_ptr() for name, tensor in net.state_dict().items()}
    restore(net, state)
    assert bits(net) == before
    assert {name: tensor.data_ptr() for name, tensor in net.state_dict().items()} == tensors


def test_a_state_of_another_network_is_refused_and_nothing_is_put_back() -> None:
    net = network()
    before = bits(net)
    lacking = snapshot(network(1))
    del lacking["1.running_var"]
    with pytest.raises(MaskError, match=r"1\.running_var"):
        restore(net, lacking)
    with pytest.raises(MaskError, match=r"0\.weight"):
        restore(net, snapshot(network(1, width=4)))
    assert bits(net) == before
