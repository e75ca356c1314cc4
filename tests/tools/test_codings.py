"""Every coding that the bench of codings compares gives back every bit, whatever the masks and values."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

BENCH = Path(__file__).parents[2] / "tools" / "bench"
MASKS = ("gap8", "nibble gaps", "Elias-Fano", "Golomb-Rice", "Huffman", "rANS")
VALUES = ("plain", "unary exponents", "Huffman")


@pytest.fixture(scope="module")
def codings() -> Iterator[ModuleType]:
    """The bench, whose own modules lie beside it."""
    before = set(sys.modules)
    sys.path.insert(0, str(BENCH))
    yield importlib.import_module("codings")
    sys.path.remove(str(BENCH))
    for name in ("codings", "codec", "networks"):
        if name not in before:
            sys.modules.pop(name, None)


def test_all_codings_are_tested(codings: ModuleType) -> None:
    assert (tuple(codings.MASKS), tuple(codings.VALUES)) == (MASKS, VALUES)


def arrays(draw: Any, most: int, keep: float) -> np.ndarray:
    chance = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return chance.random(draw(st.integers(0, most))) < keep


@pytest.mark.parametrize("coding", MASKS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_masks_come_back(codings: ModuleType, coding: str, data: st.DataObject) -> None:
    keeps = data.draw(st.lists(st.sampled_from([0.0, 0.0005, 0.01, 0.05, 0.2, 0.5, 0.99, 1.0]), min_size=1, max_size=4))
    masks = [arrays(data.draw, 40_000, keep) for keep in keeps]
    counts = [(mask.size, int(mask.sum())) for mask in masks]
    found = codings.MASKS[coding].decode(codings.MASKS[coding].encode(masks), counts)
    for places, mask in zip(found, masks, strict=True):
        assert np.array_equal(places, np.flatnonzero(mask))


@pytest.mark.parametrize("coding", VALUES)
@pytest.mark.parametrize("dtype", ["<f4", "<f2"])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_values_come_back_bit_for_bit(codings: ModuleType, coding: str, dtype: str, data: st.DataObject) -> None:
    chance = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    tensors = []
    for size in data.draw(st.lists(st.integers(0, 5000), min_size=1, max_size=3)):
        values = (chance.standard_normal(size) * 10 ** data.draw(st.floats(-6, 2))).astype(dtype)
        odd = np.array(data.draw(st.lists(st.sampled_from([0.0, -0.0, 1e-40, -6e-8, 6e4, -1.0]))), dtype)
        values[: odd.size] = odd[:size]
        tensors.append(values)
    counts = [(values.size, values.size) for values in tensors]
    made = codings.VALUES[coding](dtype)
    for found, values in zip(made.decode(made.encode(tensors), counts), tensors, strict=True):
        assert found.tobytes() == values.astype(np.float32).tobytes()
