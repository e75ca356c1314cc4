"""NPID: every image a class of its own, told apart by a memory of all images (Wu et al., CVPR 2018, arXiv 1805.01978).

The pruning paper states 16,384 negatives on ImageNet, and nothing else; the other constants are ours, taken from the
authors' CIFAR-10 code (`lemniscate.pytorch`).
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
class NPIDOptions(Augmentation):
    """Ours, after the authors' code; views without flips there, so set `training.flip = false`.

    Args:
        temperature: Cosines are divided by it (0.1 on CIFAR-10, 0.07 on ImageNet).
        dimension: Width of the embedding.
        negatives: 0 for the full softmax over all images; k for noise-contrastive estimation with k drawn ones.
        momentum: How much of the old memory stays at an update.
    """

    temperature: float = 0.1
    dimension: int = 128
    negatives: int = 0
    momentum: float = 0.5
    crop: float = 0.2
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.4
    grey: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0.001 <= self.temperature < math.inf, "temperature is at least 0.001")
        require(self.dimension > 0, "dimension is positive")
        require(self.negatives >= 0, "negatives are not below 0")
        require(0 <= self.momentum < 1, "momentum is at least 0 and below 1")


class NPID(Pretext):
    """One view of each image: V = B. Targets are the images' numbers, [B] or, with negatives after each, [B, 1 + k].

    The memory is a buffer: it is in checkpoints, in the state that is rewound to, and on every process the same. It
    starts from random unit vectors (theirs: uniform in a cube of the same mean length).
    """

    options_type = NPIDOptions
    bank: Tensor
    normaliser: Tensor

    def __init__(self, num_features: int, *, num_images: int, num_classes: int, options: Options | None = None) -> None:
        super().__init__(num_features, num_images=num_images, num_classes=num_classes)
        self.options = options if isinstance(options, NPIDOptions) else NPIDOptions()
        self.embedding = nn.Linear(num_features, self.options.dimension)
        self.register_buffer("bank", F.normalize(torch.randn(num_images, self.options.dimension), dim=1))
        self.register_buffer("normaliser", torch.zeros(()))

    def views(self, batch: Batch, draws: Draws) -> tuple[Tensor, Tensor]:
        images, targets = self.options(batch, draws), batch.indices
        if self.options.negatives:
            shape = (len(targets), self.options.negatives)
            drawn = draws.randint(0, len(self.bank), shape).to(targets.device)
            targets = torch.cat([targets[:, None], drawn], 1)
        return images, targets

    def forward(self, features: Tensor) -> Tensor:
        """A point on the unit sphere."""
        return F.normalize(self.embedding(features), dim=1)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The non-parametric softmax (their equation 2), or its noise-contrastive estimate (equations 4 to 7)."""
        similarity = self._similarity(outputs, targets)
        if targets.ndim == 1:
            return F.cross_entropy(similarity, targets)
        # P / (P + k/N) is a sigmoid: of log P - log(k/N), with P = exp(similarity) / Z.
        evidence = (
            similarity - self._log_normaliser(similarity.detach()) - math.log(self.options.negatives / len(self.bank))
        )
        return (F.softplus(-evidence[:, 0]) + F.softplus(evidence[:, 1:]).sum(1)).mean()

    @torch.no_grad()
    def after_update(self, outputs: Tensor, targets: Tensor) -> None:
        """Remember the batch's points: old and new memory are mixed by the momentum and put back on the sphere."""
        images = ranks.gather(targets if targets.ndim == 1 else targets[:, 0])
        points = ranks.gather(outputs).to(self.bank.dtype)
        self.bank[images] = F.normalize(torch.lerp(points, self.bank[images], self.options.momentum), dim=1)

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        """Share of images that are nearest to their own memory, among all or among the drawn."""
        answers = self._similarity(outputs, targets).argmax(1)
        return float((answers == (targets if targets.ndim == 1 else 0)).float().mean() * 100)

    def _similarity(self, outputs: Tensor, targets: Tensor) -> Tensor:
        outputs = outputs.to(torch.promote_types(outputs.dtype, self.bank.dtype))
        bank = self.bank.to(outputs.dtype)
        cosine = outputs @ bank.T if targets.ndim == 1 else torch.einsum("vd,vkd->vk", outputs, bank[targets])
        return cosine / self.options.temperature

    @torch.no_grad()
    def _log_normaliser(self, similarity: Tensor) -> Tensor:
        """log Z, estimated from the first batch and constant from then on, as in their section 3.2."""
        estimate = ranks.mean(similarity.exp().mean() * len(self.bank))
        self.normaliser.copy_(torch.where(self.normaliser > 0, self.normaliser, estimate))
        return self.normaliser.log()
