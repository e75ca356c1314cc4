"""Does an ONNX file compute what its network does? The same images through torch in float64 and through a runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sslprune.export.onnx_file import FEATURES, INPUT, Output
from sslprune.extras import require

Array = NDArray[Any]
Run = Callable[[Path, Array], dict[str, Array]]
"""Open an ONNX file and give every output by name, for a float32 batch [N,3,H,W]."""


def parity(
    model: nn.Module,
    path: Path,
    *,
    size: int,
    outputs: Mapping[str, Output] = FEATURES,
    runtime: str = "onnxruntime",
    batch: int = 2,
    seed: int = 0,
) -> float:
    """The largest relative error of an ONNX file's outputs, on images drawn from a normal distribution.

    Args:
        model: The network that the file was made from.
        path: The file.
        size: Height and width of the images, in pixels.
        outputs: As they were given to `write_onnx`.
        runtime: A key of `RUNTIMES`.
        batch: Number of images.
        seed: Of the images.

    Raises:
        MissingExtraError: The runtime is not installed.
    """
    x = images(size, batch=batch, seed=seed)
    expected = exact(model, x, outputs)
    found = RUNTIMES[runtime](path, x)
    return max(relative_error(found[name], expected[name]) for name in outputs)


def relative_error(found: Array, expected: Array) -> float:
    """The largest absolute difference, relative to the largest absolute number expected; infinite where NaN is found.

    >>> relative_error(np.array([1.0, 2.5]), np.array([1.0, 2.0]))
    0.25
    """
    assert found.shape == expected.shape, f"{found.shape} is not {expected.shape}"
    difference = float(np.abs(found.astype(np.float64) - expected).max(initial=0))
    if difference == 0:
        return 0.0
    scale = float(np.abs(expected).max())
    return difference / scale if scale and np.isfinite(difference) else float("inf")


def images(size: int, *, batch: int, seed: int) -> Array:
    """Float32 [N,3,size,size], standard normal: what pre-processed pictures are like."""
    return np.random.default_rng(seed).standard_normal((batch, 3, size, size), np.float32)


def exact(model: nn.Module, x: Array, outputs: Mapping[str, Output]) -> dict[str, Array]:
    """The network's outputs in eval mode, computed in float64: deep networks may amplify float32 rounding."""
    double = deepcopy(model).cpu().double().eval()
    with torch.inference_mode():
        image = torch.from_numpy(x).double()
        return {name: function(double, image).numpy() for name, function in outputs.items()}


def in_onnxruntime(path: Path, x: Array) -> dict[str, Array]:
    """In ONNX Runtime on the CPU."""
    ort = require("onnxruntime", extra="onnx", purpose="running ONNX")
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {INPUT: x}), strict=True))


def in_openvino(path: Path, x: Array) -> dict[str, Array]:
    """In OpenVINO on the CPU, in float32 (by itself it takes bfloat16 where the processor has it)."""
    openvino = require("openvino", extra="bench", purpose="running ONNX in OpenVINO")
    compiled = openvino.compile_model(openvino.Core().read_model(str(path)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled(x)
    return {output.any_name: np.array(results[output]) for output in compiled.outputs}


def in_reference(path: Path, x: Array) -> dict[str, Array]:
    """In ONNX's own evaluator: plain numpy, slow, and the letter of the standard."""
    evaluator = require("onnx.reference", extra="onnx", purpose="running ONNX").ReferenceEvaluator(str(path))
    return dict(zip(evaluator.output_names, evaluator.run(None, {INPUT: x}), strict=True))


RUNTIMES: Mapping[str, Run] = {
    "onnxruntime": in_onnxruntime,
    "openvino": in_openvino,
    "reference": in_reference,
}
