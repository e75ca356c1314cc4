"""Take channels out of an ordinary module: one selection for each axis of each parameter, and no other change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sslprune.errors import ArchitectureError


@dataclass(frozen=True)
class Kept:
    """Which of a layer's channels stay.

    Attributes:
        inputs: bool [channels in], before anything was removed.
        outputs: bool [channels out], likewise.
    """

    inputs: Tensor
    outputs: Tensor


def shrink_(model: nn.Module, channels: Mapping[str, Kept]) -> None:
    """Remove channels from a module's layers, in place; it stays the same classes with the same state-dict keys.

    Args:
        model: Changed in place.
        channels: By the dotted name of a layer, what stays of it: convolutions (ungrouped, or depthwise), linear
            layers, batch norms, and modules with an attribute `pads` (channels that they add before and after).

    Raises:
        ArchitectureError: The model lacks the layer, or it has other channels; or it is none of these.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    >>> image, kept = torch.ones(3, dtype=torch.bool), torch.tensor([True, False, True, False])
    >>> shrink_(net, {"0": Kept(image, kept), "1": Kept(kept, kept)})
    >>> net(torch.zeros(1, 3, 5, 5)).shape
    torch.Size([1, 2, 5, 5])
    """
    for name, kept in channels.items():
        try:
            layer: Any = model.get_submodule(name)
        except AttributeError:
            raise ArchitectureError(f"the network has no layer {name!r}.", "Get the model again.") from None
        _shrink(name, layer, kept)


def can_shrink(layer: nn.Module) -> bool:
    """Whether `shrink_` knows how to remove channels from such a layer."""
    return isinstance(layer, nn.Conv2d | nn.Linear | nn.modules.batchnorm._BatchNorm) or hasattr(layer, "pads")


def _shrink(name: str, layer: Any, kept: Kept) -> None:
    inputs, outputs = kept.inputs, kept.outputs
    if _widths(name, layer, outputs) != (len(inputs), len(outputs)) or not outputs.any():
        raise ArchitectureError(
            f"{name!r} does not have {len(inputs)} channels in and {len(outputs)} out of which some stay.",
            "Get the model again.",
        )
    if inputs.all() and outputs.all():
        return
    if isinstance(layer, nn.Conv2d):
        _select(layer, outputs, "weight", "bias")
        if layer.groups == 1:
            _select(layer, inputs, "weight", axis=1)
        else:
            layer.groups = int(inputs.sum())
        layer.in_channels, layer.out_channels = int(inputs.sum()), int(outputs.sum())
    elif isinstance(layer, nn.Linear):
        _select(layer, outputs, "weight", "bias")
        _select(layer, inputs, "weight", axis=1)
        layer.in_features, layer.out_features = int(inputs.sum()), int(outputs.sum())
    elif isinstance(layer, nn.modules.batchnorm._BatchNorm):
        _select(layer, outputs, "weight", "bias", "running_mean", "running_var")
        layer.num_features = int(outputs.sum())
    else:
        before, after = layer.pads
        layer.pads = int(outputs[:before].sum()), int(outputs[len(outputs) - after :].sum())


def _widths(name: str, layer: Any, outputs: Tensor) -> tuple[int, int]:
    """Channels in and out."""
    if isinstance(layer, nn.Conv2d):
        return layer.in_channels, layer.out_channels
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        return layer.num_features, layer.num_features
    if can_shrink(layer):
        return len(outputs) - sum(layer.pads), len(outputs)
    raise ArchitectureError(
        f"channels cannot be removed from {name!r}, a {type(layer).__name__}.", "Get the model again."
    )


@torch.no_grad()
def _select(layer: Any, kept: Tensor, *names: str, axis: int = 0) -> None:
    for name in names:
        if (tensor := getattr(layer, name, None)) is None:
            continue
        selected = tensor.index_select(axis, kept.nonzero().flatten().to(tensor.device)).contiguous()
        if isinstance(tensor, nn.Parameter):
            selected = nn.Parameter(selected, requires_grad=tensor.requires_grad)
        setattr(layer, name, selected)
