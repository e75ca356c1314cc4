"""Places205 is counted before it is used."""

from __future__ import annotations

import json

import pytest

from sslprune.data import sources
from sslprune.data.places205 import Counts, open_places205
from sslprune.errors import DatasetError, DatasetMissingError

EXPECTED = Counts(classes=2, images={"train": 5, "val": 2}, per_class={"train": (2, 3), "val": (1, 1)})


@pytest.fixture
def places205(own_places, pictures, encode):
    root = own_places / "root" / "places205"
    for split, counts in {"train": {"abbey": 2, "yard": 3}, "val": {"abbey": 1, "yard": 1}}.items():
        for name, count in counts.items():
            (root / split / name).mkdir(parents=True)
            for number, picture in enumerate(pictures(count)):
                (root / split / name / f"{number}.png").write_bytes(encode(picture))
    return root


def test_a_whole_one_opens(places205):
    (places205 / "counts.json").write_text(
        json.dumps({"train": {"abbey": 2, "yard": 3}, "val": {"abbey": 1, "yard": 1}})
    )
    source = open_places205(size=32, expected=EXPECTED)
    assert (source.name, source.classes) == ("places205", ("abbey", "yard"))
    images, labels = source.labelled("val")
    assert images.shape == (2, 32, 32, 3)
    assert labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "train/yard/2.png").unlink(), r"train has 4 images, not 5"),
        (lambda root: (root / "train/abbey/1.png").unlink(), r"train/abbey has 1 images, not 2 to 3"),
        (
            lambda root: (root / "val/abbey/0.png").rename(root / "val/yard/9.png"),
            r"val/abbey has 0 images, not 1 to 1",
        ),
        (lambda root: (root / "val/zoo").mkdir(), "val has 3 classes, not 2"),
        (
            lambda root: (root / "counts.json").write_text('{"train": {"abbey": 3, "yard": 2}, "val": {}}'),
            r"train/abbey has 2 images, not 3 by counts\.json",
        ),
        (lambda root: (root / "counts.json").write_text("[1]"), r"counts\.json is no manifest"),
        (lambda root: (root / "counts.json").write_text("{"), r"counts\.json is no manifest"),
        (lambda root: (root / "counts.json").write_text('{"train": {"a": "b"}}'), r"counts\.json is no manifest"),
    ],
)
def test_what_is_missing_is_named(places205, spoil, message):
    spoil(places205)
    with pytest.raises(DatasetError, match=message):
        open_places205(size=32, expected=EXPECTED)


def test_the_published_counts_are_the_default(places205):
    with pytest.raises(DatasetError, match="train has 2 classes, not 205"):
        sources.open("places205")


def test_it_is_never_downloaded(own_places):
    with pytest.raises(DatasetMissingError, match="places205 was not found"):
        sources.open("places205", download=True)
