"""Data sets that never are in memory: class folders or parquet shards, listed when opened, decoded by the workers.

ImageNet is looked for as `imagenet`, `ILSVRC2012`, `imagenet-1k` or `ILSVRC/Data/CLS-LOC`, with `train` and `val`
sorted into class folders, or with parquet shards named `train*` and `val*` (`validation*`) there or in `data`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np

from sslprune.data import folder, places
from sslprune.data.encoded import EncodedImages, ImageFiles
from sslprune.data.places205 import CITATION, TERMS, find_places205
from sslprune.data.shards import Shards, class_names
from sslprune.data.source import Source
from sslprune.errors import DatasetError, DatasetMissingError

SIZE = 224
"""What networks see of large images, in pixels: random crops in training, the centre in evaluation."""

IMAGENET = {"train": 1_281_167, "val": 50_000}
"""Images of ILSVRC2012, in 1,000 classes."""
CLASSES = 1000

_FOLDERS = ("imagenet", "ILSVRC2012", "imagenet-1k", "ILSVRC/Data/CLS-LOC")


@dataclass(frozen=True, eq=False)
class LargeSource(Source):
    """A data set whose images stay encoded; it has no arrays to give, so `splits` names none.

    Attributes:
        encoded: The images of every part, "train" first.
    """

    encoded: Mapping[str, EncodedImages] = field(repr=False)

    @property
    def train(self) -> EncodedImages:
        """The images to train on."""
        return self.encoded["train"]

    @property
    def val(self) -> EncodedImages:
        """The images to measure on: "val", or "test" where there is none.

        Raises:
            DatasetError: There is neither.
        """
        for name in ("val", "test"):
            if name in self.encoded:
                return self.encoded[name]
        raise DatasetError(f"{self.name} has no val and no test images.", "Put some beside train, in the same classes.")

    def split(self, name: str) -> NoReturn:
        """Refused: the whole does not fit into memory."""
        raise DatasetError(
            f"{self.name} is read image by image, not as an array.",
            "Use `.encoded`, or `sslprune.data.centre.centre_crops` to evaluate.",
        )


def is_large(spec: str) -> bool:
    """Whether `open_large` is the way to it: ImageNet, Places205, or a folder said to be large (`large:PATH`)."""
    return spec in ("imagenet", "places205") or spec.startswith("large:")


def open_large(spec: str, *, data_dir: Path | None = None, size: int = SIZE) -> LargeSource:
    """Find a data set and list it; no image is decoded.

    Args:
        spec: "imagenet"; "places205", whose images are counted first; or "large:PATH" (as well "folder:PATH"), a
            folder that `data.folder` would take or one with parquet shards, whatever its size.
        data_dir: The first place to look at for ImageNet.
        size: Height and width of the crops that networks see, in pixels.

    Raises:
        DatasetMissingError: It is in none of the places, or there is no such folder.
        DatasetError: What was found is not that data set, or the name is unknown.
        MissingExtraError: It is there as parquet, and pyarrow is not installed.
    """
    kind, _, path = spec.partition(":")
    if kind in ("large", "folder") and path:
        return _open_folder(spec, Path(path).expanduser(), size)
    if spec == "imagenet":
        return _open_imagenet(data_dir, size)
    if spec == "places205":
        root = find_places205(data_dir=data_dir)
        classes, encoded = _files(root, folder.given_splits(root))
        return LargeSource("places205", classes, TERMS, CITATION, size, {}, encoded)
    raise DatasetError(f"There is no large data set {spec!r}.", "Choose one of: imagenet, places205, large:PATH.")


def _open_folder(spec: str, root: Path, size: int) -> LargeSource:
    if not root.is_dir():
        raise DatasetMissingError(f"There is no folder {root}.", f"Give the path of a folder of images: {spec}.")
    if "train" in (shards := _shards(root)):
        classes, encoded = _open_shards(shards)
    else:
        listed = folder.given_splits(root) if folder.has_splits(root) else folder.made_splits(root)
        classes, encoded = _files(root, listed)
    return LargeSource(spec, classes, "own images: terms not known to sslprune", "", size, {}, encoded)


def _open_imagenet(data_dir: Path | None, size: int) -> LargeSource:
    looked_at = places.places(data_dir)
    for root in (place / name for place in looked_at for name in _FOLDERS):
        if (root / "train").is_dir() and (root / "val").is_dir():
            train = folder.list_images(root / "train")
            val = folder.in_terms_of(train[0], root / "val", folder.list_images(root / "val"))
            classes, encoded = _files(root, {"train": train, "val": val})
        elif {"train", "val"} <= (found := _shards(root)).keys():
            classes, encoded = _open_shards(found)
        else:
            continue
        if len(classes) != CLASSES:
            raise DatasetError(f"{root} has {len(classes)} classes, not {CLASSES}.", "Use large:PATH for a part of it.")
        counts = {split: len(images) for split, images in encoded.items()}
        part = "".join(f"-{split}{count}" for split, count in counts.items() if count != IMAGENET[split])
        return LargeSource(
            name=f"imagenet{part}",
            classes=classes,
            terms="ImageNet: non-commercial research and education only, images under their owners' terms",
            citation='O. Russakovsky et al.: "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015',
            size=size,
            readers={},
            encoded=encoded,
        )
    raise places.missing("imagenet", looked_at, because="sslprune never downloads it.")


_Opened = tuple[tuple[str, ...], Mapping[str, EncodedImages]]
"""Class names, and the images of every part."""


def _files(root: Path, listed: Mapping[str, tuple[tuple[str, ...], list[Path], list[int]]]) -> _Opened:
    classes = listed["train"][0]
    return classes, {
        split: ImageFiles(
            root,
            (str(path.relative_to(root)) for path in paths),
            np.array(labels, np.int64) if classes else None,
        )
        for split, (_, paths, labels) in listed.items()
    }


def _shards(root: Path) -> dict[str, list[Path]]:
    """The parquet files of every part, in order of their names."""
    found = {}
    for split, pattern in (("train", "train*.parquet"), ("val", "val*.parquet"), ("test", "test*.parquet")):
        if paths := sorted([*root.glob(pattern), *(root / "data").glob(pattern)]):
            found[split] = paths
    return found


def _open_shards(found: Mapping[str, Sequence[Path]]) -> _Opened:
    """The published test set of ImageNet has no labels (-1), so it is left out."""
    names = class_names(found["train"][0])
    encoded = {split: Shards(paths, classes=len(names) or None) for split, paths in found.items() if split != "test"}
    if not names:
        names = tuple(str(label) for label in range(1 + max(int(images.labels.max()) for images in encoded.values())))
    return names, encoded
