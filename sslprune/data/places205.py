"""Places205 from a folder of class folders, its images counted before a single one is decoded.

A probe on a Places205 that lost images on the way would be no Places205 result, and nothing would show it. (Zhou et
al., "Learning Deep Features for Scene Recognition using Places Database", NIPS 2014.)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sslprune.data import folder, places
from sslprune.data.source import Source
from sslprune.errors import DatasetError

TERMS = "Places205: images under their owners' terms, research use"
CITATION = "B. Zhou, A. Lapedriza, J. Xiao, A. Torralba, A. Oliva, NIPS 2014"
MANIFEST = "counts.json"
"""A file beside the splits that may say how many images each class has: {split: {class: count}}."""


@dataclass(frozen=True)
class Counts:
    """What a data set must hold.

    Attributes:
        classes: How many, in every split.
        images: Split to images in all.
        per_class: Split to the fewest and the most images that a class has.
    """

    classes: int
    images: Mapping[str, int]
    per_class: Mapping[str, tuple[int, int]]


PLACES205 = Counts(
    classes=205,
    images={"train": 2_448_873, "val": 20_500},
    per_class={"train": (5_000, 15_000), "val": (100, 100)},
)
"""As published: 205 scenes, 5,000 to 15,000 training images each and 100 to validate on."""


def open_places205(*, size: int, data_dir: Path | None = None, expected: Counts = PLACES205) -> Source:
    """Find the folder `places205` with `train` and `val`, one folder a class in each, and verify its counts.

    Args:
        size: Height and width of the images: each one's centre square is scaled to it.
        data_dir: The first place to look at.
        expected: What must be there.

    Raises:
        DatasetMissingError: It is in none of the places.
        DatasetError: The counts are others; the message names the first split or class.
    """
    source = folder.open_folder(find_places205(data_dir=data_dir, expected=expected), size=size)
    return replace(source, name="places205", terms=TERMS, citation=CITATION)


def find_places205(*, data_dir: Path | None = None, expected: Counts = PLACES205) -> Path:
    """The folder `places205`, its counts verified; see `open_places205`."""
    looked_at = places.places(data_dir)
    for root in (place / "places205" for place in looked_at):
        if (root / "train").is_dir() and (root / "val").is_dir():
            verify(root, expected)
            return root
    raise places.missing("places205", looked_at, because="sslprune never downloads it.")


def verify(root: Path, expected: Counts) -> None:
    """Count the images of every class, against `expected` and against the folder's own `counts.json` if it has one.

    Raises:
        DatasetError: They differ, or the manifest is none.
    """
    listed = _listed(root / MANIFEST)
    for split, images in expected.images.items():
        found = {path.name: len(folder.image_files(path, deep=True)) for path in folder.subfolders(root / split)}
        if len(found) != expected.classes:
            raise _differs(root / split, f"{len(found)} classes", f"{expected.classes}")
        fewest, most = expected.per_class[split]
        for name, count in found.items():
            if not fewest <= count <= most:
                raise _differs(root / split / name, f"{count} images", f"{fewest} to {most}")
        if sum(found.values()) != images:
            raise _differs(root / split, f"{sum(found.values())} images", f"{images}")
        if listed is not None and found != (wanted := listed.get(split, {})):
            name = min(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
            raise _differs(root / split / name, f"{found.get(name, 0)} images", f"{wanted.get(name, 0)} by {MANIFEST}")


def _listed(path: Path) -> Mapping[str, Mapping[str, int]] | None:
    if not path.exists():
        return None
    try:
        listed = json.loads(path.read_text("utf-8"))
        if all(isinstance(count, int) for classes in listed.values() for count in classes.values()):
            return dict(listed)
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise DatasetError(
            f"{path} is no manifest of counts ({type(error).__name__}).", "Remove or replace it."
        ) from error
    raise DatasetError(f"{path} is no manifest of counts.", "Remove or replace it.")


def _differs(where: Path, found: str, wanted: str) -> DatasetError:
    return DatasetError(
        f"{where} has {found}, not {wanted}.",
        "Unpack Places205 again; for a part of it or for own images, use --data folder:PATH.",
    )
