"""Convnets pre-trained without labels, pruned, and small: load by name, fine-tune, evaluate, or train your own.

Importing this imports neither torch nor numpy; each name below brings what it needs on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Mask": "sslprune.masks",
    "Recipe": "sslprune.config",
    "compact": "sslprune.zoo.compact",
    "compile": "sslprune.runtime.engine",
    "describe": "sslprune.zoo.listing",
    "features": "sslprune.evaluate.facade",
    "finetune": "sslprune.evaluate.finetune",
    "knn_eval": "sslprune.evaluate.facade",
    "linear_eval": "sslprune.evaluate.facade",
    "list_models": "sslprune.zoo.listing",
    "load": "sslprune.zoo.load",
    "load_masks": "sslprune.zoo.load_masks",
    "save": "sslprune.zoo.save",
}

__all__ = ["__version__", *sorted(_HOMES)]

if TYPE_CHECKING:
    from sslprune.config import Recipe as Recipe
    from sslprune.evaluate.facade import features as features
    from sslprune.evaluate.facade import knn_eval as knn_eval
    from sslprune.evaluate.facade import linear_eval as linear_eval
    from sslprune.evaluate.finetune import finetune as finetune
    from sslprune.masks import Mask as Mask
    from sslprune.runtime.engine import compile as compile
    from sslprune.zoo.compact import compact as compact
    from sslprune.zoo.listing import describe as describe
    from sslprune.zoo.listing import list_models as list_models
    from sslprune.zoo.load import load as load
    from sslprune.zoo.load_masks import load_masks as load_masks
    from sslprune.zoo.save import save as save


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sslprune' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
