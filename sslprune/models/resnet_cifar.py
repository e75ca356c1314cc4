"""The small residual networks for 32-pixel images (He et al. 2015, arXiv 1512.03385, section 4.2).

A 3x3 stem of 16 channels, then three stages of n basic blocks with 16, 32 and 64 channels (depth 6n + 2), global
average pool, one classifier. Where a stage changes shape the shortcut is either the paper's option A (take every second
pixel, pad with zero channels, no parameters) or, in the `_proj` networks, a strided 1x1 convolution with batch norm.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from sslprune.models.staged import PooledNet, cifar_cfg, initialise
from sslprune.models.timm_api import BasicBlock, build_model_with_cfg, generate_default_cfgs, register_model

_WIDTHS = (16, 32, 64)


class ZeroPadShortcut(nn.Module):
    """Option A: every second pixel, zero channels added in equal numbers before and after; no parameters.

    Args:
        before: Channels in.
        after: Channels out.

    Attributes:
        pads: Zero channels added before and after.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.pads = ((after - before) // 2,) * 2

    def forward(self, x: Tensor) -> Tensor:
        """Float [N,C,H,W] to float [N,C + sum(pads),ceil(H/2),ceil(W/2)]."""
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, *self.pads))


def projection_shortcut(before: int, after: int) -> nn.Sequential:
    """A 1x1 convolution of stride 2 with batch norm, in the place of option A."""
    return nn.Sequential(nn.Conv2d(before, after, 1, stride=2, bias=False), nn.BatchNorm2d(after))


class CifarResNet(PooledNet):
    """He et al.'s CIFAR ResNet of depth 6 `blocks` + 2, with timm's API.

    State-dict keys are `conv1`, `bn1`, `layer{1,2,3}.{i}.{conv1,bn1,conv2,bn2}`, `fc`, and with `projection`
    `layer{2,3}.0.downsample.{0,1}`. Taps: the stem, then the three stages, each after its last ReLU.

    Args:
        blocks: Basic blocks a stage (3 for ResNet-20, 9 for ResNet-56).
        projection: 1x1 convolutions in the two shape-changing shortcuts instead of option A.
        num_classes: Outputs; 0 gives pooled features [N,64].
        in_chans: Channels of the image.
        global_pool: timm's pool type.
        drop_rate: Dropout before the classifier.
    """

    def __init__(
        self,
        blocks: int,
        *,
        projection: bool = False,
        num_classes: int = 10,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__(num_classes=num_classes, in_chans=in_chans, drop_rate=drop_rate)
        width = _WIDTHS[0]
        self.conv1 = nn.Conv2d(in_chans, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = nn.ReLU(inplace=True)
        self.feature_info.append({"num_chs": width, "reduction": 1, "module": "act1"})
        for index, after in enumerate(_WIDTHS):
            name = f"layer{index + 1}"
            self.add_module(name, _stage(width, after, blocks, projection))
            self.feature_info.append({"num_chs": after, "reduction": 2**index, "module": name})
            width = after
        initialise(self)
        self.attach_head(global_pool)

    def advance(self, tap: int, x: Tensor) -> Tensor:
        """The stem for tap 0, then one stage a tap."""
        if tap == 0:
            stem: Tensor = self.act1(self.bn1(self.conv1(x)))
            return stem
        stage: Tensor = getattr(self, f"layer{tap}")(x)
        return stage


def _stage(before: int, after: int, blocks: int, projection: bool) -> nn.Sequential:
    shortcut = None
    if before != after:
        shortcut = projection_shortcut(before, after) if projection else ZeroPadShortcut(before, after)
    first = BasicBlock(before, after, stride=1 if before == after else 2, downsample=shortcut)
    return nn.Sequential(first, *(BasicBlock(after, after) for _ in range(blocks - 1)))


default_cfgs = generate_default_cfgs(
    {
        name: cifar_cfg("conv1", pool_size=(8, 8))
        for name in ("resnet20_cifar", "resnet56_cifar", "resnet20_cifar_proj", "resnet56_cifar_proj")
    }
)


def _create(variant: str, pretrained: bool, **kwargs: Any) -> CifarResNet:
    model: CifarResNet = build_model_with_cfg(
        CifarResNet, variant, pretrained, feature_cfg={"out_indices": (0, 1, 2, 3)}, **kwargs
    )
    return model


@register_model
def resnet20_cifar(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-20 for 32-pixel images, option A shortcuts."""
    return _create("resnet20_cifar", pretrained, blocks=3, **kwargs)


@register_model
def resnet56_cifar(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-56 for 32-pixel images, option A shortcuts."""
    return _create("resnet56_cifar", pretrained, blocks=9, **kwargs)


@register_model
def resnet20_cifar_proj(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-20 for 32-pixel images, 1x1 convolution shortcuts."""
    return _create("resnet20_cifar_proj", pretrained, blocks=3, projection=True, **kwargs)


@register_model
def resnet56_cifar_proj(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-56 for 32-pixel images, 1x1 convolution shortcuts."""
    return _create("resnet56_cifar_proj", pretrained, blocks=9, projection=True, **kwargs)
