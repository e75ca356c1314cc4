"""Check a model as a sceptical user would: every file, the decoded counts, one forward pass."""

from __future__ import annotations

import torch

from sslprune.errors import ManifestError, SparseFileError
from sslprune.zoo.index import Entry
from sslprune.zoo.info import info_of
from sslprune.zoo.load import load
from sslprune.zoo.manifest import MANIFEST, verify
from sslprune.zoo.write import layer_records


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
    size = info.preprocessing.size
    if layer_records(model, info.mask, size) != entry.manifest.layers:
        raise SparseFileError(
            f"{entry.name} has other counts, layer by layer, than its manifest states.", "Get the model again."
        )
    with torch.inference_mode():
        if not bool(torch.isfinite(model(torch.zeros(1, 3, size, size))).all()):
            raise SparseFileError(f"{entry.name} gives outputs that are not finite.", "Do not use it.")
