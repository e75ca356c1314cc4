"""Large data sets, found and listed."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sslprune.data import large
from sslprune.data.large import is_large, open_large
from sslprune.errors import DatasetError, DatasetMissingError

pytestmark = pytest.mark.usefixtures("own_places")


@pytest.fixture
def few_classes(monkeypatch):
    """An ImageNet of three classes, of six and three images."""
    monkeypatch.setattr(large, "CLASSES", 3)
    monkeypatch.setattr(large, "IMAGENET", {"train": 6, "val": 3})


@pytest.fixture
def in_folders(pictures):
    """`in_folders(root, {"train": 2})`: three classes with two images each in `train`."""

    def write(root, splits):
        for split, each in splits.items():
            images = iter(pictures(3 * each, 8, seed=each))
            for wnid in ("n01", "n02", "n03"):
                (root / split / wnid).mkdir(parents=True)
                for number in range(each):
                    Image.fromarray(next(images)).save(root / split / wnid / f"{number}.JPEG", "PNG")
        return root

    return write


@pytest.mark.usefixtures("few_classes")
@pytest.mark.parametrize("name", ["imagenet", "ILSVRC2012", "ILSVRC/Data/CLS-LOC"])
def test_imagenet_is_found_in_class_folders(own_places, in_folders, pictures, name):
    root = in_folders(own_places / "root" / name, {"train": 2, "val": 1})
    (root / "test").mkdir()  # its images have no labels, and are of no use
    Image.fromarray(pictures(1, 8)[0]).save(root / "test" / "x.png")
    found = open_large("imagenet")
    assert (found.name, found.size, found.classes) == ("imagenet", 224, ("n01", "n02", "n03"))
    assert list(found.encoded) == ["train", "val"]
    assert found.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.val.labels.tolist() == [0, 1, 2]
    assert (np.asarray(found.train.read(3)) == pictures(6, 8, seed=2)[3]).all()
    assert "research" in found.terms


@pytest.mark.usefixtures("few_classes")
@pytest.mark.parametrize("folder", ["", "data"])
def test_imagenet_is_found_in_shards(own_places, pictures, write_parquet, folder):
    root = own_places / "root" / "imagenet-1k" / folder
    for number in range(2):
        labels = [0, 1, 2]
        images = pictures(3, 8, seed=number)
        write_parquet(root / f"train-0000{number}-of-00002.parquet", images, labels, image="image")
    write_parquet(root / "validation-00000-of-00001.parquet", pictures(3, 8), [2, 1, 0], image="image")
    write_parquet(root / "test-00000-of-00001.parquet", pictures(1, 8), [-1], image="image")
    found = open_large("imagenet")
    assert (found.name, found.classes) == ("imagenet", ("0", "1", "2"))
    assert found.train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert found.val.labels.tolist() == [2, 1, 0]
    assert (np.asarray(found.train.read(5)) == pictures(3, 8, seed=1)[2]).all()


@pytest.mark.usefixtures("few_classes")
def test_a_part_of_imagenet_is_named_by_its_size(own_places, in_folders):
    in_folders(own_places / "root" / "imagenet", {"train": 1, "val": 1})
    assert open_large("imagenet").name == "imagenet-train3"


def test_imagenet_with_other_classes_is_refused(own_places, in_folders):
    in_folders(own_places / "root" / "imagenet", {"train": 1, "val": 1})
    with pytest.raises(DatasetError, match="3 classes, not 1000"):
        open_large("imagenet")


@pytest.mark.usefixtures("few_classes")
def test_images_of_val_that_are_not_sorted_are_refused(own_places, in_folders, pictures):
    root = in_folders(own_places / "root" / "imagenet", {"train": 1})
    (root / "val").mkdir()
    Image.fromarray(pictures(1, 8)[0]).save(root / "val" / "x.png")
    with pytest.raises(DatasetError, match="val has no class folders"):
        open_large("imagenet")


def test_what_is_nowhere_is_said_to_be(own_places):
    with pytest.raises(DatasetMissingError, match=r"imagenet was not found.*root"):
        open_large("imagenet")
    with pytest.raises(DatasetMissingError, match="no folder"):
        open_large(f"large:{own_places / 'nothing'}")
    with pytest.raises(DatasetError, match="imagnet"):
        open_large("imagnet")


@pytest.mark.parametrize("kind", ["large", "folder"])
def test_a_folder_is_split_as_a_small_one_is(own_places, in_folders, kind):
    from sslprune.data import sources

    root = in_folders(own_places / "all", {"": 5})
    small, found = sources.open(f"folder:{root}", size=8), open_large(f"{kind}:{root}")
    assert found.classes == small.classes
    for split, images in (("train", found.train), ("test", found.val)):
        assert (np.stack([images.read(i) for i in range(len(images))]) == small.split(split).images).all()
        assert images.labels.tolist() == small.split(split).labels.tolist()


def test_a_folder_with_splits_or_shards_and_one_without_labels(own_places, in_folders, pictures, write_parquet):
    found = open_large(f"large:{in_folders(own_places / 'split', {'train': 2, 'val': 1})}", size=64)
    assert (len(found.train), len(found.val), found.size) == (6, 3, 64)
    write_parquet(own_places / "shards" / "train.parquet", pictures(2, 8), [0, 1])
    shards = open_large(f"large:{own_places / 'shards'}")
    assert (len(shards.train), shards.classes) == (2, ("0", "1"))
    with pytest.raises(DatasetError, match="no val"):
        _ = shards.val
    loose = own_places / "loose"
    loose.mkdir()
    for number in range(5):
        Image.fromarray(pictures(1, 8)[0]).save(loose / f"{number}.png")
    assert open_large(f"large:{loose}").train.labels is None


def test_it_has_no_arrays(own_places, in_folders):
    found = open_large(f"large:{in_folders(own_places / 'split', {'train': 1, 'val': 1})}")
    assert found.splits() == ()
    with pytest.raises(DatasetError, match="image by image"):
        found.split("train")
    assert [is_large(spec) for spec in ("imagenet", "large:x", "folder:x", "cifar10")] == [True, True, False, False]
