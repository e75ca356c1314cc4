"""FORMAT.md is enough to read a file from: a decoder written from it alone agrees with ours; its examples are true."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from sslprune.export import container, sparse_file
from sslprune.export.codec import Coding
from sslprune.export.values import ValueCoding

Agree = Callable[[Path], bool]

TEXT = (Path(sparse_file.__file__).parent / "FORMAT.md").read_text(encoding="utf-8")
DECODER = Path(__file__).with_name("decoder.py").read_text(encoding="utf-8")

# A file is replaced at every write, so examples may share the folder.
laws = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])

shapes = st.one_of(
    st.sampled_from([(), (0,), (3, 0, 2), (1,) * 8, (2,) * 8, (254,), (255,), (256,), (511,), (7, 300)]),
    npst.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=7),
)
densities = st.sampled_from([0.0, 0.002, 0.05, 0.5, 1.0])
large = st.sampled_from([(100, 70), (20_000,), (3, 5, 999)])  # worth deflating
names = st.sampled_from(["w", "layer1.0.conv1.weight", "W", "-", "0._", "a" * 255])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
metadata = st.dictionaries(texts.filter(lambda key: not key.startswith("sslprune.")), texts, max_size=3)


@st.composite
def networks(draw: st.DrawFn, values: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Tensors of every dtype, pruned float32 ones among them, and the masks of these."""
    tensors, masks = {}, {}
    for name in draw(st.lists(names, unique=True, max_size=3)):
        generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        mask = np.asarray(generator.random(draw(st.one_of(shapes, large))) < draw(densities))
        bits = generator.integers(0, 2**32, mask.shape, np.uint32).view(np.float32)
        special = generator.choice(np.array([0.0, -0.0, 1e-45, -6e-8, 65504.0], np.float32), mask.shape)
        usable = np.isfinite(bits) & ((np.abs(bits) < 65519) | (values == "fp32"))
        layer = generator.standard_normal(mask.shape, np.float32)
        chosen = np.where(usable & (generator.random(mask.shape) < 0.7), draw(st.sampled_from([bits, layer])), special)
        tensors[name], masks[name] = np.where(mask, chosen, np.float32(0)), mask
    for dtype in draw(st.lists(st.sampled_from(sorted(container.DTYPES)), unique=True, max_size=3)):
        finite = {"allow_nan": False, "allow_infinity": False} if dtype.startswith("F") else {}
        elements = npst.from_dtype(container.DTYPES[dtype], **finite)
        tensors[f"dense.{dtype}"] = draw(npst.arrays(container.DTYPES[dtype], draw(shapes), elements=elements))
    return tensors, masks


@laws
@pytest.mark.parametrize("values", ["fp32", "fp16"])
@given(st.data(), metadata)
def test_both_decoders_read_a_network(
    tmp_path: Path,
    agree: Agree,
    decoder: ModuleType,
    values: sparse_file.Values,
    data: st.DataObject,
    about: dict[str, str],
) -> None:
    tensors, masks = data.draw(networks(values))
    path = tmp_path / "net"
    sparse_file.write(path, tensors, masks, metadata=about, values=values)
    assert agree(path)
    found, metadata = decoder.decode(path.read_bytes())
    assert metadata == about
    for name, tensor in tensors.items():
        halved = values == "fp16" and name in masks
        assert found[name].tobytes() == (tensor.astype("f2").astype("f4") if halved else tensor).tobytes()


@laws
@given(st.dictionaries(names, st.tuples(st.one_of(shapes, large), densities, st.integers(0, 99)), max_size=3), metadata)
def test_both_decoders_read_masks(
    tmp_path: Path,
    agree: Agree,
    decoder: ModuleType,
    drawn: dict[str, tuple[tuple[int, ...], float, int]],
    about: dict[str, str],
) -> None:
    masks = {
        name: np.asarray(np.random.default_rng(seed).random(shape) < keep)
        for name, (shape, keep, seed) in drawn.items()
    }
    sparse_file.write_mask(tmp_path / "masks", masks, metadata=about)
    assert agree(tmp_path / "masks")
    found, _ = decoder.decode((tmp_path / "masks").read_bytes())
    assert {name: array.tobytes() for name, array in found.items()} == {
        f"{name}:mask": mask.tobytes() for name, mask in masks.items()
    }


@laws
@given(st.dictionaries(names, npst.arrays(np.uint8, shapes), max_size=3), metadata)
def test_both_decoders_read_a_ladder(
    tmp_path: Path, agree: Agree, decoder: ModuleType, rounds: dict[str, np.ndarray], about: dict[str, str]
) -> None:
    sparse_file.write_ladder(tmp_path / "ladder", rounds, about)
    assert agree(tmp_path / "ladder")
    found, _ = decoder.decode((tmp_path / "ladder").read_bytes())
    assert {name: array.tobytes() for name, array in found.items()} == {
        name: died.tobytes() for name, died in rounds.items()
    }


def test_both_decoders_read_what_the_writer_would_not_write(
    tmp_path: Path, agree: Agree, good: dict[str, bytes]
) -> None:
    path = tmp_path / "file"
    (length,) = np.frombuffer(good["weights"][:8], "<u8")
    header, data = good["weights"][8 : 8 + int(length)], good["weights"][8 + int(length) :]
    for other in (
        json.dumps(json.loads(header), indent="\t").encode(),
        header.replace(b'"bn.bias"', b'"\\u0062n.bi\\u0061s"'),
        header.replace("中".encode(), b"\\ud83d\\ude00"),
        header + b" " * 800,
    ):
        assert other != header
        other += b" " * (-len(other) % 8)
        path.write_bytes(np.uint64(len(other)).tobytes() + other + data)
        assert agree(path)


def test_both_decoders_read_deflate_streams_of_any_kind(
    tmp_path: Path, agree: Agree, good: dict[str, bytes], draft: ModuleType, streams: ModuleType
) -> None:
    gaps = b"\xc7" * 200
    codes = streams.FIXED + streams.literal(199) * 20
    own = draft.Draft.of(good["deflated"]).content("wide:mask")
    kinds = [
        streams.stored(gaps),
        streams.stored(gaps[:9], final=False) + streams.stored(b"", final=False) + streams.stored(gaps[9:]),
        streams.packed(codes + streams.literal(199) * 180 + streams.END),
        streams.packed(codes + streams.literal(199) + "0000001" + "00000" + streams.literal(199) * 176 + streams.END),
        own[:-1] + bytes([own[-1] | 0x80]),  # bits behind the end
    ]
    for stream in kinds:
        parts = draft.Draft.of(good["deflated"])
        assert stream != own
        parts.resize("wide:mask", stream)
        (tmp_path / "file").write_bytes(parts.file())
        assert agree(tmp_path / "file")


def test_the_decoder_is_short_and_stands_on_its_own() -> None:
    functions = DECODER[DECODER.index("def decode") :]
    assert len([line for line in functions.splitlines() if line.strip() and '"""' not in line]) <= 76
    assert set(re.findall(r"^(?:import|from) (\S+)", DECODER, re.MULTILINE)) == {"json", "math", "re", "zlib", "numpy"}


def test_the_whole_file_of_the_specification(tmp_path: Path) -> None:
    rows = re.findall(r"^([0-9a-f]{4})  ((?:[0-9a-f]{2} ?)+)", TEXT, re.MULTILINE)
    assert [int(at, 16) for at, _ in rows] == list(range(0, 16 * len(rows), 16))
    weight = np.array([[0, 0], [0.5, 0]], np.float32)
    tensors = {"w": weight, "b": np.ones(1, np.float32)}
    sparse_file.write(tmp_path / "net", tensors, {"w": weight != 0}, metadata={"keep": "0.25"})
    assert (tmp_path / "net").read_bytes() == bytes.fromhex("".join(octets for _, octets in rows))


def test_the_ladder_of_the_specification(tmp_path: Path, decoder: ModuleType) -> None:
    numbers, first, second, third = re.search(
        r"numbers ((?:\d+ )+\d+); .*?`([0-9A-F ]+)`.*?`([0-9A-F ]+)`.*?`([0-9A-F ]+)`", TEXT, re.DOTALL
    ).groups()  # type: ignore[union-attr]
    died = np.array([int(number) for number in numbers.split()], np.uint8)
    stream = np.frombuffer(bytes.fromhex(first + second + third), np.uint8)
    assert decoder.rounds_of([1, 2, 3], [9, 6, 4], stream, 12).tolist() == died.tolist()
    sparse_file.write_ladder(tmp_path / "ladder", {"w": died}, {})
    assert (tmp_path / "ladder").read_bytes().endswith(stream.tobytes())


def test_the_deflated_mask_of_the_specification(tmp_path: Path, decoder: ModuleType) -> None:
    (octets,) = re.findall(r"gap8-deflate takes 20:\n`([0-9A-F ]+)`", TEXT)
    stream = np.frombuffer(bytes.fromhex(octets), np.uint8)
    mask = np.zeros((10, 1000), np.bool_)
    mask[:, -1] = True
    assert decoder.inflated(stream).tobytes().hex(" ").upper() == " ".join(["FF FF FF EA"] * 10)
    assert (decoder.mask_of("gap8-deflate", 10, stream, 10_000).reshape(mask.shape) == mask).all()
    sparse_file.write_mask(tmp_path / "mask", {"w": mask}, metadata={})
    assert (tmp_path / "mask").read_bytes().endswith(stream.tobytes())


def test_the_values_of_the_specification(decoder: ModuleType) -> None:
    values = np.array([1.0, -2.0], "<f4")
    planes, top = re.search(
        r"are in `F32-deflate` the planes (.*) and\na stream that inflates to `(.*)`", TEXT
    ).groups()  # type: ignore[union-attr]
    assert values.view("u1").reshape(2, 4).T.tobytes() == bytes.fromhex("".join(re.findall("`(.*?)`", planes)) + top)


def test_the_limits_of_the_specification_are_the_reader_s() -> None:
    for limit in (container.MAX_HEADER, container.MAX_NUMEL):
        assert f"{limit:,}" in TEXT
    assert f"at most {container.MAX_AXES} axes" in TEXT
    assert f"{container.MAX_NAME} characters in all at most" in TEXT
    assert all(f"`{dtype}`" in TEXT for dtype in container.DTYPES)
    assert all(f'`"{coding}"`' in TEXT for coding in (*get_args(Coding), *get_args(ValueCoding)))
