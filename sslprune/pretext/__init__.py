"""Pretext tasks: what a network is trained to do so that it learns features without labels. One file each."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from sslprune.errors import UnknownPretextError, nearest
from sslprune.pretext import options as given
from sslprune.pretext.base import Pretext
from sslprune.pretext.exemplar import Exemplar
from sslprune.pretext.labels import Labels
from sslprune.pretext.npid import NPID
from sslprune.pretext.rotnet import RotNet
from sslprune.pretext.s4l import S4L
from sslprune.pretext.simclr import SimCLR

PRETEXTS: dict[str, type[Pretext]] = {
    "exemplar": Exemplar,
    "labels": Labels,
    "npid": NPID,
    "rotnet": RotNet,
    "s4l": S4L,
    "simclr": SimCLR,
}


def find(name: str) -> type[Pretext]:
    """The pretext registered under this name.

    Raises:
        UnknownPretextError: There is none; the message names the nearest.
    """
    if name not in PRETEXTS:
        raise UnknownPretextError(f"there is no pretext {name!r}.", f"Choose one of: {nearest(name, PRETEXTS)}.")
    return PRETEXTS[name]


def build(
    name: str,
    num_features: int,
    *,
    num_images: int,
    num_classes: int,
    seed: int,
    options: Mapping[str, int | float | str] | None = None,
) -> Pretext:
    """Build a pretext with its head drawn from `seed`; the global random state is left as it was.

    Args:
        name: A registered name.
        num_features: See `Pretext`, as for the next two.
        num_images: Likewise.
        num_classes: Likewise.
        seed: Of the head's first weights.
        options: The recipe's `[task]` table; what it leaves out is at its default.

    Raises:
        UnknownPretextError: There is no such pretext.
        RecipeError: It has no such option, or the value does not fit.
    """
    task = find(name)
    chosen = given.read(task.options_type, options or {}, pretext=name)
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: that would also seed every accelerator.
        torch.default_generator.manual_seed(seed)
        return task(num_features, num_images=num_images, num_classes=num_classes, options=chosen)
