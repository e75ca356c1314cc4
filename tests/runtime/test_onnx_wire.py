"""Foreign bytes are outlined or refused by name, in time and memory that their size bounds."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from sslprune.runtime import onnx_wire
from sslprune.runtime.onnx_wire import Refused, outline

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
LENGTHS = numpy_helper.from_array(np.array([3, 4]), "lengths")
WEIGHTS = numpy_helper.from_array(np.arange(6, dtype=np.float32), "weights")


def model_of(*nodes: onnx.NodeProto, tensors: tuple[TensorProto, ...] = (), **more: Any) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes) or [helper.make_node("Relu", ["input"], ["features"])],
        "graph",
        [helper.make_tensor_value_info("input", FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("features", FLOAT, ["batch", 3])],
        list(tensors),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], **more)


def filled(shape: TensorProto) -> onnx.ModelProto:
    return model_of(helper.make_node("ConstantOfShape", [shape.name], ["filled"]), tensors=(shape,))


def test_what_is_sound_is_outlined() -> None:
    model = filled(LENGTHS)
    model.graph.initializer.append(WEIGHTS)
    helper.set_model_props(model, {"sslprune.name": "a", "ä": "ö"})
    found = outline(model.SerializeToString())
    assert dict(found.metadata) == {"sslprune.name": "a", "ä": "ö"}
    assert found.decoded == 12


@given(lengths=st.lists(st.integers(0, 2**62), max_size=8), raw=st.booleans())
def test_decoded_elements_are_counted_in_both_ways_of_writing_them(lengths: list[int], raw: bool) -> None:
    shape = numpy_helper.from_array(np.array(lengths, np.int64), "shape")
    if not raw:
        shape = helper.make_tensor("shape", INT64, [len(lengths)], lengths)
    expected = 1
    for length in lengths:
        expected *= length
    assert outline(filled(shape).SerializeToString()).decoded == expected


def claiming(*dims: int) -> TensorProto:
    tensor = TensorProto()
    tensor.CopyFrom(WEIGHTS)
    del tensor.dims[:]
    tensor.dims.extend(dims)
    return tensor


def external(**fields: Any) -> TensorProto:
    tensor = TensorProto(name="weights", data_type=FLOAT, dims=[6], **fields)
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


def attribute(**fields: Any) -> onnx.ModelProto:
    node = helper.make_node("Constant", [], ["constant"])
    node.attribute.append(onnx.AttributeProto(name="value", **fields))
    return model_of(node)


def sparse() -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=WEIGHTS, indices=LENGTHS, dims=[2**40])


def with_graph(**fields: Any) -> onnx.ModelProto:
    model = model_of()
    model.graph.MergeFrom(onnx.GraphProto(**fields))
    return model


HOSTILE: dict[str, tuple[str, Callable[[], onnx.ModelProto]]] = {
    "no graph": ("0 graphs", lambda: onnx.ModelProto(ir_version=10)),
    "an external tensor": (
        "in another file",
        lambda: model_of(tensors=(external(data_location=TensorProto.EXTERNAL),)),
    ),
    "an external tensor that denies it": ("in another file", lambda: model_of(tensors=(external(),))),
    "an external tensor without a place": (
        "in another file",
        lambda: model_of(tensors=(TensorProto(name="w", data_location=TensorProto.EXTERNAL),)),
    ),
    "an external constant": ("in another file", lambda: attribute(t=external())),
    "an external constant in a list": ("in another file", lambda: attribute(tensors=[WEIGHTS, external()])),
    "terabytes of weights": ("claims", lambda: model_of(tensors=(claiming(2**20, 2**20),))),
    "a negative length": ("claims", lambda: model_of(tensors=(claiming(-6),))),
    "terabytes in a constant": ("claims", lambda: attribute(t=claiming(2**40))),
    "more weights than bytes": ("claims", lambda: model_of(tensors=(claiming(200),))),
    "nine axes": ("more than 8 axes", lambda: model_of(tensors=(claiming(*[1] * 9),))),
    "a million axes": ("more than 8 axes", lambda: model_of(tensors=(claiming(*[2**62] * 1_000_000),))),
    "weights that are not numbers": (
        "not finite",
        lambda: model_of(tensors=(numpy_helper.from_array(np.array([1, np.nan], np.float32), "w"),)),
    ),
    "half weights that are infinite": (
        "not finite",
        lambda: model_of(tensors=(numpy_helper.from_array(np.array([1, np.inf], np.float16), "w"),)),
    ),
    "listed weights that are infinite": (
        "not finite",
        lambda: model_of(tensors=(helper.make_tensor("w", FLOAT, [2], [1, np.inf]),)),
    ),
    "two tensors of one name": ("two tensors 'weights'", lambda: model_of(tensors=(WEIGHTS, WEIGHTS))),
    "a shape that is computed": (
        "does not stand in it",
        lambda: model_of(
            helper.make_node("Identity", ["lengths"], ["same"]),
            helper.make_node("ConstantOfShape", ["same"], ["filled"]),
            tensors=(LENGTHS,),
        ),
    ),
    "a shape that is no shape": ("does not stand in it", lambda: filled(WEIGHTS)),
    "a shape that lies about its axes": (
        "does not stand in it",
        lambda: filled(TensorProto(name="s", data_type=INT64, dims=[2], int64_data=[3, 4, 2**40])),
    ),
    "a subgraph": ("subgraphs", lambda: attribute(g=model_of().graph)),
    "subgraphs": ("subgraphs", lambda: attribute(graphs=[model_of().graph])),
    "a sparse constant": ("sparse", lambda: attribute(sparse_tensor=sparse())),
    "sparse constants": ("sparse", lambda: attribute(sparse_tensors=[sparse()])),
    "sparse weights": ("sparse", lambda: with_graph(sparse_initializer=[sparse()])),
    "a foreign operator": (
        "operators of 'com.evil'",
        lambda: model_of(helper.make_node("Do", ["input"], ["features"], domain="com.evil")),
    ),
    "a function": (
        "functions",
        lambda: model_of(functions=[helper.make_function("", "Relu", ["x"], ["y"], [], [helper.make_opsetid("", 20)])]),
    ),
    "a training part": ("training", lambda: onnx.ModelProto(graph=model_of().graph, training_info=[{}])),
}


@pytest.mark.parametrize(("problem", "make"), HOSTILE.values(), ids=HOSTILE)
def test_what_no_file_of_ours_has_is_refused(problem: str, make: Callable[[], onnx.ModelProto]) -> None:
    content = make().SerializeToString()
    tracemalloc.start()
    with pytest.raises(Refused, match=problem) as caught:
        outline(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * len(content) + 200_000
    assert str(caught.value).isprintable()


def test_a_lone_infinity_may_be_a_bound() -> None:
    outline(model_of(tensors=(numpy_helper.from_array(np.array(-np.inf, np.float32), "lowest"),)).SerializeToString())


@pytest.mark.parametrize(
    ("problem", "content"),
    [
        ("0 graphs", b""),
        ("2 graphs", 2 * model_of().SerializeToString()),
        ("truncated", b"\x3a\xff\xff\xff\xff\x0f"),
        ("truncated", b"\x3a"),
        ("truncated", b"\x3a\x80"),
        ("truncated", b"\x39\0\0\0"),
        ("wire format", b"\x3a" + b"\xff" * 11),
        ("wire format", b"\0\0"),
        ("wire format", b"\x3b\x3c"),
        ("wire format", b"\x3f"),
        ("not UTF-8", b"\x72\x03\x0a\x01\xff"),
        ("twice", 2 * b"\x72\x03\x0a\x01a"),
    ],
)
def test_what_is_no_file_at_all_is_refused(problem: str, content: bytes) -> None:
    with pytest.raises(Refused, match=problem):
        outline(content)


def test_fields_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_wire, "MAX_FIELDS", 1000)
    outline(b"\x08\x01" * 900 + b"\x3a\0")
    with pytest.raises(Refused, match="more than 1000 fields"):
        outline(b"\x08\x01" * 1001)


@given(st.binary(max_size=300))
def test_any_bytes_are_outlined_or_refused(content: bytes) -> None:
    with suppress(Refused):
        outline(content)


@given(st.data())
def test_a_changed_file_is_outlined_or_refused(data: st.DataObject) -> None:
    content = bytearray(filled(LENGTHS).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    with suppress(Refused):
        outline(bytes(content))


def test_it_sees_what_onnx_sees(folder: Path) -> None:
    content = (folder / "model.onnx").read_bytes()
    model = onnx.load_from_string(content)
    assert dict(outline(content).metadata) == {prop.key: prop.value for prop in model.metadata_props}
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    made = [shapes[node.input[0]] for node in model.graph.node if node.op_type == "ConstantOfShape"]
    assert made
    assert outline(content).decoded == sum(int(shape.prod()) for shape in made)
