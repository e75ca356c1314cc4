"""Load a model for ONNX Runtime: its `model.onnx`, held against manifest and config. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from sslprune.errors import ManifestError, SparseFileError
from sslprune.models.head_file import read_head_file
from sslprune.runtime.onnx_file import OnnxMetadata, read_onnx
from sslprune.runtime.onnx_model import OnnxModel
from sslprune.zoo.index import Entry
from sslprune.zoo.info import Identity
from sslprune.zoo.model_config import CONFIG, read_config

MODEL = "model.onnx"

FILES = (MODEL, CONFIG)
"""What is read of a model's folder, beside a head."""


def require_model(entry: Entry, *, listed: bool) -> None:
    """See that a model has an ONNX file.

    Args:
        entry: The model.
        listed: Whether its manifest must list the file, so that it can be verified.

    Raises:
        ManifestError: It has none; the message says how to make it.
    """
    path = entry.folder / MODEL
    if not path.is_file():
        raise ManifestError(
            f"{entry.name} comes without {MODEL}, which the runtime 'onnx' needs.",
            f"Where torch is: sslprune export {entry.name} --format onnx --out {MODEL}; "
            f"here: sslprune.runtime.open_onnx({MODEL!r}).",
        )
    if listed and MODEL not in entry.manifest.files:
        raise ManifestError(
            f"the manifest of {entry.folder} does not list {MODEL}, so that it cannot be verified.",
            f"Get the model again; if you made the file yourself: sslprune.runtime.open_onnx({str(path)!r}).",
        )


def load_onnx(entry: Entry, *, head: Path | None, device: str) -> OnnxModel:
    """Open a model whose files have been checked; arguments, result and errors as those of `sslprune.load`.

    Args:
        entry: The model.
        head: The file of a published probe to classify by.
        device: "cpu", "cuda" or "cuda:N".
    """
    manifest, config = entry.manifest, read_config(entry.folder / CONFIG)
    identity = Identity(manifest.name, manifest.keep, config.preprocessing, manifest, entry.folder, config.architecture)
    file = read_onnx(entry.folder / MODEL, decoded=manifest.prunable)
    _check_same(file.path, file.metadata, identity)
    return OnnxModel(file, head=None if head is None else read_head_file(head), identity=identity, device=device)


def _check_same(path: Path, stated: OnnxMetadata, identity: Identity) -> None:
    source = identity.manifest.files["sparse.safetensors"].sha256
    for what, found, expected in (
        ("name", stated.name, identity.name),
        ("keep", stated.keep, identity.keep),
        ("architecture", stated.architecture, identity.architecture),
        ("preprocessing", stated.preprocessing, identity.preprocessing),
        ("source_sha256", stated.source_sha256, source),
    ):
        if found != expected:
            raise SparseFileError(
                f"{path} is another model's file: its {what} is {found}, the folder's is {expected}.",
                "Get the model again.",
            )
