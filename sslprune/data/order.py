"""In which order images are seen: a function of (seed, round, update) alone, so that any update can be asked for."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from sslprune.data.draws import generator_for
from sslprune.errors import DatasetError

_PASSES_KEPT = 2


class Order:
    """The order of all images: every epoch of every round has one of its own.

    Args:
        images: How many there are.
        batch: Images an update, at most `images`; what an epoch has left over is not seen in it.
        seed: Decides the order.
    """

    def __init__(self, images: int, batch: int, seed: int) -> None:
        self.batch, self.per_epoch = batch, images // batch
        self._images, self._seed = images, seed
        self._epoch: tuple[tuple[int, int], NDArray[np.int64]] | None = None

    def at(self, round_number: int, update: int) -> NDArray[np.int64]:
        """The images of one update, int64 [batch]."""
        epoch, place = divmod(update, self.per_epoch)
        return self._of(round_number, epoch)[place * self.batch : (place + 1) * self.batch]

    def instead(self, round_number: int, update: int, position: int, tries: int) -> int:
        """The image for a place of the batch whose own and whose `tries - 1` substitutes cannot be read.

        First the one that is at the same place of the next update, so that no batch has an image twice; then those
        after it in the epoch's order, from its end on to its start.
        """
        epoch, place = divmod(update, self.per_epoch)
        order = self._of(round_number, epoch)
        return int(order[((place + 1) * self.batch + position + tries - 1) % len(order)])

    def _of(self, round_number: int, epoch: int) -> NDArray[np.int64]:
        key = (round_number, epoch)
        if self._epoch is None or self._epoch[0] != key:
            self._epoch = key, _shuffled(self._images, self._seed, "order", *key)
        return self._epoch[1]


class LabelledOrder:
    """An endless order of the images that have labels: all of them before any comes again.

    Args:
        known: Which images these are, int64, at least one.
        batch: Images an update.
        seed: Decides the order.
    """

    def __init__(self, known: NDArray[np.int64], batch: int, seed: int) -> None:
        self._known, self._batch, self._seed = known, batch, seed
        self._passes: dict[tuple[int, ...], NDArray[np.int64]] = {}

    def at(self, round_number: int, update: int) -> NDArray[np.int64]:
        """The images of one update, int64 [batch]."""
        return self._from(round_number, update * self._batch, self._batch)

    def instead(self, round_number: int, update: int, position: int, tries: int) -> int:
        """See `Order.instead`."""
        return int(self._from(round_number, (update + 1) * self._batch + position + tries - 1, 1)[0])

    def _from(self, round_number: int, first: int, count: int) -> NDArray[np.int64]:
        size = len(self._known)
        passes = range(first // size, (first + count - 1) // size + 1)
        stream = [self._pass(round_number, each) for each in passes]
        start = first - passes.start * size
        return self._known[np.concatenate(stream)[start : start + count]]

    def _pass(self, *key: int) -> NDArray[np.int64]:
        if key not in self._passes:
            if len(self._passes) > _PASSES_KEPT:
                self._passes.clear()
            self._passes[key] = _shuffled(len(self._known), self._seed, "labelled", *key)
        return self._passes[key]


def _shuffled(count: int, *what: object) -> NDArray[np.int64]:
    order: NDArray[np.int64] = torch.randperm(count, generator=generator_for(*what)).numpy()
    return order


def equal_share(batch: int, world: int) -> int:
    """How many images of a global batch each process takes.

    Raises:
        DatasetError: They do not go into equal parts.
    """
    if batch % world:
        raise DatasetError(
            f"a batch of {batch} images does not go into {world} equal parts.",
            f"Train with a number of processes that divides {batch}, or change training.batch.",
        )
    return batch // world


def with_labels(labels: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Which images have a label that is not hidden (-1).

    Raises:
        DatasetError: None has.
    """
    if labels is None or not (known := np.flatnonzero(np.asarray(labels) >= 0)).size:
        raise DatasetError("no image has a label.", "Choose data with labels, or another pretext.")
    return known
