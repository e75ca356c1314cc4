"""Models without weights, for what is decided before any weight is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from sslprune.zoo.index import Entry
from sslprune.zoo.manifest import MANIFEST, FileRecord, LayerRecord, Manifest
from sslprune.zoo.names import Name


@pytest.fixture
def entry_of() -> Callable[..., Entry]:
    """`entry_of("a-b-c-keep5%")`: an entry that states it, of files that are nowhere."""

    def make(text: str, status: str = "local") -> Entry:
        name = Name.parse(text)
        kept, prunable = round(name.keep * 100_000), 100_000
        manifest = Manifest(
            name=str(name),
            keep=kept / prunable,
            kept=kept,
            prunable=prunable,
            macs=64 * prunable,
            macs_left=64 * kept,
            layers=(LayerRecord("conv1.weight", kept, prunable, 64 * prunable, 64 * kept),),
            files={file: FileRecord(7, "0" * 64) for file in ("config.json", "sparse.safetensors")},
            metrics={"digits/linear": 90.5},
            recipe_sha256="f" * 64,
            seed=0,
            versions={"torch": "2.13.0"},
            licence="Apache-2.0",
            data_terms="none",
            parent=None if name.keep == 1 else str(name.parent),
        )
        return Entry(name, status, Path("nowhere"), manifest)

    return make


@pytest.fixture
def restate() -> Callable[..., None]:
    """`restate(folder, kept=7)`: the manifest as a forger writes it, with the hashes of the files that lie there."""

    def rewrite(folder: Path, **changes: object) -> None:
        table = json.loads((folder / MANIFEST).read_text()) | changes
        files = [path for path in sorted(folder.iterdir()) if path.name != MANIFEST]
        table["files"] = {path.name: asdict(FileRecord.of(path)) for path in files}
        (folder / MANIFEST).write_text(json.dumps(table))

    return rewrite


@pytest.fixture
def content_of() -> Callable[[Path], dict[str, bytes]]:
    """`content_of(folder)`: every file below it, hidden ones among them."""
    return lambda folder: {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
