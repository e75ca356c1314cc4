"""PASCAL VOC 2007 as a multi-label classification set, from a VOCdevkit folder or from parquet files.

A label is 1 where an image shows the class, 0 where it shows only instances marked "difficult", and -1 otherwise.
Images are resized to a square, not cropped, as Goyal et al. (2019, arXiv 1905.01235) do for the linear SVMs.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sslprune.data import decode, places
from sslprune.data.cache import cached
from sslprune.data.source import Source, Split
from sslprune.errors import DatasetError
from sslprune.extras import require

_CLASSES = """
    aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant sheep
    sofa train tvmonitor
"""
CLASSES = tuple(_CLASSES.split())
PUBLISHED = {"train": 2501, "val": 2510, "trainval": 5011, "test": 4952}
"""Images in each split as published."""

_TERMS = "images under Flickr's terms of use: research use"
_CITATION = (
    "M. Everingham, L. Van Gool, C. K. I. Williams, J. Winn, A. Zisserman: "
    '"The PASCAL Visual Object Classes Challenge 2007 (VOC2007)"'
)
_IDENTIFIER = re.compile(r"[0-9A-Za-z_]{1,32}")
_MOST_XML = 1 << 20
_HINT = "Fetch VOC 2007 again, or point SSLPRUNE_DATA at another copy."


@dataclass(frozen=True, eq=False)
class MultiLabelSource(Source):
    """A source whose images may show several classes; `split` gives the images without labels.

    Attributes:
        readers_multi: How each split is read, with labels [N,C].
        protocol_splits: What to train on and what to measure on.
    """

    readers_multi: Mapping[str, Callable[[], Split]]
    protocol_splits: tuple[str, str]

    def multi_labelled(self, name: str) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
        """The images uint8 [N,H,W,3] and labels int8 [N,C] (-1 absent, 0 ignored, 1 present) of one split.

        Raises:
            DatasetError: There is no such split, or its files cannot be read.
        """
        if name not in self.readers_multi:
            raise DatasetError(
                f"{self.name} has no split {name!r}.", f"Choose one of: {', '.join(self.readers_multi)}."
            )
        split = self.readers_multi[name]()
        assert split.labels is not None
        return split.images, split.labels.astype(np.int8)


def open_voc07(*, size: int, data_dir: Path | None = None) -> MultiLabelSource:
    """Find the data set; the first place that holds it wins.

    Each place is looked at itself, and its subfolders `voc07`, `VOCdevkit` and `VOC2007`: a folder with `Annotations`,
    `ImageSets` and `JPEGImages` (or with such a `VOC2007`) comes first, one with `train.parquet` and `val.parquet`
    second. The published protocol, trainval -> test, needs all 4,952 test images; with fewer it is train -> val.

    Args:
        size: Height and width that the images are resized to, in pixels.
        data_dir: The first place to look at.

    Raises:
        DatasetMissingError: It is in none of the places.
        DatasetError: It lacks its image lists. Later, when a split is read: an annotation or image is missing or
            unreadable; the message names the file.
        MissingExtraError: It is there as parquet, and pyarrow is not installed.
    """
    if size < 1:
        raise DatasetError(f"Images of {size} pixels cannot be made.", "Give a size of at least 1.")
    looked_at = places.places(data_dir)
    for place in looked_at:
        for folder in (place, place / "voc07", place / "VOCdevkit", place / "VOC2007"):
            for root in (folder, folder / "VOC2007"):
                if all((root / part).is_dir() for part in ("Annotations", "ImageSets", "JPEGImages")):
                    return _devkit(root, size)
            if all((folder / f"{split}.parquet").is_file() for split in ("train", "val")) and _is_voc(folder):
                return _parquet(folder, size)
    raise places.missing("voc07", looked_at, because="sslprune never downloads it.")


def stretched(content: bytes | Path, *, size: int, where: str) -> NDArray[np.uint8]:
    """Decode an image of any measure and resize it to a square, with antialiasing and without cropping.

    Returns:
        RGB, uint8 [size, size, 3].

    Raises:
        DatasetError: It is no image, or is damaged.
    """
    file = content if isinstance(content, Path) else io.BytesIO(content)
    with decode.opened(file, where) as image:
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))


def _source(readers: Mapping[str, tuple[int, Callable[[], Split]]], size: int) -> MultiLabelSource:
    partial_splits = {split: count for split, (count, _) in readers.items() if count != PUBLISHED[split]}
    stated = "".join(
        f"; {split} is {count:,} of {PUBLISHED[split]:,} images" for split, count in partial_splits.items()
    )
    whole = "trainval" in readers and "test" in readers and not {"trainval", "test"} & partial_splits.keys()
    multi = {split: read for split, (_, read) in readers.items()}
    named = [f"{split}{count}" for split, count in partial_splits.items() if split != "trainval"]
    return MultiLabelSource(
        name="-".join(["voc07", *named]),
        classes=CLASSES,
        terms=_TERMS + stated,
        citation=_CITATION,
        size=size,
        readers={split: partial(_without_labels, read) for split, read in multi.items()},
        readers_multi=multi,
        protocol_splits=("trainval", "test") if whole else ("train", "val"),
    )


def _without_labels(read: Callable[[], Split]) -> Split:
    return Split(read().images)


def _devkit(root: Path, size: int) -> MultiLabelSource:
    lists = {split: _identifiers(root, split) for split in PUBLISHED if _list_file(root, split).is_file()}
    if missing := [split for split in ("train", "val") if split not in lists]:
        raise DatasetError(f"{root} lacks {_list_file(root, missing[0])}.", _HINT)
    lists.setdefault("trainval", sorted(lists["train"] + lists["val"]))
    return _source(
        {split: (len(names), partial(_read_devkit, root, split, names, size)) for split, names in lists.items()}, size
    )


def _list_file(root: Path, split: str) -> Path:
    return root / "ImageSets" / "Main" / f"{split}.txt"


def _identifiers(root: Path, split: str) -> list[str]:
    path = _list_file(root, split)
    try:
        names = path.read_text("ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} is no list of images ({error}).", _HINT) from error
    for name in names:
        if not _IDENTIFIER.fullmatch(name):
            raise DatasetError(f"{path}: {name[:40]!r} is no image's name.", _HINT)
    if not names or len(set(names)) != len(names):
        raise DatasetError(f"{path} lists no image, or one twice.", _HINT)
    return names


def _read_devkit(root: Path, split: str, names: Sequence[str], size: int) -> Split:
    annotations = [root / "Annotations" / f"{name}.xml" for name in names]
    pictures = [root / "JPEGImages" / f"{name}.jpg" for name in names]
    for path in (*annotations, *pictures):
        if not os.path.isfile(path):
            raise DatasetError(f"{path} is missing, but {_list_file(root, split)} lists it.", _HINT)

    def read() -> Split:
        labels = np.array([annotated(path) for path in annotations], np.int64)
        images = np.empty((len(pictures), size, size, 3), np.uint8)
        for i, path in enumerate(pictures):
            images[i] = stretched(path, size=size, where=str(path))
        return Split(images, labels)

    return cached(f"voc07-{split}", [*annotations, *pictures], ("voc07", size), read)


def annotated(path: Path) -> NDArray[np.int8]:
    """The labels of one image from its annotation: int8 [20], -1, 0 or 1.

    Raises:
        DatasetError: The file is no annotation: damaged, with entities of its own, too large, or with an unknown class.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_XML + 1)
        # Entities make hostile XML grow or look elsewhere; an annotation has none. UTF-16 (NUL bytes) would hide them.
        if len(content) > _MOST_XML or b"<!" in content.replace(b"<!--", b"") or b"\0" in content:
            raise ValueError("it is larger than 1 MiB, declares a document type, or is not ASCII or UTF-8")
        objects = [
            (str(item.findtext("name")).strip(), int(item.findtext("difficult") or 0))
            for item in ElementTree.fromstring(content).iterfind("object")
        ]
    except (OSError, ValueError, ElementTree.ParseError, LookupError) as error:
        raise DatasetError(f"{path} is no annotation: {ascii(str(error))[1:-1][:200]}.", _HINT) from error
    labels = np.full(len(CLASSES), -1, np.int8)
    for name, difficult in objects:
        if name not in CLASSES:
            raise DatasetError(f"{path} shows {name[:40]!r}, which is no class of VOC 2007.", _HINT)
        labels[CLASSES.index(name)] = max(labels[CLASSES.index(name)], 0 if difficult else 1)
    return labels


def _is_voc(folder: Path) -> bool:
    return {"image", "labels"} <= set(_table(folder / "train.parquet").schema_arrow.names)


def _parquet(folder: Path, size: int) -> MultiLabelSource:
    paths = {split: [folder / f"{split}.parquet"] for split in ("train", "val", "test")}
    paths = {split: files for split, files in paths.items() if files[0].is_file()}
    paths["trainval"] = paths["train"] + paths["val"]
    readers = {}
    for split, files in paths.items():
        rows = sum(_table(path).metadata.num_rows for path in files)
        readers[split] = rows, partial(cached, f"voc07-{split}", files, ("voc07", size), partial(_read, files, size))
    return _source(readers, size)


def _table(path: Path) -> Any:
    arrow = require("pyarrow", extra="parquet", purpose="reading parquet files")
    parquet = require("pyarrow.parquet", extra="parquet", purpose="reading parquet files")
    try:
        return parquet.ParquetFile(path)
    except (arrow.ArrowException, OSError) as error:
        raise DatasetError(f"{path}: not a readable parquet file ({error}).", _HINT) from error


def _read(paths: Sequence[Path], size: int) -> Split:
    images, labels = [], []
    for path in paths:
        for row, (content, label) in enumerate(_rows(path)):
            where = f"{path}: row {row}"
            if not isinstance(content, bytes):
                raise DatasetError(f"{where} has no image.", _HINT)
            if not isinstance(label, list) or len(label) != len(CLASSES) or not set(label) <= {-1, 0, 1}:
                raise DatasetError(f"{where} has labels {str(label)[:80]}, not 20 of -1, 0 and 1.", _HINT)
            images.append(stretched(content, size=size, where=where))
            labels.append(label)
    if not images:
        raise DatasetError(f"{', '.join(map(str, paths))}: no rows.", _HINT)
    return Split(np.stack(images), np.array(labels, np.int64))


def _rows(path: Path) -> Iterator[tuple[object, object]]:
    arrow = require("pyarrow", extra="parquet", purpose="reading parquet files")
    try:
        for batch in _table(path).iter_batches(500, columns=["image", "labels"]):
            for image, label in zip(batch.column("image").to_pylist(), batch.column("labels").to_pylist(), strict=True):
                yield image.get("bytes") if isinstance(image, dict) else image, label
    except (arrow.ArrowException, OSError, KeyError) as error:
        raise DatasetError(f"{path}: damaged ({error}).", _HINT) from error
