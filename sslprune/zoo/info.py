"""What a loaded model carries in its attribute `.sslprune`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from sslprune.errors import ManifestError
from sslprune.masks import Mask
from sslprune.models import Preprocessing
from sslprune.zoo.manifest import Manifest


@dataclass(frozen=True)
class ModelInfo:
    """A loaded model's identity.

    Attributes:
        name: Full name.
        keep: Real keep rate, kept / prunable.
        mask: Which weights are kept; call `mask.apply_(model)` after each optimiser step while fine-tuning.
        preprocessing: Turns uint8 pictures into the model's input.
        manifest: Everything stated about the model.
        folder: Where it was read from.
        architecture: The timm name that `sslprune.models.build` makes the network from.
    """

    name: str
    keep: float
    mask: Mask
    preprocessing: Preprocessing
    manifest: Manifest
    folder: Path
    architecture: str


def info_of(model: nn.Module) -> ModelInfo:
    """The identity of a loaded model.

    Raises:
        ManifestError: The network was not loaded by sslprune.
    """
    info = getattr(model, "sslprune", None)
    if not isinstance(info, ModelInfo):
        raise ManifestError(
            "this network was not loaded by sslprune, so its name, pre-processing and licence are unknown.",
            "Load one with sslprune.load, or use sslprune.zoo.write.write_model.",
        )
    return info
