"""From a model's folder to a module: weights straight into a fresh network's tensors; all or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sslprune import models
from sslprune.errors import SparseFileError
from sslprune.export import sparse_file
from sslprune.export.layout import Layout
from sslprune.graph.surgery import Kept
from sslprune.masks import Mask
from sslprune.models import Preprocessing
from sslprune.zoo.blank import blank, blueprint
from sslprune.zoo.channels import CHANNELS, read_channels, reshape_
from sslprune.zoo.model_config import CONFIG, ModelConfig, read_config

WEIGHTS = "sparse.safetensors"


def read_model(folder: Path, *, compacted: bool = False) -> tuple[nn.Module, Mask, Preprocessing, str]:
    """Decode a folder's weights into a fresh module; all or nothing.

    A config may name any architecture, however large: no memory is taken before the file's header agreed with it.

    Args:
        folder: The model's.
        compacted: Whether `channels.safetensors` says which channels of the architecture the network has.

    Returns:
        The module, on the CPU; the mask of its prunable weights, its pre-processing, and its timm name.

    Raises:
        SparseFileError: The file is malformed, or its tensors are not this architecture's.
        ManifestError: `config.json` says something impossible.
        ArchitectureError: The architecture is not known here.
    """
    config = read_config(folder / CONFIG)
    path = folder / WEIGHTS
    promised = sparse_file.read_layout(path, "weights")
    channels = read_channels(folder / CHANNELS) if compacted else {}
    _check(path, promised, config, channels)
    model = blank(config.architecture, config.num_classes)
    reshape_(model, channels, promised.tensors)
    found = sparse_file.read_into(path, {name: tensor.detach().numpy() for name, tensor in _tensors(model).items()})
    mask = Mask({name: _mask(found.masks, name, weight) for name, weight in models.prunable(model).items()})
    return model, mask, config.preprocessing, config.architecture


def _check(path: Path, promised: Layout, config: ModelConfig, channels: Mapping[str, Kept]) -> None:
    """Refuse a header whose tensors are not the architecture's."""
    architecture = config.architecture
    model = blueprint(architecture, config.num_classes)
    reshape_(model, channels, promised.tensors)
    state = _tensors(model)
    if different := sorted(state.keys() ^ promised.tensors.keys()):
        raise _refusal(f"{path} and {architecture} do not have the same tensors: {different[0]!r}")
    for name, (dtype, shape) in promised.tensors.items():
        if shape != tuple(state[name].shape):
            raise _refusal(f"{path}: {name} has shape {shape}, {architecture} has {tuple(state[name].shape)}")
        if not _holds(state[name].dtype, dtype):
            raise _refusal(f"{path}: {name} is {dtype}, {architecture} has {state[name].dtype}")
    if strangers := promised.pruned.keys() - models.prunable(model).keys():
        raise _refusal(f"{path} prunes {min(strangers)!r}, which is not prunable")


def _holds(wide: torch.dtype, dtype: np.dtype[Any]) -> bool:
    try:
        return np.can_cast(dtype, torch.empty(0, dtype=wide, device="cpu").numpy().dtype)
    except TypeError:  # numpy has no such type, as bfloat16
        return False


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """What a file must fill: the state dict and every parameter; the tensors themselves, not a state dict's copies."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    own = parameters | dict(model.named_buffers(remove_duplicate=False))
    return {name: own[name] for name in parameters.keys() | model.state_dict().keys()}


def _mask(masks: Mapping[str, NDArray[np.bool_]], name: str, weight: Tensor) -> Tensor:
    return torch.from_numpy(masks[name]) if name in masks else torch.ones_like(weight, dtype=torch.bool)


def _refusal(problem: str) -> SparseFileError:
    return SparseFileError(f"{problem}.", "Get the model again.")
