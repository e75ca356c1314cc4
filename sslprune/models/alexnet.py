"""AlexNet with torchvision's layers, widths and state-dict keys, so that its checkpoints load (arXiv 1404.5997).

Five convolutions of 64, 192, 384, 256 and 256 channels and two hidden fully connected layers of 4096, without
normalisation. Caron et al. 2020 do not say which AlexNet they prune; the hidden fully connected layers are prunable as
theirs are (their Fig. 9: "everything"), the last one is not.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sslprune.errors import ArchitectureError
from sslprune.models.preprocess import IMAGENET_MEAN, IMAGENET_STD
from sslprune.models.staged import StagedNet, initialise
from sslprune.models.timm_api import build_model_with_cfg, generate_default_cfgs, register_model

_HIDDEN = 4096
# Index in `features` of each tap, its channels and its stride: after the ReLU, the last one after the final max-pool.
_TAPS = ((1, 64, 4), (4, 192, 8), (7, 384, 16), (9, 256, 16), (12, 256, 32))


class AlexNet(StagedNet):
    """AlexNet with timm's API, for images of 63 pixels and more.

    Without a classifier it gives the last hidden layer, [N,4096] (`head_hidden_size`), as timm's VGG does;
    `num_features` counts the channels of `forward_features`. Stages are named `conv1` to `conv5`.

    Args:
        num_classes: Outputs; 0 gives hidden features [N,4096].
        in_chans: Channels of the image.
        global_pool: Only "avg": the map is averaged to 6x6 and flattened, as torchvision does.
        drop_rate: Dropout before each of the two hidden layers.
    """

    def __init__(
        self, *, num_classes: int = 1000, in_chans: int = 3, global_pool: str = "avg", drop_rate: float = 0.5
    ) -> None:
        super().__init__(num_classes=num_classes, in_chans=in_chans, drop_rate=drop_rate)
        self.features = nn.Sequential(
            nn.Conv2d(in_chans, 64, 11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
        )
        self.feature_info += [
            {"num_chs": width, "reduction": stride, "module": f"features.{index}", "name": f"conv{number}"}
            for number, (index, width, stride) in enumerate(_TAPS, 1)
        ]
        self.num_features = _TAPS[-1][1]
        self.head_hidden_size = _HIDDEN
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(
            nn.Dropout(drop_rate),
            nn.Linear(self.num_features * 6 * 6, _HIDDEN),
            nn.ReLU(inplace=True),
            nn.Dropout(drop_rate),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.ReLU(inplace=True),
            nn.Identity(),
        )
        initialise(self, fan="fan_in")
        self.reset_classifier(num_classes, global_pool)

    def advance(self, tap: int, x: Tensor) -> Tensor:
        """The layers of `features` up to the tap's."""
        first = _TAPS[tap - 1][0] + 1 if tap else 0
        for layer in list(self.features)[first : _TAPS[tap][0] + 1]:
            x = layer(x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """The last hidden layer [N,4096] if `pre_logits`, else logits [N,num_classes]."""
        x = torch.flatten(self.avgpool(x), 1)
        *hidden, last = self.classifier
        for layer in hidden:
            x = layer(x)
        return x if pre_logits else last(x)

    def get_classifier(self, name_only: bool = False) -> nn.Module | str:
        """The last layer (Identity where `num_classes` is 0), or its name."""
        return "classifier.6" if name_only else self.classifier[-1]

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a fresh last layer on the network; 0 classes leave the last hidden layer.

        Raises:
            ArchitectureError: A `global_pool` other than "avg".
        """
        if global_pool not in (None, "avg"):
            raise ArchitectureError(
                f"alexnet cannot pool by {global_pool!r}: its hidden layers take a 6x6 map.",
                "Leave global_pool out, or read the map with forward_features().",
            )
        weight = next(self.parameters())
        self.num_classes = num_classes
        last = nn.Linear(_HIDDEN, num_classes) if num_classes > 0 else nn.Identity()
        self.classifier[-1] = last.to(device=weight.device, dtype=weight.dtype).train(self.training)


default_cfgs = generate_default_cfgs(
    {
        "alexnet": {
            "url": "",
            "num_classes": 1000,
            "input_size": (3, 224, 224),
            "pool_size": (6, 6),
            "crop_pct": 0.875,
            "interpolation": "bilinear",
            "mean": IMAGENET_MEAN,
            "std": IMAGENET_STD,
            "first_conv": "features.0",
            "classifier": "classifier.6",
        }
    }
)


@register_model
def alexnet(pretrained: bool = False, **kwargs: Any) -> AlexNet:
    """AlexNet for 224-pixel images."""
    model: AlexNet = build_model_with_cfg(
        AlexNet, "alexnet", pretrained, feature_cfg={"flatten_sequential": True}, **kwargs
    )
    return model
