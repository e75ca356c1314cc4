"""Pickles that are read without being trusted."""

import os
import pickle
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sslprune.data import pickled
from sslprune.errors import DatasetError

SIZE = 4
SHAPE = {"size": SIZE, "label": "labels", "classes": 10}
batches = st.integers(1, 5).flatmap(lambda n: arrays(np.uint8, (n, SIZE, SIZE, 3)))


def write_batch(path, images, labels, protocol):
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), 3 * SIZE * SIZE)
    path.write_bytes(pickle.dumps({"labels": labels, "data": planes}, protocol))
    return path


def refused(path, content, match=None):
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, 2))
    with pytest.raises(DatasetError, match=match) as caught:
        pickled.read([path], **SHAPE)
    assert str(path) in caught.value.problem


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data_batch_1"


@given(first=batches, second=batches, protocol=st.sampled_from([2, 3, 4]), data=st.data())
def test_what_was_written_is_read_in_order(tmp_path_factory, first, second, protocol, data):
    folder = tmp_path_factory.mktemp("batches")
    images = np.concatenate([first, second])
    labels = data.draw(st.lists(st.integers(0, 9), min_size=len(images), max_size=len(images)))
    paths = [
        write_batch(folder / "1", first, labels[: len(first)], protocol=protocol),
        write_batch(folder / "2", second, labels[len(first) :], protocol=protocol),
    ]
    split = pickled.read(paths, **SHAPE)
    assert (split.images == images).all()
    assert split.labels.tolist() == labels
    assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int64)
    assert split.images.flags.writeable
    assert pickled.rows(paths, **SHAPE) == len(images)


def test_the_form_that_python_2_wrote(path, pictures):
    """Byte strings for texts and pixels, `numpy.core`, as in the published files."""
    images = pictures(2, SIZE)

    def text(content):
        return b"U" + bytes([len(content)]) + content

    content = b"\x80\x02}q\x01(" + text(b"labels") + b"q\x02]q\x03(K\x07K\x01e" + text(b"data")
    content += b"cnumpy.core.multiarray\n_reconstruct\nq\x04cnumpy\nndarray\nq\x05K\x00\x85U\x01b\x87Rq\x06(K\x01"
    content += b"K\x02K" + bytes([3 * SIZE * SIZE]) + b"\x86cnumpy\ndtype\nq\x07U\x02u1K\x00K\x01\x87Rq\x08"
    content += b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
    content += struct.pack("<I", 2 * 3 * SIZE * SIZE) + images.transpose(0, 3, 1, 2).tobytes() + b"tbu."
    path.write_bytes(content)
    split = pickled.read([path], **SHAPE)
    assert (split.images == images).all()
    assert split.labels.tolist() == [7, 1]


class Runs:
    """Unpickled, it would run a command."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def test_no_code_is_run(path, tmp_path):
    witness = tmp_path / "witness"
    attack = {"data": Runs(os.system, f"touch {witness}"), "labels": []}
    pickle.loads(pickle.dumps(attack, 2))
    assert witness.exists(), "the attack works on an ordinary unpickler"
    witness.unlink()
    refused(path, attack, match="forbidden global")
    assert not witness.exists()


@pytest.mark.parametrize("name", [eval, getattr, np.load, np.frombuffer, np.memmap])
def test_no_other_global_is_known(path, name):
    refused(path, {"data": name, "labels": []}, match="forbidden global")


GLOBAL = b"cnumpy\ndtype\n"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(GLOBAL + b"}U\x05_nameU\x04evilsb.", id="alter a stand-in by its state"),
        pytest.param(GLOBAL + b"N}U\x05_nameU\x04evils\x86b.", id="alter a stand-in by its slots"),
        pytest.param(GLOBAL + b"(U\x08__dict__tR.", id="call dtype with something else"),
        pytest.param(GLOBAL + b"(U\x02u1t\x81.", id="make an object without calling"),
        pytest.param(b"cnumpy\nndarray\n(J\xff\xff\xff\x7ftR.", id="make a huge array"),
        pytest.param(b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00ziptR.", id="another codec"),
        pytest.param(b"(i__main__\nRuns\n.", id="old-style instance"),
        pytest.param(b"\x82\x01.", id="extension registry"),
        pytest.param(b"U\x01aQ.", id="object outside the file"),
        pytest.param(b"N" + b"\x85" * 200_000 + b"q\x00}h\x00Ns.", id="deeply nested key"),
        pytest.param(b"(N" + b"\x85" * 200_000 + b"N\x64.", id="deeply nested key, dict from the stack"),
        pytest.param(b"\x8f(N" + b"\x85" * 200_000 + b"\x90.", id="deeply nested member of a set"),
        pytest.param(b"Nr\xff\xff\xff\x7f0.", id="memo of 16 GB"),
        pytest.param(b"B\xff\xff\xff\x7f.", id="2 GB of bytes that are not there"),
        pytest.param(b"\x8e" + struct.pack("<Q", 2**62) + b".", id="4 EB of bytes that are not there"),
        pytest.param(b"\x8b" + struct.pack("<i", 2**20) + b"\xff" * 2**20 + b".", id="an integer of a million bytes"),
        pytest.param(b"\x80\x07.", id="protocol of the future"),
        pytest.param(b"", id="empty"),
        pytest.param(b".", id="nothing but a stop"),
        pytest.param(b"}", id="no stop"),
        pytest.param(b"N.", id="none"),
        pytest.param(b"].", id="a list"),
        pytest.param(b"}.", id="an empty dict"),
    ],
)
def test_hostile_and_damaged_pickles_are_named_errors(path, content):
    refused(path, content)
    # Nothing is left behind: the next batch is read as ever.
    path.write_bytes(pickle.dumps({"labels": [3], "data": np.zeros((1, 3 * SIZE * SIZE), np.uint8)}, 2))
    assert pickled.read([path], **SHAPE).labels.tolist() == [3]


@given(position=st.integers(0), value=st.integers(0, 255))
def test_damage_is_a_named_error_or_harmless(tmp_path_factory, position, value):
    path = tmp_path_factory.mktemp("batch") / "data_batch_1"
    content = bytearray(pickle.dumps({"labels": [3], "data": np.zeros((1, 3 * SIZE * SIZE), np.uint8)}, 2))
    content[position % len(content)] = value
    path.write_bytes(content)
    try:
        outcome = pickled.read([path], **SHAPE).images.shape
    except DatasetError as error:
        outcome = error.problem
    assert outcome == (1, SIZE, SIZE, 3) or str(path) in outcome


PIXELS = np.zeros((2, 3 * SIZE * SIZE), np.uint8)


@pytest.mark.parametrize(
    "data",
    [
        None,
        [0] * 48,
        PIXELS[:, :-1],
        PIXELS.reshape(-1),
        PIXELS.astype(np.int64),
        PIXELS.astype(np.float32),
        np.asfortranarray(np.arange(96, dtype=np.uint8).reshape(2, 48)),
        np.array([[b"x"] * 48] * 2, object),
    ],
)
def test_arrays_of_another_kind_are_refused(path, data):
    refused(path, {"data": data, "labels": [0, 1]})


@pytest.mark.parametrize("labels", [None, 3, [0], [0, 1, 2], (0, 1), PIXELS])
def test_labels_must_be_a_list_as_long_as_the_data(path, labels):
    refused(path, {"data": PIXELS, "labels": labels})


@pytest.mark.parametrize("label", [-1, 10, 0.0, "1", True, None, [], 1 << 40])
def test_the_row_of_a_bad_label_is_named(path, label):
    refused(path, {"data": PIXELS, "labels": [0, label]})


def test_labels_under_another_key_are_missed(path):
    refused(path, {"data": PIXELS, "fine_labels": [0, 1]}, match="no list of 2 labels under labels")


def test_a_missing_file_is_named(path):
    with pytest.raises(DatasetError, match="data_batch_1"):
        pickled.read([path], **SHAPE)
