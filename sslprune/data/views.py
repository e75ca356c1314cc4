"""Batched views of images on the device they live on, drawn from one CPU generator.

All that is random is drawn on the CPU, so that a recipe sees the same views on every device; `Draws` gives each process
the numbers of its own images, a plain generator draws for just the images that are given. Images are [N, C, H, W].
Crops, flips and quarter turns are exact, in any dtype; the other views take float RGB in [0, 1] and keep it there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from sslprune.data.draws import Draws


def crop(images: Tensor, padding: int, chance: Draws | Generator) -> Tensor:
    """A random crop of each image back to its own size, after `padding` pixels of zeros on every side."""
    if padding == 0:
        return images
    count, _, height, width = images.shape
    top, left = _draws(chance, count).randint(0, 2 * padding + 1, (2, count, 1), dim=1).to(images.device)
    rows = top + torch.arange(height, device=images.device)
    columns = left + torch.arange(width, device=images.device)
    padded = F.pad(images, (padding,) * 4).permute(0, 2, 3, 1)
    each = torch.arange(count, device=images.device)[:, None, None]
    return padded[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def flip(images: Tensor, chance: Draws | Generator) -> Tensor:
    """Each image mirrored left to right with probability one half."""
    mirrored = _draws(chance, len(images)).rand(len(images)).lt(0.5).to(images.device)
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def rotations(images: Tensor) -> Tensor:
    """The four rotations of square images: [4N, C, H, W], first all at 0, then 90, 180 and 270 degrees, anticlockwise.

    Made by flips and transposes only, hence exact (Gidaris et al. 2018, section 3.1).

    >>> rotations(torch.tensor([[[[1, 2], [3, 4]]]]))[1].tolist()
    [[[2, 4], [1, 3]]]
    """
    return torch.cat([torch.rot90(images, turns, (2, 3)) for turns in range(4)])


@dataclass(frozen=True)
class Jitter:
    """How far colours move. A strength s multiplies by a factor drawn evenly from [max(0, 1 - s), 1 + s].

    Args:
        brightness: Of all channels.
        contrast: Of the distance to the image's mean grey.
        saturation: Of the distance to each pixel's grey.
        hue: The chroma turns by up to so many full turns either way, at most 0.5.
        probability: With which an image is touched at all.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    probability: float = 1.0


def jitter(images: Tensor, strength: Jitter, chance: Draws | Generator) -> Tensor:
    """Colours changed at random, each image by its own draw: brightness, contrast, saturation, hue, in this order.

    After SimCLR (Chen et al. 2020, appendix A). Ours: the fixed order, and that hue turns the chroma plane of YIQ,
    which is linear, instead of going through HSV.
    """
    draws = _draws(chance, len(images)).rand(5, len(images), 1, 1, 1, dim=1)
    untouched = draws[4].ge(strength.probability).to(images.device)
    brightness, contrast, saturation = (
        _factors(draw, each).to(images)
        for draw, each in zip(draws, (strength.brightness, strength.contrast, strength.saturation), strict=False)
    )
    jittered = (images * brightness).clamp(0, 1)
    jittered = torch.lerp(_grey(jittered).mean((2, 3), keepdim=True).expand_as(images), jittered, contrast).clamp(0, 1)
    jittered = torch.lerp(_grey(jittered).expand_as(images), jittered, saturation).clamp(0, 1)
    if strength.hue:
        turns = (draws[3, :, 0, 0, 0] * 2 - 1) * strength.hue
        jittered = _turn_hue(jittered, turns.to(images)).clamp(0, 1)
    return torch.where(untouched, images, jittered)


def grey(images: Tensor, probability: float, chance: Draws | Generator) -> Tensor:
    """Each image without its colours with this probability, as three equal channels."""
    chosen = _draws(chance, len(images)).rand(len(images), 1, 1, 1).lt(probability).to(images.device)
    return torch.where(chosen, _grey(images).expand_as(images), images)


ASPECTS = (3 / 4, 4 / 3)
"""Width over height of a resized crop."""


def resized_crop(images: Tensor, smallest: float, chance: Draws | Generator, *, degrees: float = 0.0) -> Tensor:
    """A random window of each image, turned a little and enlarged to the image's size, in one bilinear look-up.

    The window has an area share drawn evenly from [smallest, 1] and a ratio of its sides drawn log-evenly from
    `ASPECTS` (Szegedy et al., CVPR 2015, section 6). Ours: a side longer than the image's is cut to it, where
    torchvision draws again. With `smallest` at 1 the window is the whole image; what lies outside of it is black.

    Args:
        images: Float [N, C, H, W].
        smallest: The least area share, in (0, 1].
        chance: On the CPU.
        degrees: The window is turned by up to so many degrees either way.
    """
    if smallest == 1 and degrees == 0:
        return images
    height, width = images.shape[2:]
    area, ratio, across, down, turn = _draws(chance, len(images)).rand(5, len(images), dim=1)
    wide = high = torch.ones(len(images))
    if smallest < 1:
        area = smallest + (1 - smallest) * area
        least, most = math.log(ASPECTS[0]), math.log(ASPECTS[1])
        aspect = (least + (most - least) * ratio).exp()
        wide = (area * aspect * height / width).sqrt().clamp(max=1)
        high = (area / aspect * width / height).sqrt().clamp(max=1)
    angle = (2 * turn - 1) * math.radians(degrees)
    cos, sin = angle.cos(), angle.sin()
    to_window = [  # from [-1, 1] of the view to [-1, 1] of the image; turned in pixels, so that nothing is sheared
        torch.stack([wide * cos, -high * sin * height / width, (2 * across - 1) * (1 - wide)], 1),
        torch.stack([wide * sin * width / height, high * cos, (2 * down - 1) * (1 - high)], 1),
    ]
    grid = F.affine_grid(torch.stack(to_window, 1).to(images), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


_LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601, the grey of YIQ, PIL and torchvision."""


def _draws(chance: Draws | Generator, images: int) -> Draws:
    return Draws(chance, images) if isinstance(chance, Generator) else chance


def _grey(images: Tensor) -> Tensor:
    return (images * images.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _factors(draw: Tensor, strength: float) -> Tensor:
    least = max(0.0, 1 - strength)
    return least + (1 + strength - least) * draw


def _turn_hue(images: Tensor, turns: Tensor) -> Tensor:
    to_yiq = torch.tensor([_LUMA, (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135)])
    angle = 2 * math.pi * turns
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    rotation = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], 1).view(-1, 3, 3)
    matrix = to_yiq.inverse().to(images) @ rotation @ to_yiq.to(images)
    return torch.einsum("nij,njhw->nihw", matrix, images)
