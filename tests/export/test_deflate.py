"""Laws of our DEFLATE encoder, its golden bytes, and streams of other encoders, honest and hostile."""

from __future__ import annotations

import hashlib
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sslprune.export.deflate import deflate, inflate
from sslprune.export.malformed import Malformed

ALL_BYTES = bytes(range(256))
# Whose Huffman codes would be up to 18 bits long.
STEEP = b"".join(bytes([symbol]) * 2**symbol for symbol in range(18))


def array(content: bytes) -> np.ndarray:
    return np.frombuffer(content, np.uint8)


def theirs(plain: bytes, strategy: int, level: int = 9) -> bytes:
    """A raw stream of zlib."""
    packer = zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy)
    return packer.compress(plain) + packer.flush()


def with_dictionary(plain: bytes) -> bytes:
    """A raw stream of zlib that refers to what only its writer has."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, plain)
    return packer.compress(plain) + packer.flush()


def bits(*fields: tuple[int, int]) -> bytes:
    """Numbers of so many bits, lowest first, as bytes."""
    text = "".join(format(value, f"0{width}b")[::-1] for value, width in fields)
    return bytes(int(text[at : at + 8][::-1], 2) for at in range(0, len(text), 8))


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=2000), st.integers(0, 255))
@example(ALL_BYTES, 255)
@example(STEEP, 255)
@example(bytes(5000), 255)
def test_any_inflate_reads_what_we_deflate(plain: bytes, most: int) -> None:
    plain = bytes(min(byte, most) for byte in plain)
    stream = deflate(array(plain))
    assert zlib.decompress(stream, wbits=-15) == plain
    assert inflate(stream, len(plain)).tobytes() == plain
    assert inflate(stream, len(plain) + 99).tobytes() == plain
    with pytest.raises(Malformed, match=f"more than {len(plain) - 1} bytes"):
        inflate(stream, len(plain) - 1)


@given(st.binary(max_size=300))
def test_any_bytes_are_inflated_or_refused(stream: bytes) -> None:
    try:
        plain = inflate(array(stream), 2000)
    except Malformed:
        return
    assert zlib.decompress(stream, wbits=-15) == plain.tobytes()
    assert plain.size <= 8 * len(stream)


@pytest.mark.parametrize(
    ("plain", "golden"),
    [
        (b"\0", "05c0810800000000a0fda94f"),
        (b"abacabad", "05c0010d00000001b0ac47ff0c262a76"),
    ],
)
def test_the_encoder_writes_the_same_bytes_for_ever(plain: bytes, golden: str) -> None:
    assert deflate(array(plain)).tobytes().hex() == golden


def test_long_streams_are_the_same_for_ever_too() -> None:
    order = np.arange(200_000, dtype=np.uint64)
    uneven = (order**3 % 1009 * order % 257 // 2).astype(np.uint8)
    found = [hashlib.sha256(deflate(plain).tobytes()).hexdigest()[:16] for plain in (uneven, array(STEEP))]
    assert found == ["977ea300f9ae3fd0", "f795abe2a78483f2"]


def test_codes_cost_no_more_than_those_of_zlib() -> None:
    plain = np.random.default_rng(0).geometric(0.05, 100_000).clip(max=255).astype(np.uint8)
    assert deflate(plain).size <= len(theirs(plain.tobytes(), zlib.Z_HUFFMAN_ONLY))


@pytest.mark.parametrize("strategy", [zlib.Z_HUFFMAN_ONLY, zlib.Z_FIXED, zlib.Z_RLE, zlib.Z_DEFAULT_STRATEGY])
@pytest.mark.parametrize("level", [0, 1, 9])
def test_streams_of_other_encoders_are_read(strategy: int, level: int) -> None:
    plain = np.random.default_rng(0).integers(0, 8, 5000).astype(np.uint8).tobytes()
    assert inflate(array(theirs(plain, strategy, level)), 5000).tobytes() == plain


STORED = bits((1, 1), (0, 2), (0, 5), (3, 16), (0xFFFC, 16)) + b"abc"


def test_bits_behind_the_end_mean_nothing() -> None:
    assert inflate(array(STORED), 3).tobytes() == b"abc"
    stream = deflate(array(b"abacabad"))
    for spoiled in range(stream[-1], 256, 1 << int(stream[-1]).bit_length()):
        assert inflate(np.append(stream[:-1], np.uint8(spoiled)), 8).tobytes() == b"abacabad"


HOSTILE = {
    "nothing": (b"", 0, "breaks off after 0"),
    "a bomb of zeros": (theirs(bytes(1_000_000), zlib.Z_DEFAULT_STRATEGY), 1_000_000, "holds more than"),
    "a bomb within the count": (theirs(bytes(1000), zlib.Z_RLE), 1000, "holds more than"),
    "one byte more": (theirs(b"abcdefgh", zlib.Z_HUFFMAN_ONLY), 7, "holds more than 7 bytes"),
    "cut": (theirs(ALL_BYTES, zlib.Z_HUFFMAN_ONLY)[:-1], 256, "breaks off after"),
    "cut in the head": (theirs(STEEP, zlib.Z_HUFFMAN_ONLY)[:9], 256, "breaks off after 0"),
    "no final block": (bits((0, 1), (0, 2), (0, 5), (3, 16), (0xFFFC, 16)) + b"abc", 3, "breaks off after 3"),
    "a byte behind": (STORED + b"\0", 3, "1 bytes follow"),
    "a stream behind": (STORED + STORED, 6, "8 bytes follow"),
    "a zlib header": (zlib.compress(b"abc"), 3, "broken"),
    "a gzip header": (b"\x1f\x8b\x08" + bytes(7) + STORED, 3, "broken"),
    "a kind of block that there is not": (bits((1, 1), (3, 2)), 3, "broken"),
    "stored, its length not said twice": (bits((1, 1), (0, 2), (0, 5), (3, 16), (3, 16)) + b"abc", 3, "broken"),
    "a match before the start": (bits((1, 1), (1, 2), (0b1000000, 7), (0, 5)), 99, "broken"),
    "a dictionary": (with_dictionary(b"abcdefgh" * 4), 32, "broken"),
    "more codes than fit": (bits((1, 1), (2, 2), (0, 5), (0, 5), (0, 4), (1, 3), (1, 3), (1, 3), (1, 3)), 9, "broken"),
}


@pytest.mark.parametrize(("stream", "most", "problem"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_streams_are_refused(stream: bytes, most: int, problem: str) -> None:
    with pytest.raises(Malformed, match=problem) as caught:
        inflate(array(stream), most)
    assert str(caught.value).isprintable()
