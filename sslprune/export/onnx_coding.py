"""One tensor of an ONNX graph in one coding: the constants that hold it, the standard operators that decode it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sslprune.export.onnx_extra import onnx_package

Array = NDArray[Any]
Coding = Literal["dense", "zeros", "gap8", "skip8", "gap16"]

CODINGS: tuple[Coding, ...] = get_args(Coding)

MARK = "~"
"""In the name of every value that only decodes a tensor."""

_SKIP = 255
_INT32 = 6  # onnx.TensorProto.INT32; the package is imported only when something is packed
_INT64 = 7


@dataclass(frozen=True)
class Piece:
    """One tensor's share of a graph.

    Attributes:
        nodes: `onnx.NodeProto`s; the last one's output has the tensor's own name. None for a tensor stored as it is.
        initializers: `onnx.TensorProto`s of its own.
        shared: Small constants by name, equal wherever they occur: a graph needs each once.
    """

    nodes: tuple[Any, ...]
    initializers: tuple[Any, ...]
    shared: Mapping[str, Any]

    @property
    def bytes(self) -> int:
        """What it takes in a file, every message with its tag and length."""
        messages = (*self.nodes, *self.initializers, *self.shared.values())
        return sum(_in_graph(message.ByteSize()) for message in messages)


def encode(name: str, array: Array, coding: Coding, prefix: str, *, as_dtype: Any = None) -> Piece:
    """One tensor in one coding.

    Args:
        name: The tensor's name.
        array: Float of any shape; every element whose bits are all 0 counts as pruned.
        coding: "dense": as it is. "zeros": nothing kept. "gap8", "gap16": gaps of one byte or two, longer ones split
            by positions that hold an explicit 0. "skip8": gaps of one byte, where the byte 255 goes on by 255 without
            a value.
        prefix: Begins the names of what is made for it.
        as_dtype: What the graph casts the values to, where not the array's own dtype.

    Raises:
        ValueError: "zeros" of a tensor that is not.
    """
    graph = _Builder(prefix)
    cast = as_dtype is not None and np.dtype(as_dtype) != array.dtype
    target = np.dtype(as_dtype) if cast else array.dtype
    flat = array.reshape(-1)
    kept = np.flatnonzero(bits(array))
    if coding == "dense":
        graph.result(name, "Cast", graph.own("v", array), to=_type(target)) if cast else graph.own("", array, name)
        return graph.piece()
    if coding == "zeros":
        if kept.size:
            raise ValueError(f"{name} has {kept.size} elements that are not 0")
        shape = graph.own("s", np.array(array.shape, np.int64))
        graph.result(name, "ConstantOfShape", shape, value=_zero(target))
        return graph.piece()

    if coding == "skip8":
        positions, values = _without_multiples(kept, flat[kept])
        gaps = np.diff(positions, prepend=0)
        stream, _ = _split(gaps, gaps // _SKIP, _SKIP, np.uint8)
        values = np.concatenate([np.zeros(1, values.dtype), values])  # where the bytes that only go on point to
    else:
        dtype = np.uint8 if coding == "gap8" else np.uint16
        limit = np.iinfo(dtype).max
        gaps = np.diff(kept, prepend=0)
        stream, ends = _split(gaps, np.maximum(gaps - 1, 0) // limit, limit, dtype)
        values = np.zeros(stream.size, flat.dtype)
        values[ends] = flat[kept]

    axis = graph.scalar(0)
    steps = graph.node("i", "Cast", graph.own("g", stream), to=_INT32)
    where = graph.node("p", "CumSum", steps, axis)
    what = graph.own("v", values)
    if cast:
        what = graph.node("c", "Cast", what, to=_type(target))
    if coding == "skip8":
        lands = graph.node("l", "Cast", graph.node("b", "Less", steps, graph.scalar(_SKIP)), to=_INT32)
        count = graph.node("n", "CumSum", lands, axis)
        what = graph.node("w", "Gather", what, graph.node("k", "Mul", count, lands))
    empty = graph.node("e", "ConstantOfShape", graph.vector([array.size]), value=_zero(target))
    filled = graph.node("f", "ScatterElements", empty, where, what)
    # A 0 in a Reshape's shape would mean "as the input has it".
    empty_sides = {"allowzero": 1} if 0 in array.shape else {}
    graph.result(name, "Reshape", filled, graph.vector(array.shape), **empty_sides)
    return graph.piece()


def bits(array: Array) -> Array:
    """-0.0 and denormal numbers are not 0 here: their bits are what is kept."""
    return np.ascontiguousarray(array).reshape(-1).view(f"u{array.dtype.itemsize}")


class _Builder:
    """Collects nodes and constants under one prefix."""

    def __init__(self, prefix: str) -> None:
        self._onnx = onnx_package()
        self._prefix = prefix
        self._nodes: list[Any] = []
        self._initializers: list[Any] = []
        self._shared: dict[str, Any] = {}

    def piece(self) -> Piece:
        return Piece(tuple(self._nodes), tuple(self._initializers), self._shared)

    def own(self, suffix: str, array: Array, name: str = "") -> str:
        name = name or self._prefix + suffix
        self._initializers.append(self._onnx.numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def scalar(self, value: int) -> str:
        name = f"{MARK}{value}"
        self._shared[name] = self._onnx.helper.make_tensor(name, _INT32, [], [value])
        return name

    def vector(self, numbers: Any) -> str:
        name = f"{MARK}{'x'.join(map(str, numbers))}."
        self._shared[name] = self._onnx.helper.make_tensor(name, _INT64, [len(numbers)], list(numbers))
        return name

    def node(self, suffix: str, op: str, *inputs: str, **attributes: Any) -> str:
        return self.result(self._prefix + suffix, op, *inputs, **attributes)

    def result(self, output: str, op: str, *inputs: str, **attributes: Any) -> str:
        self._nodes.append(self._onnx.helper.make_node(op, inputs, [output], **attributes))
        return output


def _without_multiples(kept: Array, values: Array) -> tuple[Array, Array]:
    """Break up every gap that is a multiple of 255 by an explicit 0 one position before its end.

    Otherwise the last byte that goes on would already stand where the value goes, and two entries of one
    ScatterElements would have one index, which ONNX forbids.
    """
    gaps = np.diff(kept, prepend=0)
    broken = np.flatnonzero((gaps > 0) & (gaps % _SKIP == 0))
    return np.insert(kept, broken, kept[broken] - 1), np.insert(values, broken, 0)


def _split(gaps: Array, more: Array, limit: int, dtype: type[np.unsignedinteger[Any]]) -> tuple[Array, Array]:
    """Gaps as numbers up to `limit`: `more` times the limit, then the rest; and where the rests stand."""
    ends = np.cumsum(more + 1) - 1
    stream = np.full(int(ends[-1]) + 1 if ends.size else 0, limit, dtype)
    stream[ends] = gaps - more * limit
    return stream, ends


def _in_graph(length: int) -> int:
    """Bytes of an embedded message: its content, a tag, and its length in groups of seven bits."""
    return 1 + max(1, -(-length.bit_length() // 7)) + length


def _type(dtype: Any) -> int:
    return int(onnx_package().helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _zero(dtype: Any) -> Any:
    return onnx_package().numpy_helper.from_array(np.zeros(1, dtype))
