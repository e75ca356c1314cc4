"""Coverage-guided fuzzing of the reader of sparse files: `make fuzz`, or

    python tools/fuzz/fuzz_sparse_file.py [-max_total_time=600] [FOLDER] [any option of libFuzzer]

Any bytes must either be refused with a SparseFileError or decode, and in both cases the independent decoder of the
tests must say the same, bit for bit; within 5 seconds, and within the memory that FORMAT.md, section 7, allows.
Anything else stops the run and leaves the input in the present folder: add it to `tests/malformed/make.py`.

Seeds are the valid files of the tests and `tests/malformed/corpus/`. The mutator takes files to pieces and keeps
lengths and offsets right most of the time, so that the run gets past the header. FOLDER keeps what it found.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import random
import resource
import sys
import tempfile
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import atheris
import numpy as np

with atheris.instrument_imports(include=["sslprune.export"]):
    from sslprune.export import sparse_file
    from sslprune.export.deflate import deflate

from sslprune.errors import SparseFileError

ROOT = Path(__file__).resolve().parents[2]


def load(path: Path) -> ModuleType:
    """A module of the tests, which are no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


draft = load(ROOT / "tests" / "malformed" / "draft.py")
decoder = load(ROOT / "tests" / "export" / "decoder.py")

FIXED, HEADER, DATA, DEFLATED = 1 << 20, 48, 1300, 10_500
"""The bound of FORMAT.md, section 7, in bytes: fixed, a byte of header, a byte of data, plain and deflated."""

PATH = Path(tempfile.mkdtemp(prefix="sslprune-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)) / "file"
NUMBERS = [0, 1, 2, 7, 8, 9, 254, 255, 256, 509, 510, 2**29, 2**31 - 1, 2**31, 2**53, 10**15 - 1, 10**15]
FLOATS = [bytes.fromhex(bits) for bits in ("0000c07f", "0000807f", "000080ff", "00000080", "01000000", "007e", "007c")]
TEXTS = [
    "",
    "weights",
    "masks",
    "ladder",
    "bitmask",
    "gap8",
    "gap8-deflate",
    "F32-deflate",
    "F16-deflate",
    "F32",
    "F16",
    "BOOL",
    "U8",
    "1",
    "2",
    "../x",
    "\u202e",
    "x",
]


def accepted(file: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]] | None:
    """What our reader decodes, in the independent decoder's form, or None where it refuses."""
    PATH.write_bytes(file)
    try:
        kind = sparse_file.read_layout(PATH).kind
        if kind == "weights":
            content = sparse_file.read(PATH)
            masks = {f"{name}:mask": mask for name, mask in content.masks.items()}
            return content.tensors | masks, content.metadata
        if kind == "masks":
            arrays = {f"{name}:mask": mask for name, mask in sparse_file.read_mask(PATH).items()}
        else:
            arrays = sparse_file.read_ladder(PATH)
        return arrays, sparse_file.read_metadata(PATH)
    except SparseFileError:
        return None


def check(file: bytes) -> None:
    """Raise where the reader misbehaves."""
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    found = accepted(file)
    peak = tracemalloc.get_traced_memory()[1] - before
    header = min(len(file), int.from_bytes(file[:8], "little") + 8)
    data = DEFLATED if b"deflate" in file else DATA
    allowed = FIXED + HEADER * header + data * (len(file) - header)
    assert peak <= allowed, f"{peak} bytes for a file of {len(file)}, {header} of them header; {allowed} are allowed"
    try:
        expected = decoder.decode(file)
    except Exception:
        expected = None
    assert (found is None) == (expected is None), "one decoder refuses, the other does not"
    if found is not None and expected is not None:
        assert found[1] == expected[1]
        assert found[0].keys() == expected[0].keys()
        for name, array in found[0].items():
            other = expected[0][name]
            assert (array.dtype, array.shape, array.tobytes()) == (other.dtype, other.shape, other.tobytes()), name


def mutate(file: bytes, max_size: int, seed: int) -> bytes:
    """Another file, usually one whose lengths and offsets are right."""
    chance = random.Random(seed)
    if chance.random() < 0.1:
        return bytes(atheris.Mutate(file, max_size))
    try:
        parts = draft.Draft.of(chance.choice(VALID) if chance.random() < 0.2 else file)
        for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
            chance.choice(CHANGES)(parts, chance)
        text = parts.text().encode()
    except Exception:  # no draft, or one that is spoiled too much for this change
        return bytes(atheris.Mutate(file, max_size))
    if chance.random() < 0.15:
        text = bytes(atheris.Mutate(text, len(text) + 64))
    spoiled = draft.assemble(text, parts.data)
    return spoiled if len(spoiled) <= max_size else file


def valid(chance: random.Random) -> bytes:
    """A small valid file of any kind."""
    generator = np.random.default_rng(chance.getrandbits(32))
    shapes = [
        generator.integers(0, chance.choice((3, 9, 40)), chance.randint(0, 3)) for _ in range(chance.randint(0, 3))
    ]
    if chance.random() < 0.3:
        rounds = chance.choice((1, 3, 256))
        sparse_file.write_ladder(
            PATH, {f"l{i}": generator.integers(0, rounds, shape, np.uint8) for i, shape in enumerate(shapes)}, {}
        )
        return PATH.read_bytes()
    keep = chance.choice((0, 0.01, 0.1, 0.5, 1))
    masks = {f"w{i}": np.asarray(generator.random(shape) < keep) for i, shape in enumerate(shapes)}
    if chance.random() < 0.3:
        sparse_file.write_mask(PATH, masks, metadata={})
    else:
        tensors = {name: mask.astype(np.float32) for name, mask in masks.items()}
        sparse_file.write(PATH, tensors, masks, metadata={}, values=chance.choice(("fp32", "fp16")))
    return PATH.read_bytes()


def bytes_of_data(parts: Any, chance: random.Random) -> None:
    """Change some bytes of a piece."""
    begin, end = chance.choice(list(parts.entries.values()))["data_offsets"]
    at = chance.randint(begin, max(begin, end - 1))
    content = chance.choice([chance.randbytes(chance.randint(1, 4)), b"\xff", b"\xfe", b"\0", *FLOATS])
    parts.data[at : min(end, at + len(content))] = content[: max(0, min(end, at + len(content)) - at)]


def length_of_piece(parts: Any, chance: random.Random) -> None:
    """Give a mask another length."""
    name = chance.choice([name for name, piece in parts.entries.items() if piece["dtype"] == "U8"])
    begin, end = parts.entries[name]["data_offsets"]
    old = bytes(parts.data[begin:end])
    at = chance.randint(0, len(old))
    piece = chance.choice([b"", b"\xff", b"\xff" * 9, b"\0", chance.randbytes(8), old])
    parts.resize(name, old[:at] + piece + old[at + chance.randint(0, 3) :])


def weight_more_or_less(parts: Any, chance: random.Random) -> None:
    """Change a tensor's count of kept weights and, with it, its values."""
    name = chance.choice(list(parts.pruned))
    kept = min(600, max(0, parts.pruned[name]["kept"] + chance.choice((-1, 1, 2))))
    parts.pruned[name]["kept"] = kept
    coding = parts.pruned[name]["values"]
    size = {"F32": 4, "F16": 2}[coding[:3]]
    stored = parts.content(f"{name}:values")
    if coding.endswith("deflate"):
        top = deflate(np.full(kept, chance.choice((0, 0x3F, 0x7F, 0xFF)), np.uint8)).tobytes() if kept else b""
        parts.resize(f"{name}:values", stored[: kept * (size - 1)].ljust(kept * (size - 1), b"\1") + top)
        return
    parts.resize(f"{name}:values", stored[: kept * size].ljust(kept * size, b"\1"))
    parts.entries[f"{name}:values"]["shape"] = [kept]


def stream(parts: Any, chance: random.Random) -> None:
    """Change what a deflated piece holds, or the kind of its stream."""
    name = chance.choice([name for name, told in parts.pruned.items() if "deflate" in json.dumps(told)])
    told = parts.pruned[name]
    part = "values" if "deflate" in told.get("values", "") and chance.random() < 0.4 else "mask"
    content = parts.content(f"{name}:{part}")
    split = {"F32-deflate": 3, "F16-deflate": 1}[told["values"]] * told["kept"] if part == "values" else 0
    plain = bytearray(zlib.decompressobj(-15).decompress(content[split:], 100_000))
    for _ in range(chance.choice((0, 0, 1, 2))):
        at = chance.randint(0, len(plain))
        plain[at : at + chance.randint(0, 2)] = chance.choice([b"", b"\0", b"\xff", b"\xff\0", chance.randbytes(1)])
    packer = zlib.compressobj(chance.choice((0, 1, 9)), zlib.DEFLATED, -15, 9, chance.randint(0, 4))
    theirs = packer.compress(plain) + packer.flush(chance.choice((zlib.Z_FINISH, zlib.Z_FINISH, zlib.Z_SYNC_FLUSH)))
    ours = deflate(np.frombuffer(bytes(plain), np.uint8)).tobytes() if plain else b""
    behind = chance.choice((b"", b"", b"", b"\0", theirs))
    parts.resize(f"{name}:{part}", content[:split] + chance.choice((ours, theirs)) + behind)


def number(parts: Any, chance: random.Random) -> None:
    """Change a number of the header."""
    holder, key = chance.choice([spot for spot in spots(parts) if isinstance(spot[0][spot[1]], int)])
    holder[key] = chance.choice(
        [*NUMBERS, holder[key] + 1, max(0, holder[key] - 1), holder[key] * 2, holder[key] + 255]
    )


def text(parts: Any, chance: random.Random) -> None:
    """Change a text of the header."""
    holder, key = chance.choice([spot for spot in spots(parts) if isinstance(spot[0][spot[1]], str)])
    holder[key] = chance.choice(TEXTS)


def value(parts: Any, chance: random.Random) -> None:
    """Put something else in the place of anything in the header."""
    holder, key = chance.choice(spots(parts))
    holder[key] = chance.choice([[], {}, None, True, "", 0, -1, 1.5, [1], [0, 0], {"shape": [0]}])


def name_of_member(parts: Any, chance: random.Random) -> None:
    """Drop or rename a member of an object."""
    holder, key = chance.choice([spot for spot in spots(parts) if isinstance(spot[0], dict)])
    held = holder.pop(key)
    if chance.random() < 0.7:
        holder[chance.choice([*TEXTS, f"{key}x", f"{key}:mask", key[:-1], "a" * 255])] = held


def length_of_list(parts: Any, chance: random.Random) -> None:
    """Lengthen or shorten a list."""
    lists = [holder[key] for holder, key in spots(parts) if isinstance(holder[key], list)]
    one = chance.choice(lists)
    if one and chance.random() < 0.5:
        one.pop(chance.randrange(len(one)))
    else:
        one.insert(chance.randint(0, len(one)), chance.choice(NUMBERS))


def kind(parts: Any, chance: random.Random) -> None:
    """A file of masks out of one of weights: the values go."""
    parts.about["sslprune.kind"] = chance.choice(("weights", "masks", "ladder"))
    for told in parts.pruned.values():
        told.pop("values", None)
    for name in [name for name in parts.entries if not name.endswith(":mask")]:
        parts.resize(name, b"")
        del parts.entries[name]


def dense(parts: Any, chance: random.Random) -> None:
    """One dense tensor more, behind all others."""
    dtype = chance.choice(sorted(sparse_file.container.DTYPES))
    size, shape = (
        sparse_file.container.DTYPES[dtype].itemsize,
        [chance.randint(0, 2) for _ in range(chance.randint(0, 9))],
    )
    begin, count = len(parts.data), math.prod(shape)
    parts.data += b"\0" * (-begin % size) if chance.random() < 0.1 else b""
    parts.data += bytes(count * size)
    entry = {"dtype": dtype, "shape": shape, "data_offsets": [begin, begin + count * size]}
    parts.entries[chance.choice(("x", "x.y", "x.0", "z_-"))] = entry


def spots(parts: Any) -> list[tuple[Any, Any]]:
    """Every place in the header, as (object or list, key)."""
    found: list[tuple[Any, Any]] = []
    heaps: list[Any] = [parts.about, parts.pruned, parts.entries]
    while heaps:
        heap = heaps.pop()
        keys = list(heap) if isinstance(heap, dict) else list(range(len(heap)))
        found += [(heap, key) for key in keys]
        heaps += [heap[key] for key in keys if isinstance(heap[key], dict | list)]
    return found


# Made once: under atheris every comparison of arrays costs memory that never comes back, and writing compares much.
VALID = [valid(random.Random(seed)) for seed in range(300)]

CHANGES: list[Callable[[Any, random.Random], None]] = [
    *[bytes_of_data] * 4,
    *[length_of_piece] * 2,
    *[weight_more_or_less] * 2,
    *[stream] * 4,
    *[number] * 4,
    text,
    value,
    name_of_member,
    length_of_list,
    kind,
    dense,
]


def main() -> None:
    """Run libFuzzer with our mutator on our seeds."""
    seeds = Path(tempfile.mkdtemp(prefix="sslprune-seeds-"))
    for name, content in draft.good_files().items():
        (seeds / name).write_bytes(content)
    own = [word for word in sys.argv[1:] if not word.startswith("-")]
    options = [word for word in sys.argv[1:] if word.startswith("-")]
    for folder in own:
        Path(folder).mkdir(parents=True, exist_ok=True)
    folders = [*own, str(seeds), str(ROOT / "tests" / "malformed" / "corpus")]
    if not own:
        folders = [tempfile.mkdtemp(prefix="sslprune-found-"), *folders]
    # The peak that libFuzzer looks at is inherited from the process that started this one.
    limit = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024 + 2048
    defaults = ["-timeout=5", "-max_len=8192", f"-rss_limit_mb={limit}", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *folders, *defaults, *options], check, custom_mutator=mutate)
    tracemalloc.start()  # once: each start costs memory that never comes back
    with contextlib.suppress(KeyboardInterrupt):
        atheris.Fuzz()


if __name__ == "__main__":
    main()
