"""The measure must see what is wrong."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from sslprune.export.onnx_file import write_onnx
from sslprune.export.parity import RUNTIMES, images, parity, relative_error


class Line(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


@pytest.mark.parametrize("runtime", list(RUNTIMES))
def test_a_file_that_is_off_by_a_hundredth_is_off_by_a_hundredth(tmp_path: Path, runtime: str) -> None:
    path = tmp_path / "line.onnx"
    write_onnx(Line(2.0), path, size=4, metadata={})
    assert parity(Line(2.0), path, size=4, runtime=runtime) < 1e-7
    model = onnx.load(path)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array(2.02, np.float32), "factor"))
    onnx.save(model, path)
    assert parity(Line(2.0), path, size=4, runtime=runtime) == pytest.approx(0.01, rel=1e-3)


def test_not_a_number_is_infinitely_wrong() -> None:
    assert relative_error(np.array([np.nan, 1.0]), np.array([1.0, 1.0])) == math.inf
    assert relative_error(np.array([1e-30]), np.array([0.0])) == math.inf
    assert relative_error(np.array([0.0]), np.array([0.0])) == 0
    assert relative_error(np.zeros(0), np.zeros(0)) == 0


def test_images_follow_from_the_seed() -> None:
    assert np.array_equal(images(5, batch=2, seed=3), images(5, batch=2, seed=3))
    assert not np.array_equal(images(5, batch=2, seed=3), images(5, batch=2, seed=4))
    assert images(5, batch=2, seed=3).dtype == np.float32
