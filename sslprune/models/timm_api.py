"""The only door to timm: torchvision is cured first, because timm imports it."""

from __future__ import annotations

from sslprune.compat import patch_torchvision

patch_torchvision()

from timm import create_model, is_model, list_models  # noqa: E402
from timm.layers.classifier import create_classifier  # noqa: E402
from timm.models import (  # noqa: E402
    build_model_with_cfg,
    generate_default_cfgs,
    get_pretrained_cfg,
    register_model,
)
from timm.models._features import feature_take_indices  # noqa: E402
from timm.models.resnet import BasicBlock, Bottleneck, ResNet  # noqa: E402

__all__ = [
    "BasicBlock",
    "Bottleneck",
    "ResNet",
    "build_model_with_cfg",
    "create_classifier",
    "create_model",
    "feature_take_indices",
    "generate_default_cfgs",
    "get_pretrained_cfg",
    "is_model",
    "list_models",
    "register_model",
]
