"""A second decoder, written from FORMAT.md alone without numpy, agrees with the first."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import numpy as np
import pytest

from sslprune.export import sparse_file


def decode(path: Path) -> tuple[dict[str, list[float]], dict[str, list[bool]]]:
    """The pruned tensors of a file, flat, and their masks."""
    file = path.read_bytes()
    (length,) = struct.unpack("<Q", file[:8])
    header = json.loads(file[8 : 8 + length])
    about = header["__metadata__"]
    assert (about["sslprune.format"], about["sslprune.version"]) == ("sslprune-sparse", "1")

    def piece(name: str) -> bytes:
        begin, end = header[name]["data_offsets"]
        return file[8 + length + begin : 8 + length + end]

    tensors, masks = {}, {}
    for name, described in json.loads(about["sslprune.pruned"]).items():
        numel, stream = math.prod(described["shape"]), piece(f"{name}:mask")
        if described["coding"] == "bitmask":
            mask = [bool(stream[i // 8] >> i % 8 & 1) for i in range(numel)]
        else:
            mask = [kept for b in stream for kept in [False] * b + [True] * (b < 255)]
            mask += [False] * (numel - len(mask))
        letter = {"F32": "f", "F16": "e"}[described["values"]]
        values = iter(struct.unpack(f"<{described['kept']}{letter}", piece(f"{name}:values")))
        tensors[name], masks[name] = [next(values) if kept else 0.0 for kept in mask], mask
    return tensors, masks


def decode_ladder(path: Path) -> dict[str, list[int]]:
    """The rounds of a ladder, flat."""
    file = path.read_bytes()
    (length,) = struct.unpack("<Q", file[:8])
    header = json.loads(file[8 : 8 + length])
    ladder = {}
    for name, described in json.loads(header["__metadata__"]["sslprune.pruned"]).items():
        at = 8 + length + header[f"{name}:rounds"]["data_offsets"][0]
        died = [0] * math.prod(described["shape"])
        alive = list(range(len(died)))
        for number in described["rounds"]:
            lives = [bool(file[at + i // 8] >> i % 8 & 1) for i in range(len(alive))]
            at += math.ceil(len(alive) / 8)
            for index, life in zip(alive, lives, strict=True):
                died[index] = 0 if life else number
            alive = [index for index, life in zip(alive, lives, strict=True) if life]
        ladder[name] = died
    return ladder


@pytest.mark.parametrize("values", ["fp32", "fp16"])
def test_two_decoders_agree_on_weights(tmp_path: Path, values: sparse_file.Values) -> None:
    generator = np.random.default_rng(0)
    masks = {
        f"layer{i}.weight": generator.random(shape) < keep
        for i, (keep, shape) in enumerate(
            [(0.0, (9, 99)), (0.002, (7, 300)), (0.05, (40, 5, 3, 3)), (0.5, (9, 9)), (1.0, (3,))]
        )
    }
    tensors = {
        name: np.where(mask, generator.standard_normal(mask.shape), 0).astype("f4") for name, mask in masks.items()
    }
    sparse_file.write(tmp_path / "net", tensors, masks, metadata={}, values=values)
    content = sparse_file.read(tmp_path / "net")
    flat, flat_masks = decode(tmp_path / "net")
    assert flat == {name: array.reshape(-1).tolist() for name, array in content.tensors.items()}
    assert flat_masks == {name: array.reshape(-1).tolist() for name, array in content.masks.items()}
    assert {tensor.coding for tensor in sparse_file.read_layout(tmp_path / "net").pruned.values()} == {
        "gap8",
        "bitmask",
    }


def test_two_decoders_agree_on_a_ladder(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rounds = {
        "a.weight": generator.choice(np.array([0, 1, 2, 9, 255], np.uint8), (7, 11, 3)),
        "b.weight": np.zeros(12, np.uint8),
        "c.weight": np.full(5, 3, np.uint8),
    }
    sparse_file.write_ladder(tmp_path / "ladder", rounds, {})
    read = {name: died.reshape(-1).tolist() for name, died in sparse_file.read_ladder(tmp_path / "ladder").items()}
    assert (
        decode_ladder(tmp_path / "ladder") == read == {name: died.reshape(-1).tolist() for name, died in rounds.items()}
    )
