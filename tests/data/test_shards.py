"""Parquet shards, row by row."""

from __future__ import annotations

import json
import os
import pickle

import numpy as np
import pytest

from sslprune.data.shards import GROUPS_KEPT, Shards, class_names
from sslprune.errors import DatasetError

arrow = pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def two(tmp_path, pictures, write_parquet):
    """Eleven images in groups of 2, 2, 2 and 4, 1."""
    images, labels = pictures(11, 8), np.arange(11) % 3
    return [
        write_parquet(tmp_path / "0.parquet", images[:6], labels[:6], image="image", row_group_size=2),
        write_parquet(tmp_path / "1.parquet", images[6:], labels[6:], image="image", row_group_size=4),
    ]


def test_every_row_is_read_in_any_order(two, pictures):
    shards = Shards(two, classes=3)
    assert len(shards) == 11
    assert shards.labels.tolist() == [number % 3 for number in range(11)]
    for number in np.random.default_rng(0).permutation(np.repeat(np.arange(11), 3)):
        assert (np.asarray(shards.read(number)) == pictures(11, 8)[number]).all()
        assert len(shards._kept) <= GROUPS_KEPT


def test_another_process_reads_for_itself(two, pictures):
    shards = Shards(two, classes=None)
    shards.read(0)
    again = pickle.loads(pickle.dumps(shards))
    assert not again._kept
    assert (np.asarray(again.read(10)) == pictures(11, 8)[10]).all()
    child = os.fork()
    if not child:
        os._exit(0 if (np.asarray(shards.read(1)) == pictures(11, 8)[1]).all() and len(shards._kept) == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_plain_binary_images_are_read_too(tmp_path, pictures, encode):
    images = pictures(3, 8)
    pq.write_table(arrow.table({"image": [encode(x) for x in images], "label": [1, 2, 0]}), tmp_path / "a.parquet")
    assert (np.asarray(Shards([tmp_path / "a.parquet"], classes=3).read(2)) == images[2]).all()


@pytest.mark.parametrize("cell", [None, b"no image"])
def test_an_unreadable_image_is_named_when_it_is_read(tmp_path, pictures, write_parquet, cell):
    shards = Shards([write_parquet(tmp_path / "a.parquet", [pictures(1, 8)[0], cell], [0, 1])], classes=2)
    shards.read(0)
    with pytest.raises(DatasetError, match=r"a\.parquet: row 1"):
        shards.read(1)


def test_what_is_no_table_of_images_is_refused(tmp_path, pictures, write_parquet):
    with pytest.raises(DatasetError, match="label 2"):
        Shards([write_parquet(tmp_path / "a.parquet", pictures(1, 8), [2])], classes=2)
    with pytest.raises(DatasetError, match="no rows"):
        Shards([write_parquet(tmp_path / "b.parquet", [], np.array([], np.int64))], classes=2)
    with pytest.raises(DatasetError, match="no column label"):
        Shards([write_parquet(tmp_path / "c.parquet", pictures(1, 8), [0], label="other")], classes=2)
    (tmp_path / "d.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match=r"d\.parquet"):
        Shards([tmp_path / "d.parquet"], classes=2)


def test_class_names_are_those_that_the_datasets_library_left(tmp_path, pictures, write_parquet):
    path = write_parquet(tmp_path / "a.parquet", pictures(2, 8), [0, 1])
    assert class_names(path) == ()
    stated = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    table = pq.read_table(path)
    for metadata, names in ((json.dumps(stated), ("cat", "dog")), ("{", ()), ('{"info": 3}', ())):
        pq.write_table(table.replace_schema_metadata({"huggingface": metadata}), path)
        assert class_names(path) == names
