"""The random numbers of one update: an image gets the same ones whichever process sees it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor


class Draws:
    """Draws for all images of the global batch, and hands out the numbers of this process's own images.

    With one process these are the numbers of `torch.rand` and `torch.randint`, bit for bit.

    Args:
        generator: On the CPU; every process has the same one, and it moves on alike on all of them.
        images: Images of the global batch.
        first: The first of this process's images.
        count: How many these are; None: all from the first one on.

    >>> [Draws(torch.Generator().manual_seed(0), 4, first, 2).randint(0, 10, (2,)).tolist() for first in (0, 2)]
    [[4, 9], [3, 0]]
    """

    def __init__(self, generator: Generator, images: int, first: int = 0, count: int | None = None) -> None:
        self.generator = generator
        self.images = images
        self.first = first
        self.count = images - first if count is None else count

    def rand(self, *shape: int, dim: int = 0) -> Tensor:
        """Even in [0, 1).

        Args:
            shape: Of what this process gets.
            dim: The axis of the images: P * `count` long, for P copies of each, first copies first.
        """
        return self._own(lambda size: torch.rand(size, generator=self.generator), shape, dim)

    def randint(self, low: int, high: int, shape: Sequence[int], dim: int = 0) -> Tensor:
        """Whole numbers in [low, high), int64; see `rand`."""
        return self._own(lambda size: torch.randint(low, high, size, generator=self.generator), shape, dim)

    def _own(self, draw: Callable[[Sequence[int]], Tensor], shape: Sequence[int], dim: int) -> Tensor:
        copies, left = divmod(shape[dim], self.count)
        if left:
            raise ValueError(f"axis {dim} of {tuple(shape)} is not a multiple of {self.count} images")
        before, after = tuple(shape[:dim]), tuple(shape[dim + 1 :])
        drawn = draw((*before, copies * self.images, *after))
        if self.count == self.images:
            return drawn
        by_image = drawn.view(*before, copies, self.images, *after)
        return by_image.narrow(dim + 1, self.first, self.count).reshape(tuple(shape))


def generator_for(*what: object) -> Generator:
    """A CPU generator whose seed is a hash of its purpose, so that no two purposes share a stream."""
    digest = hashlib.sha256(repr(what).encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
