"""ONNX Runtime behind one door: silent, on the device that was asked for or not at all, its failures named."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslprune.errors import DeviceError
from sslprune.extras import require
from sslprune.runtime.onnx_file import unusable

_FATAL = 4
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxSession:
    """A graph that is ready to run.

    It runs on as many threads as ONNX Runtime finds cores, or on `OMP_NUM_THREADS` where that is set: whoever limits
    torch by it limits this, too.

    Args:
        content: The bytes of an ONNX file that `read_onnx` has passed. No file that it may name is looked for, and no
            library of foreign operators is loaded.
        path: What to call it in errors.
        device: "cpu", "cuda" or "cuda:N".

    Attributes:
        inputs: Each input's name and shape, in the graph's order; the length of a free axis is text or None.
        outputs: The same of the outputs.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        DeviceError: ONNX Runtime cannot use the device; it never falls back to another.
        SparseFileError: ONNX Runtime refuses the graph.
    """

    def __init__(self, content: bytes, path: Path, *, device: str = "cpu") -> None:
        self._path = path
        ort = require("onnxruntime", extra="onnx", purpose="the runtime 'onnx'")
        kind, number = _device(device)
        provider = _PROVIDERS[kind]
        if provider not in ort.get_available_providers():
            raise _no_device(device, f"this onnxruntime ({ort.__version__}) was built without it")
        options = ort.SessionOptions()
        options.log_severity_level = _FATAL  # it would print what is raised, too
        if threads := _threads():
            options.intra_op_num_threads = threads
        chosen = provider if kind == "cpu" else (provider, {"device_id": str(number)})
        try:
            self._session = ort.InferenceSession(content, sess_options=options, providers=[chosen])
        except Exception as error:  # its errors have no base of their own
            raise unusable(path, f"ONNX Runtime says: {error}") from error
        # The list of what is available names providers whose libraries are missing; a session names those that it has.
        if provider not in self._session.get_providers():
            raise _no_device(device, "ONNX Runtime could not load its libraries")
        self.inputs = self._described(self._session.get_inputs())
        self.outputs = self._described(self._session.get_outputs())

    def run(self, output: str, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """One output for a batch of the first input: float32 [N,...].

        Raises:
            SparseFileError: ONNX Runtime fails, or the output is not one float32 array an image.
        """
        try:
            (found,) = self._session.run([output], {next(iter(self.inputs)): images})
        except Exception as error:  # as above
            raise unusable(self._path, f"ONNX Runtime says: {error}") from error
        if not isinstance(found, np.ndarray) or found.dtype != np.float32 or found.shape[:1] != (len(images),):
            raise unusable(self._path, f"its output {output!r} is not one float32 array an image")
        return found

    def _described(self, values: Any) -> dict[str, list[int | str | None]]:
        if others := [value for value in values if value.type != "tensor(float)"]:
            raise unusable(self._path, f"{others[0].name!r} is a {others[0].type}, not float32")
        return {value.name: value.shape for value in values}


def _device(device: str) -> tuple[str, int]:
    kind, _, number = device.partition(":")
    if kind not in _PROVIDERS or (number and not (number.isascii() and number.isdigit() and len(number) < 4)):
        raise DeviceError(f"the runtime 'onnx' has no device {device!r}.", "Choose cpu, cuda or cuda:N.")
    return kind, int(number or 0)


def _no_device(device: str, why: str) -> DeviceError:
    return DeviceError(
        f"the runtime 'onnx' cannot use {device!r}: {why}.",
        "Take device='cpu'. For a GPU: pip uninstall onnxruntime; pip install onnxruntime-gpu, with CUDA and cuDNN.",
    )


def _threads() -> int:
    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(said) if said.isascii() and said.isdigit() and len(said) < 5 else 0
