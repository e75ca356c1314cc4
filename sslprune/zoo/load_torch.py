"""Load a model as a module: decode its weights into a fresh network, and attach the classifier that was asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from sslprune.errors import SparseFileError
from sslprune.masks import Mask
from sslprune.models.head import HeadedBackbone, read_head
from sslprune.zoo.channels import CHANNELS, read_channels
from sslprune.zoo.index import Entry
from sslprune.zoo.info import ModelInfo
from sslprune.zoo.model_config import CONFIG, read_config
from sslprune.zoo.read import WEIGHTS, read_model


def files(entry: Entry) -> list[str]:
    """What is read of a model's folder, beside a head."""
    return [WEIGHTS, CONFIG, *([CHANNELS] if is_compacted(entry) else [])]


def is_compacted(entry: Entry) -> bool:
    """Whether the model has fewer channels than its architecture."""
    return CHANNELS in entry.manifest.files


def load_torch(entry: Entry, *, head: Path | None, num_classes: int, device: str | torch.device) -> nn.Module:
    """Decode a model whose files have been checked; arguments, result and errors as those of `sslprune.load`.

    Args:
        entry: The model.
        head: The file of a published probe to attach.
        num_classes: Outputs of a fresh classifier to attach; 0 for none.
        device: Where the module goes.
    """
    model, mask, preprocessing, architecture = read_model(entry.folder, compacted=is_compacted(entry))
    manifest = entry.manifest
    if mask.kept != manifest.kept or mask.prunable != manifest.prunable:
        raise SparseFileError(
            f"{entry.folder / WEIGHTS} keeps {mask.kept} of {mask.prunable} weights, the manifest says "
            f"{manifest.kept} of {manifest.prunable}.",
            "Get the model again.",
        )
    info = ModelInfo(manifest.name, manifest.keep, preprocessing, manifest, entry.folder, architecture, mask)
    if is_compacted(entry):
        info = replace(info, channels=read_channels(entry.folder / CHANNELS))
    if not num_classes and head is None:
        info = replace(info, classes=read_config(entry.folder / CONFIG).classes)
    if head is not None:
        model = HeadedBackbone(model, read_head(head))
        info = replace(info, mask=Mask({f"backbone.{weight}": kept for weight, kept in mask.items()}))
    elif num_classes:
        model.reset_classifier(num_classes)  # type: ignore[operator]
    model.sslprune = info  # type: ignore[assignment]
    return model.to(device).eval()
