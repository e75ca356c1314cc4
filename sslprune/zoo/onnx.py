"""A model of the zoo as ONNX: which outputs the file gives, and what its metadata says of it."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from sslprune.errors import ArchitectureError, UnknownHeadError
from sslprune.export.onnx_extra import can_write
from sslprune.export.onnx_file import Output, forward, write_onnx
from sslprune.export.onnx_pack import Values
from sslprune.models import Preprocessing
from sslprune.models.anatomy import forward_stages, stages
from sslprune.models.head import POOLED, HeadedBackbone, check_stage, head_filename, read_head
from sslprune.zoo.channels import CHANNELS
from sslprune.zoo.info import info_of
from sslprune.zoo.manifest import Manifest
from sslprune.zoo.read import WEIGHTS, read_model

FILE = "model.onnx"
SWITCH = "SSLPRUNE_ONNX"
"""Where this environment variable is 0, folders are written without `model.onnx`."""

VERSION = "1"
"""Of the metadata, and of what inputs and outputs are called."""

Kind = Literal["features", "logits"]

_log = logging.getLogger(__name__)


def export_loaded(
    model: nn.Module,
    path: Path,
    *,
    output: Kind | None = None,
    values: Values = "fp32",
    force: bool = False,
) -> int:
    """Write a network that `sslprune.load` gave as ONNX.

    Args:
        model: With or without a classifier.
        path: The destination, replaced all or nothing.
        output: "features" (pooled), "logits", or None: logits of a network that classifies, else features.
        values: Precision of the weights; "fp16" rounds them to the nearest half.
        force: Replace an existing file.

    Returns:
        The bytes of the same file with its weights dense in float32.

    Raises:
        ManifestError: The network was not loaded by sslprune.
        UnknownHeadError: Logits are asked of a network that has no classifier.
        MissingExtraError: onnx or onnxscript is not installed.
        OutputExistsError: The file exists and `force` is not set.
        ArchitectureError: torch cannot export the network.
        SparseFileError: A weight is too large for fp16.
        StorageError: The disk is full or not writable.
    """
    info = info_of(model)
    size = info.preprocessing.size
    outputs = loaded_outputs(model, output)
    manifest = replace(info.manifest, keep=info.keep)  # a compacted network has another one than its origin
    about = metadata(manifest, info.architecture, info.preprocessing, next(iter(outputs)), values, model)
    return write_onnx(model, path, size=size, metadata=about, outputs=outputs, values=values, force=force)


def loaded_outputs(model: nn.Module, output: Kind | None) -> dict[str, Output]:
    """The one output of `export_loaded`."""
    chosen = output_of(model, output)
    function: Output = pooled if chosen == "features" else forward
    return {chosen: function}


def output_of(model: nn.Module, asked: Kind | None = None) -> Kind:
    """ "features" or "logits": what is asked for, else what the network gives.

    Raises:
        UnknownHeadError: Logits are asked of a network that has no classifier.
    """
    classifies = bool(getattr(model, "classes", ()) or getattr(model, "num_classes", 0))
    if asked == "logits" and not classifies:
        info = info_of(model)
        published = ", ".join(info.manifest.heads)
        raise UnknownHeadError(
            f"{info.name} has no classifier that could give logits.",
            f"Take a published head (head=TASK, --head TASK): {published}." if published else "Ask for its features.",
        )
    return asked or ("logits" if classifies else "features")


def pooled(model: nn.Module, x: Tensor) -> Tensor:
    """Images float [N,3,H,W] to the features that the network returns where it has no classifier, [N,D]."""
    net = model.backbone if isinstance(model, HeadedBackbone) else model
    if not getattr(net, "num_classes", 0):
        return forward(net, x)
    features: Tensor = net.forward_head(net.forward_features(x), pre_logits=True)  # type: ignore[operator]
    return features.flatten(1)


def folder_outputs(folder: Path, tasks: list[str], model: nn.Module) -> dict[str, Output]:
    """The outputs of a folder's file: what the network returns, then the map of every stage that a head sits on."""
    taken = {read_head(folder / head_filename(task)).stage for task in tasks} - {POOLED}
    for stage in taken:
        check_stage(model, stage)
    outputs: dict[str, Output] = {output_of(model): forward}
    return outputs | {stage: partial(_stage, index) for index, stage in enumerate(stages(model)) if stage in taken}


def add_to_folder(
    folder: Path, manifest: Manifest, model: nn.Module, architecture: str, preprocessing: Preprocessing
) -> None:
    """Write the `model.onnx` of a folder whose other files are there, if that can be done here.

    Left out, with a line in the log, where the extra `onnx` is not installed, torch cannot export the network, or the
    environment variable SSLPRUNE_ONNX is 0: a model is whole without it.

    Raises:
        StorageError: The disk is full or not writable.
    """
    if os.environ.get(SWITCH) == "0" or not can_write():
        why = f"{SWITCH} is 0" if can_write() else "pip install 'sslprune[onnx]' brings what it needs"
        _log.info("%s is written without %s: %s.", manifest.name, FILE, why)
        return
    try:
        write_folder_onnx(folder, folder / FILE, manifest, model, architecture, preprocessing)
    except ArchitectureError as error:
        _log.warning("%s is written without %s: %s", manifest.name, FILE, error.problem)


def write_finished(folder: Path, path: Path) -> None:
    """Write the `model.onnx` of a finished folder at `path`: what `zoo.write.amend` takes.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
        ArchitectureError: torch cannot export the network.
        SparseFileError, ManifestError: The folder cannot be read.
    """
    manifest = Manifest.load(folder)
    model, _, preprocessing, architecture = read_model(folder, compacted=CHANNELS in manifest.files)
    write_folder_onnx(folder, path, manifest, model, architecture, preprocessing)


def write_folder_onnx(
    folder: Path, path: Path, manifest: Manifest, model: nn.Module, architecture: str, preprocessing: Preprocessing
) -> None:
    """Write the ONNX file of a folder, whose heads are there, at `path`."""
    outputs = folder_outputs(folder, manifest.heads, model)
    about = metadata(manifest, architecture, preprocessing, next(iter(outputs)), "fp32", model)
    write_onnx(model, path, size=preprocessing.size, metadata=about, outputs=outputs, force=True)


def metadata(
    manifest: Manifest, architecture: str, preprocessing: Preprocessing, output: str, values: Values, model: nn.Module
) -> dict[str, str]:
    """A file's `metadata_props`; all of them text."""
    said = {
        "version": VERSION,
        "name": manifest.name,
        "architecture": architecture,
        "keep": repr(manifest.keep),
        "preprocessing": json.dumps(preprocessing.to_json()),
        "output": output,
        "values": values,
        "licence": manifest.licence,
        "data_terms": manifest.data_terms,
        "source_sha256": manifest.files[WEIGHTS].sha256,
    }
    if output == "logits":
        said["classes"] = json.dumps(getattr(model, "classes", ()))
    return {f"sslprune.{key}": value for key, value in said.items()}


def _stage(index: int, model: nn.Module, x: Tensor) -> Tensor:
    return forward_stages(model, x)[index]
