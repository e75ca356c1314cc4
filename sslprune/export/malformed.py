"""The refusal inside this room; callers only ever see it as a `SparseFileError` that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike

from sslprune.errors import SparseFileError

FilePath = str | PathLike[str]

AGAIN = "Nothing was loaded. Get or export the file again; its rules are in sslprune/export/FORMAT.md."
UNWRITTEN = "Nothing was written."


class Malformed(ValueError):
    """Bytes, a header or content to be written break a rule of `FORMAT.md`.

    Args:
        problem: Which rule, with the offending value; one line without a full stop.
        hint: What to do next, where getting the file again would not help.
    """

    def __init__(self, problem: str, hint: str | None = None) -> None:
        super().__init__(problem)
        self.hint = hint


@contextmanager
def about(what: str) -> Iterator[None]:
    """Name the tensor that a refusal in the body is about."""
    try:
        yield
    except Malformed as error:
        # The same error again, not a new one on top: a chain would keep the frames, and in them views of the file.
        error.args = (f"{what}: {error}",)
        raise


@contextmanager
def explained(path: FilePath, otherwise: str) -> Iterator[None]:
    """Turn a refusal in the body into the caller's error.

    Args:
        path: The file that is named.
        otherwise: The hint where the refusal has none of its own.

    Raises:
        SparseFileError: The body refused, or the system did not let it read.
    """
    try:
        yield
    except Malformed as error:
        raise SparseFileError(f"{path}: {error}.", error.hint or otherwise) from error
    except OSError as error:
        raise SparseFileError(f"{path}: {error.strerror or error}.", otherwise) from error
