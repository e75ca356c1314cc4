"""What training asks of a data set: batches by update number."""

from __future__ import annotations

from typing import Protocol

from sslprune.data.device_loader import Batch, Scale
from sslprune.data.draws import Draws


class Loader(Protocol):
    """A data set as batches, each a function of seed, round and update alone.

    With several processes each gets its own images of the global batch, in the same order as one process does.
    """

    @property
    def per_epoch(self) -> int:
        """Updates an epoch, each of the global batch."""
        ...

    @property
    def scale(self) -> Scale:
        """What images are standardised with."""
        ...

    def report(self) -> dict[str, int]:
        """What the training's log says of the data so far, such as how many images were unreadable."""
        ...

    def close(self) -> None:
        """Let go of processes and memory that served the batches; the last call."""
        ...

    def __call__(self, round_number: int, update: int) -> tuple[Batch, Draws]:
        """The batch of one update, and the random numbers from which the pretext may draw more for it."""
        ...
