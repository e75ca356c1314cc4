"""timm's ResNet-18 and ResNet-50 for 32-pixel images: a 3x3 stem of stride 1 and no max-pool.

Caron et al. 2020 do not state the stem of their CIFAR-10 ResNet-18; this is the usual reading, and gives the 11,159,232
convolution weights that their figures imply.
"""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from sslprune.models.staged import cifar_cfg, initialise
from sslprune.models.timm_api import (
    BasicBlock,
    Bottleneck,
    ResNet,
    build_model_with_cfg,
    generate_default_cfgs,
    register_model,
)


class CifarStemResNet(ResNet):
    """timm's ResNet, its state-dict keys and all, with `conv1` 3x3 of stride 1 and `maxpool` an Identity.

    Batch norm starts at 1 everywhere (timm starts the last one of every block at 0 unless told otherwise).

    Args:
        block: timm's BasicBlock or Bottleneck.
        layers: Blocks in each of the four stages.
        **kwargs: timm's other options.
    """

    def __init__(self, block: Any, layers: tuple[int, ...], **kwargs: Any) -> None:
        super().__init__(block, layers, **{"zero_init_last": False, **kwargs})
        # timm's deep stem is a Sequential; not every version of timm tells `in_chans`.
        old = next(layer for layer in self.conv1.modules() if isinstance(layer, nn.Conv2d))
        width = cast(int, self.feature_info[0]["num_chs"])
        stem = nn.Conv2d(old.in_channels, width, 3, padding=1, bias=False).to(old.weight.device, old.weight.dtype)
        initialise(stem)
        self.add_module("conv1", stem)
        self.add_module("maxpool", nn.Identity())
        for tap, info in enumerate(self.feature_info):
            info["reduction"] = 2 ** max(0, tap - 1)


default_cfgs = generate_default_cfgs({"resnet18_cifar": cifar_cfg("conv1"), "resnet50_cifar": cifar_cfg("conv1")})


@register_model
def resnet18_cifar(pretrained: bool = False, **kwargs: Any) -> CifarStemResNet:
    """ResNet-18 for 32-pixel images."""
    return _create("resnet18_cifar", pretrained, block=BasicBlock, layers=(2, 2, 2, 2), **kwargs)


@register_model
def resnet50_cifar(pretrained: bool = False, **kwargs: Any) -> CifarStemResNet:
    """ResNet-50 for 32-pixel images."""
    return _create("resnet50_cifar", pretrained, block=Bottleneck, layers=(3, 4, 6, 3), **kwargs)


def _create(variant: str, pretrained: bool, **kwargs: Any) -> CifarStemResNet:
    model: CifarStemResNet = build_model_with_cfg(CifarStemResNet, variant, pretrained, **kwargs)
    return model
