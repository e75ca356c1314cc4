"""Packed initialisers: every bit comes back, from our reader, from ONNX Runtime, and from ONNX's own evaluator."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.extra.numpy as arrays
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as draw
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from sslprune.errors import SparseFileError
from sslprune.export.onnx_coding import CODINGS, encode
from sslprune.export.onnx_pack import SMALLEST, pack, unpack

Array = NDArray[Any]
FLOATS = (np.float16, np.float32, np.float64)
SPECIAL = [-0.0, 1e-45, -1e-45, 1.17e-38, 3.4e38, -3.4e38, 1.0, -0.5]
SHAPES = arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=6)


def model_of(tensors: dict[str, Array], *, listed_as_inputs: bool = False) -> onnx.ModelProto:
    """A model that gives out its initialisers, by way of an Identity each."""

    def state(name: str, array: Array) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)

    outputs = [state(f"out:{name}", array) for name, array in tensors.items()]
    stated = [state(name, array) for name, array in tensors.items()]
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], [f"out:{name}"]) for name in tensors],
        "graph",
        stated if listed_as_inputs else [],
        outputs,
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
        value_info=stated,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def coded(array: Array, coding: Any, as_dtype: Any = None) -> onnx.ModelProto:
    """A model whose one tensor is in this coding."""
    model = model_of({"w": array if as_dtype is None else array.astype(as_dtype)})
    piece = encode("w", array, coding, "0~", as_dtype=as_dtype)
    nodes = [*piece.nodes, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend([*piece.initializers, *piece.shared.values()])
    return model


def in_runtime(model: onnx.ModelProto) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {})


def in_reference(model: onnx.ModelProto) -> list[Array]:
    return ReferenceEvaluator(model).run(None, {})


def tensors_of(model: onnx.ModelProto) -> dict[str, Array]:
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


def assert_same_bits(found: Array, expected: Array) -> None:
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert np.ascontiguousarray(found).tobytes() == np.ascontiguousarray(expected).tobytes()


def assert_decodes(model: onnx.ModelProto, expected: Array) -> None:
    onnx.checker.check_model(model, full_check=True)
    for found in (in_runtime(model)[0], in_reference(model)[0], tensors_of(unpack(model))["w"]):
        assert_same_bits(np.asarray(found), expected)


def sparse(length: int, positions: Any, dtype: Any = np.float32) -> Array:
    array = np.zeros(length, dtype)
    array[np.array(positions, int)] = np.arange(1, len(positions) + 1)
    return array


@given(draw.data())
def test_every_coding_gives_every_bit_back(data: draw.DataObject) -> None:
    dtype = data.draw(draw.sampled_from(FLOATS))
    width = np.dtype(dtype).itemsize * 8
    numbers = draw.one_of(draw.just(0.0), draw.sampled_from(SPECIAL), draw.floats(width=width, allow_nan=False))
    with np.errstate(over="ignore"):
        array = np.array(data.draw(arrays.arrays(np.float64, SHAPES, elements=numbers))).astype(dtype)
    coding = data.draw(draw.sampled_from([coding for coding in CODINGS if coding != "zeros"]))
    assert_decodes(coded(array, coding), array)


@given(
    draw.lists(
        draw.one_of(
            draw.integers(1, 4),
            draw.sampled_from([253, 254, 255, 256, 509, 510, 511, 765, 65534, 65535, 65536, 131070, 131071]),
            draw.integers(1, 100_000),
        ),
        max_size=12,
    ),
    draw.sampled_from([0, 1, 254, 255, 256, 510, 65535, 65536]),
    draw.integers(0, 300),
    draw.sampled_from(["gap8", "skip8", "gap16"]),
)
@settings(max_examples=60)
def test_gaps_may_be_longer_than_their_numbers(gaps: list[int], first: int, tail: int, coding: Any) -> None:
    positions = np.cumsum([first, *gaps])
    array = sparse(int(positions[-1]) + 1 + tail, positions)
    assert_decodes(coded(array, coding), array)


@pytest.mark.parametrize("gap", [254, 255, 256, 510, 765])
def test_no_position_is_written_twice(gap: int) -> None:
    """ONNX leaves open which of two entries of one ScatterElements with the same index wins."""
    for coding in ("gap8", "skip8", "gap16"):
        piece = encode("w", sparse(3000, [gap, 2 * gap, 2 * gap + 1]), coding, "0~")  # type: ignore[arg-type]
        stream = numpy_helper.to_array(next(each for each in piece.initializers if each.name == "0~g"))
        positions = np.cumsum(stream.astype(int))
        assert len(set(positions.tolist())) == len(positions)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (7,), (2, 3), (2, 3, 4), (2, 3, 4, 5), (2, 1, 3, 1, 2)])
@pytest.mark.parametrize("coding", CODINGS)
def test_shapes_of_all_ranks_all_pruned_and_all_kept(shape: tuple[int, ...], coding: Any) -> None:
    assert_decodes(coded(np.zeros(shape, np.float32), coding), np.zeros(shape, np.float32))
    if coding != "zeros" and math.prod(shape):
        full = np.arange(1, 1 + math.prod(shape), dtype=np.float32).reshape(shape)
        assert_decodes(coded(full, coding), full)


@pytest.mark.parametrize("coding", ["dense", "gap8", "skip8", "gap16"])
def test_halves_are_cast_back_in_the_graph(coding: Any) -> None:
    halves = sparse(2000, [0, 3, 255, 300, 1999], np.float16).reshape(20, 100)
    halves[0, 3], halves[0, 0] = -0.0, 6e-8
    assert_decodes(coded(halves, coding, np.float32), halves.astype(np.float32))


def test_zeros_are_only_for_zeros() -> None:
    with pytest.raises(ValueError, match="1 elements"):
        encode("w", np.array([-0.0], np.float32), "zeros", "0~")


@given(draw.data())
@settings(max_examples=30)
def test_packing_is_exact_never_larger_and_undone_by_unpacking(data: draw.DataObject) -> None:
    chance = np.random.default_rng(data.draw(draw.integers(0, 2**32)))
    tensors: dict[str, Array] = {}
    for number in range(data.draw(draw.integers(1, 4))):
        shape = data.draw(draw.sampled_from([(), (10,), (64, 100), (40, 30, 3, 3), (0, 3)]))
        keep = data.draw(draw.sampled_from([0.0, 0.001, 0.01, 0.1, 0.5, 1.0]))
        array = chance.standard_normal(shape).astype(data.draw(draw.sampled_from(FLOATS)))
        tensors[f"layer{number}.weight"] = np.where(chance.random(shape) < keep, array, np.zeros_like(array))
    tensors["count"] = np.zeros((30, 30), np.int64)
    model = model_of(tensors, listed_as_inputs=data.draw(draw.booleans()))
    before = model.SerializeToString(deterministic=True)
    packed = pack(model)
    assert model.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(packed, full_check=True)
    assert packed.ByteSize() <= model.ByteSize()
    for found, expected in zip(in_runtime(packed), tensors.values(), strict=True):
        assert_same_bits(np.asarray(found), expected)
    restored = unpack(packed)
    assert list(tensors_of(restored)) == list(tensors)
    for name, found in tensors_of(restored).items():
        assert_same_bits(found, tensors[name])
    assert restored.graph.node == model.graph.node


def random_pruned(keep: float, shape: tuple[int, ...] = (128, 128, 3, 3)) -> Array:
    chance = np.random.default_rng(0)
    array = chance.standard_normal(shape).astype(np.float32)
    return np.where(chance.random(shape) < keep, array, np.float32(0))


@pytest.mark.parametrize("keep", [1e-4, 1e-3, 1e-2, 0.05, 0.2, 0.7, 0.9])
@pytest.mark.parametrize("as_dtype", [None, np.float32])
def test_the_smallest_coding_is_taken(keep: float, as_dtype: Any) -> None:
    array = random_pruned(keep)
    stored = array if as_dtype is None else array.astype(np.float16)
    least = min(
        coded(stored, coding, as_dtype).ByteSize() for coding in ("dense", "gap8", "skip8", "gap16")
    )  # fmt: skip
    packed = pack(model_of({"w": array}), values="fp32" if as_dtype is None else "fp16")
    del packed.graph.value_info[:]
    assert packed.ByteSize() <= least


@pytest.mark.parametrize(
    ("keep", "bytes_each"), [(0.1, 5.0), (0.05, 5.001), (0.01, 5.1), (0.001, 6.3)]
)  # fmt: skip
def test_a_kept_weight_takes_its_four_bytes_and_a_gap(keep: float, bytes_each: float) -> None:
    array = random_pruned(keep, (512, 512, 3, 3))
    kept = np.count_nonzero(array)
    assert pack(model_of({"w": array})).ByteSize() <= bytes_each * kept + 700


def test_only_the_named_initialisers_are_packed() -> None:
    tensors = {"a": random_pruned(0.1), "b": random_pruned(0.1), "small": np.zeros(SMALLEST - 1, np.float32)}
    assert tensors_of(pack(model_of(tensors), names=["b"])).keys() >= {"a", "small"}
    assert "b" not in tensors_of(pack(model_of(tensors), names=["b"]))
    assert {"a", "b", "small"} & tensors_of(pack(model_of(tensors))).keys() == {"small"}


def test_half_precision_rounds_weights_to_the_nearest_half_and_leaves_vectors() -> None:
    weight, bias = random_pruned(0.3) / 1000, np.linspace(0.1, 0.9, 500, dtype=np.float32)
    packed = pack(model_of({"w": weight, "b": bias}), values="fp16")
    found, left = in_runtime(packed)
    assert_same_bits(found, weight.astype(np.float16).astype(np.float32))
    assert_same_bits(left, bias)
    assert packed.ByteSize() < pack(model_of({"w": weight, "b": bias})).ByteSize()


def test_what_a_half_cannot_hold_is_refused() -> None:
    with pytest.raises(SparseFileError, match="w has the value 70000, too large"):
        pack(model_of({"w": np.full((10, 10), 7e4, np.float32)}), values="fp16")


def test_a_model_is_packed_once() -> None:
    packed = pack(model_of({"w": random_pruned(0.1)}))
    with pytest.raises(SparseFileError, match="packed already"):
        pack(packed)


def test_a_packed_tensor_is_neither_input_nor_stated() -> None:
    packed = pack(model_of({"w": random_pruned(0.1)}, listed_as_inputs=True))
    assert not packed.graph.input
    assert not packed.graph.value_info


def test_the_runtime_folds_the_decoding_away(tmp_path: Any) -> None:
    array = random_pruned(0.01)
    model = pack(model_of({"w": array}))
    # Something that varies must use the weights, or the whole graph is folded.
    model.graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 128, 8, 8]))
    model.graph.node.append(helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1]))
    model.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 128, 8, 8]))
    assert {"Less", "Gather"} <= {node.op_type for node in model.graph.node}
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "folded.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert {node.op_type for node in onnx.load(tmp_path / "folded.onnx").graph.node} <= {"Conv", "Identity"}
