"""Small data sets as uint8 on the training device: batches are indexed, cropped and flipped there.

Every batch is a function of (seed, round, update) alone, so a resumed run needs no random state to be stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslprune.data import views
from sslprune.data.draws import Draws, generator_for
from sslprune.data.order import LabelledOrder, Order, equal_share, with_labels
from sslprune.errors import DatasetError

Channels = tuple[float, float, float]
"""One number for red, green and blue."""


@dataclass(frozen=True)
class Scale:
    """The channel constants with which images were standardised, each [1, 3, 1, 1] or a scalar, in [0, 1]."""

    mean: Tensor = field(default_factory=lambda: torch.zeros(()))
    std: Tensor = field(default_factory=lambda: torch.ones(()))

    def standardise(self, images: Tensor) -> Tensor:
        """From [0, 1]."""
        return (images - self.mean) / self.std

    def undo(self, images: Tensor) -> Tensor:
        """Back to [0, 1], where colours are changed."""
        return (images * self.std + self.mean).clamp(0, 1)


@dataclass(frozen=True)
class Batch:
    """B images of the training set, cropped and flipped: those that this process has of the global batch.

    Attributes:
        images: [P * B, 3, H, W], float32, scaled to mean 0 and deviation 1. With P copies, each has its own crop and
            flip; the first copies of all images come first, then all second ones.
        labels: [B], int64; -1 where the label is hidden. None: the data has none, or they are not needed.
        indices: [B], int64: which images of the training set they are.
        scale: What `images` were scaled with.
        labelled: As many images again, all with labels; None where the loader was not asked for them.
    """

    images: Tensor
    labels: Tensor | None
    indices: Tensor
    scale: Scale = field(default_factory=Scale)
    labelled: Batch | None = None


class DeviceLoader:
    """A data set on the device, as batches by update number.

    Args:
        images: uint8 [N, H, W, 3].
        labels: int64 [N], -1 where a label is hidden, or None.
        batch: Images of the global batch; with fewer images than that, each batch is the whole set.
        mean: Channel means in [0, 1], subtracted.
        std: Channel deviations in (0, 1], divided by.
        seed: Decides order and views.
        padding: See `views.crop`.
        flip: Whether to flip at random.
        copies: Times each image of a batch is there, with a crop and a flip of its own.
        labelled: Whether each batch brings a second one of as many images whose labels are not hidden. These come in an
            order of their own, all of them before any comes again.
        device: Where the images live.
        rank: Which part of the global batch this process takes.
        world: In how many parts it goes.

    Raises:
        DatasetError: `images` are no pictures, none has a label though `labelled` asks for them, or the batch does not
            go into `world` equal parts.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray | None,
        *,
        batch: int,
        mean: Channels,
        std: Channels,
        seed: int,
        padding: int = 0,
        flip: bool = False,
        copies: int = 1,
        labelled: bool = False,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or len(images) == 0:
            raise DatasetError(
                f"images are {images.dtype} {images.shape}, not uint8 [N, H, W, 3].",
                "Give decoded images, at least one.",
            )
        self.batch = min(batch, len(images))
        share = equal_share(self.batch, world)
        self.images = torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2).contiguous()
        self.labels = None if labels is None else torch.from_numpy(np.asarray(labels, np.int64)).to(device)
        self._own = slice(rank * share, (rank + 1) * share)
        self._order = Order(len(images), self.batch, seed)
        self._labelled = LabelledOrder(with_labels(labels), self.batch, seed) if labelled else None
        self.per_epoch = self._order.per_epoch
        self.scale = Scale(*(torch.tensor(values, device=device).view(1, -1, 1, 1) for values in (mean, std)))
        self._seed, self._padding, self._flip, self._copies = seed, padding, flip, copies

    def report(self) -> dict[str, int]:
        """Nothing: all images were read before the training."""
        return {}

    def close(self) -> None:
        """Nothing to do: the images go with the loader."""

    def __call__(self, round_number: int, update: int) -> tuple[Batch, Draws]:
        """The batch of one update, and the random numbers from which the pretext may draw more for it."""
        generator = generator_for(self._seed, "views", round_number, update)
        draws = Draws(generator, self.batch, self._own.start, self._own.stop - self._own.start)
        batch = self._views(self._order.at(round_number, update), draws)
        if self._labelled is not None:
            batch = replace(batch, labelled=self._views(self._labelled.at(round_number, update), draws))
        return batch, draws

    def _views(self, chosen: NDArray[np.int64], draws: Draws) -> Batch:
        indices = torch.from_numpy(chosen[self._own]).to(self.images.device)
        images = views.crop(self.images[indices.repeat(self._copies)], self._padding, draws)
        if self._flip:
            images = views.flip(images, draws)
        mean, std = self.scale.mean * 255, self.scale.std * 255
        labels = None if self.labels is None else self.labels[indices]
        return Batch((images.float() - mean) / std, labels, indices, self.scale)


def channel_statistics(images: np.ndarray) -> tuple[Channels, Channels]:
    """Mean and standard deviation of each channel of uint8 [N, H, W, 3] images, in [0, 1], rounded to 4 digits.

    Computed from exact integer sums; a deviation of zero becomes one, so that a constant channel stays finite.
    """
    counts = [np.bincount(images[..., channel].ravel(), minlength=256) for channel in range(3)]
    red, green, blue = (_mean_and_deviation(count) for count in counts)
    return (red[0], green[0], blue[0]), (red[1], green[1], blue[1])


def _mean_and_deviation(counts: np.ndarray) -> tuple[float, float]:
    levels, total = np.arange(256), int(counts.sum())
    mean = int(counts @ levels) / total / 255
    variance = int(counts @ levels**2) / total / 255**2 - mean * mean
    return round(mean, 4), round(max(0.0, variance) ** 0.5, 4) or 1.0
