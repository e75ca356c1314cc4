"""Write files so that a reader sees the old content or the new one, never a half: temporary file, fsync, rename."""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sslprune.errors import OutputExistsError, StorageError

_CHUNK = 1 << 20


def write_atomic(path: Path, write: bytes | str | Callable[[Path], object]) -> Path:
    """Put new content at `path`, all or nothing.

    Args:
        path: The destination; its folder is created.
        write: The content, or a function that writes it to the temporary path that it is given.

    Returns:
        `path`.

    Raises:
        StorageError: The disk is full or not writable; what stood at `path` is untouched.
    """
    path = Path(path)
    with _storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            if callable(write):
                write(temporary)
            else:
                temporary.write_bytes(write.encode() if isinstance(write, str) else write)
            temporary.chmod(0o644)
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    return path


@contextmanager
def new_folder(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Fill a temporary folder in the body; it takes the place of `path` only if the body ends well.

    Raises:
        OutputExistsError: `path` exists and `force` is not set.
        StorageError: The disk is full or not writable.
    """
    path = Path(path)
    refuse_existing(path, force=force)
    with _storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        try:
            yield temporary
            temporary.chmod(0o755)
            for file in temporary.rglob("*"):
                _sync(file)
            _replace_folder(temporary, path)
            _sync(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise OutputExistsError where `path` exists and `force` is not set."""
    if path.exists() and not force:
        raise OutputExistsError(f"{path} exists already.", "Give --force to replace it, or another --out.")


def sweep(path: Path) -> None:
    """Remove what writers of `path` left beside it when they were killed; nobody may be writing it now."""
    for stray in path.parent.glob(f".{glob.escape(path.name)}.????????.*"):  # as `tempfile` names them
        if stray.is_dir():
            shutil.rmtree(stray, ignore_errors=True)
        else:
            stray.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """The sha256 of a file's content, as 64 hex digits, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}",
            "Free some space or choose another place, then try again.",
        ) from error


def _replace_folder(new: Path, path: Path) -> None:
    if not path.exists():
        os.rename(new, path)
        return
    # A folder cannot be replaced in one step everywhere: the old one steps aside under a name no reader looks for.
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
    os.rename(path, old / "content")
    os.rename(new, path)
    shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
