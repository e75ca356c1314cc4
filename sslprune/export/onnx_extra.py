"""The packages that ONNX files need: imported when first needed, missed by the name of the extra that brings them."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from sslprune.extras import require

_WRITING = ("onnx", "onnxscript")


def can_write() -> bool:
    """Whether what the exporter needs is installed; nothing is imported."""
    try:
        return all(find_spec(name) for name in _WRITING)
    except ValueError:  # hidden on purpose: sys.modules[name] = None
        return False


def require_writing() -> None:
    """Import what the exporter needs.

    Raises:
        MissingExtraError: Some of it is not installed.
    """
    for name in _WRITING:
        require(name, extra="onnx", purpose="writing ONNX")


def onnx_package() -> Any:
    """The package `onnx`.

    Raises:
        MissingExtraError: It is not installed.
    """
    return require("onnx", extra="onnx", purpose="reading and writing ONNX")
