"""SimCLR: find the other view of the same image in the batch (Chen et al., ICML 2020, arXiv 2002.05709).

Not in the pruning paper: it shows that a later pretext is one file, too. Constants are those of SimCLR's CIFAR-10
appendix (B.9); the loss is its equation 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslprune import ranks
from sslprune.data.device_loader import Batch
from sslprune.data.draws import Draws
from sslprune.pretext.augment import Augmentation
from sslprune.pretext.base import Pretext
from sslprune.pretext.options import Options, require


@dataclass(frozen=True)
class SimCLROptions(Augmentation):
    """SimCLR's; its crops need no padding, so set `training.padding = 0`.

    Args:
        temperature: Cosines are divided by it.
        dimension: Width of the projection, after a hidden layer as wide as the features.
    """

    temperature: float = 0.5
    dimension: int = 128
    crop: float = 0.08
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    jitter: float = 0.8
    grey: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0.001 <= self.temperature < math.inf, "temperature is at least 0.001")
        require(self.dimension > 0, "dimension is positive")


class SimCLR(Pretext):
    """Two views of each image: V = 2B. Several processes compare the images of all, as one would."""

    options_type = SimCLROptions
    copies = 2

    def __init__(self, num_features: int, *, num_images: int, num_classes: int, options: Options | None = None) -> None:
        super().__init__(num_features, num_images=num_images, num_classes=num_classes)
        self.options = options if isinstance(options, SimCLROptions) else SimCLROptions()
        self.projection = nn.Sequential(
            nn.Linear(num_features, num_features), nn.ReLU(), nn.Linear(num_features, self.options.dimension)
        )

    def views(self, batch: Batch, draws: Draws) -> tuple[Tensor, Tensor]:
        return self.options(batch, draws), batch.indices.repeat(2)

    def forward(self, features: Tensor) -> Tensor:
        """A point on the unit sphere."""
        return F.normalize(self.projection(features), dim=1)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """NT-Xent: cross-entropy of each view's partner among all other views."""
        targets, outputs = ranks.gather(targets), ranks.gather_learning(outputs)
        return F.cross_entropy(_others(outputs) / self.options.temperature, _partner(targets))

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        """Share of views whose nearest other view is their partner."""
        targets, outputs = ranks.gather(targets), ranks.gather(outputs)
        return super().score(_others(outputs), _partner(targets))


def _others(points: Tensor) -> Tensor:
    """Cosines [V, V], each view's with itself out of the question."""
    itself = torch.eye(len(points), dtype=torch.bool, device=points.device)
    return (points @ points.T).masked_fill(itself, -torch.inf)


def _partner(targets: Tensor) -> Tensor:
    pairs = targets.argsort(stable=True).view(-1, 2)
    partner = torch.empty_like(targets)
    partner[pairs] = pairs.flip(1)
    return partner
