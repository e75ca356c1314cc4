"""Masks as bytes: the codings of `FORMAT.md`, section 5. Pure functions on flat numpy arrays."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sslprune.export.deflate import MOST_PER_BYTE, Bytes, deflate, inflate
from sslprune.export.malformed import Malformed

Coding = Literal["bitmask", "gap8", "gap8-deflate"]
Bools = NDArray[np.bool_]

ESCAPE = 255


def encode(mask: Bools, *, may_deflate: bool) -> tuple[Coding, Bytes]:
    """The coding of a mask that takes the fewest bytes, the first of `Coding` if equal, and these.

    Args:
        mask: bool `[numel]`, True where the weight is kept.
        may_deflate: Whether the speed of decoding allows it.

    >>> coding, stream = encode(np.arange(600) == 3, may_deflate=True)
    >>> coding, stream.tobytes().hex()
    ('gap8', '03ffff')
    """
    codings: dict[Coding, Bytes] = {"bitmask": pack(mask), "gap8": _gaps(mask)}
    if may_deflate and codings["gap8"].size:
        codings["gap8-deflate"] = deflate(codings["gap8"])
    smallest = min(codings, key=lambda coding: codings[coding].size)
    return smallest, codings[smallest]


def check_length(coding: Coding, length: int, numel: int, kept: int) -> None:
    """Refuse a stream whose length alone shows that it cannot say `kept` of `numel`.

    Raises:
        Malformed: It cannot.
    """
    if coding == "bitmask":
        possible = length == bitmask_bytes(numel)
    else:
        gaps = length * (MOST_PER_BYTE if coding == "gap8-deflate" else 1)
        possible = length <= most_gaps(numel, kept) and kept <= gaps and numel - (ESCAPE - 1) <= ESCAPE * gaps
    if not possible:
        raise Malformed(f"{length} bytes of {coding} cannot say which {kept} of {numel} weights are kept")


def decode(coding: Coding, stream: Bytes, numel: int, kept: int) -> NDArray[np.intp]:
    """Where the kept weights are.

    Args:
        coding: How `stream` was coded.
        stream: uint8 `[length]`, of a length that `check_length` passed.
        numel: Weights in the tensor.
        kept: How many of them are kept.

    Returns:
        Indices `[kept]`, rising, each in `[0, numel)`.

    Raises:
        Malformed: The stream breaks a rule of its coding, or keeps another number of weights.
    """
    if coding == "bitmask":
        # Scattering to indices is ten times as fast as assigning through a bool mask.
        return np.flatnonzero(unpack(stream, numel, kept))
    if coding == "gap8-deflate":
        stream = inflate(stream, most_gaps(numel, kept))
        check_length("gap8", stream.size, numel, kept)
    walk = np.cumsum(np.minimum(stream, ESCAPE - 1) + np.uint8(1), dtype=np.intp)
    left = numel - (int(walk[-1]) if walk.size else 0)
    if left < 0:
        raise Malformed(f"the gaps run {-left} past the end of {numel} weights")
    if left >= ESCAPE:
        raise Malformed(f"the gaps stop {left} before the end of {numel} weights")
    kept_at: NDArray[np.intp] = walk[stream != ESCAPE] - 1
    if kept_at.size != kept:
        raise Malformed(f"the gaps keep {kept_at.size} weights where the header says {kept}")
    return kept_at


def most_gaps(numel: int, kept: int) -> int:
    """The most bytes that gap8 can take for `kept` of `numel` weights."""
    return kept + (numel - kept) // ESCAPE


def bitmask_bytes(numel: int) -> int:
    """The bytes of a bitmask over `numel` weights."""
    return -(-numel // 8)


def pack(mask: Bools) -> Bytes:
    """The bitmask of bool `[numel]`: index i is bit i mod 8, lowest first, of byte i // 8."""
    return np.packbits(mask, bitorder="little")


def unpack(stream: Bytes, numel: int, kept: int) -> Bools:
    """The inverse of `pack`, as bool `[numel]`.

    Raises:
        Malformed: Bits after the last index are set, or not exactly `kept` before it.
    """
    bits = np.unpackbits(stream, bitorder="little")
    if bits[numel:].any():
        raise Malformed(f"the bitmask has bits set after the last of {numel} weights")
    mask = bits[:numel].view(np.bool_)
    if (count := int(np.count_nonzero(mask))) != kept:
        raise Malformed(f"the bitmask keeps {count} weights where the header says {kept}")
    return mask


def _gaps(mask: Bools) -> Bytes:
    kept = np.flatnonzero(mask)
    skips = np.diff(kept, prepend=-1) - 1
    escapes = skips // ESCAPE
    left = mask.size - 1 - int(kept[-1]) if kept.size else mask.size
    gaps = np.full(kept.size + int(escapes.sum()) + left // ESCAPE, ESCAPE, np.uint8)
    gaps[np.cumsum(escapes) + np.arange(kept.size)] = skips % ESCAPE
    return gaps
