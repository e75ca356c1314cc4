"""Write a probe beside its backbone; reading is in `sslprune.models.head`, which loads no evaluation."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save

from sslprune.files import write_atomic
from sslprune.models.head import Head, check_head, head_metadata


def write_head(path: Path, head: Head) -> Path:
    """Write a head file, atomically; equal heads make equal bytes.

    Args:
        path: The file, named by `sslprune.models.head.head_filename` in a model's folder.
        head: What to write.

    Returns:
        `path`.

    Raises:
        SparseFileError: The head holds a number that is not finite, or is impossible otherwise; nothing was written.
        StorageError: The disk is full or not writable.
    """
    path = Path(path)
    check_head(head, path)
    probe = head.probe
    tensors = {"mean": probe.mean, "std": probe.std, "weight": probe.weight, "bias": probe.bias}
    content = save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, metadata=head_metadata(head))
    return write_atomic(path, content)
