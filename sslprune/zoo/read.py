"""From a model's folder to a module: weights into a fresh network; all or nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from sslprune import models
from sslprune.errors import SparseFileError
from sslprune.export import sparse_file
from sslprune.masks import Mask
from sslprune.models import Preprocessing
from sslprune.zoo.model_config import CONFIG, read_config

WEIGHTS = "sparse.safetensors"


def read_model(folder: Path) -> tuple[nn.Module, Mask, Preprocessing, str]:
    """Decode a folder's weights into a fresh module; all or nothing.

    Returns:
        The module, the mask of its prunable weights, its pre-processing, and its timm name.

    Raises:
        SparseFileError: The file is malformed, or its tensors are not this architecture's.
        ManifestError: `config.json` says something impossible.
        ArchitectureError: The architecture is not known here.
    """
    config = read_config(folder / CONFIG)
    architecture = config.architecture
    content = sparse_file.read(folder / WEIGHTS)
    model = models.build(architecture, num_classes=config.num_classes)
    state = model.state_dict()
    if different := sorted(state.keys() ^ content.tensors.keys()):
        raise SparseFileError(
            f"{folder / WEIGHTS} and {architecture} do not have the same tensors: {different[0]!r}.",
            "Get the model again.",
        )
    for tensor_name, array in content.tensors.items():
        if tuple(array.shape) != tuple(state[tensor_name].shape):
            raise SparseFileError(
                f"{folder / WEIGHTS}: {tensor_name} has shape {tuple(array.shape)}, {architecture} has "
                f"{tuple(state[tensor_name].shape)}.",
                "Get the model again.",
            )
        # Narrowing could make a finite number infinite.
        if not np.can_cast(array.dtype, state[tensor_name].numpy().dtype):
            raise SparseFileError(
                f"{folder / WEIGHTS}: {tensor_name} is {array.dtype}, {architecture} has {state[tensor_name].dtype}.",
                "Get the model again.",
            )
    prunable = models.prunable(model)
    if strangers := content.masks.keys() - prunable.keys():
        raise SparseFileError(
            f"{folder / WEIGHTS} prunes {sorted(strangers)[0]!r}, which is not prunable.", "Get the model again."
        )
    model.load_state_dict({key: torch.from_numpy(array) for key, array in content.tensors.items()})
    full = Mask.full(prunable)
    return (
        model,
        Mask({key: torch.from_numpy(content.masks[key]) if key in content.masks else full[key] for key in full}),
        config.preprocessing,
        architecture,
    )
