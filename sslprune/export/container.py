"""The safetensors container, read strictly and written the same way every time: `FORMAT.md`, section 1.

Own code rather than the safetensors library, because that one ignores what we must refuse (names given twice, limits)
and copies what we map; the tests open our files with it.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sslprune.export.malformed import Malformed
from sslprune.export.strangers import recognised

MAX_HEADER = 4 << 20
MAX_AXES = 8
MAX_NUMEL = 2**31 - 1
MAX_NAME = 255

DTYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "F16": np.dtype("<f2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "F32": np.dtype("<f4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
}

_METADATA = "__metadata__"
_LENGTH = struct.Struct("<Q")
_TENSOR_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_MAX_DIGITS = 15


@dataclass(frozen=True)
class Piece:
    """One array of the container; `begin` and `end` count bytes from the start of the data."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """What a container's header says; `data` is the offset in the file at which the data begins."""

    metadata: dict[str, str]
    pieces: dict[str, Piece]
    data: int


def header_bytes(start: bytes, file_bytes: int) -> int:
    """The length of the header, from a file's first bytes and its size.

    Args:
        start: The first bytes, 8 or more. If they show what else the file is, the refusal says so.
        file_bytes: The size of the whole file.

    Raises:
        Malformed: The file is too short, or the length over the limit or not a multiple of 8.
    """
    if len(start) < _LENGTH.size:
        raise recognised(start) or Malformed(f"the file is {file_bytes} bytes long, too short for any header")
    length: int = _LENGTH.unpack(start[: _LENGTH.size])[0]
    if not 8 <= length <= MAX_HEADER or length % 8:
        raise recognised(start) or Malformed(
            f"the header claims {length} bytes; it must be a multiple of 8 from 8 to {MAX_HEADER}",
            "It may be an ordinary safetensors file: open it with that library." if start[8:9] == b"{" else None,
        )
    if _LENGTH.size + length > file_bytes:
        raise Malformed(f"the file is truncated: its header claims {length} bytes, the file has {file_bytes}")
    return length


def parse(header: bytes, file_bytes: int) -> Header:
    """Read and check a header; nothing in it is believed that the file's size does not bear out.

    Args:
        header: As many bytes as `header_bytes` said, from offset 8.
        file_bytes: The size of the whole file.

    Raises:
        Malformed: The header breaks a rule of section 1.
    """
    members = json_object(header.rstrip(b" "), "the header")
    metadata = members.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise Malformed(f"{_METADATA} is not an object of strings")
    pieces = {name: _piece(name, member) for name, member in members.items()}
    data = _LENGTH.size + len(header)
    _check_cover(pieces, file_bytes - data)
    return Header(metadata, pieces, data)


def build(metadata: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> tuple[bytes, list[str]]:
    """The start of a file (length and header), and the order in which the arrays' bytes follow it.

    Args:
        metadata: Any strings.
        arrays: Arrays of the dtypes in `DTYPES`, in C order.
    """
    order = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    members: dict[str, object] = {_METADATA: dict(sorted(metadata.items()))}
    end = 0
    for name in order:
        begin, end = end, end + arrays[name].nbytes
        members[name] = {
            "dtype": dtype_name(arrays[name].dtype),
            "shape": list(arrays[name].shape),
            "data_offsets": [begin, end],
        }
    try:
        header = compact_json(members).encode()
    except UnicodeEncodeError as error:
        raise Malformed("the metadata holds an unpaired surrogate, which is not text") from error
    header += b" " * (-len(header) % 8)
    if len(header) > MAX_HEADER:
        raise Malformed(
            f"the header would take {len(header)} bytes; the limit is {MAX_HEADER}", "Shorten the metadata."
        )
    return _LENGTH.pack(len(header)) + header, order


def dtype_name(dtype: np.dtype[Any]) -> str:
    """The container's name of a numpy dtype.

    Raises:
        Malformed: It has none.
    """
    for name, known in DTYPES.items():
        if dtype.newbyteorder("<") == known:
            return name
    raise Malformed(f"dtype {dtype} cannot be stored", f"Convert it to one of {', '.join(map(str, DTYPES.values()))}.")


def compact_json(value: object) -> str:
    """JSON without spaces, in the order given."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def json_object(text: str | bytes, what: str) -> dict[str, Any]:
    """Read a JSON object narrowly: no name twice, no number but naturals, no unpaired surrogate.

    Args:
        text: The JSON.
        what: What it is, for the error.

    Raises:
        Malformed: It is anything else.

    >>> json_object('{"a":1,"a":2}', "the header")
    Traceback (most recent call last):
    sslprune.export.malformed.Malformed: the header names 'a' twice
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            seen: set[str] = set()
            twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise Malformed(f"{what} names {quote(twice)} twice")
        return members

    def natural(digits: str) -> int:
        if not (digits.isascii() and digits.isdigit()) or len(digits) > _MAX_DIGITS:
            raise Malformed(f"{what} holds the number {quote(digits)}; only naturals may occur")
        return int(digits)

    try:
        text = text.decode() if isinstance(text, bytes) else text
        if not (text.startswith("{") and text.endswith("}")):
            raise Malformed(f"{what} is not one JSON object, from '{{' to '}}'")
        value: dict[str, Any] = json.loads(
            text, object_pairs_hook=unique, parse_int=natural, parse_float=natural, parse_constant=natural
        )
        if "\\u" in text:
            # Escapes such as "\ud800" pass the parser and fail much later, where a name is printed or encoded.
            json.dumps(value, ensure_ascii=False).encode()
    except Malformed:
        raise
    except (ValueError, RecursionError) as error:
        raise Malformed(f"{what} is not JSON: {quote(str(error))}") from None
    return value


def check_name(name: str) -> None:
    """Refuse what cannot name a tensor.

    Raises:
        Malformed: Other characters than letters, digits, `_`, `-` and single dots between them, or too many.
    """
    if len(name) > MAX_NAME or name == _METADATA or not _TENSOR_NAME.fullmatch(name):
        raise Malformed(f"{quote(name)} cannot name a tensor; names are like 'layer1.0.conv1.weight'")


def shape_of(value: object, what: str) -> tuple[int, ...]:
    """A shape from JSON, within the limits.

    Raises:
        Malformed: It is not a list of naturals, or too large.
    """
    if not isinstance(value, list) or not all(type(length) is int for length in value):
        raise Malformed(f"{what} has a shape that is not a list of numbers")
    if len(value) > MAX_AXES or math.prod(length for length in value if length) > MAX_NUMEL:
        raise Malformed(f"{what} claims the shape {quote(str(value))}, over the limits")
    return tuple(value)


def quote(text: str) -> str:
    """Foreign text for an error: one printable line of bounded length."""
    return ascii(text if len(text) <= 100 else text[:100] + "...")


def _piece(name: str, member: object) -> Piece:
    what = f"tensor {quote(name)}"
    if not isinstance(member, dict) or member.keys() != {"dtype", "shape", "data_offsets"}:
        raise Malformed(f"{what} is not described by dtype, shape and data_offsets alone")
    dtype, offsets = member["dtype"], member["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise Malformed(f"{what} has the unknown dtype {quote(str(dtype))}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(offset) is int for offset in offsets):
        raise Malformed(f"{what} has data_offsets that are not two numbers")
    shape, (begin, end), size = shape_of(member["shape"], what), offsets, DTYPES[dtype].itemsize
    if end - begin != math.prod(shape) * size or begin % size:
        raise Malformed(f"{what} of shape {list(shape)} and dtype {dtype} does not fit the offsets {begin} to {end}")
    return Piece(dtype, shape, begin, end)


def _check_cover(pieces: Mapping[str, Piece], data_bytes: int) -> None:
    reached = 0
    for name, piece in sorted(pieces.items(), key=lambda item: (item[1].begin, item[1].end)):
        if piece.begin != reached:
            fault = "overlaps the one before it" if piece.begin < reached else "leaves a hole before it"
            raise Malformed(f"tensor {quote(name)} {fault}: it begins at {piece.begin}, not {reached}")
        reached = piece.end
    if reached != data_bytes:
        state = "is truncated" if reached > data_bytes else "has more bytes than tensors"
        raise Malformed(f"the file {state}: its header describes {reached} bytes of data, the file has {data_bytes}")
