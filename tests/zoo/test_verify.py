"""The sceptical user's check passes what is sound, and names what is wrong with the rest."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sslprune.errors import IntegrityError, ManifestError, SparseFileError
from sslprune.export import sparse_file
from sslprune.zoo.index import open_index
from sslprune.zoo.load import load
from sslprune.zoo.locate import locate
from sslprune.zoo.manifest import MANIFEST, FileRecord
from sslprune.zoo.verify import verify_model

Restate = Callable[..., None]

NAME = "rednet-resnet20-toy-keep5%"


def test_every_model_of_the_zoo_passes(zoo: Any) -> None:
    entries = open_index().select("*net-resnet20-toy-*")
    assert len(entries) == 6
    for entry in entries:
        verify_model(entry)


def test_every_file_is_checked_not_only_those_that_loading_reads(zoo: Any, tmp_path: Path) -> None:
    folder = zoo.copy(NAME, tmp_path / "model")
    for path in sorted(folder.iterdir()):
        good, record = path.read_bytes(), FileRecord.of(path)
        spoiled = bytearray(good)
        spoiled[len(good) // 2] ^= 0x01
        path.write_bytes(spoiled)
        if path.name == MANIFEST:
            with pytest.raises(IntegrityError, match=MANIFEST):
                verify_model(replace(open_index().find(NAME), folder=folder, manifest_record=record))
        else:
            with pytest.raises(IntegrityError, match=path.name):
                verify_model(locate(folder))
        path.write_bytes(good)
    verify_model(locate(folder))


@pytest.mark.parametrize("stranger", ["notes.txt", ".hidden", "folder"])
def test_a_file_that_nobody_stated_is_named(zoo: Any, tmp_path: Path, stranger: str) -> None:
    folder = zoo.copy(NAME, tmp_path / "model")
    os.mkdir(folder / stranger)
    with pytest.raises(ManifestError, match=f"holds {stranger}, which its manifest does not list"):
        verify_model(locate(folder))


@pytest.mark.parametrize("count", ["macs", "macs_left", "kept", "prunable"])
def test_counts_shifted_from_layer_to_layer_are_noticed(zoo: Any, tmp_path: Path, restate: Restate, count: str) -> None:
    folder = zoo.copy(NAME, tmp_path / "model")
    layers = json.loads((folder / MANIFEST).read_text())["layers"]
    layers[2][count] += 1
    layers[3][count] -= 1
    restate(folder, layers=layers)
    load(folder)  # the sums are right
    with pytest.raises(SparseFileError, match="other counts, layer by layer"):
        verify_model(locate(folder))


def test_a_layer_of_another_name_is_noticed(zoo: Any, tmp_path: Path, restate: Restate) -> None:
    folder = zoo.copy(NAME, tmp_path / "model")
    layers = json.loads((folder / MANIFEST).read_text())["layers"]
    layers[0]["name"] = "stem.weight"
    restate(folder, layers=layers)
    with pytest.raises(SparseFileError, match="other counts, layer by layer"):
        verify_model(locate(folder))


def test_a_network_that_overflows_is_noticed(zoo: Any, tmp_path: Path, restate: Restate) -> None:
    folder = zoo.copy(NAME, tmp_path / "model")
    content = sparse_file.read(folder / "sparse.safetensors")
    for name, array in content.tensors.items():
        if name.endswith(("bn1.weight", "bn2.weight", "bn1.bias")):
            array.fill(3e38)
    sparse_file.write(folder / "sparse.safetensors", content.tensors, content.masks, metadata=content.metadata)
    restate(folder)
    load(folder)
    with pytest.raises(SparseFileError, match="outputs that are not finite"):
        verify_model(locate(folder))
