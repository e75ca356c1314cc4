"""Importing this module registers the networks that timm lacks with timm."""

from __future__ import annotations

from sslprune.models import alexnet, resnet_cifar, resnet_cifar_stem, vgg_onefc

OURS: tuple[str, ...] = tuple(
    sorted(name for module in (alexnet, resnet_cifar, resnet_cifar_stem, vgg_onefc) for name in module.default_cfgs)
)
"""timm's names of the networks registered here."""
