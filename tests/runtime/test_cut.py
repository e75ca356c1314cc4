from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sslprune.bench.synthetic import pruned
from sslprune.runtime.cut import cut, cuts
from sslprune.runtime.plan import place
from sslprune.runtime.prepare import lowered
from sslprune.runtime.reference import run


class Branches(nn.Module):
    """A skip that operations pass by, a concatenation that is written twice, and an image that is read late."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.third = nn.Conv2d(12, 6, 3, stride=2, padding=1)
        self.late = nn.Conv2d(3, 6, 1, stride=2)
        self.last = nn.Conv2d(6, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.first(x))
        z = self.second(y) + y
        z = self.third(torch.cat([y, z], 1))
        return self.last(F.relu(z + self.late(x))).mean((2, 3))


def network(name: str) -> nn.Module:
    if name != "branches":
        return pruned(name, 0.05, size=16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Branches().eval()


@pytest.mark.parametrize("name", ["branches", "resnet20_cifar"])
def test_the_parts_of_every_cut_compute_what_the_whole_does(name):
    whole = lowered(network(name), (16, 16))
    image = np.random.default_rng(0).standard_normal((3, 16, 16))
    expected = run(place(whole), image)
    assert cuts(whole)
    for before in cuts(whole):
        head, tail = cut(whole, before)
        between = run(place(head), image).reshape(head.result)
        np.testing.assert_allclose(run(place(tail), between), expected, rtol=1e-9, atol=1e-9)
        many = run(place(tail, 2), np.stack([between] * 2))
        np.testing.assert_allclose(many, np.stack([expected] * 2), rtol=1e-9, atol=1e-9)


def test_a_network_is_cut_only_where_one_tensor_crosses():
    whole = lowered(network("branches"), (16, 16))
    # Until the image was read for the last time it crosses too.
    late = max(number for number, op in enumerate(whole.ops) if op.source == whole.source)
    assert min(cuts(whole)) > late


def test_a_residual_network_can_be_cut_between_its_blocks():
    whole = lowered(pruned("resnet18", 0.1, size=64), (64, 64))
    assert {whole.shapes[tensor][1] for tensor in cuts(whole).values()} >= {16, 8, 4, 2}
