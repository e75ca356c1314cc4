"""A sparse file mapped into memory: header checked, pieces as views, closed at the end, however it ends."""

from __future__ import annotations

import mmap
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslprune.export import container, layout
from sslprune.export.layout import Kind, Layout
from sslprune.export.malformed import AGAIN, FilePath, Malformed, explained
from sslprune.export.strangers import START


@dataclass(frozen=True)
class Mapped:
    """An open file: `plan` says what is in it, `piece` shows it."""

    plan: Layout
    file: mmap.mmap

    def piece(self, name: str) -> NDArray[Any]:
        """The elements of a piece, flat and read-only, straight from the file. No view may outlive the file."""
        piece = self.plan.pieces[name]
        dtype = container.DTYPES[piece.dtype]
        count = (piece.end - piece.begin) // dtype.itemsize
        # A piece without bytes may lie at the end of the file, where numpy takes no view.
        return np.frombuffer(self.file, dtype, count, self.plan.data + piece.begin) if count else np.empty(0, dtype)


@contextmanager
def opened(path: FilePath, *kinds: Kind) -> Iterator[Mapped]:
    """Map a file and check its header.

    While the body runs nobody may shorten the file: on most systems touching what is gone ends the process.

    Args:
        path: The file.
        *kinds: The kinds that the caller can use; none for all.

    Raises:
        SparseFileError: The header is refused, or the body refuses the data.
    """
    with explained(path, AGAIN), _map(Path(path)) as file:
        size = len(file)
        length = container.header_bytes(file[:START], size)
        plan = layout.check(container.parse(file[8 : 8 + length], size))
        if kinds and plan.kind not in kinds:
            reader = {"weights": "read", "masks": "read_mask", "ladder": "read_ladder"}[plan.kind]
            raise Malformed(f"this is a file of kind {plan.kind!r}, not {kinds[0]!r}", f"Open it with {reader}().")
        yield Mapped(plan, file)


@contextmanager
def _map(path: Path) -> Iterator[mmap.mmap]:
    # Asked first: opening a pipe would wait for its other end.
    if not path.is_file():
        raise Malformed("there is no such file", "Look at the path, or at what `sslprune list` shows.")
    with path.open("rb") as stream:
        try:
            file = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # nothing to map
            raise Malformed("the file is empty", "Download or export it again.") from None
    try:
        yield file
    except BaseException as error:
        # The frames that failed hold views, and a mapping with views cannot be closed (nor, on Windows, deleted).
        traceback.clear_frames(error.__traceback__)
        raise
    finally:
        # Where a debugger holds a frame, the mapping closes with it.
        with suppress(BufferError):
            file.close()
