"""Backbones by name, all with timm's API, and what the rest of sslprune asks of a network.

The names below load torch and timm at first use only, so that the pre-processing serves a machine without them.
Importing `sslprune.models.backbones` registers our networks with timm for `timm.create_model`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from sslprune.models.names import registered_name
from sslprune.models.preprocess import Preprocessing

if TYPE_CHECKING:
    from sslprune.models.anatomy import forward_stages, prunable, stages
    from sslprune.models.factory import build

__all__ = ["Preprocessing", "build", "forward_stages", "prunable", "registered_name", "stages"]

_HOME = {
    "build": "sslprune.models.factory",
    "forward_stages": "sslprune.models.anatomy",
    "prunable": "sslprune.models.anatomy",
    "stages": "sslprune.models.anatomy",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
