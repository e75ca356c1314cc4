from __future__ import annotations

import pytest
import torch
from nets import prune_at_random
from torch import nn

from sslprune import models
from sslprune.graph.fold import fold_batch_norm


@pytest.mark.parametrize(
    ("arch", "size", "left"),
    [("resnet20_cifar", 32, 0), ("resnet18", 64, 0), ("mobilenetv2_100", 64, 0), ("densenet121", 64, 62)],
)
def test_folding_changes_nothing_but_the_number_of_layers(arch, size, left):
    model = prune_at_random(models.build(arch, seed=0), 0.4, 0)
    folded = fold_batch_norm(model, size)
    images = torch.randn(2, 3, size, size, dtype=torch.float64)
    with torch.no_grad():
        expected = model.double()(images)
        found = folded.double()(images)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules()) == left
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_zeros_stay_and_others_do_too():
    model = models.build("resnet20_cifar", seed=0).eval()
    with torch.no_grad():
        for weight in models.prunable(model).values():
            weight[weight.abs() < weight.abs().median()] = 0
    folded = models.prunable(fold_batch_norm(model, 32))
    assert all(torch.equal(weight == 0, folded[name] == 0) for name, weight in models.prunable(model).items())


def test_the_network_given_is_left_alone():
    model = models.build("resnet20_cifar", seed=0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert not fold_batch_norm(model, 32).training
    assert model.training
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in before.items())


class Twice(nn.Module):
    """A convolution that two batch norms follow, and one that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.again = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.one, self.other, self.last = (nn.BatchNorm2d(3) for _ in range(3))

    def forward(self, x):
        x = self.read(x)
        x = self.one(x) + self.other(x)
        return self.last(self.again(self.again(x)))


def test_what_something_else_reads_too_is_not_folded():
    model = prune_at_random(Twice(), 1.0, 0)
    folded = fold_batch_norm(model, 8)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules()) == 3
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(folded(images), model(images))
