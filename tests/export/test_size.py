"""The size of a ResNet-50 shaped file: a promise of the README, so a test."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from sslprune.export import sparse_file

MB = 1_000_000


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
    ("keep", "fp32", "fp16"), [(0.05, 6.4 * MB, 4.1 * MB), (0.01, 1.75 * MB, 1.25 * MB), (0.001, 0.68 * MB, 0.63 * MB)]
)
def test_a_resnet50_shaped_file_is_small(
    tmp_path: Path, bench: ModuleType, keep: float, fp32: float, fp16: float
) -> None:
    tensors, masks = bench.resnet50(keep)
    assert sum(mask.size for mask in masks.values()) == 23_454_912
    assert sum(tensor.size for name, tensor in tensors.items() if tensor.ndim == 1) == 4 * 26_560
    assert sum(int(mask.sum()) for mask in masks.values()) == round(keep * 23_454_912)

    sparse_file.write(tmp_path / "fp32", tensors, masks, metadata={})
    sparse_file.write(tmp_path / "fp16", tensors, masks, metadata={}, values="fp16")
    assert (tmp_path / "fp32").stat().st_size <= fp32
    assert (tmp_path / "fp16").stat().st_size <= fp16
    content = sparse_file.read(tmp_path / "fp32")
    assert all(np.array_equal(content.tensors[name], tensor) for name, tensor in tensors.items())
