"""Image tables in parquet files."""

import sys

import numpy as np
import pytest

from sslprune.data import parquet
from sslprune.errors import DatasetError, MissingExtraError

arrow = pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
pq = pytest.importorskip("pyarrow.parquet")


def read(*paths, size=8, label="label", classes=10):
    return parquet.read(paths, size=size, label=label, classes=classes)


@pytest.mark.parametrize("image", ["img", "image"])
def test_rows_and_files_keep_their_order(tmp_path, pictures, write_parquet, image):
    images, labels = pictures(11, 8), np.arange(11) % 10
    one = write_parquet(tmp_path / "1.parquet", images[:6], labels[:6], image=image, row_group_size=2)
    two = write_parquet(tmp_path / "2.parquet", images[6:], labels[6:], image=image)
    split = read(one, two)
    assert (split.images == images).all()
    assert (split.labels == labels).all()
    assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int64)
    assert parquet.rows([one, two]) == 11


def test_more_rows_than_are_read_at_once(tmp_path, pictures, encode, write_parquet):
    cell = encode(pictures(1, 8)[0])
    labels = np.arange(2_500) % 10
    split = read(write_parquet(tmp_path / "many.parquet", [cell] * 2_500, labels, row_group_size=900))
    assert (split.labels == labels).all()
    assert (split.images == pictures(1, 8)).all()


def test_plain_binary_images_are_read_too(tmp_path, pictures, encode):
    images = pictures(3, 8)
    pq.write_table(arrow.table({"image": [encode(x) for x in images], "label": [1, 2, 3]}), tmp_path / "plain.parquet")
    assert (read(tmp_path / "plain.parquet").images == images).all()


def test_columns_are_known_before_anything_is_read(tmp_path, pictures, write_parquet):
    path = write_parquet(tmp_path / "a.parquet", pictures(1, 8), [0])
    assert parquet.has_column(path, "label")
    assert not parquet.has_column(path, "fine_label")


def test_a_missing_column_is_named_with_those_there_are(tmp_path, pictures, write_parquet):
    path = write_parquet(tmp_path / "a.parquet", pictures(1, 8), [0], label="other")
    with pytest.raises(DatasetError, match=r"a\.parquet: no column label; it has: img, other"):
        read(path)
    with pytest.raises(DatasetError, match="no column img or image"):
        read(write_parquet(tmp_path / "b.parquet", pictures(1, 8), [0], image="picture"))


def test_the_bad_row_is_named(tmp_path, pictures, write_parquet):
    images = [*pictures(6, 8)]
    for row, cell in [(5, b"no image"), (3, None), (4, pictures(1, 9)[0])]:
        bad = images.copy()
        bad[row] = cell
        with pytest.raises(DatasetError, match=rf"a\.parquet: row {row}"):
            read(write_parquet(tmp_path / "a.parquet", bad, range(6), row_group_size=2))


@pytest.mark.parametrize("label", [-1, 10, None, 2**62])
def test_the_bad_label_is_named(tmp_path, pictures, write_parquet, label):
    with pytest.raises(DatasetError, match=rf"row 2 has label {label}, expected 0 to 9"):
        read(write_parquet(tmp_path / "a.parquet", pictures(4, 8), [0, 1, label, 3]))


@pytest.mark.parametrize("labels", [["a"], [0.5], [[1]], [None]])
def test_labels_that_are_no_integers(tmp_path, pictures, write_parquet, labels):
    with pytest.raises(DatasetError, match=r"column label is .*, expected integers"):
        read(write_parquet(tmp_path / "a.parquet", pictures(1, 8), labels))


@pytest.mark.parametrize("column", [[1], ["text"], [{"path": "a.png"}], [{"bytes": "text"}], [[b"x"]]])
def test_images_that_are_no_bytes(tmp_path, column):
    pq.write_table(arrow.table({"image": column, "label": [0]}), tmp_path / "a.parquet")
    with pytest.raises(DatasetError, match=r"column image is .*expected encoded images"):
        read(tmp_path / "a.parquet")


def test_a_row_without_its_struct(tmp_path):
    kind = arrow.struct([("bytes", arrow.binary())])
    pq.write_table(arrow.table({"image": arrow.array([None], kind), "label": [0]}), tmp_path / "a.parquet")
    with pytest.raises(DatasetError, match="row 0 has no image"):
        read(tmp_path / "a.parquet")


def test_no_rows(tmp_path, write_parquet):
    with pytest.raises(DatasetError, match=r"a\.parquet: no rows"):
        read(write_parquet(tmp_path / "a.parquet", [], arrow.array([], arrow.int64())))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\xff" * 64 + b"PAR1"])
def test_a_file_that_is_no_parquet(tmp_path, content):
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(DatasetError, match=r"a\.parquet: not a readable parquet file"):
        read(tmp_path / "a.parquet")


def test_damage_is_a_named_error_or_harmless(tmp_path, pictures, write_parquet):
    path = write_parquet(tmp_path / "a.parquet", pictures(4, 8), range(4))
    whole = path.read_bytes()
    refused = 0
    for position in range(0, len(whole), 17):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        try:
            read(path)
        except DatasetError as error:
            refused += "a.parquet" in error.problem
    assert refused > 10


def test_a_file_cut_short(tmp_path, pictures, write_parquet):
    path = write_parquet(tmp_path / "a.parquet", pictures(4, 8), range(4))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DatasetError, match="not a readable parquet file"):
        read(path)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"(?s)parquet files needs pyarrow.*sslprune\[parquet\]"):
        read(tmp_path / "a.parquet")
