"""The width of what networks give."""

from __future__ import annotations

import pytest
import torch

from sslprune import models
from sslprune.models.width import features


@pytest.mark.parametrize(
    ("arch", "size"),
    [("resnet20_cifar", 32), ("alexnet", 64), ("resnet18", 32), ("vgg11_quarter_onefc", 32), ("test_byobnet", 32)],
)
def test_it_is_the_width_of_the_output(arch: str, size: int) -> None:
    model = models.build(arch, seed=0).eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, size, size)).shape == (1, features(model))
