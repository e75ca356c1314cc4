"""Codings that were tried for sparse files beside gap8 and plain values: whole-file bytes and numpy decoding speed.

    python tools/bench/codings.py [--keep 0.05 0.01] [--networks uniform magnitude bundled] [--repeat 15] [--json]

Bench only: `sslprune/export/codec.py` and `values.py` have the codings of the format, among them what is called
"Huffman" here, which won. Each tensor takes the smaller of the coding tried and a bitmask, or plain values. Every
stream carries its own parameters, so sizes are those of whole files; the header is taken from the file as it is
written. Speeds are bytes of dense float32 output a second from memory, one thread, masks made and values checked as
`sparse_file.read` does; the rows of a table take turns, and the median is given.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from networks import NETWORKS, machine
from numpy.typing import NDArray

from sslprune.export import codec as package
from sslprune.export import sparse_file
from sslprune.export.deflate import deflate
from sslprune.export.values import ValueCoding, decode_values

Bytes = NDArray[np.uint8]
Bools = NDArray[np.bool_]
Places = NDArray[np.intp]
Values = NDArray[Any]


@dataclass(frozen=True)
class Coding:
    """Flat arrays of all tensors -> one stream each, and back.

    `decode` takes the streams and, for each tensor, what the header says: its numel and how many weights are kept.
    """

    encode: Callable[[Sequence[Any]], list[Bytes]]
    decode: Callable[[Sequence[Bytes], Sequence[tuple[int, int]]], list[Any]]


# --- Streams that several codings are made of ------------------------------------------------------------------------


def unary(numbers: NDArray[np.integer[Any]]) -> Bytes:
    """Each number as so many 0 bits and a 1 bit."""
    ends = np.cumsum(numbers.astype(np.intp) + 1) - 1
    bits = np.zeros(int(ends[-1]) + 1 if ends.size else 0, np.bool_)
    bits[ends] = True
    return np.packbits(bits, bitorder="little")


def unary_ends(stream: Bytes, count: int) -> Places:
    """Where the 1 bits of `count` numbers are; the n-th minus n is the sum of the first n + 1 numbers."""
    ends = np.flatnonzero(np.unpackbits(stream, bitorder="little").view(np.bool_))
    if ends.size != count:
        raise ValueError(f"{ends.size} numbers, not {count}")
    return ends


def planes(numbers: NDArray[np.integer[Any]], width: int) -> Bytes:
    """The lowest `width` bits of each number, plane by plane."""
    packed = [np.packbits((numbers >> bit & 1).astype(np.bool_), bitorder="little") for bit in range(width)]
    return np.concatenate([np.empty(0, np.uint8), *packed])


def from_planes(stream: Bytes, width: int, count: int) -> NDArray[np.integer[Any]]:
    """The inverse of `planes`."""
    numbers = np.zeros(count, np.min_scalar_type((1 << width) - 1))
    each = -(-count // 8)
    for bit in range(width):
        plane = np.unpackbits(stream[bit * each : (bit + 1) * each], count=count, bitorder="little")
        numbers |= plane.astype(numbers.dtype, copy=False) << bit
    return numbers


def checked(places: Places, numel: int, kept: int) -> Places:
    """What every decoder owes its caller, besides rising."""
    if places.size != kept or (kept and places[-1] >= numel):
        raise ValueError("the stream contradicts the header")
    return places


# --- Masks -----------------------------------------------------------------------------------------------------------


def smaller_than_bitmask(encode: Callable[[Bools], Bytes], decode: Callable[[Bytes, int, int], Places]) -> Coding:
    """Per tensor the coding or a bitmask, whichever is smaller: a first byte of 0 says bitmask."""

    def encode_all(masks: Sequence[Bools]) -> list[Bytes]:
        chosen = []
        for mask in masks:
            stream, plain = encode(mask), package.pack(mask)
            tagged = (np.uint8([1]), stream) if stream.size < plain.size else (np.uint8([0]), plain)
            chosen.append(np.concatenate(tagged))
        return chosen

    def decode_all(streams: Sequence[Bytes], counts: Sequence[tuple[int, int]]) -> list[Places]:
        return [
            decode(stream[1:], numel, kept) if stream[0] else package.decode("bitmask", stream[1:], numel, kept)
            for stream, (numel, kept) in zip(streams, counts, strict=True)
        ]

    return Coding(encode_all, decode_all)


def skips(mask: Bools) -> NDArray[np.intp]:
    """Pruned weights before each kept one."""
    return np.diff(np.flatnonzero(mask), prepend=-1) - 1


def gap_bytes(mask: Bools) -> Bytes:
    """gap8, even where a bitmask is smaller."""
    gaps = skips(mask)
    escapes = gaps // 255
    left = mask.size - int(np.sum(gaps + 1))
    stream = np.full(gaps.size + int(escapes.sum()) + left // 255, 255, np.uint8)
    stream[np.cumsum(escapes) + np.arange(gaps.size)] = gaps % 255
    return stream


def from_gap_bytes(stream: Bytes, numel: int, kept: int) -> Places:
    return package.decode("gap8", stream, numel, kept)


def rice(mask: Bools) -> Bytes:
    """Golomb-Rice with one parameter a tensor (Rice & Plaunt 1971), quotients and remainders apart.

    First byte: the parameter. Then the remainders as bit planes, then the quotients in unary.
    """
    gaps = skips(mask)
    widths = range(16)
    bits = [gaps.size * (width + 1) + int(np.sum(gaps >> width)) for width in widths]
    width = widths[int(np.argmin(bits))]
    return np.concatenate([np.uint8([width]), planes(gaps, width), unary(gaps >> width)])


def from_rice(stream: Bytes, numel: int, kept: int) -> Places:
    width = int(stream[0])
    split = 1 + width * -(-kept // 8)
    order = np.arange(kept)
    # The quotients' running sum is read off the unary stream; only the remainders have to be summed.
    places = unary_ends(stream[split:], kept)
    places -= order
    places <<= width
    places += order
    if width:
        places += np.cumsum(from_planes(stream[1:split], width, kept), dtype=np.intp)
    return checked(places, numel, kept)


def elias_fano(mask: Bools) -> Bytes:
    """Elias-Fano (Fano 1971; Elias 1974): low bits of each index as planes, high parts in unary."""
    places = np.flatnonzero(mask)
    width = max(0, int(np.log2(mask.size / places.size))) if places.size else 0
    return np.concatenate([np.uint8([width]), planes(places, width), unary(np.diff(places >> width, prepend=0))])


def from_elias_fano(stream: Bytes, numel: int, kept: int) -> Places:
    width = int(stream[0])
    split = 1 + width * -(-kept // 8)
    places = unary_ends(stream[split:], kept)
    places -= np.arange(kept)
    places <<= width
    if width:
        places |= from_planes(stream[1:split], width, kept)
    return checked(places, numel, kept)


def nibbles(mask: Bools) -> Bytes:
    """gap8 with 4 bits: 0 to 14 skip so many and keep one, 15 skips 15."""
    gaps = skips(mask)
    escapes = gaps // 15
    stream = np.full(gaps.size + int(escapes.sum()), 15, np.uint8)
    stream[np.cumsum(escapes) + np.arange(gaps.size)] = gaps % 15
    stream = np.append(stream, np.full(stream.size % 2, 15, np.uint8))
    return stream[::2] | stream[1::2] << 4


def from_nibbles(stream: Bytes, numel: int, kept: int) -> Places:
    digits = np.empty((stream.size, 2), np.uint8)
    digits[:, 0] = stream & 15
    digits[:, 1] = stream >> 4
    digits = digits.reshape(-1)
    walk = np.cumsum(np.minimum(digits, 14) + np.uint8(1), dtype=np.intp)
    return checked(walk[digits != 15] - 1, numel, kept)


def huffman(mask: Bools) -> Bytes:
    """The format's gap8-deflate."""
    return deflate(gap_bytes(mask))


def from_huffman(stream: Bytes, numel: int, kept: int) -> Places:
    return package.decode("gap8-deflate", stream, numel, kept)


LANES, PRECISION, LOW = 4096, 12, 1 << 16


def frequencies(counts: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Counts scaled to sum 2^PRECISION, none that occurs below 1."""
    scaled = np.maximum(counts * (1 << PRECISION) // max(1, counts.sum()), counts > 0)
    scaled[np.argmax(scaled)] += (1 << PRECISION) - scaled.sum()
    return scaled.astype(np.uint32)


def rans(symbols: Bytes) -> Bytes:
    """Range asymmetric numeral system (Duda 2013), static, LANES states side by side so that numpy steps all at once.

    Table of 256 uint16, the lanes' last states as uint32, then 16-bit words in the order of reading.
    """
    table = frequencies(np.bincount(symbols, minlength=256))
    starts = np.cumsum(table, dtype=np.uint32) - table
    padded = np.append(symbols, np.full(-symbols.size % LANES, np.argmax(table), np.uint8)).reshape(-1, LANES)
    states = np.full(LANES, LOW, np.uint64)
    words: list[NDArray[np.uint16]] = []
    for row in padded[::-1]:
        share = table[row].astype(np.uint64)
        full = states >= share << np.uint64(32 - PRECISION)
        words.append((states[full] & np.uint64(0xFFFF)).astype("<u2"))
        states[full] >>= np.uint64(16)
        states = (states // share << np.uint64(PRECISION)) + states % share + starts[row]
    pieces = [table.astype("<u2"), states.astype("<u4"), *words[::-1]]
    return np.concatenate([piece.view(np.uint8) for piece in pieces])


def from_rans(stream: Bytes, count: int) -> Bytes:
    table = stream[:512].view("<u2").astype(np.uint32)
    starts = np.cumsum(table, dtype=np.uint32) - table
    if int(table.sum()) != 1 << PRECISION:
        raise ValueError("the table does not add up")
    symbol_of = np.repeat(np.arange(256, dtype=np.uint8), table)
    share_of, offset_of = table[symbol_of], np.arange(1 << PRECISION, dtype=np.uint32) - starts[symbol_of]
    states = stream[512 : 512 + 4 * LANES].view("<u4").copy()
    words = stream[512 + 4 * LANES :].view("<u2")
    rows = np.empty((-(-count // LANES), LANES), np.uint8)
    at = 0
    for row in rows:
        slots = states & np.uint32((1 << PRECISION) - 1)
        np.take(symbol_of, slots, out=row)
        states >>= np.uint32(PRECISION)
        states *= share_of[slots]
        states += offset_of[slots]
        low = np.flatnonzero(states < LOW)
        states[low] = states[low] << np.uint32(16) | words[at : at + low.size]
        at += low.size
    return rows.reshape(-1)[:count]


def rans_of_gaps() -> Coding:
    """One stream and one table for all tensors, as lanes cost 4 bytes each; tensors that suit a bitmask apart."""

    def encode(masks: Sequence[Bools]) -> list[Bytes]:
        streams = [gap_bytes(mask) for mask in masks]
        dense = [stream.size >= package.bitmask_bytes(mask.size) for stream, mask in zip(streams, masks, strict=True)]
        gaps = [np.empty(0, np.uint8) if plain else stream for stream, plain in zip(streams, dense, strict=True)]
        plain = [
            package.pack(mask) if is_dense else np.empty(0, np.uint8)
            for mask, is_dense in zip(masks, dense, strict=True)
        ]
        lengths = np.array([stream.size for stream in gaps], "<u4").view(np.uint8)
        together = np.concatenate(gaps)
        return [np.concatenate([lengths, rans(together) if together.size else together]), *plain]

    def decode(streams: Sequence[Bytes], counts: Sequence[tuple[int, int]]) -> list[Places]:
        lengths = streams[0][: 4 * len(counts)].view("<u4").astype(np.intp)
        ends = np.cumsum(lengths)
        together = from_rans(streams[0][4 * len(counts) :], int(ends[-1])) if ends[-1] else np.empty(0, np.uint8)
        return [
            package.decode("gap8", gaps, numel, kept) if gaps.size else package.decode("bitmask", plain, numel, kept)
            for gaps, plain, (numel, kept) in zip(np.split(together, ends[:-1]), streams[1:], counts, strict=True)
        ]

    return Coding(encode, decode)


MASKS: Mapping[str, Coding] = {
    "gap8": smaller_than_bitmask(gap_bytes, from_gap_bytes),
    "nibble gaps": smaller_than_bitmask(nibbles, from_nibbles),
    "Elias-Fano": smaller_than_bitmask(elias_fano, from_elias_fano),
    "Golomb-Rice": smaller_than_bitmask(rice, from_rice),
    "Huffman": smaller_than_bitmask(huffman, from_huffman),
    "rANS": rans_of_gaps(),
}


# --- Values ----------------------------------------------------------------------------------------------------------


def smaller_than_plain(dtype: str, encode: Callable[[Values], Bytes], decode: Callable[[Bytes, int], Values]) -> Coding:
    """Per tensor the coding or plain values, whichever is smaller: a first byte of 0 says plain. Back comes float32."""

    def encode_all(arrays: Sequence[Values]) -> list[Bytes]:
        chosen = []
        for array in arrays:
            stream, plain = encode(array), array.view(np.uint8)
            tagged = (np.uint8([1]), stream) if stream.size < plain.size else (np.uint8([0]), plain)
            chosen.append(np.concatenate(tagged))
        return chosen

    def decode_all(streams: Sequence[Bytes], counts: Sequence[tuple[int, int]]) -> list[Values]:
        return [
            (decode(stream[1:], kept) if stream[0] else stream[1:].view(dtype)).astype(np.float32, copy=False)
            for stream, (_, kept) in zip(streams, counts, strict=True)
        ]

    return Coding(encode_all, decode_all)


def plain(dtype: str) -> Coding:
    """As the format has them; never coded, hence never tagged."""

    def decode_all(streams: Sequence[Bytes], counts: Sequence[tuple[int, int]]) -> list[Values]:
        return [stream.view(dtype).astype(np.float32, copy=False) for stream in streams]

    return Coding(lambda arrays: [array.view(np.uint8) for array in arrays], decode_all)


def huffman_top(dtype: str) -> Coding:
    """The format's deflated values: the byte with sign and (most of the) exponent in Huffman codes."""
    coding: ValueCoding = "F32-deflate" if dtype == "<f4" else "F16-deflate"

    def encode(values: Values) -> Bytes:
        planes = values.view(np.uint8).reshape(-1, values.itemsize).T
        return np.concatenate([*planes[:-1], deflate(planes[-1])])

    return smaller_than_plain(dtype, encode, lambda stream, kept: decode_values(coding, stream, kept))


def unary_exponents(dtype: str) -> Coding:
    """How far each exponent is below the tensor's largest, Golomb-Rice with a parameter of 0 or 1; the rest as it is.

    First two bytes: the largest exponent and the parameter.
    """
    size = np.dtype(dtype).itemsize
    mantissa, word = (23, np.uint32) if size == 4 else (10, np.uint16)
    field = (1 << 8 * size - 1 - mantissa) - 1
    # Sign and mantissa take 24 or 11 bits: whole low bytes, and for float16 three planes.
    low_bytes, high_bits = divmod(mantissa + 1, 8)

    def encode(values: Values) -> Bytes:
        bits = values.view(word)
        exponents = (bits >> mantissa & field).astype(np.intp)
        top = int(exponents.max(initial=0))
        below = top - exponents
        width = int(below.size + int(np.sum(below >> 1)) < int(np.sum(below)))
        rest = (bits & ((1 << mantissa) - 1)) | (bits >> 8 * size - 1) << mantissa
        lows = rest.astype(f"<u{size}").view(np.uint8).reshape(-1, size)[:, :low_bytes]
        pieces = [
            lows.reshape(-1),
            planes(rest >> 8 * low_bytes, high_bits),
            planes(below, width),
            unary(below >> width),
        ]
        return np.concatenate([np.uint8([top, width]), *pieces])

    def decode(stream: Bytes, kept: int) -> Values:
        top, width = int(stream[0]), int(stream[1])
        plane = -(-kept // 8)
        cuts = np.cumsum([2, low_bytes * kept, high_bits * plane, width * plane])
        _, lows, highs, remainders, quotients = np.split(stream, cuts)
        rest = np.zeros((kept, size), np.uint8)
        rest[:, :low_bytes] = lows.reshape(kept, low_bytes)
        if high_bits:
            rest[:, low_bytes] = from_planes(highs, high_bits, kept)
        bits = rest.view(word).reshape(-1)
        below = np.diff(unary_ends(quotients, kept), prepend=-1) - 1
        if width:
            below = below << 1 | from_planes(remainders, 1, kept)
        if kept and int(below.max()) > top:
            raise ValueError("an exponent is below zero")
        sign = bits >> mantissa << word(8 * size - 1)
        bits &= word((1 << mantissa) - 1)
        bits |= sign
        bits |= (top - below).astype(word) << word(mantissa)
        return bits.view(dtype)

    return smaller_than_plain(dtype, encode, decode)


VALUES: Mapping[str, Callable[[str], Coding]] = {
    "plain": plain,
    "unary exponents": unary_exponents,
    "Huffman": huffman_top,
}
PAIRS = [
    *((mask, "plain") for mask in MASKS),
    ("gap8", "unary exponents"),
    ("gap8", "Huffman"),
    ("Golomb-Rice", "unary exponents"),
    ("Huffman", "Huffman"),
]
DTYPES = {"fp32": "<f4", "fp16": "<f2"}


# --- Measuring -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """One coding of one network."""

    network: str
    keep: float
    precision: str
    mask_coding: str
    value_coding: str
    bytes: int
    saved_percent: float
    gigabytes_per_second: float


def measure(kind: str, keep: float, precision: str, repeat: int, folder: Path) -> list[Result]:
    """Sizes and speeds of every pair of codings, on one network.

    Raises:
        SystemExit: A coding does not give back every bit.
    """
    tensors, masks = NETWORKS[kind](keep)
    path = folder / "gap8.safetensors"
    sparse_file.write(path, tensors, masks, metadata={}, values="fp32" if precision == "fp32" else "fp16")
    layout = sparse_file.read_layout(path)
    names = list(masks)
    flat = [masks[name].reshape(-1) for name in names]
    counts = [(mask.size, int(np.count_nonzero(mask))) for mask in flat]
    values = [tensors[name][masks[name]].astype(DTYPES[precision]) for name in names]
    coded = sum(piece.end - piece.begin for name, piece in layout.pieces.items() if ":" in name)
    rest = path.stat().st_size - coded
    dense_bytes = sum(tensor.nbytes for tensor in tensors.values())
    others = [tensor for name, tensor in tensors.items() if name not in masks]

    sizes: dict[tuple[str, str], int] = {}
    engines: dict[tuple[str, str], Callable[[], object]] = {}
    for pair in PAIRS:
        mask_coding, value_coding = MASKS[pair[0]], VALUES[pair[1]](DTYPES[precision])
        mask_streams, value_streams = mask_coding.encode(flat), value_coding.encode(values)
        sizes[pair] = rest + sum(stream.size for stream in (*mask_streams, *value_streams))

        def engine(
            mask_coding: Coding = mask_coding,
            value_coding: Coding = value_coding,
            mask_streams: list[Bytes] = mask_streams,
            value_streams: list[Bytes] = value_streams,
        ) -> list[Any]:
            places = mask_coding.decode(mask_streams, counts)
            found = [tensor.copy() for tensor in others]
            for where, kept, (numel, _) in zip(places, value_coding.decode(value_streams, counts), counts, strict=True):
                if not np.isfinite(kept).all():
                    raise ValueError("a value is not finite")
                dense, mask = np.zeros(numel, np.float32), np.zeros(numel, np.bool_)
                dense[where] = kept
                mask[where] = True
                found += [dense, mask]
            return found

        decoded = engine()[len(others) :]
        for dense, mask, kept, own in zip(decoded[::2], decoded[1::2], values, flat, strict=True):
            if not np.array_equal(mask, own) or dense[own].tobytes() != kept.astype(np.float32).tobytes():
                raise SystemExit(f"{pair} does not give back what it was given")
        engines[pair] = engine
    speeds = {pair: dense_bytes / seconds / 1e9 for pair, seconds in medians(engines, repeat).items()}
    today = sizes["gap8", "plain"]
    return [
        Result(kind, keep, precision, *pair, sizes[pair], 100 * (1 - sizes[pair] / today), speeds[pair])
        for pair in PAIRS
    ]


def medians(engines: Mapping[tuple[str, str], Callable[[], object]], repeat: int) -> dict[tuple[str, str], float]:
    """Median seconds of each; they take turns, so that what else runs on the machine slows all alike."""
    times: dict[tuple[str, str], list[float]] = {pair: [] for pair in engines}
    for _ in range(repeat):
        for pair, run in engines.items():
            begin = time.perf_counter()
            run()
            times[pair].append(time.perf_counter() - begin)
    return {pair: statistics.median(each) for pair, each in times.items()}


def main() -> None:
    """Print the machine and a table for each network."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--keep", type=float, nargs="+", default=[0.2, 0.1, 0.05, 0.01, 0.001])
    parser.add_argument("--networks", choices=tuple(NETWORKS), nargs="+", default=tuple(NETWORKS))
    parser.add_argument("--precision", choices=tuple(DTYPES), nargs="+", default=tuple(DTYPES))
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    if not arguments.json:
        print(machine())
    with tempfile.TemporaryDirectory() as folder:
        for kind in arguments.networks:
            for precision in arguments.precision:
                for keep in arguments.keep:
                    found = measure(kind, keep, precision, arguments.repeat, Path(folder))
                    if arguments.json:
                        for result in found:
                            print(json.dumps(asdict(result)), flush=True)
                        continue
                    print(f"\n{kind}, keep {keep:g}, {precision}", flush=True)
                    for result in found:
                        print(
                            f"  {result.mask_coding:12} {result.value_coding:16} {result.bytes / 1e6:8.3f} MB "
                            f"{-result.saved_percent:+6.1f} % {result.gigabytes_per_second:6.2f} GB/s"
                        )


if __name__ == "__main__":
    main()
