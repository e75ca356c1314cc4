"""One encoded image, perhaps hostile, to an RGB array."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sslprune.errors import DatasetError

# Formats that Pillow decodes by itself. Others (EPS, for one) would start foreign programs.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})


def exact(content: bytes, *, size: int, where: str) -> NDArray[np.uint8]:
    """Decode an image that has to measure `size` by `size` pixels.

    Args:
        content: An encoded image.
        size: Its height and width.
        where: What to call it in an error, such as "row 7 of test.parquet".

    Returns:
        RGB, uint8 `[size, size, 3]`.

    Raises:
        DatasetError: It is no image, is damaged, or measures otherwise.
    """
    with opened(io.BytesIO(content), where) as image:
        if image.size != (size, size):
            width, height = image.size
            raise DatasetError(
                f"{where}: the image is {width}x{height} pixels, expected {size}x{size}.", "Fetch the data set again."
            )
        return np.asarray(image.convert("RGB"))


def square(path: Path, *, size: int) -> NDArray[np.uint8]:
    """Decode a file of any measure: turned upright by its EXIF tag, its centre square scaled with antialiasing.

    Scaling the centre square is resizing the shorter side to `size` and cropping the centre, without ever holding the
    long side at full length.

    Args:
        path: An image file.
        size: Height and width of the result.

    Returns:
        RGB, uint8 `[size, size, 3]`.

    Raises:
        DatasetError: It is no image, is damaged, has pixels of 32 bits, or more of them than
            `PIL.Image.MAX_IMAGE_PIXELS`.
    """
    with opened(path, str(path)) as image:
        upright = ImageOps.exif_transpose(in_8_bits(image, where=str(path))).convert("RGB")
        return np.asarray(ImageOps.fit(upright, (size, size), Image.Resampling.BILINEAR))


def in_8_bits(image: Image.Image, *, where: str) -> Image.Image:
    """Pillow's own conversion would clip: all that is brighter than 255 of 65,535 would become white."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise DatasetError(f"{where}: pixels of 32 bits ({image.mode}) have no known range.", "Save it with 8 bits.")
    return image


@contextmanager
def opened(file: Path | io.BytesIO, where: str) -> Iterator[Image.Image]:
    """An image file, still undecoded; whatever pillow cannot read is a `DatasetError` that names `where`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(file, formats=FORMATS)
        with image:
            yield image
    except DatasetError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DatasetError(f"{where}: too many pixels ({error})", "Scale this image down, or remove it.") from error
    except Exception as error:  # damaged files make Pillow's decoders raise nearly anything
        raise DatasetError(
            f"{where}: not a readable image ({type(error).__name__}: {error}).", "Replace or remove this image."
        ) from error
