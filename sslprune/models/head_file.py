"""The file of a linear probe, `head-{task}.safetensors`: what it may hold, and reading it with numpy alone.

It is a safetensors file with four float32 tensors, `mean` [D], `std` [D], `weight` [C,D] and `bias` [C], and one
metadata entry `sslprune`: a JSON object that says on which stage and pool size the probe sits, and what its classes are
called. `sslprune.models.head` makes a module of it; writing is in `sslprune.evaluate.head`.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from sslprune.errors import SparseFileError

POOLED = "pooled"
"""The stage name for what the network itself pools."""

VERSION = 1
"""Of the head file; a reader refuses any other."""

METADATA = "sslprune"
"""The metadata entry that holds the JSON object."""

TENSORS = ("bias", "mean", "std", "weight")

_MAX_HEADER = 4 << 20
_FIELDS = frozenset({"version", "task", "stage", "pool", "classes", "l2", "held_out", "converged"})
_TASK = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""All that foreign JSON can make the reading below raise."""


@dataclass(frozen=True, eq=False)
class HeadFile:
    """What a head file says; attributes as those of `sslprune.models.head.Head` and `Probe`, arrays for tensors."""

    task: str
    stage: str
    pool: int
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    l2: float
    classes: tuple[str, ...]
    held_out: float
    converged: bool


def head_filename(task: str) -> str:
    """The file name of a task's head.

    Raises:
        SparseFileError: The task's name would not make a plain file name.

    >>> head_filename("cifar10")
    'head-cifar10.safetensors'
    """
    if not isinstance(task, str) or not _TASK.fullmatch(task):
        raise SparseFileError(
            f"{task!r} cannot name a head.", "Use 1 to 64 lower-case letters, digits, dots, hyphens and underscores."
        )
    return f"head-{task}.safetensors"


def read_head_file(path: Path) -> HeadFile:
    """Read a head file, all or nothing; what its header claims takes no memory that the file's size does not bear out.

    Raises:
        SparseFileError: The file is missing, truncated or malformed, says something impossible, or holds a number
            that is not finite.
    """
    path = Path(path)
    try:
        metadata, arrays = _read_container(path)
    except _UNREADABLE as error:
        problem = ascii(str(error))[1:-1][:200]  # may quote foreign text
        raise SparseFileError(f"{path} is no head file: {problem}", "Fetch or write it again.") from error
    fields = _fields(path, metadata)
    del fields["version"]
    head = HeadFile(**fields | arrays | {"classes": tuple(fields["classes"])})
    check_head_file(head, path)
    return head


def check_head_file(head: HeadFile, path: Path) -> None:
    """Refuse a head that no file may hold: shapes that do not fit, a number that is not finite, and the like.

    Args:
        head: The head.
        path: The file that the message names.

    Raises:
        SparseFileError: It is such a head.
    """
    head_filename(head.task)
    if not _is_text(head.stage) or not head.stage or type(head.pool) is not int or head.pool < 1:
        refuse(path, f"stage {head.stage!r} with pool {head.pool!r} is no place on a network")
    if len(set(head.classes)) != len(head.classes) or not all(map(_is_text, head.classes)):
        refuse(path, "its classes are not distinct names")
    wide, many = head.mean.size, len(head.classes)
    shapes = {"mean": (wide,), "std": (wide,), "weight": (many, wide), "bias": (many,)}
    for name, shape in shapes.items():
        array: NDArray[np.float32] = getattr(head, name)
        if array.shape != shape or array.size == 0:
            refuse(path, f"{name} has the shape {array.shape}, not {shape}")
        if not np.isfinite(array).all():
            refuse(path, f"{name} holds a number that is not finite")
    if not (head.std > 0).all():
        refuse(path, "std is not positive everywhere")
    if not _is_number(head.l2) or head.l2 < 0 or not _is_number(head.held_out) or not 0 <= head.held_out <= 100:
        refuse(path, f"l2 {head.l2!r} or held_out {head.held_out!r} is impossible")
    if type(head.converged) is not bool:
        refuse(path, f"converged is {head.converged!r}, not true or false")


def refuse(path: Path, why: str) -> NoReturn:
    """Raise the SparseFileError that says why a head file cannot be used."""
    raise SparseFileError(f"{path} is no head file that can be used: {why}.", "Fetch or write it again.")


def _read_container(path: Path) -> tuple[Any, dict[str, NDArray[np.float32]]]:
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= min(_MAX_HEADER, size - 8):
            raise ValueError(f"its header claims {length} bytes, the file has {size}")
        header = json.loads(file.read(length), object_pairs_hook=_unique)
        metadata = header.pop("__metadata__", {})
        if sorted(header) != sorted(TENSORS):
            raise ValueError(f"it holds {len(header)} tensors ({', '.join(header)}), not {', '.join(TENSORS)}")
        _check_cover([header[name]["data_offsets"] for name in TENSORS], size - 8 - length)
        data = file.read()
    return metadata, {name: _array(name, header[name], data) for name in TENSORS}


def _check_cover(offsets: list[list[int]], data_bytes: int) -> None:
    reached = 0
    for begin, end in sorted(offsets):
        if type(begin) is not int or type(end) is not int or begin != reached or end < begin:
            raise ValueError(f"its tensors do not lie one behind the other: {begin} to {end} after {reached}")
        reached = end
    if reached != data_bytes:
        raise ValueError(f"its tensors take {reached} bytes, the file has {data_bytes}")


def _array(name: str, member: dict[str, Any], data: bytes) -> NDArray[np.float32]:
    shape, (begin, end) = member["shape"], member["data_offsets"]
    if member["dtype"] != "F32":
        raise ValueError(f"{name} is {member['dtype']}, not F32")
    if not all(type(length) is int and length >= 0 for length in shape) or math.prod(shape) * 4 != end - begin:
        raise ValueError(f"{name} of shape {shape} does not take the bytes {begin} to {end}")
    return np.frombuffer(data, "<f4", (end - begin) // 4, begin).reshape(shape).astype(np.float32)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("its header says something twice")
    return members


def _fields(path: Path, metadata: Any) -> dict[str, Any]:
    try:
        fields = json.loads(metadata[METADATA])
    except _UNREADABLE as error:
        raise SparseFileError(f"{path} has no readable {METADATA} metadata.", "Fetch or write it again.") from error
    if not isinstance(fields, dict) or fields.get("version") != VERSION:
        refuse(path, f"it is not of version {VERSION}")
    if fields.keys() != _FIELDS:
        refuse(path, f"these fields are missing or unknown: {', '.join(sorted(fields.keys() ^ _FIELDS))[:200]!a}")
    if not isinstance(fields["classes"], list) or not all(map(_is_text, fields["classes"])):
        refuse(path, "its classes are not a list of names")
    return fields


def _is_text(value: object) -> bool:
    """Whether it is text that can be printed and stored: no half of a surrogate pair."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
