"""Kept values as bytes: the codings of `FORMAT.md`, section 3. Pure functions on flat numpy arrays."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sslprune.export.deflate import MOST_PER_BYTE, Bytes, deflate, inflate
from sslprune.export.malformed import Malformed

PlainValues = Literal["F32", "F16"]
ValueCoding = Literal[PlainValues, "F32-deflate", "F16-deflate"]

DTYPES: dict[ValueCoding, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "F32-deflate": np.dtype("<f4"),
    "F16-deflate": np.dtype("<f2"),
}
"""What the values are, however they are stored."""

_DEFLATED: dict[PlainValues, ValueCoding] = {"F32": "F32-deflate", "F16": "F16-deflate"}


def encode_values(values: NDArray[Any], plain: PlainValues, *, may_deflate: bool) -> tuple[ValueCoding, NDArray[Any]]:
    """The smaller coding of some values, plain if equal, and what is stored.

    Args:
        values: Finite float32 or float16 `[kept]`, as `plain` says.
        plain: Their dtype in the container.
        may_deflate: Whether the speed of decoding allows it.

    >>> coding, stored = encode_values(np.linspace(1, 2, 1000, dtype="<f4"), "F32", may_deflate=True)
    >>> coding, stored.size
    ('F32-deflate', 3139)
    """
    if not (may_deflate and values.size):
        return plain, values
    planes = values.view(np.uint8).reshape(values.size, -1).T
    coded = np.concatenate([*planes[:-1], deflate(planes[-1])])
    return (_DEFLATED[plain], coded) if coded.size < values.nbytes else (plain, values)


def check_values(coding: ValueCoding, dtype: str, shape: tuple[int, ...], kept: int) -> None:
    """Refuse a piece that cannot hold `kept` values.

    Args:
        coding: How the values are stored.
        dtype: The piece's, as the container names it.
        shape: The piece's.
        kept: How many values there must be.

    Raises:
        Malformed: It cannot.
    """
    if coding in get_args(PlainValues):
        if (dtype, shape) != (coding, (kept,)):
            raise Malformed(f"values of dtype {dtype} and shape {list(shape)}, not {coding} and [{kept}]")
        return
    if dtype != "U8" or len(shape) != 1:
        raise Malformed(f"values of dtype {dtype} and shape {list(shape)}, not U8 with 1 axis, as {coding} asks for")
    size = DTYPES[coding].itemsize
    if not (size - 1) * kept + -(-kept // MOST_PER_BYTE) <= shape[0] <= size * kept:
        raise Malformed(f"{shape[0]} bytes of {coding} cannot be {kept} values")


def decode_values(coding: ValueCoding, stored: NDArray[Any], kept: int) -> NDArray[np.float32]:
    """The inverse of `encode_values`, widened; not checked for being finite.

    Args:
        coding: How the values are stored.
        stored: The elements of a piece that `check_values` passed.
        kept: How many values there are.

    Returns:
        float32 `[kept]`; of plain F32 a view.

    Raises:
        Malformed: The DEFLATE stream is broken, or not of `kept` bytes.
    """
    dtype = DTYPES[coding]
    values = stored if coding in get_args(PlainValues) else _join(stored, dtype, kept)
    # Widened here: numpy tests and scatters float16 several times slower.
    widened: NDArray[np.float32] = values.astype(np.float32, copy=False)
    return widened


def _join(stored: Bytes, dtype: np.dtype[Any], kept: int) -> NDArray[Any]:
    below = dtype.itemsize - 1
    top = inflate(stored[below * kept :], kept)
    if top.size != kept:
        raise Malformed(f"the DEFLATE stream holds {top.size} bytes for {kept} values")
    joined = np.empty((kept, dtype.itemsize), np.uint8)
    # Byte by byte, since numpy copies rows of a few bytes far slower than strided columns.
    for byte in range(below):
        joined[:, byte] = stored[byte * kept : (byte + 1) * kept]
    joined[:, below] = top
    return joined.reshape(-1).view(dtype)
