"""Labels: the supervised control of the paper, an ordinary classifier on the images' own labels.

On all images, or on the part that the recipe's `subset` names: 10 % of the images of each class, or of the classes.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from sslprune.data.device_loader import Batch
from sslprune.data.draws import Draws
from sslprune.errors import DatasetError
from sslprune.pretext.base import Pretext
from sslprune.pretext.options import Options


class Labels(Pretext):
    """One view of each image: V = B. Its head is the last classifier, which the paper never prunes."""

    needs_labels: ClassVar[bool] = True

    def __init__(self, num_features: int, *, num_images: int, num_classes: int, options: Options | None = None) -> None:
        super().__init__(num_features, num_images=num_images, num_classes=num_classes)
        self.classifier = nn.Linear(num_features, num_classes)

    def views(self, batch: Batch, draws: Draws) -> tuple[Tensor, Tensor]:
        if batch.labels is None:
            raise DatasetError("the pretext 'labels' needs labels, and this data has none.", "Choose another pretext.")
        return batch.images, batch.labels

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.classifier(features)
        return logits

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets)
