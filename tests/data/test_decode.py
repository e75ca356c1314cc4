"""One image to an array."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from sslprune.data import decode
from sslprune.errors import DatasetError


def saved(array, form):
    file = io.BytesIO()
    Image.fromarray(array).save(file, form, **({"lossless": True} if form == "WEBP" else {}))
    return file.getvalue()


@given(array=arrays(np.uint8, (8, 8, 3)), form=st.sampled_from(["PNG", "WEBP", "BMP", "TIFF", "PPM"]))
def test_lossless_formats_keep_every_pixel(array, form):
    assert (decode.exact(saved(array, form), size=8, where="here") == array).all()


@given(content=st.binary(max_size=200))
def test_noise_is_no_image(content):
    with pytest.raises(DatasetError, match="row 3"):
        decode.exact(content, size=8, where="row 3")


@given(array=arrays(np.uint8, (8, 8, 3)), form=st.sampled_from(["PNG", "JPEG", "WEBP"]), data=st.data())
def test_damage_is_a_named_error_or_harmless(array, form, data):
    content = bytearray(saved(array, form))
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        outcome = decode.exact(bytes(content), size=8, where="row 3").shape
    except DatasetError as error:
        outcome = error.problem
    assert outcome == (8, 8, 3) or "row 3" in outcome


def test_another_size_is_named():
    with pytest.raises(DatasetError, match="row 3: the image is 7x6 pixels, expected 8x8"):
        decode.exact(saved(np.zeros((6, 7, 3), np.uint8), "PNG"), size=8, where="row 3")


def test_formats_that_start_other_programs_are_not_opened():
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    assert Image.open(io.BytesIO(eps)).format == "EPS"
    with pytest.raises(DatasetError, match="not a readable image"):
        decode.exact(eps, size=8, where="row 3")


def bomb(width, height):
    """A PNG that says how large it is and holds next to nothing."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_000, 100_000])
def test_a_bomb_is_refused_unopened(tmp_path, side):
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(side, side))
    with pytest.raises(DatasetError, match=r"bomb\.png: too many pixels"):
        decode.square(path, size=8)
    with pytest.raises(DatasetError, match="row 3: too many pixels"):
        decode.exact(path.read_bytes(), size=8, where="row 3")


@given(shape=st.tuples(st.integers(1, 40), st.integers(1, 40)), size=st.integers(1, 20), grey=st.integers(0, 255))
def test_a_square_of_any_picture_has_the_size_asked_for(tmp_path_factory, shape, size, grey):
    path = tmp_path_factory.mktemp("images") / "image.png"
    Image.fromarray(np.full(shape, grey, np.uint8)).save(path)
    assert (decode.square(path, size=size) == np.full((size, size, 3), grey, np.uint8)).all()


def test_the_square_is_the_centre(tmp_path):
    picture = np.zeros((4, 12, 3), np.uint8)
    picture[:, 4:8] = [10, 20, 30]
    Image.fromarray(picture).save(tmp_path / "wide.png")
    Image.fromarray(picture.transpose(1, 0, 2)).save(tmp_path / "tall.png")
    for name in ("wide.png", "tall.png"):
        assert (decode.square(tmp_path / name, size=4) == [10, 20, 30]).all()


def test_a_very_long_picture_never_becomes_a_huge_one(tmp_path):
    Image.new("L", (500_000, 1), 7).save(tmp_path / "line.png")
    assert (decode.square(tmp_path / "line.png", size=512) == 7).all()


def test_photographs_are_turned_upright(tmp_path):
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(picture).save(tmp_path / "turned.png", exif=exif)
    assert (decode.square(tmp_path / "turned.png", size=8) == picture[::-1]).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_every_kind_of_pixel_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("image.tiff" if mode in ("CMYK", "YCbCr") else "image.png")
    Image.new(mode, (5, 5)).save(path)
    result = decode.square(path, size=5)
    assert result.shape == (5, 5, 3)
    assert result.dtype == np.uint8


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    Image.fromarray(np.full((4, 4), 0x8012, np.uint16)).save(tmp_path / "deep.png")
    assert (decode.square(tmp_path / "deep.png", size=4) == 0x80).all()


def test_pixels_of_32_bits_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(DatasetError, match=r"float\.tiff: pixels of 32 bits"):
        decode.square(tmp_path / "float.tiff", size=4)


@pytest.mark.parametrize("content", [b"", b"text", None])
def test_the_file_is_named(tmp_path, content):
    path = tmp_path / "broken.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"broken\.png"):
        decode.square(path, size=4)
