"""A head file is read without torch and without safetensors, and as strictly as by both."""

from __future__ import annotations

import json
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save

from sslprune.errors import SparseFileError
from sslprune.models.head_file import read_head_file

FIELDS: dict[str, Any] = {
    "version": 1,
    "task": "digits",
    "stage": "layer2",
    "pool": 2,
    "classes": ["a", "ö"],
    "l2": 1e-3,
    "held_out": 62.5,
    "converged": True,
}


def arrays(wide: int = 4, many: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {"mean": (wide,), "std": (wide,), "weight": (many, wide), "bias": (many,)}
    return {name: np.abs(rng.standard_normal(shape, np.float32)) + np.float32(0.1) for name, shape in shapes.items()}


def stated(**changes: Any) -> dict[str, str]:
    return {"sslprune": json.dumps(FIELDS | changes)}


def written(folder: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> Path:
    path = folder / "head-digits.safetensors"
    path.write_bytes(save(tensors, metadata=stated() if metadata is None else metadata))
    return path


def forged(folder: Path, header: Any, data: bytes) -> Path:
    path = folder / "head-digits.safetensors"
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def sound() -> tuple[dict[str, Any], bytes]:
    """Header and data of a good file."""
    content = save(arrays(), metadata=stated())
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


@given(wide=st.integers(1, 20), many=st.integers(1, 5), seed=st.integers(0, 99))
def test_it_reads_what_safetensors_reads(
    tmp_path_factory: pytest.TempPathFactory, wide: int, many: int, seed: int
) -> None:
    classes = [f"class {n}" for n in range(many)]
    path = written(tmp_path_factory.mktemp("head"), arrays(wide, many, seed), stated(classes=classes))
    head = read_head_file(path)
    for name, expected in load_file(path).items():
        found = getattr(head, name)
        assert found.dtype == np.float32
        assert found.flags.writeable
        np.testing.assert_array_equal(found, expected)
    assert (head.task, head.stage, head.pool, head.classes) == ("digits", "layer2", 2, tuple(classes))
    assert (head.l2, head.held_out, head.converged) == (1e-3, 62.5, True)


@given(st.data())
def test_a_changed_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = written(tmp_path_factory.mktemp("head"), arrays())
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    path.write_bytes(content)
    try:
        head = read_head_file(path)
    except SparseFileError:
        return
    assert np.isfinite(head.weight).all()


@pytest.mark.parametrize(
    ("problem", "change"),
    [
        ("one behind the other", {"mean": {"data_offsets": [0, 16]}}),
        ("one behind the other", {"mean": {"data_offsets": [2**60, 2**60 + 16]}}),
        ("one behind the other", {"bias": {"data_offsets": [8, 0]}}),
        ("one behind the other", {"bias": {"data_offsets": [0, True]}}),
        ("does not take the bytes", {"weight": {"shape": [2, 2**40]}}),
        ("does not take the bytes", {"weight": {"shape": [-2, -4]}}),
        ("does not take the bytes", {"weight": {"shape": [2.0, 4]}}),
        ("not F32", {"weight": {"dtype": "I32"}}),
        ("weight has the shape", {"weight": {"shape": [4, 2]}}),
        ("no head file", {"weight": {"shape": [1] * 100 + [8]}}),
        ("no head file", {"weight": {"shape": 8}}),
        ("no head file", {"weight": {"data_offsets": [8]}}),
        ("no head file", {"weight": {"data_offsets": "ab"}}),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, problem: str, change: dict[str, dict[str, Any]]) -> None:
    header, data = sound()
    for name, members in change.items():
        header[name] |= members
    with pytest.raises(SparseFileError, match=problem) as caught:
        read_head_file(forged(tmp_path, header, data))
    assert len(str(caught.value).splitlines()) == 2


def test_data_that_no_tensor_takes_is_refused(tmp_path: Path) -> None:
    header, data = sound()
    read_head_file(forged(tmp_path, header, data))
    for wrong in (data + b"\0", data[:-1]):
        with pytest.raises(SparseFileError, match="its tensors take"):
            read_head_file(forged(tmp_path, header, wrong))


@pytest.mark.parametrize("header", [b"", b"[]", b"{", b"7", b"[" * 100_000, b"\xff", b'{"bias":1,"bias":1}', b"{}"])
def test_what_is_no_header_is_refused(tmp_path: Path, header: bytes) -> None:
    with pytest.raises(SparseFileError, match="no head file"):
        read_head_file(forged(tmp_path, header, b""))


@pytest.mark.parametrize("claimed", [2**63, 2**40, 1 << 23])
def test_a_header_of_terabytes_takes_no_memory(tmp_path: Path, claimed: int) -> None:
    path = tmp_path / "head"
    path.write_bytes(struct.pack("<Q", claimed) + bytes(100))
    tracemalloc.start()
    with pytest.raises(SparseFileError, match=f"claims {claimed} bytes"):
        read_head_file(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 300_000


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": ["a", "\ud800"]},
        {"classes": ["a", 1]},
        {"stage": "\ud800"},
        {"held_out": 10**400},
        {"l2": 10**4000},
        {"l2": True},
        {"pool": 2.0},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_fields_that_cannot_be_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(SparseFileError) as caught:
        read_head_file(written(tmp_path, arrays(), stated(**changes)))
    assert str(caught.value).encode()


def test_a_path_that_no_file_can_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(SparseFileError, match="no head file"):
        read_head_file(tmp_path / "a\0b")
