"""CIFAR-10 and CIFAR-100 in every layout they come in."""

import hashlib
import pickle
import sys

import numpy as np
import pytest

from sslprune.data import sources
from sslprune.data.cifar import CIFAR10, CIFAR100
from sslprune.errors import DatasetError, DatasetMissingError, MissingExtraError

LABELS = np.array([3, 1, 4, 1, 5, 9])


@pytest.fixture
def images(pictures):
    return pictures(6)


@pytest.fixture
def original(write_pickle):
    """Writes the original CIFAR-10 batches, one image each."""

    def write(base, images):
        for i, name in enumerate([f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]):
            write_pickle(base / name, images[i : i + 1], LABELS[i : i + 1])

    return write


@pytest.fixture
def table(write_parquet):
    """Writes CIFAR-10 as parquet, five images to train and one to test."""

    def write(folder, images, label="label"):
        write_parquet(folder / "data_batch_1.parquet", images[:2], LABELS[:2], label=label)
        write_parquet(folder / "data_batch_2.parquet", images[2:5], LABELS[2:5], label=label)
        write_parquet(folder / "test_batch.parquet", images[5:], LABELS[5:], label=label)

    return write


def check(source, images):
    assert source.splits() == ("train", "test")
    assert source.size == 32
    train, test = source.split("train"), source.split("test")
    assert (np.concatenate([train.images, test.images]) == images).all()
    assert np.concatenate([train.labels, test.labels]).tolist() == LABELS.tolist()
    assert (len(train), len(test)) == (5, 1)
    assert train.images.flags.writeable


@pytest.mark.parametrize("base", ["cifar-10-batches-py", "cifar10/cifar-10-batches-py", "cifar10", "."])
def test_the_original_batches(own_places, original, images, base):
    original(own_places / "root" / base, images)
    check(sources.open("cifar10"), images)


@pytest.mark.parametrize("folder", ["cifar10", "."])
def test_parquet_files(own_places, table, images, folder):
    table(own_places / "root" / folder, images)
    for _ in range(2):
        check(sources.open("cifar10"), images)


def test_the_original_batches_need_no_pyarrow(own_places, original, table, images, monkeypatch):
    original(own_places / "root" / "cifar-10-batches-py", images)
    table(own_places / "root" / "cifar10", images[::-1])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    check(sources.open("cifar10"), images)


def test_parquet_files_name_the_extra_they_need(own_places, table, images, monkeypatch):
    table(own_places / "root" / "cifar10", images)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"sslprune\[parquet\]"):
        sources.open("cifar10")


def test_every_place_in_turn(own_places, original, images):
    """The user cache, ./data, SSLPRUNE_DATA, data_dir: each wins over those before it."""
    given = own_places / "given"
    for i, place in enumerate(
        [own_places / "cache" / "data", own_places / "work" / "data", own_places / "root", given]
    ):
        original(place / "cifar-10-batches-py", images + np.uint8(i))
        check(sources.open("cifar10", data_dir=given), images + np.uint8(i))


def test_a_part_says_so_in_its_name_and_terms(own_places, table, images):
    table(own_places / "root" / "cifar10", images)
    source = sources.open("cifar10")
    assert source.name == "cifar10-train5-test1"
    assert "train is 5 of 50,000 images; test is 1 of 10,000 images" in source.terms
    assert "research" in source.terms
    assert "Krizhevsky" in source.citation


def test_cifar100_as_parquet(own_places, write_parquet, images):
    folder = own_places / "root" / "cifar100"
    write_parquet(folder / "train_50_per_class.parquet", images[:5], LABELS[:5] + 90, label="fine_label")
    write_parquet(folder / "test.parquet", images[5:], LABELS[5:] + 90, label="fine_label")
    source = sources.open("cifar100")
    assert source.name == "cifar100-train5-test1"
    assert (source.split("train").labels == LABELS[:5] + 90).all()
    assert (source.split("test").images == images[5:]).all()


def test_cifar100_as_published(own_places, write_pickle, images):
    base = own_places / "root" / "cifar-100-python"
    write_pickle(base / "train", images[:5], LABELS[:5] + 90, key="fine_labels")
    write_pickle(base / "test", images[5:], LABELS[5:] + 90, key="fine_labels")
    source = sources.open("cifar100")
    assert (source.split("train").labels == LABELS[:5] + 90).all()
    assert (source.split("test").images == images[5:]).all()


def test_nothing_anywhere_lists_the_places(own_places):
    with pytest.raises(DatasetMissingError) as caught:
        sources.open("cifar10", data_dir=own_places / "given")
    for place in (own_places / "given", own_places / "root", "data", own_places / "cache" / "data"):
        assert str(place) in caught.value.problem
    assert "--download" in caught.value.hint
    assert "SSLPRUNE_DATA" in caught.value.hint


def test_an_incomplete_folder_is_named_with_what_it_lacks(own_places, original, images):
    base = own_places / "root" / "cifar-10-batches-py"
    original(base, images)
    (base / "data_batch_3").unlink()
    with pytest.raises(DatasetMissingError, match=r"cifar-10-batches-py lacks data_batch_3\."):
        sources.open("cifar10")


def test_the_folder_of_another_data_set_is_passed_over(own_places, write_parquet, images):
    for name in ("train.parquet", "test.parquet"):
        write_parquet(own_places / "root" / name, images, LABELS, label="fine_label")
    with pytest.raises(DatasetMissingError):
        sources.open("cifar10")


def test_a_folder_of_this_name_has_to_hold_this_data_set(own_places, table, images):
    table(own_places / "root" / "cifar10", images, label="fine_label")
    with pytest.raises(DatasetError, match="no column label"):
        sources.open("cifar10").split("train")


def test_a_download_that_fails_says_why(own_places):
    (own_places / "cache").write_text("a file where the folder should be")
    with pytest.raises(DatasetMissingError, match="The download failed: "):
        sources.open("cifar10", download=True)


def test_a_download_is_not_tried_for_what_is_there(own_places, original, images):
    (own_places / "cache").write_text("a file where the folder should be")
    original(own_places / "root" / "cifar-10-batches-py", images)
    check(sources.open("cifar10", download=True), images)


def pixels(split):
    return hashlib.sha256(np.ascontiguousarray(split.images).tobytes()).hexdigest()


def test_real_cifar10(real_data):
    pytest.importorskip("pyarrow")
    if not (real_data / "cifar10" / "test_batch.parquet").is_file():
        pytest.skip("no cifar10/test_batch.parquet in SSLPRUNE_DATA")
    source = sources.open("cifar10", data_dir=real_data)
    test = source.split("test")
    assert source.name == "cifar10"
    assert np.bincount(test.labels).tolist() == [1_000] * 10
    # The first test image is a cat; the hash is that of the published pickle's pixels as HWC.
    assert source.classes[test.labels[0]] == "cat"
    assert pixels(test).startswith("f9b1e213")


@pytest.mark.slow
def test_real_cifar10_for_training(real_data):
    pytest.importorskip("pyarrow")
    train = sources.open("cifar10", data_dir=real_data).split("train")
    assert np.bincount(train.labels).tolist() == [5_000] * 10
    assert pixels(train).startswith("47af8b02")


@pytest.mark.parametrize(
    ("cifar", "path", "key"),
    [(CIFAR10, "cifar10/batches.meta", "label_names"), (CIFAR100, "cifar100/meta", "fine_label_names")],
)
def test_class_names_are_the_published_ones(real_data, cifar, path, key):
    if not (real_data / path).is_file():
        pytest.skip(f"no {path} in SSLPRUNE_DATA")
    content = (real_data / path).read_bytes()
    assert list(cifar.classes) == pickle.loads(content, encoding="latin1")[key]


def test_there_are_as_many_classes_as_the_names_say():
    assert len(set(CIFAR10.classes)) == 10
    assert len(set(CIFAR100.classes)) == 100
    assert sorted(CIFAR100.classes) == list(CIFAR100.classes)
