"""The head in numpy is the head in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sslprune.errors import ArchitectureError
from sslprune.models import head as torch_head
from sslprune.models.head_file import HeadFile
from sslprune.runtime.numpy_head import logits, pool_flat


def drawn(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@given(
    shape=st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(1, 12), st.integers(1, 12)),
    pool=st.integers(1, 9),
    seed=st.integers(0, 999),
)
def test_pooling_is_torchs_for_all_sizes(shape: tuple[int, int, int, int], pool: int, seed: int) -> None:
    maps = drawn(shape, seed)
    expected = torch_head.pool_flat(torch.from_numpy(maps), pool).numpy()
    found = pool_flat(maps, pool)
    assert (found.dtype, found.shape) == (np.float32, expected.shape)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def head_of(wide: int, many: int, seed: int) -> HeadFile:
    return HeadFile(
        task="digits",
        stage="layer3",
        pool=2,
        mean=drawn((wide,), seed),
        std=np.abs(drawn((wide,), seed + 1)) + np.float32(0.1),
        weight=drawn((many, wide), seed + 2),
        bias=drawn((many,), seed + 3),
        l2=1e-3,
        classes=tuple(map(str, range(many))),
        held_out=50.0,
        converged=True,
    )


@given(rows=st.integers(0, 5), wide=st.integers(1, 40), many=st.integers(1, 6), seed=st.integers(0, 999))
def test_logits_are_the_probes(rows: int, wide: int, many: int, seed: int) -> None:
    head, x = head_of(wide, many, seed), drawn((rows, wide), seed + 9)
    tensors = {name: torch.from_numpy(getattr(head, name)) for name in ("mean", "std", "weight", "bias")}
    probe = torch_head.Probe(**tensors, l2=head.l2, classes=head.classes, held_out=50.0, converged=True)
    found = logits(head, x)
    assert (found.dtype, found.shape) == (np.float32, (rows, many))
    np.testing.assert_allclose(found, probe.logits(torch.from_numpy(x)).numpy(), rtol=1e-5, atol=1e-3)


def test_features_of_another_width_are_refused() -> None:
    with pytest.raises(ArchitectureError, match="gives 5 features, but the head takes 4"):
        logits(head_of(4, 3, 0), drawn((2, 5), 0))
