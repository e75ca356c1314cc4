"""RotNet: tell by which of four rotations an image was turned (Gidaris et al., ICLR 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslprune.data.device_loader import Batch
from sslprune.data.draws import Draws
from sslprune.data.views import rotations
from sslprune.pretext.base import Pretext
from sslprune.pretext.options import Options


class RotNet(Pretext):
    """All four rotations of each image go into one batch: V = 4B.

    The paper does not say so; the original authors' code does it, and reports that it works clearly better than one
    random rotation an image.
    """

    def __init__(self, num_features: int, *, num_images: int, num_classes: int, options: Options | None = None) -> None:
        super().__init__(num_features, num_images=num_images, num_classes=num_classes)
        self.classifier = nn.Linear(num_features, 4)

    def views(self, batch: Batch, draws: Draws) -> tuple[Tensor, Tensor]:
        targets = torch.arange(4, device=batch.images.device).repeat_interleave(len(batch.images))
        return rotations(batch.images), targets

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.classifier(features)
        return logits

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets)
