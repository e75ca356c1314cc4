"""The packages that ONNX files need: imported when first needed, missed by the name of the extra that brings them."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from sslprune.errors import MissingExtraError

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
        required(name, purpose="writing ONNX")


def onnx_package() -> Any:
    """The package `onnx`.

    Raises:
        MissingExtraError: It is not installed.
    """
    return required("onnx", purpose="reading and writing ONNX")


def required(module: str, *, purpose: str, extra: str = "onnx") -> Any:
    """Import `module`.

    Args:
        module: Dotted name.
        purpose: What cannot be done without it, as in "writing ONNX".
        extra: The extra of sslprune that installs it.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{purpose} needs {module.partition('.')[0]}, which cannot be imported ({error}).",
            f"Run: pip install 'sslprune[{extra}]'",
        ) from error
