"""How many features a network gives."""

from __future__ import annotations

from torch import nn


def features(model: nn.Module) -> int:
    """The width of what a network without classifier gives for an image.

    Not always `num_features`: AlexNet, like timm's VGG, has hidden layers behind its last map (`head_hidden_size`).

    >>> from sslprune.models import build
    >>> features(build("resnet20_cifar")), features(build("alexnet"))
    (64, 4096)
    """
    hidden = getattr(model, "head_hidden_size", None)
    return int(hidden or model.num_features)  # type: ignore[arg-type]
