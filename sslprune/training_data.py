"""What a recipe trains on: its part of a training set with the labels it may see, and the loader that serves it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sslprune import ranks
from sslprune.config import Recipe, Start
from sslprune.data import sources
from sslprune.data.device_loader import Channels, DeviceLoader, channel_statistics
from sslprune.data.encoded import Chosen, EncodedImages
from sslprune.data.large import LargeSource, is_large, open_large
from sslprune.data.loader import Loader
from sslprune.data.source import Source
from sslprune.data.subsets import Spec, Subset, choose
from sslprune.data.worker_loader import WorkerLoader
from sslprune.errors import RecipeError
from sslprune.models.preprocess import IMAGENET_MEAN, IMAGENET_STD
from sslprune.pretext.base import Pretext


@dataclass(frozen=True, eq=False)
class TrainingData:
    """The images that a pretext sees, and what it may know of them.

    Attributes:
        source: The data set.
        images: uint8 [N, H, W, 3], or images that stay encoded.
        labels: int64 [N], -1 where a label is hidden; None: there are none, or the pretext needs none.
        num_classes: Classes of the labels, 0 without labels.
        mean: Channel means in [0, 1].
        std: Channel deviations, likewise.
        subset: The part of the training set that the recipe names; None: all of it.
    """

    source: Source
    images: NDArray[np.uint8] | EncodedImages
    labels: NDArray[np.int64] | None
    num_classes: int
    mean: Channels
    std: Channels
    subset: Subset | None

    def loader(
        self,
        recipe: Recipe,
        *,
        copies: int,
        labelled: bool,
        device: torch.device | str = "cpu",
        workers: int | None = None,
    ) -> Loader:
        """The images as batches for this process: from the device where they fit, from workers where they do not.

        Args:
            recipe: Batch, seed and views.
            copies: How often each image of a batch is there.
            labelled: Whether each batch brings a second one of labelled images.
            device: Where the batches go.
            workers: Processes that decode encoded images. None: see `data.workers.default_workers`.

        Raises:
            DatasetError: The batch does not go into equal parts for all processes, or no image has a label.
        """
        training = recipe.training
        if isinstance(self.images, EncodedImages):
            return WorkerLoader(
                self.images,
                self.labels,
                batch=training.batch,
                mean=self.mean,
                std=self.std,
                seed=recipe.seed,
                size=self.source.size,
                flip=training.flip,
                copies=copies,
                labelled=labelled,
                device=device,
                rank=ranks.rank(),
                world=ranks.world(),
                workers=workers,
            )
        return DeviceLoader(
            self.images,
            self.labels,
            batch=training.batch,
            mean=self.mean,
            std=self.std,
            seed=recipe.seed,
            padding=training.padding,
            flip=training.flip,
            copies=copies,
            labelled=labelled,
            device=device,
            rank=ranks.rank(),
            world=ranks.world(),
        )


def open_training_data(
    recipe: Recipe, task: type[Pretext], *, data_dir: Path | None = None, download: bool = False
) -> TrainingData:
    """Find a recipe's training set and take its part of it.

    Args:
        recipe: Data, subset, limit, and the constants of its `start`.
        task: Its pretext, which says whether it needs labels.
        data_dir: The first place to look at.
        download: Whether torchvision may fetch a data set that is missing.

    Raises:
        DatasetMissingError: The training data is nowhere.
        DatasetError: It cannot be used.
        RecipeError: The subset is not written like "images:0.1", or `training.padding` is asked for where workers make
            the crops.
    """
    if is_large(recipe.data):
        return _large(recipe, task, open_large(recipe.data, data_dir=data_dir))
    source = sources.open(recipe.data, data_dir=data_dir, download=download)
    train = source.split("train")
    images, labels = train.images[: recipe.limit], None if train.labels is None else train.labels[: recipe.limit]
    rows, known, num_classes, subset = _part(recipe, task, source, labels, len(images))
    images = images if rows is None else images[rows]
    mean, std = _constants(recipe.start) or channel_statistics(images)
    return TrainingData(source, images, known, num_classes, mean, std, subset)


def _large(recipe: Recipe, task: type[Pretext], source: LargeSource) -> TrainingData:
    if recipe.training.padding:
        raise RecipeError(
            f"training.padding = {recipe.training.padding} does not go with {source.name}.",
            "Write padding = 0: the workers that decode these images make random crops of them.",
        )
    images = source.train
    if recipe.limit is not None and recipe.limit < len(images):
        images = Chosen(images, np.arange(recipe.limit))
    rows, known, num_classes, subset = _part(recipe, task, source, images.labels, len(images))
    images = images if rows is None else Chosen(images, rows)
    mean, std = _constants(recipe.start) or (IMAGENET_MEAN, IMAGENET_STD)
    return TrainingData(source, images, known, num_classes, mean, std, subset)


def _part(
    recipe: Recipe, task: type[Pretext], source: Source, labels: NDArray[np.int64] | None, count: int
) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None, int, Subset | None]:
    """Which images there are (None: all), their labels as far as they are needed, the classes of these, the subset."""
    needed = labels if task.needs_labels else None
    if not recipe.subset:
        return None, needed, len(source.classes) if task.needs_labels else 0, None
    subset = choose(Spec.parse(recipe.subset), labels, data=source.name, count=count)
    known = None if needed is None else subset.hide(needed)
    if task.mixes_labelled:
        return None, known, len(subset.classes), subset
    rows = subset.indices
    return rows, None if known is None else known[rows], 0 if known is None else len(subset.classes), subset


def _constants(start: Start) -> tuple[Channels, Channels] | None:
    if not start.mean:
        return None
    (red, green, blue), (reds, greens, blues) = start.mean, start.std
    return (red, green, blue), (reds, greens, blues)
