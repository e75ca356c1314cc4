"""Random pruned networks: the same for the same arguments, and as many weights as were asked for."""

from __future__ import annotations

import pytest
import torch

from sslprune import models
from sslprune.bench.synthetic import MASKS, pruned
from sslprune.errors import ArchitectureError, KeepError


def kept(model):
    return {name: int(weight.count_nonzero()) for name, weight in models.prunable(model).items()}


@pytest.mark.parametrize("mask", MASKS)
def test_counts_are_exact_and_two_draws_equal(mask):
    model, again = (pruned("resnet20_cifar", 0.1, size=32, mask=mask) for _ in range(2))
    other = again.state_dict()
    assert all(torch.equal(tensor, other[name]) for name, tensor in model.state_dict().items())
    prunable = sum(weight.numel() for weight in models.prunable(model).values())
    spare = len(kept(model)) if mask == "uniform" else 0
    assert abs(sum(kept(model).values()) - round(0.1 * prunable)) <= spare
    assert not model.training


def test_masks_differ_in_what_they_leave_of_a_layer():
    sizes = {name: weight.numel() for name, weight in models.prunable(pruned("resnet20_cifar", 1.0, size=32)).items()}
    shares = {
        mask: {
            name: count / sizes[name] for name, count in kept(pruned("resnet20_cifar", 0.1, size=32, mask=mask)).items()
        }
        for mask in MASKS
    }
    assert set(shares["uniform"].values()) <= {round(0.1 * size) / size for size in sizes.values()}
    # Erdos-Renyi-kernel: small layers are denser than large ones.
    assert shares["erk"]["conv1.weight"] > 5 * shares["erk"]["layer3.2.conv2.weight"]
    assert len(set(shares["global"].values())) > 10


def test_what_is_not_there_is_named():
    with pytest.raises(KeepError, match="fractional"):
        pruned("resnet20_cifar", 0.1, size=32, mask="fractional")  # type: ignore[arg-type]
    with pytest.raises(KeepError):
        pruned("resnet20_cifar", 0.0, size=32)
    with pytest.raises(ArchitectureError):
        pruned("resnet21_cifar", 0.1, size=32)
