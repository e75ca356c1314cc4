"""Laws of the mask codings, then the examples that FORMAT.md works out."""

from __future__ import annotations

import zlib
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sslprune.export import codec
from sslprune.export.deflate import deflate
from sslprune.export.malformed import Malformed

CODINGS = get_args(codec.Coding)


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    """Masks of every density, with runs that cross the escape's length."""
    runs = draw(st.lists(st.tuples(st.booleans(), st.sampled_from([0, 1, 2, 7, 253, 254, 255, 256, 509, 510, 511]))))
    return np.array([kept for kept, length in runs for _ in range(length)], np.bool_)


def as_gap8(mask: np.ndarray) -> bytes:
    """The gap8 stream of a mask, by walking."""
    stream, skipped = [], 0
    for kept in mask:
        if kept:
            stream.append(skipped)
            skipped = 0
        elif (skipped := skipped + 1) == 255:
            stream.append(255)
            skipped = 0
    return bytes(stream)


def stream(*values: int) -> np.ndarray:
    return np.array(values, np.uint8)


@settings(deadline=None)
@given(masks(), st.booleans())
def test_decoding_gives_the_indices_back(mask: np.ndarray, may_deflate: bool) -> None:
    coding, encoded = codec.encode(mask, may_deflate=may_deflate)
    kept = int(mask.sum())
    codec.check_length(coding, encoded.size, mask.size, kept)
    np.testing.assert_array_equal(codec.decode(coding, encoded, mask.size, kept), np.flatnonzero(mask))


@settings(deadline=None)
@given(masks(), st.booleans())
def test_the_smallest_coding_is_taken_and_the_simplest_if_equal(mask: np.ndarray, may_deflate: bool) -> None:
    gap8 = as_gap8(mask)
    codings = {"bitmask": np.packbits(mask, bitorder="little").tobytes(), "gap8": gap8}
    if gap8 and may_deflate:
        codings["gap8-deflate"] = deflate(stream(*gap8)).tobytes()
    smallest = min(codings, key=lambda coding: len(codings[coding]))
    coding, encoded = codec.encode(mask, may_deflate=may_deflate)
    assert (coding, encoded.tobytes()) == (smallest, codings[smallest])


@settings(deadline=None)
@given(masks())
def test_every_mask_has_a_gap8_stream_that_decodes(mask: np.ndarray) -> None:
    encoded, kept = np.frombuffer(as_gap8(mask), np.uint8), int(mask.sum())
    codec.check_length("gap8", encoded.size, mask.size, kept)
    np.testing.assert_array_equal(codec.decode("gap8", encoded, mask.size, kept), np.flatnonzero(mask))
    deflated = deflate(encoded)
    if deflated.size <= codec.most_gaps(mask.size, kept):
        codec.check_length("gap8-deflate", deflated.size, mask.size, kept)
        np.testing.assert_array_equal(codec.decode("gap8-deflate", deflated, mask.size, kept), np.flatnonzero(mask))


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=12), st.integers(0, 3100), st.integers(0, 12), st.sampled_from(CODINGS))
def test_any_bytes_are_refused_or_are_the_one_coding_of_their_mask(
    data: bytes, numel: int, kept: int, coding: codec.Coding
) -> None:
    encoded = np.frombuffer(data, np.uint8)
    try:
        codec.check_length(coding, encoded.size, numel, kept)
        at = codec.decode(coding, encoded, numel, kept)
    except Malformed:
        return
    mask = np.zeros(numel, np.bool_)
    mask[at] = True
    assert at.size == kept
    assert np.flatnonzero(mask).tolist() == at.tolist()
    if coding == "bitmask":
        assert data == codec.pack(mask).tobytes()
    else:
        assert as_gap8(mask) == (data if coding == "gap8" else zlib.decompress(data, wbits=-15))


def test_the_examples_of_the_specification() -> None:
    mask = np.zeros(600, np.bool_)
    mask[[0, 3, 4, 259, 515]] = True
    assert codec.encode(mask, may_deflate=True)[1].tobytes().hex() == "000200feff00"
    assert codec.encode(np.arange(600) == 3, may_deflate=True)[1].tobytes().hex() == "03ffff"


def test_a_bitmask_begins_at_the_lowest_bit() -> None:
    assert codec.pack(np.array([True, False, False, True] + [False] * 5 + [True])).tolist() == [0b00001001, 0b00000010]


@pytest.mark.parametrize(
    ("encoded", "numel", "kept", "problem"),
    [
        (stream(3, 200), 204, 2, "1 past the end"),
        (stream(3, 255), 258, 1, "1 past the end"),
        (stream(3), 259, 1, "255 before the end"),
        (stream(3, 0, 255), 300, 3, "keep 2 weights where the header says 3"),
    ],
)
def test_a_gap8_stream_is_refused(encoded: np.ndarray, numel: int, kept: int, problem: str) -> None:
    with pytest.raises(Malformed, match=problem):
        codec.decode("gap8", encoded, numel, kept)


@pytest.mark.parametrize(
    ("gaps", "numel", "kept", "problem"),
    [
        ([3, 200] * 9, 1840, 18, "5 past the end"),
        ([3] * 20, 2000, 20, "1920 before the end"),
        ([0] * 19 + [255], 300, 20, "keep 19 weights where the header says 20"),
        ([3] * 30, 2000, 20, "holds more than 27 bytes"),
        ([3] * 30, 200, 31, "30 bytes of gap8 cannot say which 31 of 200"),
    ],
)
def test_a_deflated_gap8_stream_is_refused(gaps: list[int], numel: int, kept: int, problem: str) -> None:
    with pytest.raises(Malformed, match=problem):
        codec.decode("gap8-deflate", deflate(stream(*gaps)), numel, kept)


@pytest.mark.parametrize(
    ("coding", "length", "numel", "kept"),
    [
        ("bitmask", 1, 9, 1),
        ("bitmask", 3, 9, 1),
        ("gap8", 0, 255, 0),
        ("gap8", 1, 510, 0),
        ("gap8", 4, 300, 2),
        ("gap8", 6, 5, 5),
        ("gap8-deflate", 1, 100, 9),
        ("gap8-deflate", 0, 100, 1),
        ("gap8-deflate", 1, 8 * 255 + 255, 0),
        ("gap8-deflate", 4, 300, 2),
    ],
)
def test_a_length_that_cannot_be_is_refused(coding: codec.Coding, length: int, numel: int, kept: int) -> None:
    with pytest.raises(Malformed, match="cannot say which"):
        codec.check_length(coding, length, numel, kept)
