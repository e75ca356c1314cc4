"""What an ONNX file holds, read from its bytes before any runtime is given them; numpy alone, not `onnx`.

Foreign bytes are read here first because a runtime would follow references to other files, and would ask for whatever
memory a few bytes claim. The layout is protobuf's wire format and the field numbers of `onnx.proto` (ONNX 1.18).

A graph remains a program: what its operators compute from their inputs is not bounded here. Against that stands the
sha256 that `sslprune.load` checks before it reads the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

MAX_FIELDS = 1 << 20
"""A file of more fields (of those looked at) is refused: a large network has some 10,000."""

MAX_BYTES = (1 << 31) - 1
"""Protobuf's own limit."""

HARMLESS = 1 << 24
"""Elements of decoded tensors that any file may claim: 64 MiB of float32."""

_DOMAINS = ("", "ai.onnx")
_MAX_AXES = 8
_FLOATS: Mapping[int, np.dtype[np.floating]] = {1: np.dtype("<f4"), 10: np.dtype("<f2"), 11: np.dtype("<f8")}
_INT64 = 7

_Value: TypeAlias = "int | memoryview"


class Refused(ValueError):
    """The bytes are not an ONNX file that is run here; says why in one line without a full stop."""


@dataclass(frozen=True)
class Outline:
    """What was seen.

    Attributes:
        metadata: The file's `metadata_props`.
        decoded: Elements of the tensors that `ConstantOfShape` makes from shapes that stand in the file.
    """

    metadata: Mapping[str, str]
    decoded: int


def outline(content: bytes) -> Outline:
    """Look through a file, in time and memory that its size bounds.

    Raises:
        Refused: It is no ONNX file, or refers to other files, or has what no file of ours has: functions, subgraphs,
            operators that are not standard, sparse tensors, tensors that claim more elements than bytes.
    """
    if len(content) > MAX_BYTES:
        raise Refused(f"it has {len(content)} bytes, over protobuf's limit")
    reader = _Reader()
    metadata: dict[str, str] = {}
    graphs = []
    for number, value in reader.fields(memoryview(content)):
        match number, value:
            case 7, memoryview():
                graphs.append(value)
            case 14, memoryview():
                key, text = reader.entry(value)
                if key in metadata:
                    raise Refused(f"its metadata has {key[:50]!a} twice")
                metadata[key] = text
            case ((20 | 25), memoryview()):
                raise Refused("it has functions or a training part")
    if len(graphs) != 1:
        raise Refused(f"it has {len(graphs)} graphs")
    return Outline(metadata, reader.graph(graphs[0]))


@dataclass
class _Tensor:
    """A TensorProto: of its data only what is looked at."""

    name: str = ""
    dims: list[int] = field(default_factory=list)
    dtype: int = 0
    raw: memoryview = memoryview(b"")
    floats: memoryview = memoryview(b"")
    naturals: list[int] = field(default_factory=list)

    def check(self, size: int) -> None:
        elements = math.prod(self.dims)
        # Half a byte is the narrowest element that ONNX has.
        if elements > 2 * size:
            raise Refused(f"its tensor {self.name[:50]!a} claims {float(elements):.3g} elements in {size} bytes")
        # A lone infinity is a constant of the architecture: what a max-pool pads with, a bound of a clip.
        if elements > 1 and not (_finite(self.raw, _FLOATS.get(self.dtype)) and _finite(self.floats, _FLOATS[1])):
            raise Refused(f"its tensor {self.name[:50]!a} holds a number that is not finite")

    def elements_as_shape(self) -> int | None:
        """How many elements a tensor of the shape that stands in this one has; None if this is no shape."""
        if self.dtype != _INT64 or len(self.dims) != 1 or self.dims[0] > _MAX_AXES:
            return None
        lengths = np.frombuffer(self.raw[: len(self.raw) // 8 * 8], "<u8").tolist() if self.raw else self.naturals
        return math.prod(lengths) if len(lengths) == self.dims[0] else None


class _Reader:
    def __init__(self) -> None:
        self._left = MAX_FIELDS

    def fields(self, message: memoryview) -> Iterator[tuple[int, _Value]]:
        """Number and value of each field: whole numbers, and bytes; numbers of fixed width are passed over."""
        at = 0
        while at < len(message):
            if not (left := self._left):
                raise Refused(f"it has more than {MAX_FIELDS} fields")
            self._left = left - 1
            key, at = _varint(message, at)
            number, kind = key >> 3, key & 7
            if not number:
                raise Refused("it is not in protobuf's wire format")
            if kind == 0:
                value, at = _varint(message, at)
                yield number, value
                continue
            if kind == 2:
                size, at = _varint(message, at)
            elif kind in (1, 5):
                size = 8 if kind == 1 else 4
            else:
                raise Refused("it is not in protobuf's wire format")
            if size > len(message) - at:
                raise Refused("it is truncated")
            if kind == 2:
                yield number, message[at : at + size]
            at += size

    def graph(self, graph: memoryview) -> int:
        """Check a GraphProto; the elements that it decodes (see `Outline`)."""
        shapes: dict[str, int | None] = {}
        filled: list[str] = []
        for number, value in self.fields(graph):
            match number, value:
                case 1, memoryview():
                    filled += self._node(value)
                case 5, memoryview():
                    tensor = self._tensor(value)
                    if tensor.name in shapes:
                        raise Refused(f"it has two tensors {tensor.name[:50]!a}")
                    shapes[tensor.name] = tensor.elements_as_shape()
                case 15, memoryview():
                    raise Refused("it has sparse tensors")
        decoded = 0
        for name in filled:
            if (elements := shapes.get(name)) is None:
                raise Refused(f"it fills a tensor of the shape {name[:50]!a}, which does not stand in it")
            decoded += elements
        return decoded

    def entry(self, message: memoryview) -> tuple[str, str]:
        """A StringStringEntryProto."""
        parts = {1: "", 2: ""}
        for number, value in self.fields(message):
            if number in parts and isinstance(value, memoryview):
                parts[number] = _text(value)
        return parts[1], parts[2]

    def _node(self, node: memoryview) -> list[str]:
        """Check a NodeProto; the name of the shape that it fills, if that is what it does."""
        inputs, fills = [], False
        for number, value in self.fields(node):
            match number, value:
                case 1, memoryview():
                    inputs.append(_text(value))
                case 4, memoryview():
                    fills = fills or _text(value) == "ConstantOfShape"
                case 5, memoryview():
                    self._attribute(value)
                case 7, memoryview():
                    if (domain := _text(value)) not in _DOMAINS:
                        raise Refused(f"it uses operators of {domain[:50]!a}, which are not standard")
        return inputs if fills else []

    def _attribute(self, attribute: memoryview) -> None:
        for number, value in self.fields(attribute):
            match number, value:
                case ((5 | 10), memoryview()):
                    self._tensor(value)
                case ((6 | 11), memoryview()):
                    raise Refused("it has subgraphs")
                case ((22 | 23), memoryview()):
                    raise Refused("it has sparse tensors")

    def _tensor(self, message: memoryview) -> _Tensor:
        tensor = _Tensor()
        for number, value in self.fields(message):
            match number, value:
                case 1, _:
                    tensor.dims += _naturals(value)
                    if len(tensor.dims) > _MAX_AXES:
                        raise Refused(f"it has a tensor of more than {_MAX_AXES} axes")
                case 2, int():
                    tensor.dtype = value
                case 4, memoryview():
                    tensor.floats = value
                case 7, _:
                    tensor.naturals += _naturals(value)
                case 8, memoryview():
                    tensor.name = _text(value)
                case 9, memoryview():
                    tensor.raw = value
                case (13, _) | (14, 1):
                    raise Refused("it keeps a tensor in another file")
        tensor.check(len(message))
        return tensor


def _naturals(value: _Value) -> list[int]:
    """A repeated whole number, one at a time or packed; the first few are enough to be looked at."""
    if isinstance(value, int):
        return [value]
    found: list[int] = []
    at = 0
    while at < len(value) and len(found) <= _MAX_AXES:
        number, at = _varint(value, at)
        found.append(number)
    return found


def _finite(data: memoryview, dtype: np.dtype[np.floating] | None) -> bool:
    if dtype is None:
        return True
    return bool(np.isfinite(np.frombuffer(data[: len(data) // dtype.itemsize * dtype.itemsize], dtype)).all())


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 64:
        byte = message[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7
    raise Refused("it is truncated" if at >= len(message) else "it is not in protobuf's wire format")


def _text(value: memoryview) -> str:
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError as error:
        raise Refused("it holds text that is not UTF-8") from error
