"""Random views of pre-processed images, float [N,3,H,W], for probes and fine-tuning; drawn from one CPU generator."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from sslprune.data import views
from sslprune.errors import DatasetError

AUGMENTATIONS = ("none", "flip", "crop+flip", "resized-crop+flip")
"""`crop+flip`: zero-padded by an eighth of the image on every side and cropped back (4 pixels at 32), and mirrored.
`resized-crop+flip`: 8 to 100 % of the image, aspect ratio 3:4 to 4:3, resized (Szegedy et al. 2015), and mirrored."""


def augment(images: Tensor, how: str, generator: Generator) -> Tensor:
    """A random view of each image.

    Args:
        images: Float [N,3,H,W].
        how: One of `AUGMENTATIONS`.
        generator: On the CPU.

    Raises:
        DatasetError: There is no such augmentation.
    """
    match how:
        case "none":
            return images
        case "flip":
            return views.flip(images, generator)
        case "crop+flip":
            return views.flip(views.crop(images, max(1, images.shape[-1] // 8), generator), generator)
        case "resized-crop+flip":
            return views.flip(resized_crop(images, generator), generator)
    raise DatasetError(f"there is no augmentation {how!r}.", f"Choose one of: {', '.join(AUGMENTATIONS)}.")


def resized_crop(
    images: Tensor,
    generator: Generator,
    area: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Tensor:
    """A random rectangle of each image, resized to the image's own size: enlarged only, so bilinear is enough.

    Args:
        images: Float [N,3,H,W].
        generator: On the CPU.
        area: Least and greatest share of the image, drawn evenly.
        ratio: Least and greatest width / height, drawn evenly on a log scale; a side longer than the image is cut.
    """
    count = len(images)
    share, shape, down, right = torch.rand(4, count, generator=generator)
    pixels = area[0] + share * (area[1] - area[0])
    aspect = torch.exp(math.log(ratio[0]) + shape * math.log(ratio[1] / ratio[0]))
    width, height = (pixels * aspect).sqrt().clamp(max=1), (pixels / aspect).sqrt().clamp(max=1)
    where = torch.zeros(count, 2, 3)
    where[:, 0, 0], where[:, 1, 1] = width, height
    where[:, 0, 2], where[:, 1, 2] = (2 * right - 1) * (1 - width), (2 * down - 1) * (1 - height)
    grid = F.affine_grid(where.to(images), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
