"""The size of a ResNet-50 shaped file: a promise of the README, so a test."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from sslprune.export import sparse_file

MB = 1_000_000
PRUNABLE = 23_454_912


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """The bench, whose ResNet-50 shaped tensors these are."""
    spec = importlib.util.spec_from_file_location(
        "bench_codec", Path(__file__).parents[2] / "tools" / "bench" / "codec.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("keep", "fp32", "fp16"), [(0.1, 12.3, 7.6), (0.05, 6.4, 4.1), (0.01, 1.75, 1.25), (0.001, 0.68, 0.63)]
)
def test_a_resnet50_shaped_file_is_small(
    tmp_path: Path, bench: ModuleType, keep: float, fp32: float, fp16: float
) -> None:
    tensors, masks = bench.resnet50(keep)
    assert sum(mask.size for mask in masks.values()) == PRUNABLE
    assert sum(tensor.size for name, tensor in tensors.items() if tensor.ndim == 1) == 4 * 26_560
    assert sum(int(mask.sum()) for mask in masks.values()) == round(keep * PRUNABLE)

    sparse_file.write(tmp_path / "fp32", tensors, masks, metadata={})
    sparse_file.write(tmp_path / "fp16", tensors, masks, metadata={}, values="fp16")
    fp32_bytes, fp16_bytes = (tmp_path / "fp32").stat().st_size, (tmp_path / "fp16").stat().st_size
    assert fp32_bytes <= fp32 * MB
    assert fp16_bytes <= fp16 * MB
    # What deflating gives, held.
    held = {0.1: (9.8, 5.9), 0.05: (5.3, 3.35), 0.01: (1.5, 1.12), 0.001: (0.59, 0.55)}[keep]
    assert fp32_bytes <= held[0] * MB
    assert fp16_bytes <= held[1] * MB
    exact, rounded = sparse_file.read(tmp_path / "fp32").tensors, sparse_file.read(tmp_path / "fp16").tensors
    for name, tensor in tensors.items():
        assert np.array_equal(exact[name], tensor)
        assert np.array_equal(rounded[name], tensor.astype(np.float16) if name in masks else tensor)
