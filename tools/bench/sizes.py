"""Sizes of sparse files beside the information bound and beside other formats, as tables; and the codings tried.

    python tools/bench/sizes.py [--keep 0.05 0.01] [--json | --write]

`--write` measures everything, the codings of `codings.py` too, and writes docs/sizes.md (about fifteen minutes on one
core). Every format of a row holds the same network; the sparse file is read back and compared bit by bit.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import math
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import codings
import numpy as np
import safetensors.numpy
from codec import Arrays
from networks import NETWORKS, machine

from sslprune.export import codec, sparse_file
from sslprune.zoo.index import open_index

MB = 1e6
KEEPS = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.001)
VALUE_BYTES: Mapping[Literal["fp32", "fp16"], int] = {"fp32": 4, "fp16": 2}
PAGE = Path(__file__).parents[2] / "docs" / "sizes.md"
PACKAGES = ("safetensors", "scipy", "torch", "onnx", "zstandard")
MEANING = {
    "uniform": "ResNet-50, masks uniform by chance",
    "magnitude": "ResNet-50, global magnitude of heavy-tailed weights by chance",
    "bundled": "ResNet-20, the bundled models, really trained",
}


@dataclass(frozen=True)
class Size:
    """The bytes of one network in one format; `bound` is 0 where none is stated."""

    network: str
    keep: float
    kept: int
    prunable: int
    format: str
    bytes: int
    bound: int = 0


def entropy_bits(masks: Arrays) -> float:
    """Which weights of each tensor are kept, if every choice of as many were as likely: sum of log2 C(numel, kept)."""
    total = 0.0
    for mask in masks.values():
        kept = int(np.count_nonzero(mask))
        choices = math.lgamma(mask.size + 1) - math.lgamma(kept + 1) - math.lgamma(mask.size - kept + 1)
        total += choices / math.log(2)
    return total


def sparse_files(tensors: Arrays, masks: Arrays, folder: Path) -> Iterator[tuple[str, int, int]]:
    """Format, bytes and information bound: the masks' entropy, kept values as they are, all other tensors.

    And what the file would take if nothing of it were deflated.
    """
    kept = sum(int(np.count_nonzero(mask)) for mask in masks.values())
    dense = sum(tensor.nbytes for name, tensor in tensors.items() if name not in masks)
    for values, width in VALUE_BYTES.items():
        path = folder / "sparse.safetensors"
        sparse_file.write(path, tensors, masks, metadata={}, values=values)
        found = sparse_file.read(path).tensors
        for name, tensor in tensors.items():
            expected = tensor.astype(np.float16).astype(np.float32) if values == "fp16" and name in masks else tensor
            if not np.array_equal(found[name], expected):
                raise SystemExit(f"{name} did not come back as it was")
        size, bound = path.stat().st_size, math.ceil(entropy_bits(masks) / 8 + kept * width + dense)
        yield f"sslprune {values}", size, bound
        pieces = sparse_file.read_layout(path).pieces.items()
        coded = sum(piece.end - piece.begin for name, piece in pieces if ":" in name)
        gaps = sum(codec.encode(mask.reshape(-1), may_deflate=False)[1].size for mask in masks.values())
        words = path.read_bytes().count(b"-deflate") * len("-deflate")
        yield f"sslprune {values}, not deflated", size - words - coded + gaps + kept * width, bound


def peers(tensors: Arrays, masks: Arrays, folder: Path) -> Iterator[tuple[str, int, int]]:
    """What else one would take, as it comes and at its default level, fp32."""
    dense = safetensors.numpy.save(tensors)
    yield "safetensors, dense", len(dense), 0
    yield "gzip -6 of it", len(gzip.compress(dense, 6, mtime=0)), 0
    for name, size in {"zstd -3 of it": zstd_bytes, "scipy CSR": csr_bytes, "torch sparse COO": coo_bytes}.items():
        if (found := size(dense if "zstd" in name else (tensors, masks))) is not None:
            yield name, found, 0
    if (found := onnx_bytes(tensors, folder / "model.onnx")) is not None:
        yield "ONNX of sslprune", found, 0


def zstd_bytes(dense: Any) -> int | None:
    """The dense file under zstd, with the standard library's or the zstandard package."""
    try:
        from compression import zstd  # Python 3.14

        return len(zstd.compress(dense, 3))
    except ImportError:
        pass
    try:
        import zstandard
    except ImportError:
        return None
    return len(zstandard.ZstdCompressor(level=3).compress(dense))


def csr_bytes(network: Any) -> int | None:
    """Each pruned tensor as [out, rest] in a file of `scipy.sparse.save_npz` (deflated), the others as they are."""
    try:
        from scipy import sparse
    except ImportError:
        return None
    tensors, masks = network
    total = sum(tensor.nbytes for name, tensor in tensors.items() if name not in masks)
    for name in masks:
        file = io.BytesIO()
        sparse.save_npz(file, sparse.csr_array(tensors[name].reshape(tensors[name].shape[0], -1)))
        total += file.tell()
    return total


def coo_bytes(network: Any) -> int | None:
    """`torch.save` of a state dict whose pruned tensors are `to_sparse()`."""
    try:
        import torch
    except ImportError:
        return None
    tensors, masks = network
    state = {name: torch.from_numpy(np.array(tensor)) for name, tensor in tensors.items()}
    file = io.BytesIO()
    torch.save({name: tensor.to_sparse() if name in masks else tensor for name, tensor in state.items()}, file)
    return file.tell()


def onnx_bytes(tensors: Arrays, path: Path) -> int | None:
    """Our ONNX export of the network, batch norm folded; None for other networks than ResNet-50, or without onnx."""
    try:
        import torch

        from sslprune import models
        from sslprune.errors import MissingExtraError
        from sslprune.export.onnx_file import write_onnx
    except ImportError:
        return None
    network = models.build("resnet50", num_classes=0).eval()
    if network.state_dict().keys() != tensors.keys():
        return None
    network.load_state_dict({name: torch.from_numpy(np.array(tensor)) for name, tensor in tensors.items()})
    try:
        write_onnx(network, path, size=224, metadata={}, force=True)
    except MissingExtraError:
        return None
    return path.stat().st_size


def measure(kind: str, keep: float, folder: Path) -> list[Size]:
    """One network in all formats."""
    tensors, masks = NETWORKS[kind](keep)
    prunable, kept = sum(mask.size for mask in masks.values()), sum(int(mask.sum()) for mask in masks.values())
    formats = [*sparse_files(tensors, masks, folder), *peers(tensors, masks, folder)]
    return [Size(kind, keep, kept, prunable, *found) for found in formats]


def ladder() -> dict[str, int]:
    """The bundled family's ladder beside one file of masks a rung (each the size of its file, header included)."""
    entries = [entry for entry in open_index().entries if entry.name.family == "rotnet-resnet20-cifar10"]
    parent = next(entry for entry in entries if entry.name.keep == 1)
    with tempfile.TemporaryDirectory() as folder:
        separate = 0
        for entry in entries:
            path = Path(folder) / entry.name.folder
            sparse_file.write_mask(path, sparse_file.read_mask(entry.folder / "sparse.safetensors"), metadata={})
            separate += path.stat().st_size if entry is not parent else 0
    return {
        "rungs": len(entries) - 1,
        "ladder": (parent.folder / "ladder.safetensors").stat().st_size,
        "masks": separate,
    }


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown; the first column is text, the others are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def size_tables(sizes: Sequence[Size]) -> str:
    """Two tables a network: ours beside the bound, then ours beside the others."""
    sections = []
    for kind, meaning in MEANING.items():
        own = [size for size in sizes if size.network == kind]
        if not own:
            continue
        keeps = list(dict.fromkeys(size.keep for size in own))
        of = {(size.keep, size.format): size for size in own}
        unit, digits = (1e3, 1) if kind == "bundled" else (MB, 3)

        def text(size: Size | None, unit: float = unit, digits: int = digits) -> str:
            return "-" if size is None else f"{size.bytes / unit:.{digits}f}"

        ours = []
        for keep in keeps:
            row = [f"{100 * keep:g} %"]
            for values in VALUE_BYTES:
                size, plain = of[keep, f"sslprune {values}"], of[keep, f"sslprune {values}, not deflated"]
                saved = f"{-100 * (1 - size.bytes / plain.bytes):.1f} %".replace("-0.0", "0.0")
                row += [text(plain), text(size), saved, f"{size.bytes / size.bound:.3f}"]
            ours.append(row)
        formats = list(dict.fromkeys(size.format for size in own if "not deflated" not in size.format))
        beside = [
            [form.replace("sslprune ", "sparse file, "), *(text(of.get((keep, form))) for keep in keeps)]
            for form in formats
        ]
        name = "KB" if unit == 1e3 else "MB"
        columns = (f" not deflated, {name}", f", {name}", ", change", " / bound")
        sections += [
            f"### {meaning}",
            table(["keep", *(f"{values}{column}" for values in VALUE_BYTES for column in columns)], ours),
            f"Beside other formats, in {name}, fp32 unless said:",
            table(["format", *(f"{100 * keep:g} %" for keep in keeps)], beside),
        ]
    return "\n\n".join(sections)


def coding_tables(results: Sequence[codings.Result]) -> str:
    """One table a network and precision: change of the whole file against gap8 and plain values, and speed."""
    sections = []
    for kind, meaning in MEANING.items():
        for precision in VALUE_BYTES:
            own = [result for result in results if (result.network, result.precision) == (kind, precision)]
            if not own:
                continue
            keeps = list(dict.fromkeys(result.keep for result in own))
            rows = []
            for pair in codings.PAIRS:
                of = {result.keep: result for result in own if (result.mask_coding, result.value_coding) == pair}
                cells = (f"{change(of[keep])} % {of[keep].gigabytes_per_second:.1f}" for keep in keeps)
                rows.append([f"{pair[0]}; {pair[1]}", *cells])
            sections += [
                f"### {meaning}, {precision}",
                table(["mask; values", *(f"{100 * keep:g} %" for keep in keeps)], rows),
            ]
    return "\n\n".join(sections)


def change(result: codings.Result) -> str:
    """Of the file's size against today's, in per cent, with its sign."""
    text = f"{-result.saved_percent:+.1f}"
    return text[1:] if text in ("-0.0", "+0.0") else text


def page(sizes: Sequence[Size], results: Sequence[codings.Result], repeat: int) -> str:
    """docs/sizes.md."""
    return f"""\
# Sizes

Generated by `python tools/bench/sizes.py --write`; do not edit by hand. {machine(*PACKAGES)}.
KB = 10^3 bytes, MB = 10^6 bytes. The format is specified in `sslprune/export/FORMAT.md`.

The **bound** is what a coder needs that knows how many weights each tensor keeps and nothing else: log2 C(numel,
kept) bits a mask, kept values as they are (4 or 2 bytes), all other tensors as they are. The file adds its header and
what the coding of the mask takes beyond; where values are deflated, and where a mask is uneven within a tensor, it gets
under the bound. "Not deflated" is the same file with gap8 or a bitmask a tensor and plain values: what deflating is
measured against. It stops at a keep rate of 1/8 of a file, since denser ones would decode slowly.

Two of the three kinds of network are drawn by chance (`tools/bench/networks.py`), so that anybody gets the same. The
bundled models are real, but so small that the header alone, about 13 KB, is a large part of a file.

{size_tables(sizes)}

"gzip" and "zstd" compress the dense file. "scipy CSR" is one `scipy.sparse.save_npz` a pruned tensor, reshaped to
[out, rest]. "torch sparse COO" is `torch.save` of `to_sparse()`: four int64 indices a kept weight. "ONNX of sslprune"
has batch norm folded, and its graph inside.

## A whole ladder in one file

{ladder_text(**ladder())}

## Codings that were tried

`tools/bench/codings.py` has working encoders and decoders of each. A cell is the change of the *whole file* against
gap8 with plain values, whatever the keep rate, then the decoding speed in GB of dense float32 a second: numpy, one
thread, from memory, median of {repeat} short runs that took turns while both cores of the machine were busy with other
work, too. Compare speeds within a column only.

{coding_tables(results)}

- *nibble gaps* is gap8 with 4 bits; *Elias-Fano* is per tensor; *Golomb-Rice* has one parameter a tensor, remainders as
  bit planes, quotients in unary; *Huffman* (masks) are the bytes of gap8 in canonical Huffman codes, as a DEFLATE block
  without matches that any inflate reads; *rANS* is a static range coder for the bytes of gap8, 4,096 states side by
  side, one table for all tensors.
- *unary exponents* codes how far each value's exponent is below the tensor's largest by Golomb-Rice, sign and mantissa
  as they are; *Huffman* (values) puts the one byte of each value that has its sign and exponent into Huffman codes.
- *Huffman; Huffman* is what the format has: `gap8-deflate`, and `F32-deflate` or `F16-deflate`.
- Each tensor falls back to a bitmask, or to plain values, where those are smaller.

{verdict(results)}
"""


def ladder_text(rungs: int, ladder: int, masks: int) -> str:
    """What `ladder` found, as a paragraph."""
    return f"""\
The bundled family's `ladder.safetensors` holds the masks of all {rungs} pruned rungs in {ladder:,} bytes. A file of
kind `masks` for each of them takes {masks:,} bytes together, {masks / ladder:.2f} times as much.
`sslprune.load_masks("rotnet-resnet20", keep=0.05)` gives any of them, bit for bit."""


def verdict(results: Sequence[codings.Result]) -> str:
    """What the rule says: at least 8 % of the whole file at 5 % or 1 %, at no less than 1 GB/s."""

    def best(masks_alone: bool, kind: str, precision: str, keep: float) -> codings.Result:
        chosen = [
            result
            for result in results
            if (result.network, result.precision, result.keep) == (kind, precision, keep)
            and (result.value_coding == "plain") == masks_alone
        ]
        return max(chosen, key=lambda result: result.saved_percent)

    rows = []
    for kind in MEANING:
        for precision in VALUE_BYTES:
            for keep in (0.05, 0.01):
                alone, both = best(True, kind, precision, keep), best(False, kind, precision, keep)
                rows.append(
                    [
                        f"{kind}, {precision}, {100 * keep:g} %",
                        f"{alone.mask_coding}: {alone.saved_percent:.1f} %",
                        f"{alone.gigabytes_per_second:.1f}",
                        f"{both.mask_coding}; {both.value_coding}: {both.saved_percent:.1f} %",
                        f"{both.gigabytes_per_second:.1f}",
                    ]
                )
    header = ["network", "best coding of masks alone saves", "GB/s", "best with values coded, too, saves", "GB/s"]
    return f"""\
**What came of it.** The rule: a coding enters the format if it saves at least 8 % of the whole file at keep 5 % or 1 %
and decodes at 1 GB/s or more.

{table(header, rows)}

Masks coded alone pass in fp16 only, and not on every network. With the values' top bytes coded as well, Huffman codes
pass at 5 % on all three networks, and at 1 % on all but uniform masks in fp16 and the bundled models, of which the
header is a third there. So they are in the format, as DEFLATE streams, which every language can inflate. The denser a
file, the slower it decodes, as inflating takes time for each kept weight; so files that keep more than 1/8 of their
weights are not deflated.

A ladder's bitmasks are not deflated either: at rungs that halve the weights each bit tells nearly a bit, and the
bundled ladder would be 6 % smaller."""


def main() -> None:
    """Print tables, or JSON lines, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--keep", type=float, nargs="+", default=list(KEEPS))
    parser.add_argument("--networks", choices=tuple(NETWORKS), nargs="+", default=list(NETWORKS))
    parser.add_argument("--repeat", type=int, default=15, help="runs for each coding's speed")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--write", action="store_true", help=f"measure all, and write {PAGE.name}")
    arguments = parser.parse_args()
    keeps, kinds = (KEEPS, tuple(NETWORKS)) if arguments.write else (arguments.keep, arguments.networks)
    with tempfile.TemporaryDirectory() as folder:
        sizes: list[Size] = []
        for kind in kinds:
            for keep in keeps:
                sizes += measure(kind, keep, Path(folder))
                print(f"{kind} {keep:g} done", file=sys.stderr, flush=True)
        if arguments.json:
            print("\n".join(json.dumps(asdict(size)) for size in sizes))
            print(json.dumps({"machine": machine(*PACKAGES), "ladder": ladder()}))
            return
        if not arguments.write:
            print(f"{machine(*PACKAGES)}\n\n{size_tables(sizes)}\n\nladder: {ladder()}")
            return
        results = [
            result
            for kind in NETWORKS
            for precision in codings.DTYPES
            for keep in (0.2, 0.1, 0.05, 0.01, 0.001)
            for result in codings.measure(kind, keep, precision, arguments.repeat, Path(folder))
        ]
    PAGE.write_text(page(sizes, results, arguments.repeat), encoding="utf-8")


if __name__ == "__main__":
    main()
