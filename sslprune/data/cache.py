"""Decoded images kept as .npy files, so that a data set is decoded once and mapped into memory from then on.

A cache is never needed and never trusted: it is rebuilt where its checksums fail, and done without where it cannot be
written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np

from sslprune.data import places
from sslprune.data.source import Split
from sslprune.errors import StorageError
from sslprune.files import new_folder, sha256

# Part of every fingerprint: raise it when the decoding changes.
_VERSION = 1


def cached(name: str, files: Iterable[Path], key: object, read: Callable[[], Split]) -> Split:
    """What `read` gives, from the cache if these very files were read before.

    Args:
        name: Shown in the folder's name, such as "cifar10-train".
        files: The files that `read` reads; a change of name, size or modification time makes another cache entry.
        key: Everything else that the result depends on, such as the image size; its `repr` is hashed.
        read: Reads and decodes.

    Returns:
        Images (and labels) that may be mapped copy-on-write from the cache.
    """
    try:
        folder = places.user_cache() / "data" / f"{name}-{_fingerprint(files, key)}"
    except OSError:  # a file that is not there is for `read` to complain about
        return read()
    found = _load(folder)
    if found is not None:
        return found
    split = read()
    with suppress(StorageError):
        _store(folder, split)
    return split


def _fingerprint(files: Iterable[Path], key: object) -> str:
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr((_VERSION, stats, key)).encode()).hexdigest()[:16]


def _store(folder: Path, split: Split) -> None:
    with new_folder(folder, force=True) as new:
        np.save(new / "images.npy", split.images, allow_pickle=False)
        if split.labels is not None:
            np.save(new / "labels.npy", split.labels, allow_pickle=False)
        (new / "sha256.json").write_text(json.dumps({path.name: sha256(path) for path in new.glob("*.npy")}))


def _load(folder: Path) -> Split | None:
    try:
        sums = json.loads((folder / "sha256.json").read_text())
        if "images.npy" not in sums or any(sha256(folder / file) != value for file, value in sums.items()):
            return None
        # Copy-on-write rather than read-only: torch warns about arrays that cannot be written.
        images = np.load(folder / "images.npy", mmap_mode="c", allow_pickle=False).view(np.ndarray)
        labels = np.load(folder / "labels.npy", allow_pickle=False) if "labels.npy" in sums else None
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return Split(images, labels)
