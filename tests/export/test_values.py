"""Laws of the codings of kept values: every bit comes back, and no piece claims more than it has."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sslprune.export.deflate import deflate
from sslprune.export.malformed import Malformed
from sslprune.export.values import DTYPES, PlainValues, ValueCoding, check_values, decode_values, encode_values

ODD = [0.0, -0.0, 1e-45, -6e-8, 65504.0, -1.0]

plains = st.sampled_from(get_args(PlainValues))


@st.composite
def kept_values(draw: st.DrawFn) -> tuple[PlainValues, np.ndarray]:
    """Finite values as of a trained layer, some of them odd."""
    plain = draw(plains)
    chance = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = chance.standard_normal(draw(st.integers(0, 3000))) * 10 ** draw(st.floats(-6, 3))
    odd = draw(st.lists(st.sampled_from(ODD), max_size=8))[: values.size]
    values[: len(odd)] = odd
    return plain, values.astype(DTYPES[plain])


@settings(deadline=None)
@given(kept_values(), st.booleans())
def test_values_come_back_bit_for_bit(drawn: tuple[PlainValues, np.ndarray], may_deflate: bool) -> None:
    plain, values = drawn
    coding, stored = encode_values(values, plain, may_deflate=may_deflate)
    dtype = "U8" if coding.endswith("deflate") else plain
    check_values(coding, dtype, stored.shape, values.size)
    found = decode_values(coding, stored, values.size)
    assert found.tobytes() == values.astype(np.float32).tobytes()
    assert stored.nbytes <= values.nbytes
    assert stored.nbytes < values.nbytes or coding == plain
    assert may_deflate or coding == plain


@pytest.mark.parametrize("plain", get_args(PlainValues))
def test_values_of_a_layer_are_deflated_and_noise_is_not(plain: PlainValues) -> None:
    chance = np.random.default_rng(0)
    layer = chance.standard_normal(5000).astype(DTYPES[plain])
    assert encode_values(layer, plain, may_deflate=True)[0] == f"{plain}-deflate"
    assert encode_values(layer, plain, may_deflate=False)[0] == plain
    noise = chance.integers(0, 256, layer.nbytes).astype(np.uint8).view(DTYPES[plain])
    assert encode_values(noise, plain, may_deflate=True)[0] == plain


def test_the_example_of_the_specification() -> None:
    values = np.array([1.0, -2.0] * 20, np.float32)
    coding, stored = encode_values(values, "F32", may_deflate=True)
    assert coding == "F32-deflate"
    assert stored[:120].tobytes() == bytes(80) + b"\x80\x00" * 20
    assert stored[120:].tobytes() == deflate(np.tile(np.uint8([0x3F, 0xC0]), 20)).tobytes()


@pytest.mark.parametrize(
    ("coding", "dtype", "shape", "problem"),
    [
        ("F32", "F16", (9,), "dtype F16 and shape"),
        ("F32", "U8", (36,), "not F32 and"),
        ("F32", "F32", (8,), r"not F32 and \[9\]"),
        ("F16", "F16", (9, 1), r"not F16 and \[9\]"),
        ("F32-deflate", "F32", (9,), "not U8 with 1 axis"),
        ("F32-deflate", "U8", (29, 1), "not U8 with 1 axis"),
        ("F32-deflate", "U8", (28,), "28 bytes of F32-deflate cannot be 9 values"),
        ("F32-deflate", "U8", (37,), "37 bytes of F32-deflate cannot be 9 values"),
        ("F16-deflate", "U8", (10,), "10 bytes of F16-deflate cannot be 9 values"),
        ("F16-deflate", "U8", (19,), "19 bytes of F16-deflate cannot be 9 values"),
    ],
)
def test_a_piece_that_cannot_be_is_refused(
    coding: ValueCoding, dtype: str, shape: tuple[int, ...], problem: str
) -> None:
    with pytest.raises(Malformed, match=problem):
        check_values(coding, dtype, shape, 9)


def test_the_tightest_pieces_pass() -> None:
    for coding, shortest, longest in (("F32-deflate", 29, 36), ("F16-deflate", 11, 18)):
        check_values(coding, "U8", (shortest,), 9)
        check_values(coding, "U8", (longest,), 9)


@pytest.mark.parametrize(
    ("top", "problem"), [(8, "holds 8 bytes for 9 values"), (10, "more than 9 bytes"), (0, "holds 0 bytes for 9")]
)
def test_top_bytes_of_another_count_are_refused(top: int, problem: str) -> None:
    stored = np.concatenate([np.zeros(27, np.uint8), deflate(np.zeros(top, np.uint8))])
    with pytest.raises(Malformed, match=problem):
        decode_values("F32-deflate", stored, 9)
