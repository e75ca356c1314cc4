"""A folder of images: unlabelled, or one subfolder a class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from sslprune.data import decode
from sslprune.data.cache import cached
from sslprune.data.holdout import held_out
from sslprune.data.source import Source, Split
from sslprune.errors import DatasetError, DatasetMissingError

SPLITS = ("train", "val", "test")
TEST_FRACTION = 0.2


def open_folder(root: Path, *, size: int) -> Source:
    """Find the images below `root`; files that are no images by their suffix, and hidden ones, are passed over.

    A folder whose images lie in subfolders is labelled: the subfolders are the classes, in alphabetical order. A
    folder with images of its own and no such subfolders is unlabelled. If `root` has nothing but subfolders named
    train, val and test, with train among them, these are the splits, and train says which classes there are.
    Otherwise one image in five, of every class, is the test split, chosen by a hash of its path below `root`.

    Args:
        root: The folder.
        size: Height and width of the images: each one's centre square is scaled to it. In pixels, at least 1.

    Raises:
        DatasetMissingError: There is no such folder.
        DatasetError: There are no images in it, or both images and class folders, or a class that train lacks. Later,
            when a split is read: an image is unreadable; the message names the file.
    """
    if size < 1:
        raise DatasetError(f"Images of {size} pixels cannot be made.", "Give a size of at least 1.")
    if not os.path.isdir(root):
        raise DatasetMissingError(f"There is no folder {root}.", "Give the path of a folder of images: folder:PATH.")
    try:
        splits = given_splits(root) if has_splits(root) else made_splits(root)
    except OSError as error:
        raise DatasetError(f"{root} cannot be listed: {error}.", "Check its permissions.") from error
    classes = next(iter(splits.values()))[0]
    return Source(
        name=f"folder:{root}",
        classes=classes,
        terms="own images: terms not known to sslprune",
        citation="",
        size=size,
        readers={
            split: partial(_read, root, split, paths, labels if classes else None, size)
            for split, (_, paths, labels) in splits.items()
        },
    )


Listed = tuple[tuple[str, ...], list[Path], list[int]]
"""Class names (none if unlabelled), image paths in a fixed order, and a class number for each (0 if unlabelled)."""


def has_splits(root: Path) -> bool:
    """Whether a folder has nothing but folders named like splits, train among them."""
    names = {folder.name for folder in subfolders(root)}
    return "train" in names and names <= set(SPLITS) and not image_files(root, deep=False)


def given_splits(root: Path) -> dict[str, Listed]:
    """Each split's folder as `list_images` gives it, all in terms of the classes of train.

    Raises:
        DatasetError: As `list_images` and `in_terms_of`.
    """
    present = [split for split in SPLITS if (root / split).is_dir()]
    listed = {split: list_images(root / split) for split in present}
    classes = listed["train"][0]
    return {split: in_terms_of(classes, root / split, found) for split, found in listed.items()}


def in_terms_of(classes: tuple[str, ...], folder: Path, found: Listed) -> Listed:
    """What was found in a folder, its labels as numbers of other classes than its own.

    Raises:
        DatasetError: It has a class that is not among them, or none though there are some.
    """
    own, paths, labels = found
    if unknown := sorted(set(own) - set(classes)):
        raise DatasetError(
            f"{folder} has classes that train lacks: {', '.join(unknown[:5])}.", "Rename or remove them."
        )
    if classes and not own:
        raise DatasetError(f"{folder} has no class folders, but train has.", "Sort its images into the same classes.")
    return classes, paths, [classes.index(own[label]) for label in labels] if own else labels


def made_splits(root: Path) -> dict[str, Listed]:
    """A folder without splits, a fifth of each class held out as the test split.

    Raises:
        DatasetError: As `list_images`.
    """
    classes, paths, labels = list_images(root)
    keys = [path.relative_to(root).as_posix() for path in paths]
    test = held_out(np.array(labels, np.int64), keys, round(TEST_FRACTION * len(paths)))
    parts = {"train": np.flatnonzero(~test), "test": np.flatnonzero(test)}
    return {
        split: (classes, [paths[i] for i in rows], [labels[i] for i in rows])
        for split, rows in parts.items()
        if len(rows)
    }


def list_images(folder: Path) -> Listed:
    """The images of a folder: loose ones, or those of its class folders.

    Raises:
        DatasetError: There are both, or none.
    """
    loose = image_files(folder, deep=False)
    by_class = {sub.name: images for sub in subfolders(folder) if (images := image_files(sub, deep=True))}
    if loose and by_class:
        raise DatasetError(
            f"{folder} holds images ({loose[0].name}) beside folders of images ({', '.join(list(by_class)[:3])}).",
            "Use class folders only, or a folder of images only.",
        )
    if not loose and not by_class:
        raise DatasetError(f"There are no images in {folder}.", f"Known are: {', '.join(sorted(decode.SUFFIXES))}.")
    paths = loose + [path for images in by_class.values() for path in images]
    labels = [0] * len(loose) + [label for label, images in enumerate(by_class.values()) for _ in images]
    return tuple(by_class), paths, labels


def subfolders(folder: Path) -> list[Path]:
    """The folders in it that are not hidden, sorted."""
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def image_files(folder: Path, *, deep: bool) -> list[Path]:
    """The image files in it that are not hidden, sorted; with those of its folders if `deep`."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if deep and not name.startswith(".")]
        found += [Path(place, name) for name in files if _is_image(name)]
    return sorted(found)


def _is_image(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in decode.SUFFIXES


def _read(root: Path, split: str, paths: Sequence[Path], labels: Sequence[int] | None, size: int) -> Split:
    def read() -> Split:
        images = np.empty((len(paths), size, size, 3), np.uint8)
        for i, path in enumerate(paths):
            images[i] = decode.square(path, size=size)
        return Split(images, None if labels is None else np.array(labels, np.int64))

    return cached(f"folder-{split}", paths, (labels, size), read)
