"""Images or features with labels: what every evaluation takes, checked once, with messages that say what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Generator, Tensor

from sslprune.errors import DatasetError

Images: TypeAlias = "np.ndarray[Any, Any] | Tensor"
"""uint8 [N,H,W,3], or already pre-processed float [N,3,H,W]."""

Labels: TypeAlias = "np.ndarray[Any, Any] | Tensor | Sequence[int]"
"""Integers [N], from 0."""

Labelled: TypeAlias = "tuple[Images, Labels]"

HELD_OUT = 0.1
"""The share of the training set that chooses constants and stages, everywhere; the test set chooses nothing."""


def label_tensor(labels: Labels, count: int, *, what: str = "train") -> Tensor:
    """Labels as int64 [count].

    Raises:
        DatasetError: They are not integers from 0, or not one an image.
    """
    tensor = torch.as_tensor(np.array(labels) if not isinstance(labels, Tensor) else labels).cpu()
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise DatasetError(f"the {what} labels are {tensor.dtype}.", "Give integers from 0 to classes - 1.")
    if tuple(tensor.shape) != (count,):
        raise DatasetError(
            f"{count} {what} images go with labels of shape {tuple(tensor.shape)}.",
            "Give one label an image.",
        )
    if count == 0:
        raise DatasetError(f"the {what} set is empty.", "Give at least one labelled image.")
    if tensor.min() < 0:
        raise DatasetError(f"a {what} label is {int(tensor.min())}.", "Leave out unlabelled images; labels start at 0.")
    return tensor.long()


def label_shape(labels: Any, count: int, *, what: str = "train") -> Tensor:
    """Multi-label labels as int8 [count,C]: 1 present, 0 to be ignored ("difficult"), -1 absent.

    Raises:
        DatasetError: They are anything else.
    """
    tensor = torch.as_tensor(np.array(labels) if not isinstance(labels, Tensor) else labels).cpu()
    whole = not tensor.is_floating_point() and not tensor.is_complex() and tensor.dtype != torch.bool
    if tensor.ndim != 2 or len(tensor) != count or 0 in tensor.shape or not whole:
        raise DatasetError(
            f"{count} {what} images go with labels {tensor.dtype} {tuple(tensor.shape)}, not integers [N,C].",
            "Give -1 (absent), 0 (ignored) or 1 (present) for each image and class.",
        )
    strange = tensor[(tensor < -1) | (tensor > 1)]
    if len(strange):
        raise DatasetError(f"a {what} label is {int(strange[0])}.", "Give -1 (absent), 0 (ignored), 1 (present).")
    return tensor.to(torch.int8)


def check_features(features: Tensor, *, what: str = "train", width: int | None = None) -> Tensor:
    """Float32 features [N,D], finite.

    Raises:
        DatasetError: They have another form, another width than `width`, or hold a number that is not finite.
    """
    if features.ndim != 2 or not features.is_floating_point() or 0 in features.shape:
        raise DatasetError(
            f"the {what} features are {features.dtype} {tuple(features.shape)}, not float [N,D].",
            "Extract them with sslprune.evaluate.features.extract.",
        )
    if width is not None and features.shape[1] != width:
        raise DatasetError(
            f"the {what} features are {features.shape[1]} wide, the training features {width}.",
            "Extract both from the same stage, with the same pool size, from images of one size.",
        )
    features = features.float()
    # A sum is finite only if every term is, and makes no mask as large as the features.
    if not bool(features.sum(dtype=torch.float64).isfinite()):
        row = int((~features.isfinite()).any(1).nonzero()[0])
        raise DatasetError(
            f"the {what} features of image {row} are not finite.",
            "Check the network's weights (did its training diverge?) and the pre-processed images.",
        )
    return features


def class_names(labels: Tensor, classes: Sequence[str] | None) -> tuple[str, ...]:
    """The names given, or "0", "1", ... up to the largest label.

    Raises:
        DatasetError: A label has no name, or a name stands twice.
    """
    many = int(labels.max()) + 1
    if classes is None:
        return tuple(str(label) for label in range(many))
    if many > len(classes) or len(set(classes)) != len(classes):
        raise DatasetError(
            f"{len(set(classes))} distinct class names cannot name the labels 0 to {many - 1}.",
            "Give one name a class, all different, in label order.",
        )
    return tuple(classes)


def hold_out(labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Split a training set, class by class: a tenth of each class is held out, at least one image of each that has two.

    Args:
        labels: int64 [N].
        seed: Decides which images.

    Returns:
        Positions of the rest and of the held-out images, int64, each ascending.

    Raises:
        DatasetError: There is one class only, or no class has two images.

    >>> rest, held = hold_out(torch.tensor([0] * 20 + [1] * 10 + [2]), seed=0)
    >>> len(rest), len(held)
    (28, 3)
    """
    generator = Generator().manual_seed(seed)
    held = []
    present = labels.unique()
    if len(present) < 2:
        raise DatasetError(
            f"all {len(labels)} training labels are {int(present[0])}.", "Give images of two classes at least."
        )
    for label in present:
        members = (labels == label).nonzero()[:, 0]
        shuffled = members[torch.randperm(len(members), generator=generator)]
        held.append(shuffled[: max(1, round(HELD_OUT * len(members))) if len(members) > 1 else 0])
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    chosen[torch.cat(held)] = True
    if not chosen.any():
        raise DatasetError(
            "no class has two training images, so none can be held out.", "Give two images of some class at least."
        )
    return (~chosen).nonzero()[:, 0], chosen.nonzero()[:, 0]
