"""S4L-RotNet: labels where there are some, rotations everywhere (Zhai et al., "S4L", ICCV 2019, arXiv 1905.03670).

Each update takes as many labelled images as images of any kind; all are there in four rotations. The rotation loss is
taken on all of them, the label loss on the four rotations of the labelled ones (their section 4.1), and the two are
added with weight 1, as the pruning paper does. Which images have labels is the recipe's `subset`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslprune.data.device_loader import Batch
from sslprune.data.draws import Draws
from sslprune.data.views import rotations
from sslprune.errors import DatasetError
from sslprune.pretext.base import Pretext
from sslprune.pretext.options import Options, require

_HIDDEN = -1


@dataclass(frozen=True)
class S4LOptions(Options):
    """The one constant.

    Args:
        weight: Of the rotation loss.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        require(0 <= self.weight < math.inf, "weight is not negative")


class S4L(Pretext):
    """Any and labelled images, each in four rotations: V = 8B. Targets [V, 2] are the label, -1 without, and the turns.

    Outputs are the label logits and then the four rotation logits, of one linear layer each.
    """

    options_type = S4LOptions
    needs_labels: ClassVar[bool] = True
    mixes_labelled: ClassVar[bool] = True

    def __init__(self, num_features: int, *, num_images: int, num_classes: int, options: Options | None = None) -> None:
        super().__init__(num_features, num_images=num_images, num_classes=num_classes)
        self.options = options if isinstance(options, S4LOptions) else S4LOptions()
        self.classifier = nn.Linear(num_features, num_classes)
        self.turns = nn.Linear(num_features, 4)

    def views(self, batch: Batch, draws: Draws) -> tuple[Tensor, Tensor]:
        other = batch.labelled
        if other is None or other.labels is None:
            raise DatasetError("the pretext 's4l' needs labels, and this data has none.", "Choose another pretext.")
        images = torch.cat([batch.images, other.images])
        labels = torch.cat([torch.full_like(batch.indices, _HIDDEN), other.labels]).repeat(4)
        turns = torch.arange(4, device=images.device).repeat_interleave(len(images))
        return rotations(images), torch.stack([labels, turns], 1)

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([self.classifier(features), self.turns(features)], 1)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        by_label = F.cross_entropy(outputs[:, :-4], targets[:, 0], ignore_index=_HIDDEN)
        return by_label + self.options.weight * F.cross_entropy(outputs[:, -4:], targets[:, 1])

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        """Share of the labelled views whose label is told."""
        known = targets[:, 0] != _HIDDEN
        return super().score(outputs[known, :-4], targets[known, 0])
