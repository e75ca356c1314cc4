"""Exemplar: copies of one image shall lie nearer to each other than to any other image (triplet margin loss).

The paper (section 2 and supplement 6.4) takes the triplet form after Doersch & Zisserman (ICCV 2017), of the idea of
Dosovitskiy et al. (NeurIPS 2014), with colour changes and small random rotations besides crops and flips. It leaves all
constants open; those below are ours, taken where a source is named.
"""

from __future__ import annotations

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
class ExemplarOptions(Augmentation):
    """Ours, all of them.

    Args:
        margin: Between squared distances on the unit sphere, 0 to 4 (Kolesnikov et al., CVPR 2019, code: 0.5).
        copies: Views of each image, at least 2 (theirs: 8).
        dimension: Width of the embedding (theirs: 1000).
        grey: Theirs: 0.66.
        degrees: Dosovitskiy et al.: 20.
    """

    margin: float = 0.5
    copies: int = 8
    dimension: int = 1000
    degrees: float = 20.0
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    grey: float = 0.66

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.margin <= 4, "margin is above 0 and at most 4")
        require(self.copies >= 2, "copies are at least 2")
        require(self.dimension > 0, "dimension is positive")


class Exemplar(Pretext):
    """Several copies of each image, each with crop, flip, rotation and colours of its own: V = copies * B.

    Several processes mine among the images of all: each computes the loss of the global batch.
    """

    options_type = ExemplarOptions

    def __init__(self, num_features: int, *, num_images: int, num_classes: int, options: Options | None = None) -> None:
        super().__init__(num_features, num_images=num_images, num_classes=num_classes)
        self.options = options if isinstance(options, ExemplarOptions) else ExemplarOptions()
        self.copies = self.options.copies
        self.embedding = nn.Linear(num_features, self.options.dimension)

    def views(self, batch: Batch, draws: Draws) -> tuple[Tensor, Tensor]:
        return self.options(batch, draws), batch.indices.repeat(self.copies)

    def forward(self, features: Tensor) -> Tensor:
        """A point on the unit sphere (their code divides by the norm over the batch, unintended as it seems)."""
        return F.normalize(self.embedding(features), dim=1)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean over all ordered pairs of copies of one image: max(0, margin + d(pair) - d(its mined negative))."""
        targets, distance = ranks.gather(targets), squared_distances(ranks.gather_learning(outputs))
        same = targets[:, None] == targets
        losses = []
        for positive in partners(targets, self.copies):
            negative = semi_hard(distance.detach(), same, positive)
            near, far = (distance.gather(1, chosen[:, None])[:, 0] for chosen in (positive, negative))
            losses.append(F.relu(self.options.margin + near - far))
        return torch.stack(losses).mean()

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        """Share of views whose nearest other view is of the same image."""
        targets, outputs = ranks.gather(targets), ranks.gather(outputs)
        nearest = squared_distances(outputs).fill_diagonal_(torch.inf).argmin(1)
        return float((targets[nearest] == targets).float().mean() * 100)


def squared_distances(points: Tensor) -> Tensor:
    """Squared Euclidean distances [V, V] of unit vectors [V, D]."""
    return 2 - 2 * (points @ points.T)


def partners(targets: Tensor, copies: int) -> list[Tensor]:
    """For every view [V] its first, second, ... other copy: `copies - 1` lists of view numbers, int64 [V].

    Args:
        targets: int64 [V], each value `copies` times, in any order.
        copies: How often.
    """
    groups = targets.argsort(stable=True).view(-1, copies)
    listed = []
    for step in range(1, copies):
        partner = torch.empty_like(targets)
        partner[groups] = groups.roll(-step, 1)
        listed.append(partner)
    return listed


def semi_hard(distance: Tensor, same: Tensor, positive: Tensor) -> Tensor:
    """The negative of every (view, positive) pair: the nearest one that is farther away than the positive.

    Schroff et al., "FaceNet", CVPR 2015, section 3.2, in the deterministic form of TensorFlow's semi-hard triplet loss:
    where no negative is farther than the positive, the farthest one.

    Args:
        distance: [V, V].
        same: bool [V, V], which views show the same image.
        positive: int64 [V].

    Returns:
        int64 [V].
    """
    farther = ~same & (distance > distance.gather(1, positive[:, None]))
    nearest = distance.masked_fill(~farther, torch.inf).argmin(1)
    farthest = distance.masked_fill(same, -torch.inf).argmax(1)
    return torch.where(farther.any(1), nearest, farthest)
