"""A network of the zoo with whole channels removed, still knowing what it is: it saves and loads like any other."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from sslprune.errors import ArchitectureError
from sslprune.masks import Mask
from sslprune.models import prunable
from sslprune.models.head import HeadedBackbone
from sslprune.prune.structured import slim as slim_network
from sslprune.zoo.info import info_of
from sslprune.zoo.names import Name


def slim(model: nn.Module, keep: float, *, norm: int = 2) -> nn.Module:
    """Remove the least important channels of a network that `sslprune.load` gave (see `prune.structured`).

    Args:
        model: Not changed. Not one that was compacted or slimmed before, and without a published probe.
        keep: Fraction of its prunable weights that may stay, in (0, 1].
        norm: 1 or 2: the L1 or L2 norm of a channel's group.

    Returns:
        A smaller copy, not retrained, named `...-slim-keep{keep}%`; `sslprune.save` writes it and `sslprune.load` gives
        it back.

    Raises:
        ManifestError: The network was not loaded by sslprune.
        KeepError: Even the smallest network of whole channels keeps more.
        ArchitectureError: It has lost channels before, carries a probe, or cannot be traced.
        MissingExtraError: torch-pruning is not installed.
    """
    info = info_of(model)
    if info.channels or isinstance(model, HeadedBackbone):
        raise ArchitectureError(
            f"{info.name} has lost channels before, or carries a probe that reads all of them.",
            "Load the network without a head, and before it was compacted.",
        )
    smaller, done = slim_network(model, keep, info.preprocessing.size, within=info.mask, norm=norm)
    name = Name.parse(info.name)
    variant = "-".join(part for part in (name.variant, "slim") if part)
    mask = Mask.nonzero(prunable(smaller)) if info.mask.kept < info.mask.prunable else Mask.full(prunable(smaller))
    smaller.sslprune = replace(  # type: ignore[assignment]
        info,
        name=str(replace(name, keep=keep, variant=variant)),
        mask=mask,
        keep=mask.keep,
        channels=done.channels,
        manifest=replace(info.manifest, parent=info.manifest.parent or info.name),
    )
    return smaller
