"""Decoded once, mapped from then on."""

import json
import os

import numpy as np
import pytest

from sslprune.data.cache import cached
from sslprune.data.source import Split

pytestmark = pytest.mark.usefixtures("own_places")


class Reader:
    """Reads, and counts how often."""

    def __init__(self, images, labels):
        self.split = Split(images, labels)
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return self.split


@pytest.fixture
def reader(pictures):
    return Reader(pictures(5), np.arange(5))


@pytest.fixture
def file(own_places):
    path = own_places / "source.parquet"
    path.write_text("some content")
    return path


@pytest.fixture
def entry(own_places):
    def entry():
        (folder,) = (own_places / "cache" / "data").iterdir()
        return folder

    return entry


def agree(one, other):
    same_labels = (one.labels is None and other.labels is None) or (one.labels == other.labels).all()
    return (one.images == other.images).all() and same_labels


def test_read_once(reader, file):
    for _ in range(3):
        assert agree(cached("set", [file], 0, reader), reader.split)
    assert reader.calls == 1


def test_unlabelled_stays_unlabelled(pictures, file):
    reader = Reader(pictures(2), None)
    assert cached("set", [file], 0, reader).labels is None
    assert cached("set", [file], 0, reader).labels is None
    assert reader.calls == 1


@pytest.mark.parametrize("touch", [lambda p: p.write_text("other length"), lambda p: os.utime(p, (1, 1))])
def test_a_changed_file_is_read_again(reader, file, touch):
    cached("set", [file], 0, reader)
    touch(file)
    cached("set", [file], 0, reader)
    assert reader.calls == 2


def test_another_key_or_name_or_file_is_another_entry(reader, file, own_places):
    other = own_places / "other.parquet"
    other.write_text("some content")
    for name, files, key in [("set", [file], 0), ("set", [file], 1), ("that", [file], 0), ("set", [other], 0)]:
        cached(name, files, key, reader)
    assert reader.calls == 4


def test_writing_to_the_images_never_reaches_the_cache(reader, file):
    expected = reader.split.images.copy()
    cached("set", [file], 0, reader)
    cached("set", [file], 0, reader).images[:] = 0
    assert (cached("set", [file], 0, reader).images == expected).all()


def damage_a_pixel(folder):
    content = bytearray((folder / "images.npy").read_bytes())
    content[-1] ^= 1
    (folder / "images.npy").write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        damage_a_pixel,
        lambda folder: (folder / "images.npy").write_bytes((folder / "images.npy").read_bytes()[:-100]),
        lambda folder: (folder / "images.npy").unlink(),
        lambda folder: (folder / "labels.npy").write_bytes(b""),
        lambda folder: (folder / "sha256.json").unlink(),
        lambda folder: (folder / "sha256.json").write_text("{"),
        lambda folder: (folder / "sha256.json").write_bytes(b"\xff"),
        lambda folder: (folder / "sha256.json").write_text("{}"),
        lambda folder: (folder / "sha256.json").write_text('["images.npy"]'),
        lambda folder: (folder / "sha256.json").write_text("3"),
    ],
)
def test_a_damaged_entry_is_rebuilt(reader, file, entry, damage):
    cached("set", [file], 0, reader)
    damage(entry())
    assert agree(cached("set", [file], 0, reader), reader.split)
    assert agree(cached("set", [file], 0, reader), reader.split)
    assert reader.calls == 2


def test_an_entry_is_whole_or_absent(reader, file, entry):
    cached("set", [file], 0, reader)
    assert sorted(path.name for path in entry().iterdir()) == ["images.npy", "labels.npy", "sha256.json"]
    assert sorted(json.loads((entry() / "sha256.json").read_text())) == ["images.npy", "labels.npy"]


def test_a_cache_that_cannot_be_written_is_done_without(reader, file, own_places):
    (own_places / "cache").write_text("a file where the folder should be")
    for _ in range(2):
        assert agree(cached("set", [file], 0, reader), reader.split)
    assert reader.calls == 2


def test_a_file_that_is_gone_is_left_to_the_reader(reader, own_places):
    assert cached("set", [own_places / "gone"], 0, reader) is reader.split
