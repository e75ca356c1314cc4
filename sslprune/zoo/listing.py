"""What `sslprune list` and `sslprune show` say, as data. No torch here: both answer at once."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from sslprune import jsonl
from sslprune.zoo.index import Entry, open_index


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
    """
    entry = open_index().find(name, keep=keep)
    return {**entry.row(), "folder": str(entry.folder), "heads": heads(entry), "manifest": asdict(entry.manifest)} | {
        "results": jsonl.read(Path(entry.folder) / "results.jsonl")
    }


def heads(entry: Entry) -> list[str]:
    """The tasks that a model has a published probe for."""
    files = entry.manifest.files
    return [file.removeprefix("head-").removesuffix(".safetensors") for file in files if file.startswith("head-")]
