"""Load a model by name or folder: find it, check its hashes, decode it, hand out an ordinary timm-API module."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sslprune import models
from sslprune.errors import ArchitectureError, ManifestError, SparseFileError, UnknownHeadError
from sslprune.export import sparse_file
from sslprune.masks import Mask
from sslprune.models import Preprocessing
from sslprune.models.head import HeadedBackbone, head_filename, read_head
from sslprune.zoo.index import Entry, Index, open_index
from sslprune.zoo.info import ModelInfo
from sslprune.zoo.manifest import MANIFEST, Manifest, verify
from sslprune.zoo.names import Name

_LOG = logging.getLogger(__name__)
WEIGHTS, CONFIG = "sparse.safetensors", "config.json"
MAX_SIZE = 4096
"""Pixels a side; a config that claims a larger input would only fill the memory."""


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
            for goes to the log `sslprune.zoo.load`, as information.
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


def locate(name: str | Path, *, keep: float | None = None, arch: str | None = None, data: str | None = None) -> Entry:
    """The entry of a model that is given by name or by folder.

    Raises:
        UnknownModelError: No model, or more than one, has this name.
        KeepError: No rung is near, or a folder, which has one keep rate, is asked for another.
        ManifestError: The folder is not a model's.
    """
    folder = Path(name)
    # Not Path.is_file, which raises for names that no file can have.
    if os.path.isfile(folder / MANIFEST) or isinstance(name, Path) or "/" in name:
        manifest = Manifest.load(folder)
        entry = Entry(Name.parse(manifest.name), "folder", folder, manifest)
        if (keep, arch, data) != (None, None, None):
            Index((entry,)).find(
                entry.name.family, keep=entry.name.keep if keep is None else keep, arch=arch, data=data
            )
        return entry
    entry = open_index().find(name, keep=keep, arch=arch, data=data)
    _LOG.info("%s (keep %s) is %s", name, keep, entry.name)
    return entry


def read_model(folder: Path) -> tuple[nn.Module, Mask, Preprocessing, str]:
    """Decode a folder's weights into a fresh module; all or nothing.

    Returns:
        The module, the mask of its prunable weights, its pre-processing, and its timm name.

    Raises:
        SparseFileError: The file is malformed, or its tensors are not this architecture's.
        ManifestError: `config.json` says something impossible.
        ArchitectureError: The architecture is not known here.
    """
    architecture, num_classes, preprocessing = _read_config(folder / CONFIG)
    content = sparse_file.read(folder / WEIGHTS)
    model = models.build(architecture, num_classes=num_classes)
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
        preprocessing,
        architecture,
    )


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


def _read_config(path: Path) -> tuple[str, int, Preprocessing]:
    try:
        table: dict[str, Any] = json.loads(path.read_bytes())
        architecture, num_classes = table["architecture"], table.get("num_classes", 0)
        preprocessing = Preprocessing.from_json(table["sslprune"]["preprocessing"])
    except ManifestError:
        raise
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
        raise ManifestError(f"{path} is not a model's config: {error!r}", "Get the model again.") from error
    if not isinstance(architecture, str) or type(num_classes) is not int or not 0 <= num_classes <= 100_000:
        raise ManifestError(f"{path} has an impossible architecture or num_classes.", "Get the model again.")
    if preprocessing.size > MAX_SIZE:
        raise ManifestError(f"{path} claims images of {preprocessing.size} pixels a side.", "Get the model again.")
    return architecture, num_classes, preprocessing
