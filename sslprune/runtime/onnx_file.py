"""An ONNX file of ours: its bytes and what it says of itself, checked before a runtime sees it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from sslprune.errors import SparseFileError, SslpruneError
from sslprune.models.preprocess import Preprocessing
from sslprune.runtime.onnx_wire import HARMLESS, MAX_BYTES, Refused, outline
from sslprune.zoo.model_config import MAX_SIZE

VERSION = "1"
"""Of the metadata; a reader refuses any other."""

OUTPUTS = ("features", "logits")
VALUES = ("fp32", "fp16")

_PREFIX = "sslprune."
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class OnnxMetadata:
    """What a file says of itself.

    Attributes:
        name: The model's full name.
        architecture: Its timm name.
        keep: Real keep rate, kept / prunable.
        preprocessing: Turns uint8 pictures into its input.
        output: "features" or "logits": its first output.
        values: "fp32" or "fp16": how its weights are stored.
        licence: SPDX identifier of the weights' licence.
        data_terms: The terms of the data that the weights saw.
        source_sha256: Of the sparse file that it was made from.
        classes: Names in the order of the logits; empty where there are none.
    """

    name: str
    architecture: str
    keep: float
    preprocessing: Preprocessing
    output: str
    values: str
    licence: str
    data_terms: str
    source_sha256: str
    classes: tuple[str, ...] = ()


_STATED = {each.name for each in fields(OnnxMetadata)}


@dataclass(frozen=True)
class OnnxFile:
    """A file that may be run.

    Attributes:
        path: Where it was read from.
        content: Its bytes.
        metadata: What it says of itself.
    """

    path: Path
    content: bytes = field(repr=False)
    metadata: OnnxMetadata


def read_onnx(path: Path, *, decoded: int = (1 << 31) - 1) -> OnnxFile:
    """Read and check a file, in memory bounded by its size.

    Args:
        path: The file.
        decoded: How many elements its packed tensors may have, where that is known; some millions are always allowed.

    Raises:
        SparseFileError: It is missing, no ONNX file, not one of ours, or has what `onnx_wire.outline` refuses.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Refused(f"it is larger than {MAX_BYTES} bytes")
        content = path.read_bytes()
        found = outline(content)
        if found.decoded > max(decoded, HARMLESS):
            raise Refused(f"it claims packed tensors of {float(found.decoded):.3g} elements")
        metadata = _metadata(found.metadata)
    except (OSError, ValueError) as error:  # ValueError: refused, or a path with a zero byte
        raise unusable(path, str(error)) from error
    return OnnxFile(path, content, metadata)


def unusable(path: Path, why: str) -> SparseFileError:
    """The error that says why an ONNX file is not run."""
    problem = ascii(why)[1:-1][:300]
    return SparseFileError(
        f"{path} is not an ONNX file that is run here: {problem}.",
        "Get it again, or write it again: sslprune export NAME --format onnx --out PATH.",
    )


def _metadata(strings: Mapping[str, str]) -> OnnxMetadata:
    ours = {key.removeprefix(_PREFIX): text for key, text in strings.items() if key.startswith(_PREFIX)}
    try:
        if (version := ours.pop("version", "")) != VERSION:
            raise ValueError(f"it has the version {version!r}, not {VERSION!r}")
        if wrong := ours.keys() ^ (_STATED if "classes" in ours else _STATED - {"classes"}):
            raise ValueError(f"these entries are missing or unknown: {', '.join(sorted(wrong))}")
        stated: dict[str, Any] = dict(ours)
        stated["keep"] = float(ours["keep"])
        stated["preprocessing"] = Preprocessing.from_json(json.loads(ours["preprocessing"]))
        stated["classes"] = _names(json.loads(ours.get("classes", "[]")))
        metadata = OnnxMetadata(**stated)
        _check(metadata)
    except SslpruneError as error:
        raise Refused(error.problem.rstrip(".")) from error
    except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
        raise Refused(f"its metadata is impossible: {error}") from error
    return metadata


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("its classes are not a list of names")
    return tuple(value)


def _check(metadata: OnnxMetadata) -> None:
    if metadata.output not in OUTPUTS or metadata.values not in VALUES:
        raise ValueError(f"output {metadata.output!r} or values {metadata.values!r} is not known")
    if not 0 < metadata.keep <= 1:
        raise ValueError(f"keep {metadata.keep!r} is not in (0, 1]")
    if not _SHA256.fullmatch(metadata.source_sha256):
        raise ValueError("source_sha256 is not a sha256")
    if metadata.preprocessing.size > MAX_SIZE:
        raise ValueError(f"images of {metadata.preprocessing.size} pixels a side are claimed")
    for text in (metadata.name, metadata.architecture, metadata.licence, metadata.data_terms, *metadata.classes):
        if not text.isprintable():
            raise ValueError(f"{text[:50]!r} is not printable text")
