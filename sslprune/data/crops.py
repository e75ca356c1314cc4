"""Crops of decoded images of any measure: the random one that networks train on, the centre one they are tested on."""

from __future__ import annotations

import math
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

AREA = (0.08, 1.0)
"""Least and greatest share of the image that a random crop shows (Szegedy et al., CVPR 2015, section 6)."""
ASPECT = (3 / 4, 4 / 3)
"""Least and greatest width over height of a random crop (likewise)."""
RESIZED, CROPPED = 256, 224
"""The shorter side is brought to the first, the centre square of the second is taken: how ImageNet is tested."""
_TRIES = 10

Box = tuple[int, int, int, int]
"""Left, top, right, bottom, in pixels."""


def random_box(width: int, height: int, chance: Random) -> Box:
    """A random part of an image of this measure, by torchvision's law: area share even, aspect ratio log-even.

    A part that does not fit is drawn again; after ten of them it is the largest centre part of a fitting ratio.
    """
    for _ in range(_TRIES):
        area = width * height * (AREA[0] + (AREA[1] - AREA[0]) * chance.random())
        aspect = math.exp(math.log(ASPECT[0]) + math.log(ASPECT[1] / ASPECT[0]) * chance.random())
        wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width and 0 < high <= height:
            left = math.floor(chance.random() * (width - wide + 1))
            top = math.floor(chance.random() * (height - high + 1))
            return left, top, left + wide, top + high
    aspect = min(max(width / height, ASPECT[0]), ASPECT[1])
    wide, high = min(width, round(height * aspect)), min(height, round(width / aspect))
    left, top = (width - wide) // 2, (height - high) // 2
    return left, top, left + wide, top + high


def random_crop(image: Image.Image, size: int, chance: Random, *, flip: bool) -> NDArray[np.uint8]:
    """A random part of an image, brought to `size` with antialiasing, and mirrored in half of all cases if `flip`.

    Returns:
        uint8 [size, size, 3].
    """
    view = image.crop(random_box(*image.size, chance)).resize((size, size), Image.Resampling.BILINEAR)
    if flip and chance.random() < 0.5:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.array(view)


def centre_crop(image: Image.Image, resized: int = RESIZED, cropped: int = CROPPED) -> NDArray[np.uint8]:
    """The shorter side brought to `resized` with antialiasing, the centre square of `cropped` pixels taken.

    Returns:
        uint8 [cropped, cropped, 3].
    """
    width, height = image.size
    short = min(width, height)
    image = image.resize((resized * width // short, resized * height // short), Image.Resampling.BILINEAR)
    left, top = (round((side - cropped) / 2) for side in image.size)
    return np.array(image.crop((left, top, left + cropped, top + cropped)))
