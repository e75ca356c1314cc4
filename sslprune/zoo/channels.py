"""`channels.safetensors`: which channels of its architecture a compacted network still has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sslprune.errors import ArchitectureError, SparseFileError
from sslprune.export import sparse_file
from sslprune.graph.surgery import Kept, shrink_

CHANNELS = "channels.safetensors"


def write_channels(path: Path, channels: Mapping[str, Kept]) -> None:
    """Write a sparse file of kind `masks` with two masks a layer, `{layer}.in` and `{layer}.out`.

    Raises:
        StorageError: The disk is full or not writable.
    """
    masks: dict[str, NDArray[np.bool_]] = {}
    for layer, kept in channels.items():
        masks |= {f"{layer}.in": kept.inputs.cpu().numpy(), f"{layer}.out": kept.outputs.cpu().numpy()}
    sparse_file.write_mask(path, masks, metadata={})


def read_channels(path: Path) -> dict[str, Kept]:
    """The inverse of `write_channels`.

    Raises:
        SparseFileError: The file is malformed, or a layer lacks one of its masks.
    """
    masks = sparse_file.read_mask(path)
    layers = sorted({name.rpartition(".")[0] for name in masks})
    if masks.keys() != {f"{layer}.{side}" for layer in layers for side in ("in", "out")}:
        raise SparseFileError(f"{path} is not a list of channels.", "Get the model again.")
    if any(mask.ndim != 1 for mask in masks.values()):
        raise SparseFileError(f"{path} has a list of channels with more than one axis.", "Get the model again.")
    return {
        layer: Kept(torch.from_numpy(masks[f"{layer}.in"]), torch.from_numpy(masks[f"{layer}.out"])) for layer in layers
    }


def reshape_(model: nn.Module, channels: Mapping[str, Kept], tensors: Iterable[str]) -> None:
    """Give a fresh network the shape of a compacted one, in place: fewer channels, and the biases that it was given.

    Args:
        model: As `models.build` makes it.
        channels: What stayed.
        tensors: The names in the compacted one's state dict.

    Raises:
        SparseFileError: The channels are not this network's.
    """
    try:
        shrink_(model, channels)
    except ArchitectureError as error:
        raise SparseFileError(f"the list of channels does not fit: {error.problem}", "Get the model again.") from error
    for name in sorted(set(tensors) - model.state_dict().keys()):
        layer, _, role = name.rpartition(".")
        owner: Any = dict(model.named_modules()).get(layer)
        if role == "bias" and isinstance(owner, nn.Conv2d | nn.Linear):
            owner.bias = nn.Parameter(owner.weight.new_zeros(len(owner.weight)))
