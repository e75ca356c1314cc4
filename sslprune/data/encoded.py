"""Images that stay encoded where they are, read one by one: what data sets too large for memory are made of."""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sslprune.data import decode


class EncodedImages(ABC):
    """Images by number, decoded only when asked for; cheap to hand to another process.

    Attributes:
        labels: Class numbers, int64 [N], or None where there are none.
    """

    labels: NDArray[np.int64] | None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: int) -> Image.Image:
        """Decode one image: RGB, upright, of its own size.

        Raises:
            DatasetError: It is unreadable; the message names it.
        """


class ImageFiles(EncodedImages):
    """One file an image.

    Args:
        root: The folder that all of them lie below.
        paths: Relative to it, in order.
        labels: Class numbers, int64 [N], or None.
    """

    def __init__(self, root: Path, paths: Iterable[str], labels: NDArray[np.int64] | None) -> None:
        self._root, self._paths, self.labels = root, PackedTexts(paths), labels

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, index: int) -> Image.Image:
        path = self._root / self._paths[index]
        return upright(path, str(path))


class Chosen(EncodedImages):
    """Some images of a larger set, in the order given.

    Args:
        images: All.
        indices: Which, int64 [N].
    """

    def __init__(self, images: EncodedImages, indices: NDArray[np.int64]) -> None:
        self._images, self._indices = images, indices
        self.labels = None if images.labels is None else images.labels[indices]

    def __len__(self) -> int:
        return len(self._indices)

    def read(self, index: int) -> Image.Image:
        return self._images.read(int(self._indices[index]))


class PackedTexts:
    """Many texts in two arrays.

    A list of a million would be copied into every worker process, page by page, as reference counts change.

    >>> PackedTexts(["n01/a.JPEG", "n02/b.JPEG"])[1]
    'n02/b.JPEG'
    """

    def __init__(self, texts: Iterable[str]) -> None:
        encoded = [os.fsencode(text) for text in texts]
        self._ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
        self._bytes = np.frombuffer(b"".join(encoded), np.uint8)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        start = int(self._ends[index - 1]) if index else 0
        return os.fsdecode(self._bytes[start : int(self._ends[index])].tobytes())


def upright(file: Path | io.BytesIO, where: str) -> Image.Image:
    """Decode an image of any measure, turned upright by its EXIF tag (a rotation task would learn the camera's pose).

    Args:
        file: An encoded image.
        where: What to call it in an error.

    Returns:
        RGB, decoded, closed.

    Raises:
        DatasetError: It is no image, is damaged, has pixels of 32 bits, or too many of them.
    """
    with decode.opened(file, where) as image:
        turned: Image.Image = ImageOps.exif_transpose(decode.in_8_bits(image, where=where))
        return turned.convert("RGB")
