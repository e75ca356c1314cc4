"""CIFAR-10 and CIFAR-100, from the original pickled batches (torchvision's layout) or from parquet files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from sslprune.data import parquet, pickled, places
from sslprune.data.cache import cached
from sslprune.data.source import Source, Split

SIZE = 32
_TERMS = "no formal licence: free for research with citation; images from 80 Million Tiny Images"
_CITATION = 'A. Krizhevsky: "Learning Multiple Layers of Features from Tiny Images", technical report, 2009'
_CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100_CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
"""


@dataclass(frozen=True)
class Cifar:
    """What sets the two apart.

    Attributes:
        name: The data set, and the folder of parquet files.
        classes: Class names in label order.
        column: The label column in parquet files.
        key: The key of the labels in the original batches.
        pickles: The folder of the original batches.
        batches: File names of the original batches, by split.
        published: Images in each split as published.
        torchvision: The class of `torchvision.datasets` that downloads it.
    """

    name: str
    classes: tuple[str, ...]
    column: str
    key: str
    pickles: str
    batches: dict[str, tuple[str, ...]]
    published: dict[str, int]
    torchvision: str


CIFAR10 = Cifar(
    name="cifar10",
    classes=tuple(_CIFAR10_CLASSES.split()),
    column="label",
    key="labels",
    pickles="cifar-10-batches-py",
    batches={"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
    published={"train": 50_000, "test": 10_000},
    torchvision="CIFAR10",
)
CIFAR100 = Cifar(
    name="cifar100",
    classes=tuple(_CIFAR100_CLASSES.split()),
    column="fine_label",
    key="fine_labels",
    pickles="cifar-100-python",
    batches={"train": ("train",), "test": ("test",)},
    published={"train": 50_000, "test": 10_000},
    torchvision="CIFAR100",
)


def open_cifar(cifar: Cifar, *, data_dir: Path | None = None, download: bool = False) -> Source:
    """Find the data set; the first place that holds it whole wins.

    Every place is looked at itself, and its subfolder named like the data set. In each, the original batches come
    first, parquet files second: `data_batch_*.parquet` or `train*.parquet` beside `test*.parquet`.

    Args:
        cifar: Which of the two.
        data_dir: The first place to look at.
        download: Let torchvision fetch the data set into the user cache if it is nowhere.

    Raises:
        DatasetMissingError: It is in none of the places, or the download failed.
        DatasetError: A file of it is not what it should be.
        MissingExtraError: It is there as parquet, and pyarrow is not installed.
    """
    looked_at = places.places(data_dir)
    for place in looked_at:
        source = _open_in(cifar, place)
        if source is not None:
            return source
    because = _download(cifar, places.downloads()) if download else _incomplete(cifar, looked_at)
    source = _open_in(cifar, places.downloads()) if download and not because else None
    if source is None:
        raise places.missing(cifar.name, looked_at, because=because)
    return source


def _open_in(cifar: Cifar, place: Path) -> Source | None:
    for folder in (place, place / cifar.name):
        for layout in (_pickles, _parquet):
            splits = layout(cifar, folder)
            if splits is not None:
                return _source(cifar, splits)
    return None


@dataclass(frozen=True)
class _Files:
    rows: Callable[[], int]
    read: Callable[[], Split]


def _pickles(cifar: Cifar, folder: Path) -> dict[str, _Files] | None:
    for base in (folder / cifar.pickles, folder):
        paths = {split: tuple(base / name for name in names) for split, names in cifar.batches.items()}
        if all(os.path.isfile(path) for split in paths.values() for path in split):
            return {split: _pickle_files(cifar, split_paths) for split, split_paths in paths.items()}
    return None


def _pickle_files(cifar: Cifar, paths: tuple[Path, ...]) -> _Files:
    shape: dict[str, Any] = {"size": SIZE, "label": cifar.key, "classes": len(cifar.classes)}
    return _Files(rows=lambda: pickled.rows(paths, **shape), read=lambda: pickled.read(paths, **shape))


def _parquet(cifar: Cifar, folder: Path) -> dict[str, _Files] | None:
    train = sorted(folder.glob("data_batch_*.parquet")) or sorted(folder.glob("train*.parquet"))
    test = sorted(folder.glob("test*.parquet"))
    if not train or not test:
        return None
    # A place may be the folder of another data set; one that bears this one's name has to hold it.
    if folder.name != cifar.name and not parquet.has_column(train[0], cifar.column):
        return None
    return {"train": _parquet_files(cifar, "train", train), "test": _parquet_files(cifar, "test", test)}


def _parquet_files(cifar: Cifar, split: str, paths: Sequence[Path]) -> _Files:
    def read() -> Split:
        return parquet.read(paths, size=SIZE, label=cifar.column, classes=len(cifar.classes))

    key = (cifar.name, split, SIZE)
    return _Files(
        rows=lambda: parquet.rows(paths),
        read=lambda: cached(f"{cifar.name}-{split}", paths, key, read),
    )


def _source(cifar: Cifar, splits: dict[str, _Files]) -> Source:
    rows = {split: files.rows() for split, files in splits.items()}
    partial = {split: count for split, count in rows.items() if count != cifar.published[split]}
    stated = "".join(f"; {split} is {count:,} of {cifar.published[split]:,} images" for split, count in partial.items())
    return Source(
        name="-".join([cifar.name, *(f"{split}{count}" for split, count in partial.items())]),
        classes=cifar.classes,
        terms=_TERMS + stated,
        citation=_CITATION,
        size=SIZE,
        readers={split: files.read for split, files in splits.items()},
    )


def _incomplete(cifar: Cifar, looked_at: Sequence[Path]) -> str:
    """Says so where a folder of original batches is there, but not whole."""
    names = [name for batch in cifar.batches.values() for name in batch]
    for base in (folder / cifar.pickles for place in looked_at for folder in (place, place / cifar.name)):
        absent = [name for name in names if not os.path.isfile(base / name)]
        if os.path.isdir(base) and absent:
            return f"{base} lacks {', '.join(absent)}."
    return ""


def _download(cifar: Cifar, root: Path) -> str:
    """Fetch into `root`; returns why that failed, or nothing."""
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"The download failed: {error}."

    from sslprune.compat import patch_torchvision

    patch_torchvision()
    from torchvision import datasets

    try:
        getattr(datasets, cifar.torchvision)(root, download=True)
    except (OSError, RuntimeError, EOFError, HTTPException) as error:
        return f"The download failed: {error}."
    return ""
