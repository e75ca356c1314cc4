"""Networks of full size, pruned without training: as small as promised, and the same in every runtime.

VGG-19 takes minutes and gigabytes: it is measured in `tools/bench/onnx_sizes.py` alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import web_runtime
from onnx_networks import SIZES, calm, gap8_bytes
from torch import nn

import sslprune
from sslprune.export import parity
from sslprune.export.onnx_file import FEATURES, write_onnx
from sslprune.export.onnx_pack import Values

pytestmark = pytest.mark.slow

NETWORKS = ("resnet18", "resnet50", "alexnet")


def in_browser(model: nn.Module, path: Path, size: int) -> float:
    x = parity.images(size, batch=2, seed=0)
    try:
        found = web_runtime.run(path, x)
    except web_runtime.WebRuntimeMissing as reason:
        pytest.skip(f"no runtime for browsers: {reason}")
    return parity.relative_error(found["features"], parity.exact(model, x, FEATURES)["features"])


@pytest.mark.parametrize("arch", NETWORKS)
@pytest.mark.parametrize("keep", [0.1, 0.01])
def test_small_and_the_same_in_every_runtime(arch: str, keep: float, tmp_path: Path) -> None:
    size = SIZES[arch]
    model = calm(arch, keep)
    for values in get_args(Values):
        path = tmp_path / values
        write_onnx(model, path, size=size, metadata={}, values=values)
        assert path.stat().st_size <= 1.05 * gap8_bytes(model, values) + 400_000
    residual = arch.startswith("resnet")
    for runtime in ("onnxruntime", "openvino", *(["reference"] if residual else [])):
        assert parity.parity(model, tmp_path / "fp32", size=size, runtime=runtime) <= 1e-5
    assert parity.parity(model, tmp_path / "fp16", size=size) <= 0.02
    if residual:
        assert in_browser(model, tmp_path / "fp32", size) <= 1e-5


def test_a_bundled_model_runs_in_a_browser() -> None:
    model = sslprune.load("rotnet-resnet20-keep5%")
    assert in_browser(model, model.sslprune.folder / "model.onnx", 32) <= 1e-5


def test_what_a_browser_would_compute_is_compared_at_all() -> None:
    model = sslprune.load("rotnet-resnet20-keep5%")
    other = sslprune.load("rotnet-resnet20-keep10%")
    assert in_browser(other, model.sslprune.folder / "model.onnx", 32) > 1e-2
    assert not np.array_equal(parity.images(4, batch=1, seed=0), parity.images(4, batch=1, seed=1))
