"""Optional packages: imported when first needed, missed by the name of the extra that brings them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from sslprune.errors import MissingExtraError


def require(module: str, *, extra: str, purpose: str) -> Any:
    """Import `module`.

    Args:
        module: Dotted name.
        extra: The extra of sslprune that installs it.
        purpose: What cannot be done without it, as in "reading parquet files".

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
