"""Files of weights, masks and ladders: what goes in comes out, and what the format cannot hold is refused."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from sslprune.errors import MaskError, SparseFileError
from sslprune.export import sparse_file
from sslprune.export.container import DTYPES
from sslprune.export.values import decode_values

# A file is replaced at every write, so examples may share the folder.
laws = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])

shapes = st.one_of(
    st.sampled_from([(2, 3, 7, 7), (), (0,), (1,) * 8, (2, 1, 2, 1, 2, 1, 2, 1)]),
    npst.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=9),
)
names = st.from_regex(r"[a-z0-9_-]{1,6}(\.[a-zA-Z0-9_-]{1,6}){0,2}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
metadata = st.dictionaries(texts.filter(lambda key: not key.startswith("sslprune.")), texts, max_size=4)
densities = st.sampled_from([0.0, 0.003, 0.05, 0.2, 0.9, 1.0])
seeds = st.integers(0, 2**32 - 1)


def finite_bits(generator: np.random.Generator, count: int) -> np.ndarray:
    """Finite float32 of every kind: any bits, and often zeros of both signs, subnormals and the extremes."""
    bits = generator.integers(0, 2**32, count, np.uint32)
    special = np.array([0, 1, 0x007FFFFF, 0x7F7FFFFF, 0x80000000, 0x80000001, 0xFF7FFFFF], np.uint32)
    bits = np.where(generator.random(count) < 0.3, generator.choice(special, count), bits)
    values = bits.view(np.float32)
    return np.where(np.isfinite(values), values, np.float32(-0.0))


@st.composite
def pruned(draw: st.DrawFn, values: str = "fp32") -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Pruned tensors and their masks."""
    tensors, masks = {}, {}
    for name in draw(st.lists(names, unique=True, max_size=4)):
        shape, density, generator = draw(shapes), draw(densities), np.random.default_rng(draw(seeds))
        masks[name] = np.asarray(generator.random(shape) < density)
        drawn = finite_bits(generator, masks[name].size)
        if values == "fp16":
            drawn = np.clip(drawn, -65519.0, 65519.0)
        tensors[name] = np.where(masks[name], drawn.reshape(shape), np.float32(0))
    return tensors, masks


@st.composite
def dense(draw: st.DrawFn) -> dict[str, np.ndarray]:
    """Dense tensors of every dtype; their names begin with a capital, so as not to meet the pruned ones'."""
    tensors = {}
    for name in draw(st.lists(names, unique=True, max_size=4)):
        dtype = draw(st.sampled_from(sorted(DTYPES.values(), key=str)))
        finite = {"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else {}
        tensors[f"D{name}"] = draw(npst.arrays(dtype, draw(shapes), elements=npst.from_dtype(dtype, **finite)))
    return tensors


def assert_same_bits(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    assert list(found) == sorted(expected)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


@laws
@given(pruned(), dense(), metadata)
def test_fp32_gives_every_bit_back(
    tmp_path: Path,
    sparse: tuple[dict[str, np.ndarray], dict[str, np.ndarray]],
    others: dict[str, np.ndarray],
    about: dict[str, str],
) -> None:
    tensors, masks = sparse
    sparse_file.write(tmp_path / "net", tensors | others, masks, metadata=about)
    content = sparse_file.read(tmp_path / "net")
    assert_same_bits(content.tensors, tensors | others)
    assert_same_bits(content.masks, masks)
    assert content.metadata == sparse_file.read_metadata(tmp_path / "net") == about


@laws
@given(pruned(values="fp16"))
def test_fp16_rounds_kept_values_to_nearest_and_keeps_the_mask(
    tmp_path: Path, sparse: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]
) -> None:
    tensors, masks = sparse
    sparse_file.write(tmp_path / "net", tensors, masks, metadata={}, values="fp16")
    content = sparse_file.read(tmp_path / "net")
    assert_same_bits(content.tensors, {name: array.astype("f2").astype("f4") for name, array in tensors.items()})
    assert_same_bits(content.masks, masks)


@laws
@given(pruned())
def test_masks_travel_alone_or_with_the_weights(
    tmp_path: Path, sparse: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]
) -> None:
    tensors, masks = sparse
    sparse_file.write_mask(tmp_path / "mask", masks, metadata={"keep": "0.05"})
    sparse_file.write(tmp_path / "net", tensors, masks, metadata={})
    assert_same_bits(sparse_file.read_mask(tmp_path / "mask"), masks)
    assert_same_bits(sparse_file.read_mask(tmp_path / "net"), masks)
    assert sparse_file.read_metadata(tmp_path / "mask") == {"keep": "0.05"}


@laws
@given(st.dictionaries(names, npst.arrays(np.uint8, shapes), max_size=3), metadata)
def test_a_ladder_comes_back(tmp_path: Path, rounds: dict[str, np.ndarray], about: dict[str, str]) -> None:
    sparse_file.write_ladder(tmp_path / "ladder", rounds, about)
    assert_same_bits(sparse_file.read_ladder(tmp_path / "ladder"), rounds)
    assert sparse_file.read_metadata(tmp_path / "ladder") == about


@laws
@given(pruned(), dense(), metadata)
def test_the_same_content_gives_the_same_bytes_in_any_order(
    tmp_path: Path,
    sparse: tuple[dict[str, np.ndarray], dict[str, np.ndarray]],
    others: dict[str, np.ndarray],
    about: dict[str, str],
) -> None:
    tensors, masks = sparse
    first, second = tmp_path / "first", tmp_path / "second"
    sparse_file.write(first, tensors | others, masks, metadata=about)
    again = dict(reversed((others | tensors).items()))
    fortran = {name: np.asarray(array, order="F") for name, array in again.items()}
    sparse_file.write(second, fortran, dict(reversed(masks.items())), metadata=dict(reversed(about.items())))
    assert first.read_bytes() == second.read_bytes()


@laws
@given(pruned(), dense(), metadata)
def test_the_safetensors_library_opens_it(
    tmp_path: Path,
    sparse: tuple[dict[str, np.ndarray], dict[str, np.ndarray]],
    others: dict[str, np.ndarray],
    about: dict[str, str],
) -> None:
    tensors, masks = sparse
    sparse_file.write(tmp_path / "net", tensors | others, masks, metadata=about)
    with safetensors.safe_open(tmp_path / "net", framework="numpy") as file:
        pieces = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        assert about.items() <= file.metadata().items()
    parts = {f"{name}:{part}" for name in masks for part in ("mask", "values")}
    assert pieces.keys() == parts | others.keys()
    for name, array in others.items():
        np.testing.assert_array_equal(pieces[name], array)
    for name, told in sparse_file.read_layout(tmp_path / "net").pruned.items():
        found = decode_values(told.values, pieces[f"{name}:values"], told.kept)
        np.testing.assert_array_equal(found, tensors[name][masks[name]])


WEIGHT = np.array([[0.5, 0.0, -2.0], [0.0, 0.0, 7.0]], np.float32)
MASK = WEIGHT != 0


def test_a_kept_weight_may_be_zero_and_a_pruned_minus_zero_becomes_plus_zero(tmp_path: Path) -> None:
    weight = np.array([0.0, -0.0, -0.0, 1e-45], np.float32)
    mask = np.array([True, True, False, True])
    sparse_file.write(tmp_path / "net", {"w": weight}, {"w": mask}, metadata={})
    content = sparse_file.read(tmp_path / "net")
    assert np.signbit(content.tensors["w"]).tolist() == [False, True, False, False]
    assert content.masks["w"].tolist() == mask.tolist()


def test_what_was_read_may_be_changed_and_outlives_the_file(tmp_path: Path) -> None:
    sparse_file.write(tmp_path / "net", {"w": WEIGHT, "b": np.ones(2, np.float32)}, {"w": MASK}, metadata={})
    content = sparse_file.read(tmp_path / "net")
    (tmp_path / "net").unlink()
    for array in (*content.tensors.values(), *content.masks.values()):
        array[...] = 1
    assert content.tensors["w"].sum() == 6


# Decoding into arrays that exist already


@laws
@given(pruned(), dense())
def test_arrays_are_filled_in_place(
    tmp_path: Path, sparse: tuple[dict[str, np.ndarray], dict[str, np.ndarray]], others: dict[str, np.ndarray]
) -> None:
    tensors, masks = sparse
    sparse_file.write(tmp_path / "net", tensors | others, masks, metadata={"keep": "0.05"})
    targets = {name: np.full_like(array, 1) for name, array in (tensors | others).items()}
    views = {name: array[...] for name, array in targets.items()}
    found = sparse_file.read_into(tmp_path / "net", views)
    assert_same_bits(dict(sorted(targets.items())), tensors | others)
    assert_same_bits(found.masks, masks)
    assert found.metadata == {"keep": "0.05"}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"w": None}, "'w' is not asked for"),
        ({"c": np.ones(2, np.float32)}, "'c' is missing"),
        ({"b": np.ones(3, np.float32)}, r"'b' is float32 of shape \[2\]"),
        ({"w": np.ones((3, 2), np.float32)}, r"'w' is float32 of shape \[2, 3\]"),
        ({"w": np.ones((2, 3), np.float16)}, "does not go into float16"),
        ({"b": np.ones(2, np.int64)}, "does not go into int64"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, np.ndarray | None], problem: str
) -> None:
    sparse_file.write(tmp_path / "net", {"w": WEIGHT, "b": np.zeros(2, np.float32)}, {"w": MASK}, metadata={})
    wanted = {"w": np.ones_like(WEIGHT), "b": np.ones(2, np.float32)} | changes
    targets = {name: array for name, array in wanted.items() if array is not None}
    with pytest.raises(SparseFileError, match=problem):
        sparse_file.read_into(tmp_path / "net", targets)
    assert all((array == 1).all() for array in targets.values())


def test_a_wider_array_takes_every_value(tmp_path: Path) -> None:
    half = np.array([1.5, -0.0], np.float16)
    sparse_file.write(tmp_path / "net", {"w": WEIGHT, "b": half}, {"w": MASK}, metadata={}, values="fp16")
    targets = {"w": np.ones(WEIGHT.shape, np.float64), "b": np.ones(2, np.float32)}
    sparse_file.read_into(tmp_path / "net", targets)
    assert targets["w"].tolist() == WEIGHT.tolist()
    assert targets["b"].tobytes() == half.astype(np.float32).tobytes()


def test_an_array_that_cannot_be_filled_in_place_is_an_error_of_the_caller(tmp_path: Path) -> None:
    sparse_file.write(tmp_path / "net", {"w": WEIGHT}, {"w": MASK}, metadata={})
    read_only = np.ones_like(WEIGHT)
    read_only.flags.writeable = False
    for target in (read_only, np.ones((3, 2), np.float32).T, np.ones((2, 6), np.float32)[:, ::2]):
        with pytest.raises(ValueError, match="read-only or not in C order"):
            sparse_file.read_into(tmp_path / "net", {"w": target})


@pytest.mark.parametrize(("values", "multiple"), [("fp32", 5), ("fp16", 9)])
def test_decoding_in_place_takes_the_masks_and_a_few_times_the_file(
    tmp_path: Path, values: sparse_file.Values, multiple: int
) -> None:
    weight = np.zeros(4_000_000, np.float32)
    weight[np.random.default_rng(0).choice(weight.size, weight.size // 20, replace=False)] = 1
    sparse_file.write(tmp_path / "net", {"w": weight}, {"w": weight != 0}, metadata={}, values=values)
    target = np.empty_like(weight)
    tracemalloc.start()
    try:
        found = sparse_file.read_into(tmp_path / "net", {"w": target})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.array_equal(target, weight)
    assert peak < found.masks["w"].nbytes + multiple * (tmp_path / "net").stat().st_size < weight.nbytes


def test_the_layout_tells_counts_and_codings(tmp_path: Path) -> None:
    wide = np.zeros((10, 100), np.float32)
    wide[3, 4] = 1
    tensors = {"w": WEIGHT, "wide": wide, "b": np.ones(2, np.float32)}
    sparse_file.write(tmp_path / "net", tensors, {"w": MASK, "wide": wide != 0}, metadata={})
    plan = sparse_file.read_layout(tmp_path / "net")
    told = {name: (tensor.shape, tensor.kept, tensor.coding, tensor.values) for name, tensor in plan.pruned.items()}
    assert told == {"w": ((2, 3), 3, "bitmask", "F32"), "wide": ((10, 100), 1, "gap8", "F32")}
    assert plan.dense == ("b",)
    assert plan.tensors == {
        "b": (np.float32, (2,)),
        "w": (np.float32, (2, 3)),
        "wide": (np.float32, (10, 100)),
    }


@pytest.mark.parametrize(
    ("mask", "problem"),
    [
        (MASK.astype(np.int32), "is int32, not bool"),
        (MASK.T, r"shape \[3, 2\], its tensor \[2, 3\]"),
        (np.zeros_like(MASK), "3 weights of 'w' outside its mask"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(tmp_path: Path, mask: np.ndarray, problem: str) -> None:
    with pytest.raises(MaskError, match=problem):
        sparse_file.write(tmp_path / "net", {"w": WEIGHT}, {"w": mask}, metadata={})
    assert not list(tmp_path.iterdir())


def test_a_mask_without_a_tensor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MaskError, match="no tensor named 'v'"):
        sparse_file.write(tmp_path / "net", {"w": WEIGHT}, {"w": MASK, "v": MASK}, metadata={})


def test_rounds_that_are_not_uint8_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MaskError, match="not uint8"):
        sparse_file.write_ladder(tmp_path / "ladder", {"w": np.zeros(3, np.int64)}, {})


@pytest.mark.parametrize(
    ("tensor", "problem"),
    [
        (np.where(MASK, np.float32(np.nan), np.float32(0)), "infinite or not a number"),
        (np.where(MASK, np.float32(0), np.float32(-np.inf)), "infinite or not a number"),
        (WEIGHT.astype(np.float64), "float64, not float32"),
        (WEIGHT.astype(complex), "dtype complex128 cannot be stored"),
        (WEIGHT.astype(object), "dtype object cannot be stored"),
        (WEIGHT.reshape(1, 1, 1, 1, 1, 1, 1, 2, 3), "over the limits"),
    ],
)
def test_a_tensor_that_the_format_cannot_hold_is_refused(tmp_path: Path, tensor: np.ndarray, problem: str) -> None:
    with pytest.raises(SparseFileError, match=problem) as caught:
        sparse_file.write(tmp_path / "net", {"w": tensor}, {"w": MASK.reshape(tensor.shape)}, metadata={})
    assert len(str(caught.value).splitlines()) == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", "a..b", ".a", "a:mask", "../a", "a b", "é", "a\n", "__metadata__", "a" * 256])
def test_a_name_that_no_state_dict_has_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SparseFileError, match="cannot name a tensor"):
        sparse_file.write(tmp_path / "net", {name: WEIGHT}, {}, metadata={})
    with pytest.raises(SparseFileError, match="cannot name a tensor"):
        sparse_file.write_mask(tmp_path / "mask", {name: MASK}, metadata={})


@pytest.mark.parametrize(
    ("about", "problem"),
    [
        ({"keep": 0.05}, "is not text"),
        ({"sslprune.version": "2"}, "reserved"),
        ({"licence": "\ud800"}, "unpaired surrogate"),
        ({"licence": "x" * (4 << 20)}, "header would take"),
    ],
)
def test_metadata_that_the_format_cannot_hold_is_refused(tmp_path: Path, about: dict[str, str], problem: str) -> None:
    with pytest.raises(SparseFileError, match=problem):
        sparse_file.write(tmp_path / "net", {"w": WEIGHT}, {"w": MASK}, metadata=about)


@pytest.mark.parametrize("value", [65520.0, -65520.0, 1e30])
def test_a_value_too_large_for_fp16_is_refused_and_named(tmp_path: Path, value: float) -> None:
    sparse_file.write(
        tmp_path / "net", {"w": np.array([65519.0], "f4")}, {"w": np.ones(1, "?")}, metadata={}, values="fp16"
    )
    with pytest.raises(SparseFileError, match=r"'w' has the value .* too large for fp16") as caught:
        sparse_file.write(
            tmp_path / "net", {"w": np.array([value], "f4")}, {"w": np.ones(1, "?")}, metadata={}, values="fp16"
        )
    assert "fp32" in caught.value.hint
    assert sparse_file.read(tmp_path / "net").tensors["w"].tolist() == [65504.0]


def test_unknown_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SparseFileError, match="values='int8' is unknown"):
        sparse_file.write(tmp_path / "net", {"w": WEIGHT}, {"w": MASK}, metadata={}, values="int8")  # type: ignore[arg-type]


@pytest.mark.parametrize(("kept", "coding"), [(1000, "gap8-deflate"), (1001, "bitmask")])
def test_a_file_that_keeps_more_than_an_eighth_is_not_deflated(tmp_path: Path, kept: int, coding: str) -> None:
    tensors = {name: np.where(np.arange(4000) % 8 == 0, np.float32(1.5), np.float32(0)) for name in ("v", "w")}
    tensors["w"][1] = 1.5 * (kept - 1000)
    masks = {name: tensor != 0 for name, tensor in tensors.items()}
    assert sum(int(mask.sum()) for mask in masks.values()) == kept
    sparse_file.write(tmp_path / "net", tensors, masks, metadata={})
    sparse_file.write_mask(tmp_path / "mask", masks, metadata={})
    told = sparse_file.read_layout(tmp_path / "net").pruned
    assert {tensor.coding for tensor in told.values()} == {coding}
    assert {tensor.values for tensor in told.values()} == {"F32-deflate" if kept == 1000 else "F32"}
    assert {tensor.coding for tensor in sparse_file.read_layout(tmp_path / "mask").pruned.values()} == {coding}


def test_a_masks_reader_does_not_look_at_deflated_values(tmp_path: Path, good: dict[str, bytes]) -> None:
    path = tmp_path / "net"
    path.write_bytes(good["deflated"])
    piece, data = (plan := sparse_file.read_layout(path)).pieces["wide:values"], plan.data
    spoiled = bytearray(good["deflated"])
    spoiled[data + piece.begin : data + piece.end] = b"\xff" * (piece.end - piece.begin)
    path.write_bytes(spoiled)
    assert sparse_file.read_mask(path)["wide"].sum() == 200
    with pytest.raises(SparseFileError, match="DEFLATE stream is broken"):
        sparse_file.read(path)


def test_a_file_of_another_kind_names_the_right_reader(tmp_path: Path) -> None:
    sparse_file.write_mask(tmp_path / "mask", {"w": MASK}, metadata={})
    sparse_file.write_ladder(tmp_path / "ladder", {"w": MASK.view(np.uint8)}, {})
    with pytest.raises(SparseFileError, match="read_mask"):
        sparse_file.read(tmp_path / "mask")
    with pytest.raises(SparseFileError, match="read_ladder"):
        sparse_file.read_mask(tmp_path / "ladder")
    with pytest.raises(SparseFileError, match="read_mask"):
        sparse_file.read_ladder(tmp_path / "mask")
    with pytest.raises(SparseFileError, match="read_mask"):
        sparse_file.read_into(tmp_path / "mask", {})
    with pytest.raises(SparseFileError, match="read_mask"):
        sparse_file.read_layout(tmp_path / "mask", "weights", "ladder")


def test_it_works_without_torch(tmp_path: Path) -> None:
    program = """
import sys
sys.modules["torch"] = None
import numpy as np
from sslprune.export import sparse_file
weight = np.array([0.5, 0.0], np.float32)
sparse_file.write(sys.argv[1], {"w": weight}, {"w": weight != 0}, metadata={})
assert sparse_file.read(sys.argv[1]).tensors["w"].tolist() == [0.5, 0.0]
assert not {name.partition(".")[0] for name, module in sys.modules.items() if module} & {"torch", "safetensors"}
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "net")], check=True)
