"""The original CIFAR batch files: Python pickles, read without trusting them.

Unpickling can run any code. Here it can run none: only the instructions that such files use are understood, the few
globals that they name are replaced by inert stand-ins, every other is refused, and numpy's own unpickling is never
reached.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sslprune.data.source import Split
from sslprune.errors import DatasetError

_HINT = "Fetch the data set again; do not open this file with other tools if you do not know where it came from."


def rows(paths: Sequence[Path], *, size: int, label: str, classes: int) -> int:
    """How many images the batch files hold; arguments and errors as those of `read`."""
    return sum(len(_batch(path, size, label, classes)[1]) for path in paths)


def read(paths: Sequence[Path], *, size: int, label: str, classes: int) -> Split:
    """Read batch files one after the other.

    Args:
        paths: Pickles of a dict with `data`, uint8 `[N, 3*size*size]` (red, green, blue planes), and a list of labels.
        size: Height and width of the images.
        label: The key of the labels.
        classes: Labels must be in [0, classes).

    Raises:
        DatasetError: A file is no such pickle, names a forbidden global, or its arrays are not as described; the
            message names the file, and the row where a label is wrong.
    """
    batches = [_batch(path, size, label, classes) for path in paths]
    planes = np.concatenate([pixels for pixels, _ in batches]).reshape(-1, 3, size, size)
    return Split(
        np.ascontiguousarray(planes.transpose(0, 2, 3, 1)),
        np.concatenate([np.array(labels, np.int64) for _, labels in batches]),
    )


def _batch(path: Path, size: int, label: str, classes: int) -> tuple[NDArray[np.uint8], list[int]]:
    content = _load(path)
    data = content.get("data")
    labels = content.get(label)
    if not isinstance(data, _Array) or data.pixels is None or data.pixels.shape[1:] != (3 * size * size,):
        raise DatasetError(f"{path}: no `data` array of uint8 [N, {3 * size * size}].", _HINT)
    if not isinstance(labels, list) or len(labels) != len(data.pixels):
        raise DatasetError(f"{path}: no list of {len(data.pixels)} labels under {label}.", _HINT)
    for row, value in enumerate(labels):
        if type(value) is not int or not 0 <= value < classes:
            raise DatasetError(f"{path}: the label of row {row} is not a number from 0 to {classes - 1}.", _HINT)
    return data.pixels, labels


def _load(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = _Unpickler(file, encoding="bytes").load()
    except Exception as error:  # hostile pickles make the unpickler raise nearly anything
        raise DatasetError(
            f"{path}: not a readable batch file ({type(error).__name__}: {error!s:.200}).", _HINT
        ) from error
    if not isinstance(content, _Record):
        raise DatasetError(f"{path}: not a batch file: it holds no dict.", _HINT)
    return content


class _Record(dict[str, Any]):
    """A dict with texts for keys only: hashing a tuple of a million nested tuples would crash the interpreter."""

    def __setitem__(self, key: object, value: Any) -> None:
        if not isinstance(key, str | bytes):
            raise pickle.UnpicklingError("a dict with keys that are no texts")
        super().__setitem__(key.decode("latin1") if isinstance(key, bytes) else key, value)


class _Array:
    """Stands in for `numpy.ndarray` while its pickled state is checked."""

    __slots__ = ("pixels",)

    def __init__(self) -> None:
        self.pixels: NDArray[np.uint8] | None = None

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _Dtype) or fortran or not all(type(side) is int and side >= 0 for side in shape):
            raise pickle.UnpicklingError("an array that is not of C-ordered uint8")
        if not isinstance(raw, str | bytes):
            raise pickle.UnpicklingError("an array without content")
        content = raw.encode("latin1") if isinstance(raw, str) else raw
        if math.prod(shape) != len(content):
            raise pickle.UnpicklingError("an array whose shape does not fit its content")
        self.pixels = np.frombuffer(content, np.uint8).reshape(shape)


class _Dtype:
    """Stands in for `numpy.dtype`; only uint8 is let in."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        """The byte order of single bytes: nothing to keep."""


class _Call:
    """Stands in for one of the globals; itself immutable, so that no pickle can alter it for the next."""

    __slots__ = ("_name",)
    _name: str

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_name", name)

    def __setattr__(self, name: str, value: object) -> None:
        raise pickle.UnpicklingError("a pickle that alters a global")

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("a pickle that alters a global")

    def __call__(self, *arguments: Any) -> Any:
        match self._name, arguments:
            case "_reconstruct", (_Call(), (0,), _):
                return _Array()
            case "dtype", ("u1" | "uint8" | "|u1" | b"u1", *_):
                return _Dtype()
            case "encode", (str(text), "latin1"):
                return text.encode("latin1")
        raise pickle.UnpicklingError(f"a call of {self._name} that no batch file makes")


_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"): _Call("_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"): _Call("_reconstruct"),
    ("numpy", "ndarray"): _Call("ndarray"),
    ("numpy", "dtype"): _Call("dtype"),
    ("_codecs", "encode"): _Call("encode"),
}


_INSTRUCTIONS = """
    PROTO FRAME STOP MARK GLOBAL STACK_GLOBAL REDUCE BUILD NONE NEWTRUE NEWFALSE BININT BININT1 BININT2
    BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BINUNICODE SHORT_BINUNICODE BINUNICODE8
    EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 TUPLE EMPTY_LIST APPEND APPENDS SETITEM SETITEMS
    BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET
"""


def _load_empty_dict(unpickler: Any) -> None:
    unpickler.append(_Record())


# The unpickler in Python, not the one in C: its memo is a dict, where the other's is an array that a five-byte
# instruction makes as long as it likes; and its instructions can be chosen.
class _Unpickler(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **{
            code: pickle._Unpickler.dispatch[code]
            for code in (getattr(pickle, name)[0] for name in _INSTRUCTIONS.split())
        },
        pickle.EMPTY_DICT[0]: _load_empty_dict,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _GLOBALS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names the forbidden global {module}.{name}") from None
