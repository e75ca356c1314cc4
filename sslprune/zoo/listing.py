"""What `sslprune list` and `sslprune show` say, as data. No torch here: both answer at once."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sslprune import jsonl
from sslprune.errors import ResultsError
from sslprune.zoo.index import open_index


def list_models(pattern: str = "*", **filters: Any) -> list[str]:
    """The names of the models at hand, families in order, unpruned first.

    Args:
        pattern: A shell pattern, or a part of the name.
        **filters: Fields of `describe` that must be equal, such as `keep=0.05` (nominal), `arch="resnet20"`.
    """
    return [str(entry.name) for entry in open_index().select(pattern, **filters)]


def describe(name: str, *, keep: float | None = None) -> dict[str, Any]:
    """Everything stated about a model: its row of the list, its manifest, its heads, its result rows.

    Raises:
        UnknownModelError: No model, or more than one, has this name.
        KeepError: No rung is near.
        ResultsError: Its `results.jsonl` is damaged.
    """
    entry = open_index().find(name, keep=keep)
    path = entry.folder / "results.jsonl"
    try:
        results = jsonl.read(path)
    except ValueError as error:
        raise ResultsError(f"{path} is not JSON lines: {error}", "Get the model again.") from error
    stated = {"heads": entry.manifest.heads, "manifest": asdict(entry.manifest), "results": results}
    return {**entry.row(), "folder": str(entry.folder), **stated}
