"""The "modified VGG-19" of Morcos et al. 2019 (arXiv 1906.02773), which Caron et al. 2020 prune on CIFAR-10.

Configuration E of Simonyan and Zisserman (arXiv 1409.1556), 16 convolutions of 3x3, each followed by batch norm; the
final multi-layer perceptron is replaced by one fully connected layer. What the papers leave open is chosen here: a
max-pool after each of the first four blocks, a global average pool after the fifth, convolutions without biases (batch
norm has its own).

Beside it stands a small one of ours for laptops: configuration A, 8 convolutions, a quarter as wide.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from sslprune.models.staged import PooledNet, cifar_cfg, initialise
from sslprune.models.timm_api import build_model_with_cfg, generate_default_cfgs, register_model

Blocks = tuple[tuple[int, int], ...]
"""For each block the width and the number of its convolutions."""

CONFIGURATION_E: Blocks = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
QUARTER_OF_A: Blocks = ((16, 1), (32, 1), (64, 2), (128, 2), (128, 2))


class VggOneFc(PooledNet):
    """A VGG with batch norm and a single classifier layer, with timm's API.

    State-dict keys are `block{1..5}.{i}`, `fc`. Taps: the five blocks, each after its last ReLU; a block begins with
    the max-pool that the one before it is said to end with.

    Args:
        blocks: The five blocks.
        num_classes: Outputs; 0 gives pooled features [N,D], D the last block's width.
        in_chans: Channels of the image.
        global_pool: timm's pool type.
        drop_rate: Dropout before the classifier.
    """

    def __init__(
        self,
        blocks: Blocks = CONFIGURATION_E,
        *,
        num_classes: int = 10,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__(num_classes=num_classes, in_chans=in_chans, drop_rate=drop_rate)
        before = in_chans
        for index, (width, convs) in enumerate(blocks):
            layers: list[nn.Module] = [nn.MaxPool2d(2)] if index else []
            for _ in range(convs):
                layers += [
                    nn.Conv2d(before, width, 3, padding=1, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(inplace=True),
                ]
                before = width
            name = f"block{index + 1}"
            self.add_module(name, nn.Sequential(*layers))
            self.feature_info.append({"num_chs": width, "reduction": 2**index, "module": name})
        initialise(self)
        self.attach_head(global_pool)

    def advance(self, tap: int, x: Tensor) -> Tensor:
        """One block a tap."""
        block: Tensor = getattr(self, f"block{tap + 1}")(x)
        return block


default_cfgs = generate_default_cfgs(
    {name: cifar_cfg("block1.0", pool_size=(2, 2)) for name in ("vgg19_onefc", "vgg11_quarter_onefc")}
)


@register_model
def vgg19_onefc(pretrained: bool = False, **kwargs: Any) -> VggOneFc:
    """The modified VGG-19 for 32-pixel images."""
    model: VggOneFc = build_model_with_cfg(VggOneFc, "vgg19_onefc", pretrained, **kwargs)
    return model


@register_model
def vgg11_quarter_onefc(pretrained: bool = False, **kwargs: Any) -> VggOneFc:
    """A small VGG-11 of the same form for 32-pixel images: 576,432 prunable weights, 9.8 million MACs."""
    model: VggOneFc = build_model_with_cfg(VggOneFc, "vgg11_quarter_onefc", pretrained, blocks=QUARTER_OF_A, **kwargs)
    return model
