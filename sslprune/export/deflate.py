"""Bytes in Huffman codes, as one raw DEFLATE stream that any inflate reads (RFC 1951): `FORMAT.md`, section 5.

Our own encoder, because those of zlib's builds differ in their bytes; it searches no matches, which gaps and exponents
do not have. The decoder is the standard library's.
"""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Iterator
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from sslprune.export.malformed import Malformed

Bytes = NDArray[np.uint8]
Bits = NDArray[np.bool_]
Ints = NDArray[np.intp]

MOST_PER_BYTE = 8
"""A code is at least a bit, so without matches a byte holds at most eight."""

_SPARSE = 8
"""Inflating takes time for each kept weight. At 1/8 a whole file still decodes at 2 GB a second of dense float32."""

_END = 256
_LONGEST, _LONGEST_OF_LENGTHS = 15, 7
# RFC 1951, section 3.2.7: the order in which the lengths of the codes for lengths stand.
_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)


def sparse_enough(kept: int, numel: int) -> bool:
    """Whether a file of so many weights may be deflated without decoding slowly."""
    return _SPARSE * kept <= numel


def deflate(plain: Bytes) -> Bytes:
    """One final block with its own Huffman codes and no matches; the same bytes on every machine.

    Args:
        plain: uint8 `[length]`, at least one.

    >>> stream = deflate(np.frombuffer(b"abacabad", np.uint8))
    >>> zlib.decompress(stream.tobytes(), wbits=-15)
    b'abacabad'
    """
    symbols = np.append(plain.astype(np.intp), _END)
    lengths = _code_lengths(np.bincount(symbols, minlength=_END + 1), _LONGEST)
    bits = [*_head(lengths), _coded(symbols, lengths)]
    return np.packbits(np.concatenate(bits), bitorder="little")


def inflate(stream: Bytes, most: int) -> Bytes:
    """What a raw DEFLATE stream holds, as read-only uint8.

    Args:
        stream: uint8 `[length]`: the stream, and nothing behind it.
        most: The most bytes that it may hold; no more are ever decoded.

    Raises:
        Malformed: It is broken off, broken, followed by something, or holds more bytes, or more than eight a byte.
    """
    most = min(most, MOST_PER_BYTE * stream.size)
    unpacker = zlib.decompressobj(wbits=-15)
    try:
        # A limit of 0 would mean none.
        plain = unpacker.decompress(stream.data, most + 1)
    except zlib.error as error:
        raise Malformed(f"the DEFLATE stream is broken: {error}") from None
    if len(plain) > most:
        raise Malformed(f"the DEFLATE stream holds more than {most} bytes")
    if not unpacker.eof:
        raise Malformed(f"the DEFLATE stream breaks off after {len(plain)} bytes")
    if unpacker.unused_data:
        raise Malformed(f"{len(unpacker.unused_data)} bytes follow the DEFLATE stream")
    return np.frombuffer(plain, np.uint8)


def _code_lengths(counts: Ints, longest: int) -> Ints:
    """The bits of each symbol's code (Huffman 1952), none more than `longest`; 0 for a symbol that does not occur."""
    used = np.flatnonzero(counts)
    heap = [(int(count), node) for node, count in enumerate(counts[used])]
    heapq.heapify(heap)
    parents = [0] * (2 * used.size - 1)
    for node in range(used.size, len(parents)):
        (few, first), (more, second) = heapq.heappop(heap), heapq.heappop(heap)
        parents[first] = parents[second] = node
        heapq.heappush(heap, (few + more, node))
    depths = [0] * len(parents)
    for node in reversed(range(len(parents) - 1)):
        depths[node] = depths[parents[node]] + 1
    if max(depths) > longest:
        return _code_lengths((counts + 1) // 2, longest)  # flatter, as bzip2 does
    lengths = np.zeros(counts.size, np.intp)
    lengths[used] = np.maximum(depths[: used.size], 1)
    return lengths


def _coded(symbols: Ints, lengths: Ints) -> Bits:
    """The canonical codes of the symbols, one behind the other (RFC 1951, section 3.2.2)."""
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    # A canonical code is the share of code space that shorter or earlier codes take, as a binary fraction.
    shares = 1 << _LONGEST - lengths[order]
    places = np.arange(_LONGEST)
    codes = np.zeros((lengths.size, _LONGEST), np.bool_)
    codes[order] = (np.cumsum(shares) - shares)[:, None] >> _LONGEST - 1 - places & 1
    told = places < lengths[:, None]
    coded: Bits = codes[symbols][told[symbols]]
    return coded


def _head(lengths: Ints) -> Iterator[Bits]:
    """What stands before a block's codes: its kind, and the lengths of its codes (RFC 1951, section 3.2.7)."""
    # One distance code of no bits says that there are no matches.
    runs = list(_runs([*lengths.tolist(), 0]))
    own = _code_lengths(np.bincount([symbol for symbol, _ in runs], minlength=19), _LONGEST_OF_LENGTHS)
    told = max(place for place, symbol in enumerate(_ORDER) if own[symbol]) + 1
    yield np.concatenate([_number(1, 1), _number(2, 2), _number(0, 5), _number(0, 5), _number(told - 4, 4)])
    for symbol in _ORDER[:told]:
        yield _number(int(own[symbol]), 3)
    for symbol, repeated in runs:
        yield np.append(_coded(np.array([symbol]), own), repeated)


def _runs(lengths: list[int]) -> Iterator[tuple[int, Bits]]:
    """Lengths of codes as symbols: 0 to 15 themselves, 16 again, 17 and 18 zeros; with the bits of how many."""
    none = _number(0, 0)
    for length, equal in groupby(lengths):
        left = len(list(equal))
        if length:
            yield length, none
            left -= 1
        while left >= 3:
            symbol, least, bits = (16, 3, 2) if length else (18, 11, 7) if left >= 11 else (17, 3, 3)
            run = min(left, least + (1 << bits) - 1)
            yield symbol, _number(run - least, bits)
            left -= run
        for _ in range(left):
            yield length, none


def _number(value: int, width: int) -> Bits:
    """A number in so many bits, lowest first."""
    return (value >> np.arange(width) & 1).astype(np.bool_)
