"""What a recipe costs: updates, views, and GPU-hours by the arithmetic of the dense network. Nothing is trained.

An estimate, not a measurement. It counts three passes (forward, and twice that backward) of two operations for each
multiply-accumulate of the prunable weights, and divides by a sustained rate. Pruned rounds cost what the unpruned one
does: a masked dense network saves no time. Heads, batch norm, augmentation and evaluation are left out, and so is
waiting for images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sslprune import models, pretext
from sslprune.config import Recipe
from sslprune.data.device_loader import DeviceLoader
from sslprune.data.large import CLASSES, IMAGENET, SIZE
from sslprune.data.subsets import Spec
from sslprune.errors import DatasetError
from sslprune.models.cost import uses
from sslprune.pretext.base import Pretext
from sslprune.prune.schedule import Round, rounds
from sslprune.setting import span

GPU = "NVIDIA A100"
"""The GPU that the hours are of."""
FLOPS = 40e12
"""Its sustained rate in operations a second, our assumption for bfloat16: 1,630 ResNet-50 images of 224 pixels a
second, four fifths of what NVIDIA's own tuned training reaches in mixed precision (15,977 on eight GPUs:
DeepLearningExamples, PyTorch/Classification/ConvNets). Networks that wait more for memory take longer."""


@dataclass(frozen=True)
class Shape:
    """What must be known of a training set to say what a recipe on it costs.

    Attributes:
        images: How many.
        classes: How many.
        size: Height and width of what networks see, in pixels.
    """

    images: int
    classes: int
    size: int


SHAPES = {
    "digits": Shape(1_297, 10, 32),
    "cifar10": Shape(50_000, 10, 32),
    "cifar100": Shape(50_000, 100, 32),
    "imagenet": Shape(IMAGENET["train"], CLASSES, SIZE),
}
"""The published training sets."""


@dataclass(frozen=True)
class Cost:
    """What a recipe costs.

    Attributes:
        rounds: Trainings, the unpruned one included.
        per_epoch: Updates an epoch.
        updates: Updates of every round, in order.
        views_per_update: Images that the network sees in one.
        macs: Multiply-accumulates of one view, forward, of the prunable weights, dense.
        flop: Operations of the whole run.
    """

    rounds: int
    per_epoch: int
    updates: tuple[int, ...]
    views_per_update: int
    macs: int

    @property
    def views(self) -> int:
        """Images that the network sees in the whole run."""
        return sum(self.updates) * self.views_per_update

    @property
    def flop(self) -> float:
        """Operations of the whole run."""
        return 3 * 2 * float(self.views) * self.macs

    @property
    def gpu_hours(self) -> float:
        """Of `GPU`, at `FLOPS`."""
        return self.flop / FLOPS / 3600


def cost(recipe: Recipe) -> Cost:
    """Count a recipe's work.

    Raises:
        DatasetError: How large its training set is, is not known without reading it.
        ArchitectureError: There is no such network.
        UnknownPretextError: There is no such pretext.
        RecipeError: The pretext has no such option, or the subset is not written like "images:0.1".
    """
    shape = seen(recipe)
    batch = min(recipe.training.batch, shape.images)
    per_epoch = shape.images // batch
    spans = [span(recipe, each, per_epoch) for each in descent(recipe)]
    architecture = models.registered_name(recipe.arch, shape.size)
    network = models.build(architecture, seed=0)
    weights = models.prunable(network)
    macs = sum(weights[name].numel() * count for name, count in uses(network, shape.size).items())
    return Cost(
        rounds=len(spans),
        per_epoch=per_epoch,
        updates=tuple(each.total - each.start for each in spans),
        views_per_update=batch * views_an_image(recipe),
        macs=macs,
    )


def descent(recipe: Recipe) -> list[Round]:
    """The trainings of a recipe: down its ladder, or one on the mask that it names."""
    if recipe.mask.family:
        return [Round(0, 1.0, is_rung=True)]
    return list(rounds(recipe.ladder.rungs, recipe.ladder.per_round))


def seen(recipe: Recipe) -> Shape:
    """The part of its training set that a recipe trains on; for s4l the whole, of which a part has labels."""
    if recipe.data not in SHAPES:
        raise DatasetError(
            f"how many images {recipe.data} has is not known without reading it.",
            f"The cost is stated for: {', '.join(SHAPES)}.",
        )
    whole = SHAPES[recipe.data]
    images = min(whole.images, recipe.limit or whole.images)
    classes = whole.classes
    if recipe.subset:
        spec = Spec.parse(recipe.subset)
        if spec.kind == "classes":
            classes = max(1, round(spec.fraction * classes))
        if not pretext.find(recipe.pretext).mixes_labelled:
            images = max(1, round(spec.fraction * images))
    return Shape(images, classes, whole.size)


def views_an_image(recipe: Recipe) -> int:
    """How many images the network sees for each image of a batch, found by making two images into views."""
    head = build_head(recipe, num_features=8, num_images=2, num_classes=2)
    loader = synthetic(head, images=2, classes=2, size=8, batch=2)
    batch, draws = loader(0, 0)
    return len(head.views(batch, draws)[0]) // 2


def build_head(recipe: Recipe, *, num_features: int, num_images: int, num_classes: int) -> Pretext:
    """The recipe's pretext, its options checked."""
    return pretext.build(
        recipe.pretext,
        num_features,
        num_images=num_images,
        num_classes=num_classes,
        seed=recipe.seed,
        options=recipe.task,
    )


def synthetic(
    head: Pretext, *, images: int, classes: int, size: int, batch: int, device: torch.device | str = "cpu"
) -> DeviceLoader:
    """Noise with labels, as a loader that gives a pretext what it asks for."""
    noise = np.random.default_rng(0).integers(0, 256, (images, size, size, 3), np.uint8)
    return DeviceLoader(
        noise,
        np.arange(images) % classes,
        batch=batch,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        seed=0,
        copies=head.copies,
        labelled=type(head).mixes_labelled,
        device=device,
    )
