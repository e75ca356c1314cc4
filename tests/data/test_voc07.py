"""VOC 2007: labels by annotation, images resized and not cropped, hostile files named."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from sslprune.data import sources
from sslprune.data.voc07 import CLASSES, PUBLISHED, annotated, open_voc07, stretched
from sslprune.errors import DatasetError, DatasetMissingError

PEOPLE, DOGS = CLASSES.index("person"), CLASSES.index("dog")


def annotation(objects):
    items = "".join(
        f"<object><name>{name}</name>{'' if hard is None else f'<difficult>{hard}</difficult>'}</object>"
        for name, hard in objects
    )
    return f"<annotation><filename>x.jpg</filename>{items}</annotation>"


@pytest.fixture
def devkit(own_places):
    """Four annotated images, two a split, where the data sets are looked for; returns its VOC2007 folder."""
    root = own_places / "root" / "VOCdevkit" / "VOC2007"
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / part).mkdir(parents=True)
    content = {
        "000001": [("dog", 0), ("person", 1)],
        "000002": [("person", 1), ("person", 0)],
        "000003": [("dog", None)],
        "000004": [],
    }
    for number, (name, objects) in enumerate(content.items()):
        (root / "Annotations" / f"{name}.xml").write_text(annotation(objects))
        picture = np.zeros((20, 40, 3), np.uint8)
        picture[:, :20] = 60 * number
        picture[:, 20:] = 255
        Image.fromarray(picture).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
    (root / "ImageSets/Main/train.txt").write_text("000001\n000002\n")
    (root / "ImageSets/Main/val.txt").write_text("000003\n000004\n")
    return root


def test_labels_are_shown_difficult_or_absent(devkit):
    source = sources.open("voc07", size=8)
    images, labels = source.multi_labelled("train")
    assert (labels.dtype, labels.shape) == (np.int8, (2, 20))
    assert labels[:, PEOPLE].tolist() == [0, 1]
    assert labels[:, DOGS].tolist() == [1, -1]
    assert (np.delete(labels, [PEOPLE, DOGS], 1) == -1).all()
    assert source.multi_labelled("val")[1][:, DOGS].tolist() == [1, -1]
    assert images.shape == (2, 8, 8, 3)


def test_images_are_resized_and_not_cropped(devkit):
    image = open_voc07(size=8).split("val").images[0]
    assert abs(image[:, :3].astype(int) - 120).max() < 25
    assert image[:, 5:].min() > 230


def test_a_part_says_that_it_is_one(devkit):
    source = open_voc07(size=8)
    assert source.name == "voc07-train2-val2"
    assert source.protocol_splits == ("train", "val")
    assert "train is 2 of 2,501" in source.terms
    assert set(source.splits()) == {"train", "val", "trainval"}
    assert source.classes == CLASSES
    assert source.split("trainval").labels is None
    assert len(source.split("trainval")) == 4
    with pytest.raises(DatasetError, match="no labels"):
        source.labelled("train")
    with pytest.raises(DatasetError, match="no split 'test'"):
        source.multi_labelled("test")


def test_the_published_protocol_needs_the_published_test_set(devkit):
    for split, first in {"train": 0, "val": PUBLISHED["train"], "test": 6000}.items():
        names = [f"{first + i:06}" for i in range(PUBLISHED[split])]
        (devkit / f"ImageSets/Main/{split}.txt").write_text("\n".join(names))
    assert open_voc07(size=8).protocol_splits == ("trainval", "test")
    assert open_voc07(size=8).name == "voc07"


@pytest.mark.parametrize("part", ["Annotations/000002.xml", "JPEGImages/000002.jpg"])
def test_a_missing_file_is_named(devkit, part):
    (devkit / part).unlink()
    with pytest.raises(DatasetError, match=rf"{part} is missing, but .*train\.txt lists it"):
        open_voc07(size=8).multi_labelled("train")


def test_a_damaged_image_is_named(devkit):
    (devkit / "JPEGImages/000002.jpg").write_bytes(b"\xff\xd8 no image")
    with pytest.raises(DatasetError, match=r"000002\.jpg: not a readable image"):
        open_voc07(size=8).multi_labelled("train")


# It would be a dog: refused for its entities alone.
ENTITIES = '<!DOCTYPE a [<!ENTITY b "dog">]><annotation><object><name>&b;</name></object></annotation>'


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<annotation>",
        b"<annotation></annotation><more/>",
        ENTITIES.encode(),
        ENTITIES.encode("utf-16"),
        b'<?xml version="1.0" encoding="utf-16"?><annotation/>',
        b'<?xml version="1.0" encoding="klingon"?><annotation/>',
        b"<annotation><!-- " + b" " * (1 << 20) + b" --></annotation>",
        annotation([("dog", "many")]).encode(),
        annotation([("dragon", 0)]).encode(),
        b"<annotation><object/></annotation>",
        bytes(range(256)),
    ],
)
def test_a_hostile_annotation_is_a_named_error(tmp_path, content):
    path = tmp_path / "000009.xml"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"000009\.xml (is no annotation|shows '(dragon|None)')"):
        annotated(path)


@pytest.mark.parametrize("content", [b"../../etc/passwd", b"", b"000001 000001", b"\xff\xfe", b"a" * 40])
def test_a_hostile_list_is_a_named_error(devkit, content):
    (devkit / "ImageSets/Main/train.txt").write_bytes(content)
    with pytest.raises(DatasetError, match=r"train\.txt"):
        open_voc07(size=8)


def test_lists_that_are_not_there(devkit):
    (devkit / "ImageSets/Main/val.txt").unlink()
    with pytest.raises(DatasetError, match=r"lacks .*val\.txt"):
        open_voc07(size=8)


def test_it_is_never_downloaded(own_places):
    with pytest.raises(DatasetMissingError, match="voc07 was not found"):
        sources.open("voc07", download=True)


@pytest.fixture
def write_voc(write_parquet, own_places, pictures):
    def write(split, labels, images=None):
        images = list(pictures(len(labels), 12)) if images is None else images
        return write_parquet(own_places / "root" / "voc07" / f"{split}.parquet", images, labels, "image", "labels")

    return write


def test_parquet(write_voc, pictures):
    rows = np.where(np.eye(20, dtype=int)[:3], 1, -1).tolist()
    write_voc("train", rows)
    write_voc("val", rows[:2])
    source = open_voc07(size=12)
    assert source.name == "voc07-train3-val2"
    images, labels = source.multi_labelled("trainval")
    assert labels.tolist() == rows + rows[:2]
    assert (images[:3] == pictures(3, 12)).all()
    again = open_voc07(size=12).multi_labelled("trainval")  # from the cache
    assert (again[0] == images).all()
    assert (again[1] == labels).all()


@pytest.mark.parametrize("label", [[1] * 19, [2] + [0] * 19, None])
def test_impossible_labels_in_parquet(write_voc, label):
    good = [-1] * 20
    write_voc("train", [good, label])
    write_voc("val", [good])
    with pytest.raises(DatasetError, match=r"train\.parquet: row 1 has labels"):
        open_voc07(size=12).multi_labelled("train")


def test_a_missing_image_in_parquet(write_voc, pictures):
    write_voc("train", [[-1] * 20] * 2, [pictures(1, 12)[0], None])
    write_voc("val", [[-1] * 20])
    with pytest.raises(DatasetError, match=r"train\.parquet: row 1 has no image"):
        open_voc07(size=12).multi_labelled("train")


def test_other_parquet_files_are_passed_over(own_places, write_parquet, pictures):
    for split in ("train", "val"):
        write_parquet(own_places / "root" / f"{split}.parquet", pictures(2), [0, 1])
    with pytest.raises(DatasetMissingError):
        open_voc07(size=12)


def test_stretching_keeps_what_has_the_size_already():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    assert (stretched(file.getvalue(), size=9, where="x") == pixels).all()
    with pytest.raises(DatasetError, match="0 pixels"):
        open_voc07(size=0)


def test_the_real_part(real_data):
    source = open_voc07(size=4, data_dir=real_data)
    if source.protocol_splits != ("train", "val") or source.name != "voc07-train2500-val2508-test400":
        pytest.skip("another part of VOC 2007")
    _, labels = source.multi_labelled("test")
    assert labels.shape == (400, 20)
    assert {-1, 0, 1} == set(np.unique(labels))
