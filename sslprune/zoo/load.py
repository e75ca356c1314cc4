"""Load a model by name or folder: find it, check its hashes, decode it, hand out an ordinary timm-API module."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from sslprune.errors import ArchitectureError, SparseFileError, UnknownHeadError
from sslprune.masks import Mask
from sslprune.models.head import HeadedBackbone, head_filename, read_head
from sslprune.zoo.index import Entry
from sslprune.zoo.info import ModelInfo
from sslprune.zoo.locate import locate
from sslprune.zoo.manifest import MANIFEST, verify
from sslprune.zoo.model_config import CONFIG
from sslprune.zoo.read import WEIGHTS, read_model


def load(
    name: str | Path,
    *,
    keep: float | None = None,
    arch: str | None = None,
    data: str | None = None,
    head: str | None = None,
    num_classes: int = 0,
    device: str | torch.device = "cpu",
    verify: bool = True,
) -> nn.Module:
    """Load a pruned network by name.

    Args:
        name: A name, full or short ("rotnet-resnet20-keep5%", "rotnet"), or a model's folder. What a short one stands
            for goes to the log `sslprune.zoo.locate`, as information.
        keep: The keep rate, a fraction in (0, 1], where the name does not say it; the nearest rung within 20 % is
            taken.
        arch: Architecture, where a short name leaves it open.
        data: Data set, likewise.
        head: Attach the published linear probe of this task ("cifar10"), so that the network classifies at once.
        num_classes: Attach a fresh classifier with so many outputs, for fine-tuning. 0: pooled features.
        device: Where the module goes.
        verify: Check size and sha256 of every file that is read.

    Returns:
        The module, in eval mode, with timm's API (`forward_features`, `forward_head`, `num_features`,
        `reset_classifier`). Its attribute `sslprune` (a `ModelInfo`) has the name that was resolved, keep, mask,
        preprocessing and manifest.

    Raises:
        UnknownModelError: No model, or more than one, has this name; the nearest are named.
        KeepError: No rung is near; the rungs are listed.
        UnknownHeadError: No such probe was published; those that were are named.
        IntegrityError: A file is not what the index or manifest says.
        SparseFileError: The weights' file is malformed, or not of this architecture.
        ManifestError: The folder lacks its manifest or config, or they say something impossible.
        ArchitectureError: The architecture is not known here.
    """
    if num_classes < 0:
        raise ArchitectureError(f"num_classes = {num_classes}.", "Give the number of classes, or 0 for features.")
    if head is not None and num_classes:
        raise ArchitectureError(
            "head and num_classes are both given.", "Take the published probe, or a fresh classifier."
        )
    entry = locate(name, keep=keep, arch=arch, data=data)
    if verify:
        _verify(entry, [WEIGHTS, CONFIG])
    model, mask, preprocessing, architecture = read_model(entry.folder)
    manifest = entry.manifest
    if mask.kept != manifest.kept or mask.prunable != manifest.prunable:
        raise SparseFileError(
            f"{entry.folder / WEIGHTS} keeps {mask.kept} of {mask.prunable} weights, the manifest says "
            f"{manifest.kept} of {manifest.prunable}.",
            "Get the model again.",
        )
    info = ModelInfo(manifest.name, manifest.keep, mask, preprocessing, manifest, entry.folder, architecture)
    if head is not None:
        model = _with_head(model, head, entry, check=verify)
        info = replace(info, mask=Mask({f"backbone.{weight}": kept for weight, kept in mask.items()}))
    elif num_classes:
        model.reset_classifier(num_classes)  # type: ignore[operator]
    model.sslprune = info  # type: ignore[assignment]
    return model.to(device).eval()


def _verify(entry: Entry, names: list[str]) -> None:
    if entry.manifest_record is not None:
        verify(entry.folder, {MANIFEST: entry.manifest_record}, [MANIFEST])
    verify(entry.folder, entry.manifest.files, names)


def _with_head(model: nn.Module, task: str, entry: Entry, *, check: bool) -> HeadedBackbone:
    if task not in (published := entry.manifest.heads):
        raise UnknownHeadError(
            f"{entry.name} has no published head {task!r}.",
            f"Published: {', '.join(published) or 'none'}. Or fit your own: sslprune.linear_eval(model, train, test).",
        )
    file = head_filename(task)
    if check:
        verify(entry.folder, entry.manifest.files, [file])
    return HeadedBackbone(model, read_head(entry.folder / file))
