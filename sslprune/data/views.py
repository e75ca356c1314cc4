"""Batched views of images on the device they live on: crops, flips, rotations, all exact, drawn from one CPU generator.

Offsets are drawn on the CPU, so that a recipe sees the same views on every device. Images are [N, C, H, W], any dtype.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


def crop(images: Tensor, padding: int, generator: Generator) -> Tensor:
    """A random crop of each image back to its own size, after `padding` pixels of zeros on every side."""
    if padding == 0:
        return images
    count, _, height, width = images.shape
    top, left = torch.randint(0, 2 * padding + 1, (2, count, 1), generator=generator).to(images.device)
    rows = top + torch.arange(height, device=images.device)
    columns = left + torch.arange(width, device=images.device)
    padded = F.pad(images, (padding,) * 4).permute(0, 2, 3, 1)
    each = torch.arange(count, device=images.device)[:, None, None]
    return padded[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def flip(images: Tensor, generator: Generator) -> Tensor:
    """Each image mirrored left to right with probability one half."""
    mirrored = torch.rand(len(images), generator=generator).lt(0.5).to(images.device)
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def rotations(images: Tensor) -> Tensor:
    """The four rotations of square images: [4N, C, H, W], first all at 0, then 90, 180 and 270 degrees, anticlockwise.

    Made by flips and transposes only, hence exact (Gidaris et al. 2018, section 3.1).

    >>> rotations(torch.tensor([[[[1, 2], [3, 4]]]]))[1].tolist()
    [[[2, 4], [1, 3]]]
    """
    return torch.cat([torch.rot90(images, turns, (2, 3)) for turns in range(4)])
