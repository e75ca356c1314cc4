"""Training state on disk: written whole or not at all, read without running code from the file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from sslprune.errors import CheckpointError
from sslprune.files import write_atomic


def save(path: Path, payload: dict[str, Any]) -> None:
    """Write tensors and plain values to `path`, atomically.

    Raises:
        StorageError: The disk is full or not writable; an earlier checkpoint is untouched.
    """
    # Through memory: torch's own file writer reports a full disk as a RuntimeError.
    content = io.BytesIO()
    torch.save(payload, content)
    write_atomic(path, content.getvalue())


def load(path: Path, *, recipe_sha256: str) -> dict[str, Any]:
    """Read a checkpoint of this recipe, onto the CPU.

    Raises:
        CheckpointError: The file cannot be read, or belongs to another recipe.
    """
    try:
        payload = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"cannot read the checkpoint {path}: {error}", "Delete it; the run goes on from the one before."
        ) from error
    if not isinstance(payload, dict) or payload.get("recipe_sha256") != recipe_sha256:
        raise CheckpointError(f"{path} belongs to another recipe.", "Use another run folder.")
    return payload
