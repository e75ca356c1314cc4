"""Images that stay encoded."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sslprune.data.encoded import Chosen, ImageFiles, PackedTexts
from sslprune.errors import DatasetError

names = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12)


@given(st.lists(names, max_size=20))
def test_packed_texts_come_back(texts: list[str]) -> None:
    packed = PackedTexts(texts)
    assert [packed[index] for index in range(len(packed))] == texts


def test_names_that_are_no_text_come_back() -> None:
    assert PackedTexts(["a", "b\udcff"])[1] == "b\udcff"


@pytest.fixture
def files(tmp_path: Path, pictures) -> ImageFiles:
    for number, image in enumerate(pictures(3, 8)):
        (tmp_path / str(number)).mkdir()
        Image.fromarray(image).save(tmp_path / str(number) / "x.png")
    return ImageFiles(tmp_path, [f"{number}/x.png" for number in range(3)], np.array([0, 1, 1]))


def test_files_are_read_by_number_here_and_elsewhere(files: ImageFiles, pictures) -> None:
    for each in (files, pickle.loads(pickle.dumps(files))):
        assert len(each) == 3
        assert all((np.asarray(each.read(number)) == pictures(3, 8)[number]).all() for number in range(3))


def test_a_part_keeps_the_labels_of_its_images(files: ImageFiles, pictures) -> None:
    part = Chosen(files, np.array([2, 0]))
    assert len(part) == 2
    assert part.labels.tolist() == [1, 0]
    assert (np.asarray(part.read(1)) == pictures(3, 8)[0]).all()
    assert Chosen(ImageFiles(Path(), ["a"], None), np.array([0])).labels is None


def test_images_are_upright_rgb_of_their_own_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter, clockwise
    pixels = np.zeros((4, 6), np.uint8)
    pixels[0] = 255
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    image = ImageFiles(tmp_path, ["turned.png"], None).read(0)
    assert (image.mode, image.size) == ("RGB", (4, 6))
    assert (np.asarray(image)[:, -1] == 255).all()
    assert (np.asarray(image)[:, :-1] == 0).all()


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_an_unreadable_image_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(DatasetError, match=r"bad\.png"):
        ImageFiles(tmp_path, ["bad.png"], None).read(0)
