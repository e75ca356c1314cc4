"""JSON lines: one object a line, appended whole; a last line torn by a crash is passed over, then cut."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sslprune.errors import StorageError


def append(path: Path, rows: Iterable[Mapping[str, Any]], *, sync: bool = True) -> None:
    """Append rows to the file, which is created with its folder where missing.

    Args:
        path: The file.
        rows: JSON-serialisable mappings; not-finite numbers are refused.
        sync: Wait until the rows are on the disk.

    Raises:
        StorageError: The disk is full or not writable.
        ValueError: A number is not finite.
    """
    text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab+") as file:
            _cut_torn_line(file.fileno())
            file.write(text.encode())
            file.flush()
            if sync:
                os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}", "Free some space, then run again."
        ) from error


def read(path: Path) -> list[dict[str, Any]]:
    """All whole rows of the file, in order; none where there is no file."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.split(b"\n") if line.strip()]


def _cut_torn_line(handle: int) -> None:
    size = os.fstat(handle).st_size
    if size == 0 or os.pread(handle, 1, size - 1) == b"\n":
        return
    end = size
    while end > 0:
        start = max(0, end - 65536)
        found = os.pread(handle, end - start, start).rfind(b"\n")
        if found >= 0:
            os.ftruncate(handle, start + found + 1)
            return
        end = start
    os.ftruncate(handle, 0)
