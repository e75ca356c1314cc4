"""The paper's smaller training sets, as lists that stay the same for ever: a share of the images, or of the classes.

Caron et al. 2020 (Fig. 5, Table 1) train on 10 % of the images of each class and on all images of 10 % of the classes,
but publish neither list; these are ours. An image or a class is chosen by a hash of the data's name, the seed and its
own number, like the test images of `holdout`; so a smaller share is part of every larger one with the same seed.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sslprune.errors import DatasetError, RecipeError

_SPEC = re.compile(r"(images|classes):(0?\.[0-9]+|1|1\.0+)(?::([0-9]{1,9}))?")


@dataclass(frozen=True)
class Spec:
    """Which part of a training set.

    Args:
        kind: "images" takes a share of the images of every class; "classes" all images of a share of the classes.
        fraction: The share, in (0, 1].
        seed: Different seeds give different lists. Not the recipe's: runs with other seeds see the same images.
    """

    kind: Literal["images", "classes"]
    fraction: float
    seed: int = 0

    @classmethod
    def parse(cls, text: str) -> Spec:
        """Read "images:0.1", "classes:0.1", or with a seed "images:0.1:3".

        Raises:
            RecipeError: It is written otherwise.

        >>> Spec.parse("images:0.1")
        Spec(kind='images', fraction=0.1, seed=0)
        """
        match = _SPEC.fullmatch(text)
        if match is None or not float(match[2]) > 0:
            raise RecipeError(
                f"subset = {text!r} is not a part of a data set.",
                'Write "images:0.1", "classes:0.1" or "images:0.1:SEED".',
            )
        return cls("images" if match[1] == "images" else "classes", float(match[2]), int(match[3] or 0))


@dataclass(frozen=True, eq=False)
class Subset:
    """A chosen part of a training set.

    Attributes:
        indices: Which images, int64, ascending.
        classes: Which classes they have, int64, ascending; empty where there are no labels.
    """

    indices: NDArray[np.int64]
    classes: NDArray[np.int64]

    @property
    def text(self) -> str:
        """The list as a file: one image number a line."""
        return "".join(f"{index}\n" for index in self.indices.tolist())

    @property
    def sha256(self) -> str:
        """Of `text`, 64 hex digits: what `sha256sum` says of the file."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def hide(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """The labels that are known, -1 for all others, with the subset's classes numbered from 0.

        Args:
            labels: Of all images, int64 [N].
        """
        hidden = np.full(len(labels), -1, np.int64)
        hidden[self.indices] = np.searchsorted(self.classes, labels[self.indices])
        return hidden


def choose(spec: Spec, labels: NDArray[np.int64] | None, *, data: str, count: int) -> Subset:
    """Choose a part of a training set; the same on every machine, for ever.

    Shares are rounded to whole images of each class (to whole classes), at least one.

    Args:
        spec: Which part.
        labels: Class numbers, int64 [count]; None takes all images as one class.
        data: The data set's name: other data, another list.
        count: Images in the training set.

    Raises:
        DatasetError: There are no images, or classes are to be chosen where there are no labels.

    >>> choose(Spec("images", 0.5), np.array([0, 0, 1, 1, 1, 1]), data="toy", count=6).indices.tolist()
    [0, 4, 5]
    """
    if labels is None and spec.kind == "classes":
        raise DatasetError(f"{data} has no labels to choose classes by.", 'Write subset = "images:...".')
    if count == 0:
        raise DatasetError(f"{data} has no images to choose from.", "Give a data set with images.")
    classes = np.zeros(count, np.int64) if labels is None else labels
    present = np.unique(classes)
    if spec.kind == "classes":
        present = _first(present, spec, data)
        indices = np.flatnonzero(np.isin(classes, present))
    else:
        indices = np.sort(np.concatenate([_first(np.flatnonzero(classes == each), spec, data) for each in present]))
    return Subset(indices.astype(np.int64), present[:0] if labels is None else present)


def _first(numbers: NDArray[np.int64], spec: Spec, data: str) -> NDArray[np.int64]:
    share = max(1, round(spec.fraction * len(numbers)))
    keys = [hashlib.sha256(f"{data}/{spec.kind}/{spec.seed}/{number}".encode()).digest() for number in numbers.tolist()]
    order = sorted(range(len(numbers)), key=keys.__getitem__)
    return np.sort(numbers[order[:share]])
