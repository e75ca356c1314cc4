"""Folders of images."""

import numpy as np
import pytest
from PIL import Image

from sslprune.data import sources
from sslprune.errors import DatasetError, DatasetMissingError

pytestmark = pytest.mark.usefixtures("own_places")


@pytest.fixture
def folder(own_places):
    path = own_places / "images"
    path.mkdir()
    return path


@pytest.fixture
def fill(pictures):
    """`fill(folder, n, seed)`: n images of 8 pixels, and their pixels by file name."""

    def fill(folder, n, seed=0):
        folder.mkdir(parents=True, exist_ok=True)
        written = {f"{seed}_{i:03}.png": image for i, image in enumerate(pictures(n, 8, seed))}
        for name, image in written.items():
            Image.fromarray(image).save(folder / name)
        return written

    return fill


def opened(folder, **options):
    return sources.open(f"folder:{folder}", **{"size": 8, **options})


def as_set(*splits):
    return sorted(image.tobytes() for split in splits for image in split.images)


def test_unlabelled_images_are_split_four_to_one_and_none_is_lost(folder, fill):
    written = fill(folder, 20)
    source = opened(folder)
    train, test = source.split("train"), source.split("test")
    assert source.classes == ()
    assert source.name == f"folder:{folder}"
    assert (len(train), len(test)) == (16, 4)
    assert train.labels is None
    assert test.labels is None
    assert as_set(train, test) == sorted(image.tobytes() for image in written.values())


def test_one_folder_a_class(folder, fill):
    cats, dogs = fill(folder / "cats", 10, 1), fill(folder / "dogs" / "large", 5, 2)
    source = opened(folder)
    assert source.classes == ("cats", "dogs")
    of_cats = {image.tobytes() for image in cats.values()}
    for name, counts in (("train", [8, 4]), ("test", [2, 1])):
        split = source.split(name)
        assert np.bincount(split.labels).tolist() == counts
        assert [image.tobytes() in of_cats for image in split.images] == (split.labels == 0).tolist()
    assert len(as_set(source.split("train"), source.split("test"))) == len(cats) + len(dogs)


def test_the_split_depends_on_names_below_the_folder_alone(folder, fill, own_places):
    for place in (folder, own_places / "elsewhere"):
        fill(place / "cats", 10, 1)
    assert as_set(opened(folder).split("test")) == as_set(opened(own_places / "elsewhere").split("test"))


@pytest.mark.parametrize("other", ["test", "val"])
def test_splits_that_are_given_are_kept(folder, fill, other):
    fill(folder / "train" / "a", 3, 1)
    fill(folder / "train" / "b", 2, 2)
    fill(folder / other / "b", 4, 3)
    source = opened(folder)
    assert source.splits() == ("train", other)
    assert source.classes == ("a", "b")
    assert source.split("train").labels.tolist() == [0, 0, 0, 1, 1]
    assert source.split(other).labels.tolist() == [1] * 4


def test_unlabelled_splits(folder, fill):
    fill(folder / "train", 3, 1)
    fill(folder / "test", 2, 2)
    source = opened(folder)
    assert [(name, len(source.split(name))) for name in source.splits()] == [("train", 3), ("test", 2)]
    assert source.split("test").labels is None


def test_train_beside_other_classes_is_a_class(folder, fill):
    for i, name in enumerate(("car", "train")):
        fill(folder / name, 5, i)
    assert opened(folder).classes == ("car", "train")


def test_a_single_image_is_no_test_split(folder, fill):
    fill(folder, 1)
    assert opened(folder).splits() == ("train",)


def test_classes_that_train_lacks_are_named(folder, fill):
    fill(folder / "train" / "a", 1)
    fill(folder / "test" / "zebra", 1)
    with pytest.raises(DatasetError, match="test has classes that train lacks: zebra"):
        opened(folder)


def test_an_unsorted_test_split_beside_a_sorted_train_split(folder, fill):
    fill(folder / "train" / "a", 1)
    fill(folder / "test", 1)
    with pytest.raises(DatasetError, match="test has no class folders"):
        opened(folder)


def test_images_beside_class_folders(folder, fill):
    fill(folder, 1)
    fill(folder / "cats", 1)
    with pytest.raises(DatasetError, match=r"holds images \(0_000\.png\) beside folders of images \(cats\)"):
        opened(folder)


def test_other_and_hidden_files_are_passed_over(folder, fill):
    fill(folder, 5)
    (folder / "README.txt").write_text("about")
    (folder / ".hidden.png").write_text("not an image")
    (folder / ".thumbnails").mkdir()
    (folder / ".thumbnails" / "small.png").write_text("not an image")
    (folder / "empty").mkdir()
    assert len(opened(folder).split("train")) == 4


def test_no_images(folder):
    (folder / "cats").mkdir()
    with pytest.raises(DatasetError, match=r"There are no images in .*images"):
        opened(folder)


def test_no_folder(folder):
    with pytest.raises(DatasetMissingError, match=r"There is no folder .*nowhere"):
        opened(folder / "nowhere")


@pytest.mark.parametrize("size", [0, -1])
def test_no_size(folder, fill, size):
    fill(folder, 1)
    with pytest.raises(DatasetError, match=f"{size} pixels"):
        opened(folder, size=size)


def test_images_of_any_measure_are_brought_to_one(folder):
    for i, (width, height) in enumerate([(3, 9), (40, 20), (8, 8), (1, 1)]):
        Image.new("RGB", (width, height), (i, 2, 3)).save(folder / f"{i}.jpg", quality=100)
    assert opened(folder, size=5).split("train").images.shape == (3, 5, 5, 3)
    assert opened(folder, size=None).split("train").images.shape == (3, 32, 32, 3)


@pytest.mark.parametrize("content", [b"", b"text", None])
def test_an_unreadable_image_is_named(folder, fill, content):
    fill(folder, 1)
    broken = folder / "broken.png"
    if content is None:
        broken.symlink_to(folder / "gone.png")
    else:
        broken.write_bytes(content)
    source = opened(folder)
    with pytest.raises(DatasetError, match=r"broken\.png"):
        [source.split(name) for name in source.splits()]


def test_a_changed_image_is_seen(folder, fill):
    fill(folder, 1, seed=1)
    before = opened(folder).split("train").images.copy()
    (path,) = folder.iterdir()
    Image.new("RGB", (8, 8), (1, 2, 3)).save(path)
    assert (opened(folder).split("train").images == [1, 2, 3]).all()
    assert (before != [1, 2, 3]).any()


def test_another_size_is_not_taken_from_the_cache(folder, fill):
    fill(folder, 1)
    assert [opened(folder, size=size).split("train").images.shape[1] for size in (8, 4, 8)] == [8, 4, 8]
