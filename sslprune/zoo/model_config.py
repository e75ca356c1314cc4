"""`config.json`, read as foreign data: which network the weights are for, and how pictures reach it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sslprune.errors import ManifestError
from sslprune.models import Preprocessing

CONFIG = "config.json"
MAX_SIZE = 4096
"""Pixels a side; a config that claims a larger input would only fill the memory."""


@dataclass(frozen=True)
class ModelConfig:
    """What a model's `config.json` says.

    Attributes:
        architecture: The timm name that `models.build` makes the network from; not yet known to exist.
        num_classes: Outputs of the classifier; 0 for none.
        preprocessing: Turns uint8 pictures into the model's input.
        classes: Names of the classes, one for each output; empty where they are not stated.
    """

    architecture: str
    num_classes: int
    preprocessing: Preprocessing
    classes: tuple[str, ...] = ()


def read_config(path: Path) -> ModelConfig:
    """Read and check a config.

    Raises:
        ManifestError: It is missing, is not JSON, or says something impossible.
    """
    try:
        table: dict[str, Any] = json.loads(path.read_bytes())
        architecture, num_classes = table["architecture"], table.get("num_classes", 0)
        preprocessing = Preprocessing.from_json(table["sslprune"]["preprocessing"])
        classes = table.get("label_names", [])
    except ManifestError:
        raise
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
        raise ManifestError(f"{path} is not a model's config: {error!r}", "Get the model again.") from error
    if not isinstance(architecture, str) or type(num_classes) is not int or not 0 <= num_classes <= 100_000:
        raise ManifestError(f"{path} has an impossible architecture or num_classes.", "Get the model again.")
    if not isinstance(classes, list) or not all(isinstance(each, str) for each in classes):
        raise ManifestError(f"{path} has label_names that are no list of texts.", "Get the model again.")
    if len(classes) not in (0, num_classes):
        raise ManifestError(f"{path} names {len(classes)} of {num_classes} classes.", "Get the model again.")
    if preprocessing.size > MAX_SIZE:
        raise ManifestError(f"{path} claims images of {preprocessing.size} pixels a side.", "Get the model again.")
    return ModelConfig(architecture, num_classes, preprocessing, tuple(classes))
