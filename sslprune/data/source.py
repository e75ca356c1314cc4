"""What a data set is to the rest of the library: named splits of equally large RGB images, read when asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sslprune.errors import DatasetError


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set.

    Attributes:
        images: RGB, uint8 `[N, H, W, 3]`. May be a private mapping of a file: writing to it never reaches the file.
        labels: Class numbers, int64 `[N]`, or None where the data set has no labels.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class Source:
    """A data set that was found; nothing is decoded before `split` is called.

    Attributes:
        name: The name results are filed under; parts of a published set carry their size, as in `cifar100-train5000`.
        classes: Class names in label order; empty where there are no labels.
        terms: Licence or terms of use, one line.
        citation: Whom to cite; empty for own images.
        size: Height and width of every image, in pixels.
        readers: How each split is read, in the order `splits` gives.
    """

    name: str
    classes: tuple[str, ...]
    terms: str
    citation: str
    size: int
    readers: Mapping[str, Callable[[], Split]] = field(repr=False)

    def splits(self) -> tuple[str, ...]:
        """The names that `split` knows."""
        return tuple(self.readers)

    def split(self, name: str) -> Split:
        """Read one split.

        Raises:
            DatasetError: There is no such split, or its files cannot be read.
        """
        if name not in self.readers:
            raise DatasetError(f"{self.name} has no split {name!r}.", f"Choose one of: {', '.join(self.readers)}.")
        return self.readers[name]()

    def labelled(self, name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The images and labels of one split.

        Raises:
            DatasetError: There is no such split, or it has no labels.
        """
        split = self.split(name)
        if split.labels is None:
            raise DatasetError(f"{self.name} has no labels.", "Give one folder a class, or choose another data set.")
        return split.images, split.labels
