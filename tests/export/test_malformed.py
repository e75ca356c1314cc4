"""Files that break a rule: each raises SparseFileError, and nothing else, ever."""

from __future__ import annotations

import json
import os
import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sslprune.errors import SparseFileError
from sslprune.export import sparse_file

READERS = {"weights": sparse_file.read, "masks": sparse_file.read_mask, "ladder": sparse_file.read_ladder}


@dataclass
class Draft:
    """A good file taken to pieces, to be spoiled and put together again."""

    about: dict[str, Any]
    pruned: dict[str, Any]
    entries: dict[str, Any]
    data: bytearray

    def text(self) -> str:
        """The header's JSON."""
        about = self.about | ({"sslprune.pruned": json.dumps(self.pruned)} if "sslprune.pruned" in self.about else {})
        return json.dumps({"__metadata__": about} | self.entries)

    def file(self) -> bytes:
        """The whole file."""
        return assemble(self.text().encode(), self.data)

    def put(self, piece: str, at: int, content: bytes) -> None:
        """Overwrite bytes of a piece."""
        begin, end = self.entries[piece]["data_offsets"]
        assert 0 <= at <= at + len(content) <= end - begin
        self.data[begin + at : begin + at + len(content)] = content

    def resize(self, piece: str, content: bytes) -> None:
        """Give a piece other bytes and another length; the pieces behind it move."""
        begin, end = self.entries[piece]["data_offsets"]
        self.data[begin:end] = content
        for entry in self.entries.values():
            if entry["data_offsets"][0] >= end:
                entry["data_offsets"] = [offset + len(content) - (end - begin) for offset in entry["data_offsets"]]
        self.entries[piece] |= {"shape": [len(content)], "data_offsets": [begin, begin + len(content)]}


def assemble(header: bytes, data: bytes) -> bytes:
    """A file of this header and data."""
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + data


def good_file(path: Path, kind: str) -> bytes:
    """A small valid file that has every feature of its kind."""
    conv = np.array([[0, 1, 0], [-1, 0, 2], [0, 0, 3]], np.float32)
    fc = np.zeros((2, 300), np.float32)
    fc.reshape(-1)[[0, 3, 4, 259, 515]] = [1, -2, 3e-45, 4, 5]
    masks = {"conv.weight": conv != 0, "fc.weight": fc != 0}
    others = {"bn.bias": np.ones(3, np.float32), "bn.count": np.array(7, np.int64), "bn.on": np.array([True, False])}
    if kind == "weights":
        sparse_file.write(path, {"conv.weight": conv, "fc.weight": fc, **others}, masks, metadata={"keep": "0.015"})
    elif kind == "masks":
        sparse_file.write_mask(path, masks, metadata={"keep": "0.015"})
    else:
        sparse_file.write_ladder(path, {"fc.weight": np.array([[0, 1, 1, 2, 0, 3], [1, 0, 2, 2, 3, 0]], np.uint8)}, {})
    return path.read_bytes()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A small valid file of each kind."""
    folder = tmp_path_factory.mktemp("good")
    return {kind: good_file(folder / kind, kind) for kind in READERS}


def draft(file: bytes) -> Draft:
    """A good file, taken to pieces."""
    (length,) = struct.unpack("<Q", file[:8])
    entries = json.loads(file[8 : 8 + length])
    about = entries.pop("__metadata__")
    return Draft(about, json.loads(about["sslprune.pruned"]), entries, bytearray(file[8 + length :]))


def edited(change: Callable[[Draft], object]) -> Callable[[Draft], bytes]:
    """Spoil by changing the draft."""

    def spoil(d: Draft) -> bytes:
        change(d)
        return d.file()

    return spoil


def text(old: str, new: str) -> Callable[[Draft], bytes]:
    """Spoil the header's text."""

    def spoil(d: Draft) -> bytes:
        assert old in d.text()
        return assemble(d.text().replace(old, new, 1).encode(), d.data)

    return spoil


def header(content: bytes) -> Callable[[Draft], bytes]:
    """Replace the whole header."""
    return lambda d: assemble(content, d.data)


def shape(name: str, claimed: Any) -> Callable[[Draft], bytes]:
    """Claim another shape for a pruned tensor."""
    return edited(lambda d: d.pruned[name].update(shape=claimed))


def member(name: str, **changes: Any) -> Callable[[Draft], bytes]:
    """Claim something else about a pruned tensor."""
    return edited(lambda d: d.pruned[name].update(changes))


def piece(name: str, **changes: Any) -> Callable[[Draft], bytes]:
    """Claim something else about a piece."""
    return edited(lambda d: d.entries[name].update(changes))


def empty_piece(name: str, dtype: str = "U8") -> dict[str, Any]:
    return {name: {"dtype": dtype, "shape": [0], "data_offsets": [0, 0]}}


NAN, INFINITY = struct.pack("<f", float("nan")), struct.pack("<f", float("-inf"))

WEIGHTS: dict[str, tuple[str, Callable[[Draft], bytes]]] = {
    # The file and its header's length.
    "empty": ("empty", lambda d: b""),
    "seven bytes": ("too short", lambda d: d.file()[:7]),
    "length alone": ("truncated", lambda d: d.file()[:8]),
    "cut in the header": ("truncated", lambda d: d.file()[:100]),
    "cut by a byte": ("truncated", lambda d: d.file()[:-1]),
    "cut before the data": ("truncated", lambda d: d.file()[: -len(d.data)]),
    "a byte too many": ("more bytes than tensors", lambda d: d.file() + b"\0"),
    "header of nothing": ("header claims 0", lambda d: bytes(8)),
    "header of terabytes": ("header claims", lambda d: struct.pack("<Q", 1 << 45) + d.file()[8:]),
    "header of 2**64": ("header claims", lambda d: b"\xff" * 8 + d.file()[8:]),
    "header over the limit": ("header claims", lambda d: assemble(b"{" + b" " * (4 << 20), b"")),
    "header not padded": ("multiple of 8", lambda d: struct.pack("<Q", 9) + b"{}       " + d.data),
    "a pickle": ("header claims", lambda d: b"\x80\x04\x95\x10\x00\x00\x00\x00" + bytes(64)),
    "a zip": ("header claims", lambda d: b"PK\x03\x04" + bytes(64)),
    # The header as JSON.
    "not JSON": ("not JSON", header(b"{not json}")),
    "JSON cut off": ("not JSON", lambda d: assemble(d.text().encode()[:-9], d.data)),
    "two objects": ("not JSON", lambda d: assemble(d.text().encode() + b"{}", d.data)),
    "a space first": ("does not begin", lambda d: assemble(b" " + d.text().encode(), d.data)),
    "a list": ("does not begin", header(b"[]")),
    "padded with zeros": ("not JSON", lambda d: assemble(d.text().encode() + bytes(8), d.data)),
    "text after the object": ("not JSON", lambda d: assemble(d.text().encode() + b"\n" * 8 + b"x", d.data)),
    "not UTF-8": ("not JSON", header(b'{"\xff":1}')),
    "half a surrogate": ("not JSON", text('"0.015"', '"\\ud800"')),
    "nested without end": ("not JSON", header(b'{"a":' + b"[" * 100_000)),
    "a number of a million digits": ("number", header(b'{"a":' + b"9" * 1_000_000 + b"}")),
    "a negative number": ("number '-1'", text("[3]", "[-1]")),
    "minus zero": ("number '-0'", text("[3]", "[-0]")),
    "a fraction": ("number '3.0'", text("[3]", "[3.0]")),
    "an exponent": ("number '3e0'", text("[3]", "[3e0]")),
    "not a number": ("number 'NaN'", text("[3]", "[NaN]")),
    "a truth for a number": ("not a list of numbers", text("[3]", "[true]")),
    "a piece named twice": ("'bn.on' twice", text('"bn.bias"', '"bn.on"')),
    "a piece named twice by escapes": ("'bn.on' twice", text('"bn.bias"', '"bn.\\u006fn"')),
    "metadata named twice": ("twice", text('"keep"', '"sslprune.kind"')),
    "two metadata": ("twice", text('{"__metadata__"', '{"__metadata__":{},"__metadata__"')),
    # Pieces.
    "a piece that is a list": ("not described", edited(lambda d: d.entries.update({"x": []}))),
    "a piece without dtype": ("not described", edited(lambda d: d.entries["bn.bias"].pop("dtype"))),
    "a piece with more": ("not described", piece("bn.bias", scale=1)),
    "unknown dtype": ("unknown dtype", piece("bn.bias", dtype="F8_E4M3")),
    "dtype of a list": ("unknown dtype", piece("bn.bias", dtype=["F32"])),
    "wrong dtype size": ("does not fit", piece("bn.bias", dtype="F64")),
    "wrong shape": ("does not fit", piece("bn.bias", shape=[4])),
    "shape that is no list": ("not a list", piece("bn.bias", shape=3)),
    "shape of terabytes": ("over the limits", piece("bn.bias", shape=[1 << 40])),
    "shape of nine axes": ("over the limits", piece("bn.bias", shape=[1] * 8 + [3])),
    "shape that overflows and is empty": ("over the limits", piece("bn.bias", shape=[1 << 31, 1 << 31, 0])),
    "one offset": ("not two numbers", piece("bn.bias", data_offsets=[0])),
    "offsets reversed": ("does not fit", piece("bn.bias", data_offsets=[20, 8])),
    "offsets beyond the file": ("leaves a hole", piece("bn.bias", data_offsets=[8 << 30, (8 << 30) + 12])),
    "offsets misaligned": ("does not fit", piece("bn.bias", data_offsets=[9, 21])),
    "overlap": ("overlaps", piece("bn.bias", data_offsets=[4, 16])),
    "hole": ("leaves a hole", edited(lambda d: d.entries.pop("bn.bias"))),
    "dense name with a path": ("cannot name", text('"bn.bias"', '"../../bn.bias"')),
    "dense name in unicode": ("cannot name", text('"bn.bias"', '"bn.bi\\u0430s"')),
    "dense name with a line": ("cannot name", text('"bn.bias"', '"bn\\nbias"')),
    "dense name without end": ("cannot name", text('"bn.bias"', f'"{"b" * 300}"')),
    "a part nobody asks for": ("asks for", edited(lambda d: d.entries.update(empty_piece("bn.bias:values", "F32")))),
    "pruned and dense": ("twice: pruned and dense", edited(lambda d: d.entries.update(empty_piece("fc.weight")))),
    # Metadata.
    "no metadata": ("not a sparse file", lambda d: assemble(json.dumps(d.entries).encode(), d.data)),
    "metadata of numbers": ("not an object of strings", edited(lambda d: d.about.update(keep=1))),
    "metadata that is text": ("not an object of strings", header(b'{"__metadata__":"sslprune"}')),
    "another format": ("not a sparse file", edited(lambda d: d.about.update({"sslprune.format": "other"}))),
    "no version": ("version", edited(lambda d: d.about.pop("sslprune.version"))),
    "a later version": ("version '2'", edited(lambda d: d.about.update({"sslprune.version": "2"}))),
    "no kind": ("kind' is missing", edited(lambda d: d.about.pop("sslprune.kind"))),
    "unknown kind": ("unknown kind", edited(lambda d: d.about.update({"sslprune.kind": "code"}))),
    "another kind": ("not described", edited(lambda d: d.about.update({"sslprune.kind": "masks"}))),
    "unknown reserved key": ("unknown", edited(lambda d: d.about.update({"sslprune.scale": "1"}))),
    "no pruned tensors' JSON": ("pruned' is missing", edited(lambda d: d.about.pop("sslprune.pruned"))),
    "pruned tensors not JSON": ("not JSON", lambda d: assemble(d.text().replace("\\", "", 1).encode(), d.data)),
    "pruned tensors a list": ("not a JSON object", edited(lambda d: setattr(d, "pruned", []))),
    "a pruned tensor named twice": ("twice", text('\\"conv.weight\\"', '\\"fc.weight\\"')),
    # Descriptions of pruned tensors.
    "a description of a list": ("not described", edited(lambda d: d.pruned.update({"fc.weight": []}))),
    "a description with less": ("not described", edited(lambda d: d.pruned["fc.weight"].pop("kept"))),
    "a description with more": ("not described", member("fc.weight", scale=1)),
    "a pruned tensor without pieces": ("lacks", edited(lambda d: d.pruned.update(x=d.pruned["fc.weight"]))),
    "no mask": ("lacks", edited(lambda d: (d.resize("fc.weight:mask", b""), d.entries.pop("fc.weight:mask")))),
    "no values": ("lacks", edited(lambda d: (d.resize("fc.weight:values", b""), d.entries.pop("fc.weight:values")))),
    "pieces nobody asks for": ("asks for", edited(lambda d: d.pruned.pop("fc.weight"))),
    "pruned name with a path": ("cannot name", edited(lambda d: d.pruned.update({"/etc/x": d.pruned["fc.weight"]}))),
    "unknown coding": ("unknown coding", member("fc.weight", coding="rice")),
    "coding of a list": ("unknown coding", member("fc.weight", coding=["gap8"])),
    "the other coding": ("bytes of bitmask", member("fc.weight", coding="bitmask")),
    "unknown dtype of values": ("unknown dtype", member("fc.weight", values="BF16")),
    "another dtype of values": ("not F16 and", member("fc.weight", values="F16")),
    "values that are not there": ("unknown dtype", member("fc.weight", values=None)),
    "count that is text": ("claims to keep", member("fc.weight", kept="5")),
    "count beyond the shape": ("claims to keep", member("fc.weight", kept=601)),
    "count too high": ("values of dtype", member("fc.weight", kept=6)),
    "count too low": ("values of dtype", member("fc.weight", kept=4)),
    "count of a bitmask too high": ("values of dtype", member("conv.weight", kept=5)),
    "pruned shape of terabytes": ("over the limits", shape("fc.weight", [1 << 40])),
    "pruned shape of gigabytes": ("cannot say which", shape("fc.weight", [1 << 30])),
    "pruned shape wider by an escape": ("stop 255 before the end", shape("fc.weight", [257, 3])),
    "pruned shape narrower": ("past the end", shape("fc.weight", [2, 257])),
    "bitmask for another shape": ("cannot say which", shape("conv.weight", [3, 6])),
    "mask of two axes": ("2 axes", piece("fc.weight:mask", shape=[2, 3])),
    "mask of another dtype": ("stored as I8", piece("fc.weight:mask", dtype="I8")),
    # Data.
    "index out of range": ("past the end", edited(lambda d: d.put("fc.weight:mask", 1, b"\xfe"))),
    "an escape past the end": ("past the end", edited(lambda d: d.put("fc.weight:mask", 5, b"\xff"))),
    "an escape for a weight": ("keep 4", edited(lambda d: d.put("fc.weight:mask", 0, b"\xff\x00\x00\x00\xff\x00"))),
    "a weight for an escape": ("keep 6", edited(lambda d: d.put("fc.weight:mask", 4, b"\xfe"))),
    "a missing escape at the end": ("stop", edited(lambda d: d.put("fc.weight:mask", 3, b"\x00\x00\x00"))),
    "gaps too long": ("cannot say which", edited(lambda d: d.resize("fc.weight:mask", bytes(600)))),
    "gaps too short": ("cannot say which", edited(lambda d: d.resize("fc.weight:mask", b"\0"))),
    "bits after the end": ("bits set after", edited(lambda d: d.put("conv.weight:mask", 1, b"\x03"))),
    "a bit more": ("keeps 5", edited(lambda d: d.put("conv.weight:mask", 0, b"\x2b"))),
    "a bit less": ("keeps 3", edited(lambda d: d.put("conv.weight:mask", 1, b"\x00"))),
    "NaN among the values": ("infinite or not a number", edited(lambda d: d.put("fc.weight:values", 4, NAN))),
    "infinity in a dense tensor": ("infinite or not a number", edited(lambda d: d.put("bn.bias", 0, INFINITY))),
    "a bool of two": ("neither 0 nor 1", edited(lambda d: d.put("bn.on", 0, b"\x02"))),
}

MASKS: dict[str, tuple[str, Callable[[Draft], bytes]]] = {
    "a dense tensor": ("holds the dense tensor", edited(lambda d: d.entries.update(empty_piece("x")))),
    "values": ("asks for", edited(lambda d: d.entries.update(empty_piece("fc.weight:values", "F32")))),
    "values described": ("not described", member("fc.weight", values="F32")),
    "count too low": ("keep 5 weights where the header says 4", member("fc.weight", kept=4)),
    "count too high": ("keep 5 weights where the header says 6", member("fc.weight", kept=6)),
    "empty tensors of terabytes": ("cannot say which", member("fc.weight", shape=[1 << 29], kept=0)),
}

LADDER: dict[str, tuple[str, Callable[[Draft], bytes]]] = {
    "a dense tensor": ("holds the dense tensor", edited(lambda d: d.entries.update(empty_piece("x")))),
    "no rounds": ("lacks", edited(lambda d: d.pruned.update(x=d.pruned["fc.weight"]))),
    "round zero": ("rising numbers", member("fc.weight", rounds=[0, 1, 2])),
    "rounds unsorted": ("rising numbers", member("fc.weight", rounds=[1, 3, 2])),
    "a round twice": ("rising numbers", member("fc.weight", rounds=[1, 2, 2])),
    "round 256": ("rising numbers", member("fc.weight", rounds=[1, 2, 256])),
    "rounds that are text": ("not a list", member("fc.weight", rounds="123")),
    "the dead rise": ("rise", member("fc.weight", alive=[9, 10, 4])),
    "more alive than weights": ("rise", member("fc.weight", alive=[13, 6, 4])),
    "too few counts": ("do not fit", member("fc.weight", alive=[9, 6])),
    "counts that are truths": ("not a list", member("fc.weight", alive=[9, True, False])),
    "counts that lie": ("keeps", member("fc.weight", alive=[9, 6, 3])),
    "shape of terabytes": ("ask for", member("fc.weight", shape=[1 << 30])),
    "bits after the end": ("bits set after", edited(lambda d: d.put("fc.weight:rounds", 1, b"\xff"))),
    "bytes too many": ("ask for", edited(lambda d: d.resize("fc.weight:rounds", bytes(9)))),
}

CASES = [
    pytest.param(kind, problem, spoil, id=f"{kind}: {name}")
    for kind, cases in (("weights", WEIGHTS), ("masks", MASKS), ("ladder", LADDER))
    for name, (problem, spoil) in cases.items()
]


@pytest.mark.parametrize(("kind", "problem", "spoil"), CASES)
def test_a_malformed_file_is_refused(
    tmp_path: Path, good: dict[str, bytes], kind: str, problem: str, spoil: Callable[[Draft], bytes]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(spoil(draft(good[kind])))
    with pytest.raises(SparseFileError, match=problem) as caught:
        READERS[kind](path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{path}: ")
    assert all(len(line) < 400 and line.isprintable() for line in lines)


@pytest.mark.parametrize("kind", READERS)
def test_an_unspoiled_draft_is_read(tmp_path: Path, good: dict[str, bytes], kind: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(draft(good[kind]).file())
    READERS[kind](path)


@pytest.mark.parametrize("kind", READERS)
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, good: dict[str, bytes], kind: str) -> None:
    path = tmp_path / "file"
    file = good[kind]
    for length in range(len(file)):
        path.write_bytes(file[:length])
        with pytest.raises(SparseFileError):
            READERS[kind](path)


def check_invariants(path: Path, kind: str) -> None:
    """What must be true of any file that is not refused."""
    with safetensors.safe_open(path, framework="numpy") as file:
        assert file.metadata()["sslprune.kind"] == kind
    if kind == "ladder":
        assert all(died.dtype == np.uint8 for died in sparse_file.read_ladder(path).values())
        return
    plan, masks = sparse_file.read_layout(path), sparse_file.read_mask(path)
    for name, tensor in plan.pruned.items():
        assert (masks[name].dtype, masks[name].shape) == (np.bool_, tensor.shape)
        assert np.count_nonzero(masks[name]) == tensor.kept
    if kind == "weights":
        content = sparse_file.read(path)
        assert content.masks.keys() == masks.keys()
        assert content.metadata == sparse_file.read_metadata(path)
        for name, array in content.tensors.items():
            assert np.isfinite(array).all()
            if name in masks:
                assert (array.dtype, array.shape) == (np.float32, masks[name].shape)
                assert not array[~masks[name]].any()


@pytest.mark.parametrize("kind", READERS)
def test_any_flipped_bit_is_refused_or_leaves_a_valid_file(tmp_path: Path, good: dict[str, bytes], kind: str) -> None:
    path = tmp_path / "file"
    file = good[kind]
    refused = 0
    for at in range(len(file)):
        for flip in (1 << at % 8, 0xFF):
            path.write_bytes(file[:at] + bytes([file[at] ^ flip]) + file[at + 1 :])
            try:
                READERS[kind](path)
            except SparseFileError:
                refused += 1
            else:
                check_invariants(path, kind)
    assert refused > len(file)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(READERS)), st.data())
def test_bytes_replaced_moved_or_repeated_are_refused_or_leave_a_valid_file(
    tmp_path: Path, good: dict[str, bytes], kind: str, data: st.DataObject
) -> None:
    path = tmp_path / "file"
    file = bytearray(good[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        begin = data.draw(st.integers(0, len(file)))
        end = data.draw(st.integers(begin, min(len(file), begin + 12)))
        digits = st.text('0123456789[]{},:"-. ', max_size=12).map(str.encode)
        file[begin:end] = data.draw(st.one_of(st.binary(max_size=12), digits, st.just(bytes(file[begin:end] * 2))))
    path.write_bytes(file)
    try:
        READERS[kind](path)
    except SparseFileError:
        return
    check_invariants(path, kind)


@pytest.mark.parametrize(
    "name", [name for name in WEIGHTS if any(word in name for word in ("tera", "giga", "2**64", "overflows"))]
)
def test_a_huge_claim_is_refused_before_memory_is_taken(tmp_path: Path, good: dict[str, bytes], name: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(WEIGHTS[name][1](draft(good["weights"])))
    tracemalloc.start()
    try:
        with pytest.raises(SparseFileError):
            sparse_file.read(path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_memory_is_bounded_by_the_file(tmp_path: Path) -> None:
    mask = np.zeros(4_000_000, np.bool_)
    sparse_file.write(tmp_path / "net", {"w": np.zeros(mask.size, np.float32)}, {"w": mask}, metadata={})
    tracemalloc.start()
    try:
        sparse_file.read(tmp_path / "net")
        assert tracemalloc.get_traced_memory()[1] <= 1300 * (tmp_path / "net").stat().st_size
    finally:
        tracemalloc.stop()


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(SparseFileError, match="no such file"):
            sparse_file.read(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SparseFileError, match="no such file"):
        sparse_file.read(tmp_path / "pipe")
