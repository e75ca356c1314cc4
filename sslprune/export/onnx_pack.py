"""Pruned initialisers of an ONNX model as gaps and values, decoded in the graph by standard operators.

A pruned tensor is stored as the distances between its non-zero positions, one byte or two each, and the values that
stand there; a few nodes (Cast, CumSum, ScatterElements, Reshape) put it together again. Runtimes fold them when they
open the file, and need to know nothing of sparsity. `sparse_initializer`, which ONNX has for this, is refused by its
own full checker, by its reference evaluator and by OpenVINO.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, Literal

import numpy as np

from sslprune.errors import SparseFileError
from sslprune.export.onnx_coding import MARK, Array, Coding, Piece, bits, encode
from sslprune.export.onnx_extra import onnx_package

Values = Literal["fp32", "fp16"]

SMALLEST = 64
"""Elements below which an initialiser is left alone: the nodes that decode it would take more bytes."""

_FLOATS = frozenset(map(np.dtype, (np.float16, np.float32, np.float64)))


def pack(model: Any, *, values: Values = "fp32", names: Collection[str] | None = None) -> Any:
    """Store every float initialiser in the coding that takes the fewest bytes, the nodes that decode it counted.

    Args:
        model: An `onnx.ModelProto` of opset 13 or later with its weights inside; it is not changed.
        values: "fp32" keeps every bit of every value, be it -0.0 or denormal; "fp16" rounds float32 tensors of two and
            more axes to the nearest half and casts them back in the graph.
        names: The initialisers to look at; None: all with at least `SMALLEST` elements.

    Returns:
        A new `onnx.ModelProto` that computes the same.

    Raises:
        MissingExtraError: onnx is not installed.
        SparseFileError: A value is too large for fp16, or the model is packed already.
    """
    graph = model.graph
    if any(MARK in initializer.name for initializer in graph.initializer):
        raise SparseFileError("this ONNX model is packed already.", "Unpack it first.")
    nodes: list[Any] = []
    own: list[Any] = []
    shared: dict[str, Any] = {}
    packed = set()
    for number, tensor in enumerate(graph.initializer):
        chosen = math.prod(tensor.dims) >= SMALLEST if names is None else tensor.name in names
        piece = smallest(tensor, f"{number}{MARK}", values) if chosen else None
        if piece is None or not piece.nodes:
            own.append(tensor)
            continue
        packed.add(tensor.name)
        nodes += piece.nodes
        own += piece.initializers
        shared |= piece.shared
    # What is computed is no longer an input (as files before IR 4 list it), and needs no stated type.
    return _with_graph(
        model,
        node=[*nodes, *graph.node],
        initializer=[*own, *shared.values()],
        input=[each for each in graph.input if each.name not in packed],
        value_info=[each for each in graph.value_info if each.name not in packed],
    )


def unpack(model: Any) -> Any:
    """The inverse of `pack`: a new `onnx.ModelProto` whose initialisers are plain, in their old order."""
    onnx = onnx_package()
    graph = model.graph
    known = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer if MARK in each.name}
    plain = [each for each in graph.initializer if MARK not in each.name]
    staying = []
    for node in graph.node:
        if not node.input or any(MARK not in name for name in node.input):
            staying.append(node)
            continue
        result = _evaluate(node, [known[name] for name in node.input])
        name = node.output[0]
        if MARK in name:
            known[name] = result
        else:
            number = int(node.input[0].partition(MARK)[0])
            plain.insert(number, onnx.numpy_helper.from_array(result, name))
    return _with_graph(model, node=staying, initializer=plain)


def smallest(tensor: Any, prefix: str, values: Values) -> Piece | None:
    """The piece that takes the fewest bytes for an `onnx.TensorProto`; None for one that cannot be packed.

    Args:
        tensor: The initialiser.
        prefix: Begins the names of what is made for it.
        values: See `pack`.
    """
    onnx = onnx_package()
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return None
    array = onnx.numpy_helper.to_array(tensor)
    if array.dtype not in _FLOATS or array.size > np.iinfo(np.int32).max:
        return None
    rounded = values == "fp16" and array.dtype == np.float32 and array.ndim >= 2
    stored = _halves(tensor.name, array) if rounded else array
    kept = np.flatnonzero(bits(stored))
    if not kept.size:
        codings: tuple[Coding, ...] = ("dense", "zeros")
    elif kept.size * (1 + stored.itemsize) < stored.nbytes:
        codings = ("dense", "gap8", "skip8", "gap16")
    else:
        codings = ("dense",)
    pieces = [encode(tensor.name, stored, coding, prefix, as_dtype=array.dtype) for coding in codings]
    return min(pieces, key=lambda piece: piece.bytes)


def _halves(name: str, array: Array) -> Array:
    with np.errstate(over="ignore"):
        halves = array.astype(np.float16)
    if bool(np.any(np.isinf(halves) & np.isfinite(array))):
        most = float(np.abs(array[np.isfinite(array)]).max())
        raise SparseFileError(f"{name} has the value {most:g}, too large for fp16 (65504).", "Write it as fp32.")
    return halves


def _evaluate(node: Any, inputs: list[Array]) -> Array:
    """One decoding node in numpy."""
    onnx = onnx_package()
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    first, *others = inputs
    match node.op_type:
        case "Cast":
            return first.astype(onnx.helper.tensor_dtype_to_np_dtype(attributes["to"]))
        case "CumSum":
            return np.cumsum(first, dtype=first.dtype)
        case "Less":
            return np.less(first, others[0])
        case "Mul":
            return np.multiply(first, others[0])
        case "Gather":
            return np.asarray(first[others[0]])
        case "ConstantOfShape":
            return np.full(first, onnx.numpy_helper.to_array(attributes["value"])[0])
        case "ScatterElements":
            filled = first.copy()
            filled[others[0]] = others[1]
            return filled
        case "Reshape":
            return first.reshape(others[0])
    raise SparseFileError(f"the operator {node.op_type} decodes no tensor here.", "Export the model again.")


def _with_graph(model: Any, **fields: list[Any]) -> Any:
    """A copy of a model with other messages in these fields of its graph; large tensors are copied once."""
    copy = _without(model, {"graph"})
    copy.graph.CopyFrom(_without(model.graph, fields.keys()))
    for name, messages in fields.items():
        getattr(copy.graph, name).extend(messages)
    return copy


def _without(message: Any, left_out: Collection[str]) -> Any:
    copy = type(message)()
    for field, value in message.ListFields():
        if field.name in left_out:
            continue
        if field.is_repeated:
            getattr(copy, field.name).extend(value)
        elif field.message_type is not None:
            getattr(copy, field.name).CopyFrom(value)
        else:
            setattr(copy, field.name, value)
    return copy
