"""Save a loaded, fine-tuned or freshly pruned network as a model's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from torch import nn

from sslprune.masks import Mask
from sslprune.models import prunable
from sslprune.models.head import HeadedBackbone
from sslprune.zoo.info import info_of
from sslprune.zoo.manifest import Manifest
from sslprune.zoo.names import Name
from sslprune.zoo.write import Evidence, write_model


def save(
    model: nn.Module, folder: str | Path, *, values: Literal["fp32", "fp16"] = "fp32", force: bool = False
) -> Manifest:
    """Write a network that `sslprune.load` gave, with the weights it has now, so that `load(folder)` gives it back.

    A network that `sslprune.compact` made is saved with the list of its channels, and a classifier made by
    `num_classes=` or `reset_classifier` with it. A published probe is not: it belongs to the weights it was fitted on.

    Args:
        model: Its attribute `sslprune` names it; its weights outside of `sslprune.mask` are 0.
        folder: The destination.
        values: Precision of the kept weights; "fp32" is bit-exact.
        force: Replace an existing folder.

    Returns:
        The manifest that was written. Metrics, recipe and seed of the original are not carried over.

    Raises:
        ManifestError: The network was not loaded by sslprune.
        MaskError: A pruned weight is not 0: fine-tuned without its mask.
        OutputExistsError: The folder exists and `force` is not set.
    """
    info = info_of(model)
    if isinstance(model, HeadedBackbone):
        model = model.backbone
    kept = {name.removeprefix("backbone."): mask for name, mask in info.mask.items()}
    mask = Mask({name: kept[name].cpu() for name in prunable(model)})
    original = info.manifest
    return write_model(
        Path(folder),
        Name.parse(info.name),
        model,
        mask,
        architecture=info.architecture,
        preprocessing=info.preprocessing,
        licence=original.licence,
        data_terms=original.data_terms,
        evidence=Evidence(versions=original.versions, parent=original.parent),
        channels=info.channels,
        classes=info.classes if len(info.classes) == getattr(model, "num_classes", 0) else (),
        values=values,
        force=force,
    )
