"""Check a model as a sceptical user would: every file, the decoded counts, one forward pass."""

from __future__ import annotations

import torch

from sslprune.errors import ManifestError, SparseFileError
from sslprune.zoo.index import Entry
from sslprune.zoo.info import info_of
from sslprune.zoo.load import load
from sslprune.zoo.manifest import MANIFEST, verify


def verify_model(entry: Entry) -> None:
    """Check all of a model's files against its manifest (and that against the index), load it, and run it on zeros.

    Raises:
        IntegrityError: A file is not what was stated.
        ManifestError: A file lies there that the manifest does not list.
        SparseFileError: The weights are malformed, not as many as stated, or give outputs that are not finite.
    """
    if entry.manifest_record is not None:
        verify(entry.folder, {MANIFEST: entry.manifest_record}, [MANIFEST])
    verify(entry.folder, entry.manifest.files, entry.manifest.files)
    strangers = {path.name for path in entry.folder.iterdir()} - {MANIFEST, *entry.manifest.files}
    if strangers:
        raise ManifestError(
            f"{entry.folder} holds {sorted(strangers)[0]}, which its manifest does not list.", "Remove it."
        )
    model = load(entry.folder, verify=False)
    info = info_of(model)
    nonzero = {name: int(weight.count_nonzero()) for name, weight in model.state_dict().items() if name in info.mask}
    stated = {layer.name: layer.kept for layer in entry.manifest.layers}
    if any(nonzero[name] > kept for name, kept in stated.items()) or nonzero.keys() != stated.keys():
        raise SparseFileError(f"{entry.name} has other weights than its manifest states.", "Get the model again.")
    size = info.preprocessing.size
    with torch.inference_mode():
        if not bool(torch.isfinite(model(torch.zeros(1, 3, size, size))).all()):
            raise SparseFileError(f"{entry.name} gives outputs that are not finite.", "Do not use it.")
