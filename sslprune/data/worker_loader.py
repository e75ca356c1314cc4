"""Large data sets as batches by update number: images are decoded, cropped and flipped by worker processes.

Every view is a function of (seed, round, update, place in the global batch, copy): neither the number of workers nor
that of training processes changes a pixel. Updates asked for in sequence are made in advance; a jump, as after a
resume or a new round, starts the workers anew.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sslprune.data.crops import random_crop
from sslprune.data.device_loader import Batch, Channels, Scale
from sslprune.data.draws import Draws, generator_for
from sslprune.data.encoded import EncodedImages
from sslprune.data.order import LabelledOrder, Order, equal_share, with_labels
from sslprune.data.workers import default_workers
from sslprune.errors import DatasetError, SslpruneError

PIECE = 32
"""Images that a worker makes at a time: small, so that what waits between processes is small."""
AHEAD = 2
"""Updates that are made in advance: as many batches, in uint8, wait in shared memory."""
TOLERATED = 0.01
"""The share of the images that may be unreadable before training refuses them."""


class WorkerLoader:
    """A data set of encoded images, as batches by update number.

    An image that cannot be read is skipped: the place goes to another one of the same order (`Order.instead`).

    Args:
        images: The images.
        labels: int64 [N], -1 where a label is hidden; None: there are none, or they are not needed.
        batch: Images of the global batch; with fewer images than that, each batch is the whole set.
        mean: Channel means in [0, 1], subtracted.
        std: Channel deviations in (0, 1], divided by.
        seed: Decides order and views.
        size: Height and width of the views, in pixels: random crops of `crops.AREA`, resized.
        flip: Whether to flip at random.
        copies: Times each image of a batch is there, with a crop and a flip of its own.
        labelled: Whether each batch brings a second one of as many images whose labels are not hidden.
        device: Where the batches go.
        rank: Which part of the global batch this process takes.
        world: In how many parts it goes.
        workers: Processes that decode; 0 decodes in this one. None: see `default_workers`.
        tolerated: Share of the images that may be unreadable, in [0, 1).

    Raises:
        DatasetError: There are no images, none has a label though `labelled` asks for them, or the batch does not go
            into `world` equal parts.
    """

    def __init__(
        self,
        images: EncodedImages,
        labels: NDArray[np.int64] | None,
        *,
        batch: int,
        mean: Channels,
        std: Channels,
        seed: int,
        size: int,
        flip: bool = True,
        copies: int = 1,
        labelled: bool = False,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world: int = 1,
        workers: int | None = None,
        tolerated: float = TOLERATED,
    ) -> None:
        if not len(images):
            raise DatasetError("there are no images.", "Give decoded images, at least one.")
        self.batch = min(batch, len(images))
        share = equal_share(self.batch, world)
        self.labels = labels
        self.scale = Scale(*(torch.tensor(values, device=device).view(1, -1, 1, 1) for values in (mean, std)))
        self.unreadable: dict[int, str] = {}
        """The images that had to be skipped so far, and why."""
        self._seed, self._device, self._copies = seed, torch.device(device), copies
        self._first, self._own = rank * share, share
        self._orders: list[Order | LabelledOrder] = [Order(len(images), self.batch, seed)]
        if labelled:
            self._orders.append(LabelledOrder(with_labels(labels), self.batch, seed))
        self.per_epoch = len(images) // self.batch
        self._allowed = math.floor(tolerated * len(images))
        self._views = _Views(images, self._orders, seed, size, copies, flip, self._allowed)
        self._workers = default_workers() if workers is None else workers
        self._pieces: Iterator[_Piece | SslpruneError] | None = None
        self._next: tuple[int, int] | None = None

    def __call__(self, round_number: int, update: int) -> tuple[Batch, Draws]:
        """The batch of one update, and the random numbers from which the pretext may draw more for it.

        Raises:
            DatasetError: Too many images are unreadable, or a worker died.
        """
        if self._pieces is None or self._next != (round_number, update):
            self.close()
            self._pieces = self._start(round_number, update)
        self._next = (round_number, update + 1)
        batch, *labelled = [self._gather(self._pieces) for _ in self._orders]
        if labelled:
            batch = replace(batch, labelled=labelled[0])
        generator = generator_for(self._seed, "views", round_number, update)
        return batch, Draws(generator, self.batch, self._first, self._own)

    def report(self) -> dict[str, int]:
        """For the log: how many images had to be skipped so far."""
        return {"unreadable": len(self.unreadable)}

    def close(self) -> None:
        """End the workers; the next batch asked for starts them again."""
        # Not left to the garbage collector: an error's traceback would keep the iterator, and so its workers, alive.
        getattr(self._pieces, "_shutdown_workers", _nothing)()
        self._pieces = self._next = None

    def _start(self, round_number: int, update: int) -> Iterator[Any]:
        tasks = _Tasks(round_number, update, len(self._orders), self._first, self._own)
        ahead = math.ceil(AHEAD * len(self._orders) * math.ceil(self._own / PIECE) / max(1, self._workers))
        return iter(
            DataLoader(
                self._views,
                batch_size=None,
                sampler=tasks,
                num_workers=self._workers,
                prefetch_factor=max(2, ahead) if self._workers else None,
                collate_fn=_as_it_is,
            )
        )

    def _gather(self, pieces: Iterator[_Piece | SslpruneError]) -> Batch:
        """The next batch: its pieces copied into one tensor, moved, standardised."""
        parts: list[_Piece] = []
        while sum(len(part.indices) for part in parts) < self._own:
            parts.append(self._received(pieces))
        images = torch.cat([part.images for part in parts], 1).flatten(0, 1)
        indices = torch.cat([part.indices for part in parts])
        labels = None if self.labels is None else torch.from_numpy(self.labels[indices.numpy()]).to(self._device)
        if self._device.type == "cuda":
            images = images.pin_memory()
        pixels = images.to(self._device, non_blocking=True).permute(0, 3, 1, 2).float()
        standardised = pixels.sub_(self.scale.mean * 255).div_(self.scale.std * 255)
        return Batch(standardised, labels, indices.to(self._device), self.scale)

    def _received(self, pieces: Iterator[_Piece | SslpruneError]) -> _Piece:
        try:
            piece = next(pieces)
        except RuntimeError as error:
            self.close()
            if "DataLoader worker" not in str(error):
                raise
            raise DatasetError(
                f"a worker that decodes images has died: {error}",
                "Give it more memory (shared memory, /dev/shm, too), or use fewer workers.",
            ) from error
        if not isinstance(piece, SslpruneError):
            self.unreadable.update(piece.unreadable)
            piece = piece if len(self.unreadable) <= self._allowed else too_many(self.unreadable, self._allowed)
        if isinstance(piece, SslpruneError):
            self.close()
            raise piece
        return piece


@dataclass(frozen=True)
class _Task:
    """A part of one update's images: `count` places of the global batch, from `first` on, of one of the orders."""

    round_number: int
    update: int
    stream: int
    first: int
    count: int


@dataclass(frozen=True)
class _Tasks:
    """The tasks of this process from one update on, without end."""

    round_number: int
    update: int
    streams: int
    first: int
    own: int

    def __iter__(self) -> Iterator[_Task]:
        update = self.update
        while True:
            for stream in range(self.streams):
                for done in range(0, self.own, PIECE):
                    count = min(PIECE, self.own - done)
                    yield _Task(self.round_number, update, stream, self.first + done, count)
            update += 1


@dataclass(frozen=True)
class _Piece:
    """What became of a task: uint8 [P, n, H, W, 3], which images these are, and which were skipped and why."""

    images: Tensor
    indices: Tensor
    unreadable: dict[int, str]


class _Views(Dataset[Any]):
    """Makes tasks into pieces, in a worker."""

    def __init__(
        self,
        images: EncodedImages,
        orders: Sequence[Order | LabelledOrder],
        seed: int,
        size: int,
        copies: int,
        flip: bool,
        allowed: int,
    ) -> None:
        self._images, self._orders, self._allowed = images, orders, allowed
        self._seed, self._size, self._copies, self._flip = seed, size, copies, flip
        self._unreadable: dict[int, str] = {}

    def __getitem__(self, task: _Task) -> _Piece | SslpruneError:
        """Errors are given back rather than raised: torch could not raise them again in the other process."""
        try:
            return self._make(task)
        except SslpruneError as error:
            return error

    def _make(self, task: _Task) -> _Piece:
        order = self._orders[task.stream]
        indices = order.at(task.round_number, task.update)[task.first : task.first + task.count].copy()
        views = np.empty((self._copies, task.count, self._size, self._size, 3), np.uint8)
        before = len(self._unreadable)
        for row in range(task.count):
            position, tries = task.first + row, 0
            while (image := self._read(int(indices[row]))) is None:
                tries += 1
                indices[row] = order.instead(task.round_number, task.update, position, tries)
            for copy in range(self._copies):
                what = (self._seed, "view", task.round_number, task.update, task.stream, position, copy)
                views[copy, row] = random_crop(image, self._size, chance_for(*what), flip=self._flip)
        found = dict(list(self._unreadable.items())[before:])
        return _Piece(torch.from_numpy(views), torch.from_numpy(indices), found)

    def _read(self, index: int) -> Any:
        if index in self._unreadable:
            return None
        try:
            return self._images.read(index)
        except DatasetError as error:
            self._unreadable[index] = error.problem
            if len(self._unreadable) > self._allowed:
                raise too_many(self._unreadable, self._allowed) from error
            return None


def chance_for(*what: object) -> Random:
    """Python's generator, seeded with a hash of its purpose: quicker to make than torch's, one for every view."""
    return Random(int.from_bytes(hashlib.sha256(repr(what).encode()).digest()[:8], "little"))


def too_many(unreadable: dict[int, str], allowed: int) -> DatasetError:
    """The error for more unreadable images than are tolerated."""
    first = next(iter(unreadable.values()))
    return DatasetError(
        f"more than {allowed} images are unreadable, the first one: {first}", "Fetch the data set again."
    )


def _nothing() -> None:
    pass


def _as_it_is(piece: Any) -> Any:
    return piece
