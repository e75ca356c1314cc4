"""Pretext tasks: what a network is trained to do so that it learns features without labels. One file each."""

from __future__ import annotations

import torch

from sslprune.errors import UnknownPretextError, nearest
from sslprune.pretext.base import Pretext
from sslprune.pretext.labels import Labels
from sslprune.pretext.rotnet import RotNet

PRETEXTS: dict[str, type[Pretext]] = {
    "labels": Labels,
    "rotnet": RotNet,
}


def find(name: str) -> type[Pretext]:
    """The pretext registered under this name.

    Raises:
        UnknownPretextError: There is none; the message names the nearest.
    """
    if name not in PRETEXTS:
        raise UnknownPretextError(f"there is no pretext {name!r}.", f"Choose one of: {nearest(name, PRETEXTS)}.")
    return PRETEXTS[name]


def build(name: str, num_features: int, *, num_images: int, num_classes: int, seed: int) -> Pretext:
    """Build a pretext with its head drawn from `seed`; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: that would also seed every accelerator.
        torch.default_generator.manual_seed(seed)
        return find(name)(num_features, num_images=num_images, num_classes=num_classes)
