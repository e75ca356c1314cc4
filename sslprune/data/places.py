"""Where data sets are looked for, and what is said when they are in none of these places."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from sslprune.errors import DatasetMissingError


def user_cache() -> Path:
    """`SSLPRUNE_CACHE`, or `~/.cache/sslprune`; need not exist."""
    return Path(os.environ.get("SSLPRUNE_CACHE") or "~/.cache/sslprune").expanduser()


def downloads() -> Path:
    """Where data sets that the library fetches itself are kept."""
    return user_cache() / "data"


def places(data_dir: Path | None = None) -> tuple[Path, ...]:
    """The folders to look in, first choice first: `data_dir`, `SSLPRUNE_DATA`, `./data`, the user cache."""
    named = [data_dir, os.environ.get("SSLPRUNE_DATA") or None]
    return tuple(dict.fromkeys([*(Path(place).expanduser() for place in named if place), Path("data"), downloads()]))


def missing(name: str, looked_at: Sequence[Path], *, because: str = "") -> DatasetMissingError:
    """The error for a data set that is in none of the places, ready to raise.

    Args:
        name: The data set.
        looked_at: The folders that were searched.
        because: More that was learnt on the way, such as a failed download; one sentence.
    """
    where = ", ".join(str(place) for place in looked_at)
    return DatasetMissingError(
        f"The data set {name} was not found; looked in: {where}.{' ' + because if because else ''}",
        "Run the same command with --download, or set SSLPRUNE_DATA to a folder that holds it.",
    )
