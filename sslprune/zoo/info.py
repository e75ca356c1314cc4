"""What a loaded model carries in its attribute `.sslprune`. Importing it needs neither torch nor numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sslprune.errors import ManifestError
from sslprune.models.preprocess import Preprocessing
from sslprune.zoo.manifest import Manifest

if TYPE_CHECKING:
    from torch import nn

    from sslprune.graph.surgery import Kept
    from sslprune.masks import Mask


@dataclass(frozen=True)
class Identity:
    """Which model it is, whatever runs it.

    Attributes:
        name: Full name.
        keep: Real keep rate, kept / prunable.
        preprocessing: Turns uint8 pictures into the model's input.
        manifest: Everything stated about the model.
        folder: Where it was read from.
        architecture: The timm name that `sslprune.models.build` makes the network from.
    """

    name: str
    keep: float
    preprocessing: Preprocessing
    manifest: Manifest
    folder: Path
    architecture: str


@dataclass(frozen=True)
class ModelInfo(Identity):
    """A loaded module's identity, and its mask.

    Attributes:
        mask: Which weights are kept; call `mask.apply_(model)` after each optimiser step while fine-tuning.
        channels: Compacted networks only: by layer, which of the architecture's channels stayed.
        classes: Names of the classes that the network's own classifier tells apart; empty where they are not known.
    """

    mask: Mask
    channels: Mapping[str, Kept] = field(default_factory=dict)
    classes: tuple[str, ...] = ()


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
