"""The refusal inside this room; callers only ever see it as a `SparseFileError` that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


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
        raise Malformed(f"{what}: {error}", error.hint) from error
