"""Write and read sparse files: pruned networks, masks and ladders as `FORMAT.md` specifies. Needs numpy alone.

>>> import tempfile
>>> path = Path(tempfile.mkdtemp()) / "sparse.safetensors"
>>> weight = np.zeros((8, 100), np.float32)
>>> weight[0, 3] = 0.5
>>> write(path, {"fc.weight": weight}, {"fc.weight": weight != 0}, metadata={"keep": "0.00125"})
>>> content = read(path)
>>> bool((content.tensors["fc.weight"] == weight).all()), content.metadata
(True, {'keep': '0.00125'})
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sslprune.errors import MaskError, SparseFileError
from sslprune.export import codec, container, layout
from sslprune.export.codec import Bools, Bytes
from sslprune.export.container import quote
from sslprune.export.layout import Kind, LadderTensor, Layout, PrunedTensor
from sslprune.export.malformed import Malformed, about
from sslprune.export.rounds import decode_rounds, encode_rounds
from sslprune.files import write_atomic

Array = NDArray[Any]
FilePath = str | PathLike[str]
Values = Literal["fp32", "fp16"]

_STORED: Mapping[Values, tuple[str, np.dtype[Any]]] = {
    "fp32": ("F32", np.dtype("<f4")),
    "fp16": ("F16", np.dtype("<f2")),
}
_AGAIN = "Nothing was loaded. Get or export the file again; its rules are in sslprune/export/FORMAT.md."
_UNWRITTEN = "Nothing was written."


@dataclass(frozen=True)
class SparseContent:
    """What a file of weights holds, decoded.

    Attributes:
        tensors: Every tensor by name, pruned ones as float32 with +0.0 where pruned; in the order of their names.
        masks: bool of the tensor's shape for each pruned tensor, True where the weight is kept.
        metadata: What the writer's caller gave.
    """

    tensors: dict[str, Array]
    masks: dict[str, Bools]
    metadata: dict[str, str]


def write(
    path: FilePath,
    tensors: Mapping[str, Array],
    masks: Mapping[str, Array],
    *,
    metadata: Mapping[str, str],
    values: Values = "fp32",
) -> None:
    """Write a network: pruned tensors as mask and kept values, all others as they are.

    The same content gives the same bytes, whatever the order of the mappings.

    Args:
        path: The destination, replaced all or nothing.
        tensors: All tensors by name. Pruned ones are float32; others may have any dtype in `container.DTYPES`.
        masks: bool of the tensor's shape, True where the weight is kept, for each tensor to be pruned; a tensor without
            one is dense.
        metadata: Strings for the reader; keys beginning with "sslprune." are the format's own.
        values: "fp32" keeps the bits of kept values; "fp16" rounds them to nearest. Dense tensors keep their dtype.

    Raises:
        MaskError: A mask has no tensor, is not bool or of another shape, or a weight outside it is not 0. (-0.0 is
            accepted there; every pruned position decodes to +0.0.)
        SparseFileError: The format cannot hold the content: a value is infinite, not a number, or too large for fp16; a
            dtype, name, shape or metadata is not allowed. Nothing was written.
        StorageError: The disk is full or not writable.
    """
    with _explained(path, _UNWRITTEN):
        if values not in _STORED:
            raise Malformed(f"values={values!r} is unknown", "Use values='fp32' or values='fp16'.")
        _check_masks(masks)
        if strays := sorted(masks.keys() - tensors.keys()):
            raise MaskError(f"there is a mask but no tensor named {strays[0]!r}.", "Give the tensor, or drop the mask.")
        pruned: dict[str, PrunedTensor] = {}
        arrays: dict[str, Array] = {}
        for name, tensor in tensors.items():
            container.check_name(name)
            tensor = np.asarray(tensor)
            _check_values(name, tensor)
            if name not in masks:
                arrays[name] = _stored(tensor)
                continue
            kept = _kept_values(name, tensor, np.asarray(masks[name]), values)
            pruned[name], arrays[f"{name}:mask"] = _encode(masks[name], _STORED[values][0])
            arrays[f"{name}:values"] = kept
        _write(path, "weights", metadata, pruned, arrays)


def read(path: FilePath) -> SparseContent:
    """Read a network; everything in the file is checked before any of it is returned.

    Raises:
        SparseFileError: The file is missing, truncated, malformed, hostile, of an unknown version, or not of weights.
    """
    with _opened(path, "weights") as (file, plan):
        tensors: dict[str, Array] = {name: _dense(file, plan, name) for name in plan.dense}
        masks: dict[str, Bools] = {}
        for name in plan.pruned:
            tensors[name], masks[name] = _decode(file, plan, name)
        return SparseContent(dict(sorted(tensors.items())), masks, plan.metadata)


def read_metadata(path: FilePath) -> dict[str, str]:
    """The metadata that the writer's caller gave, from the header alone; the file may be of any kind.

    Raises:
        SparseFileError: The file is missing, truncated, or its header is malformed or of an unknown version.
    """
    return read_layout(path).metadata


def read_layout(path: FilePath) -> Layout:
    """What the file's header says (kind, metadata, shapes, counts, codings), checked; the data is not looked at.

    Raises:
        SparseFileError: The file is missing, truncated, or its header is malformed or of an unknown version.
    """
    with _opened(path) as (_, plan):
        return plan


def write_mask(path: FilePath, masks: Mapping[str, Array], *, metadata: Mapping[str, str]) -> None:
    """Write masks without weights.

    Args:
        path: The destination, replaced all or nothing.
        masks: bool of any shape by tensor name, True where the weight is kept.
        metadata: Strings for the reader; keys beginning with "sslprune." are the format's own.

    Raises:
        MaskError: A mask is not bool.
        SparseFileError: A name, shape or metadata is not allowed. Nothing was written.
        StorageError: The disk is full or not writable.
    """
    with _explained(path, _UNWRITTEN):
        _check_masks(masks)
        pruned: dict[str, PrunedTensor] = {}
        arrays: dict[str, Array] = {}
        for name, mask in masks.items():
            container.check_name(name)
            pruned[name], arrays[f"{name}:mask"] = _encode(mask, None)
        _write(path, "masks", metadata, pruned, arrays)


def read_mask(path: FilePath) -> dict[str, Bools]:
    """The masks of a file of masks or of weights (whose values are not looked at), in the order of their names.

    Raises:
        SparseFileError: The file is missing, truncated, malformed, hostile, of an unknown version, or a ladder.
    """
    with _opened(path, "masks", "weights") as (file, plan):
        return {name: _as_mask(_where(file, plan, name), tensor) for name, tensor in plan.pruned.items()}


def write_ladder(path: FilePath, rounds: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write all nested masks of a run at once.

    Args:
        path: The destination, replaced all or nothing.
        rounds: uint8 of any shape by tensor name: the round (1 to 255) at which each weight died, 0 where it outlived
            all.
        metadata: Strings for the reader; keys beginning with "sslprune." are the format's own.

    Raises:
        MaskError: Rounds are not uint8.
        SparseFileError: A name, shape or metadata is not allowed. Nothing was written.
        StorageError: The disk is full or not writable.
    """
    with _explained(path, _UNWRITTEN):
        ladder: dict[str, LadderTensor] = {}
        arrays: dict[str, Array] = {}
        for name, died in rounds.items():
            container.check_name(name)
            if np.asarray(died).dtype != np.uint8:
                raise MaskError(
                    f"the rounds of {name!r} are {np.asarray(died).dtype}, not uint8.", "Number the rounds 1 to 255."
                )
            found, arrays[f"{name}:rounds"] = encode_rounds(np.asarray(died).reshape(-1))
            ladder[name] = LadderTensor(np.shape(died), found)
        _write(path, "ladder", metadata, ladder, arrays)


def read_ladder(path: FilePath) -> dict[str, Bytes]:
    """For each weight the round at which it died, as uint8 by tensor name; 0 where it outlived all.

    Raises:
        SparseFileError: The file is missing, truncated, malformed, hostile, of an unknown version, or not a ladder.
    """
    with _opened(path, "ladder") as (file, plan):
        ladder = {}
        for name, tensor in plan.ladder.items():
            with about(f"ladder of tensor {name!r}"):
                died = decode_rounds(tensor.rounds, _view(file, plan, f"{name}:rounds"), tensor.numel)
            ladder[name] = died.reshape(tensor.shape)
        return ladder


def _check_masks(masks: Mapping[str, Array]) -> None:
    for name, mask in masks.items():
        if np.asarray(mask).dtype != np.bool_:
            raise MaskError(f"the mask of {name!r} is {np.asarray(mask).dtype}, not bool.", "Give True where kept.")


def _check_values(name: str, tensor: Array) -> None:
    with about(f"tensor {name!r}"):
        container.dtype_name(tensor.dtype)
        if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
            raise Malformed("a value is infinite or not a number", "Look for the step at which training diverged.")


def _kept_values(name: str, tensor: Array, mask: Array, values: Values) -> Array:
    if container.dtype_name(tensor.dtype) != "F32":
        raise Malformed(f"pruned tensor {name!r} is {tensor.dtype}, not float32", "Convert it to float32 first.")
    if mask.shape != tensor.shape:
        raise MaskError(
            f"the mask of {name!r} has shape {list(mask.shape)}, its tensor {list(tensor.shape)}.",
            "Give a mask of the tensor's shape.",
        )
    if stray := int(np.count_nonzero(tensor[~mask])):
        raise MaskError(f"{stray} weights of {name!r} outside its mask are not 0.", "Apply the mask before writing.")
    kept = tensor[mask]
    with np.errstate(over="ignore"):
        stored = kept.astype(_STORED[values][1])
    if not np.isfinite(stored).all():
        raise Malformed(
            f"pruned tensor {name!r} has the value {float(np.abs(kept).max()):g}, too large for fp16 (65504)",
            "Write it with values='fp32'.",
        )
    return stored


def _encode(mask: Array, values: str | None) -> tuple[PrunedTensor, Bytes]:
    flat = np.asarray(mask).reshape(-1)
    coding, stream = codec.encode(flat)
    return PrunedTensor(np.shape(mask), int(np.count_nonzero(flat)), coding, values), stream


def _stored(tensor: Array) -> Array:
    return np.asarray(tensor, dtype=container.DTYPES[container.dtype_name(tensor.dtype)], order="C")


def _write(
    path: FilePath,
    kind: Kind,
    metadata: Mapping[str, str],
    tensors: Mapping[str, PrunedTensor | LadderTensor],
    arrays: Mapping[str, Array],
) -> None:
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise Malformed(f"metadata {key!r} is not text", "Write numbers with str(), the rest with json.dumps().")
        if key.startswith(layout.RESERVED):
            raise Malformed(f"metadata {quote(key)} is reserved", f"Name it without '{layout.RESERVED}'.")
    start, order = container.build({**metadata, **layout.own_metadata(kind, tensors)}, arrays)
    # What the reader would refuse is never written.
    layout.check(container.parse(start[8:], len(start) + sum(array.nbytes for array in arrays.values())))

    def pour(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.write(start)
            for name in order:
                file.write(arrays[name].tobytes())

    write_atomic(Path(path), pour)


@contextmanager
def _opened(path: FilePath, *kinds: Kind) -> Iterator[tuple[mmap.mmap, Layout]]:
    with _explained(path, _AGAIN):
        if not Path(path).is_file():
            raise Malformed("there is no such file", "Look at the path, or at what `sslprune list` shows.")
        with Path(path).open("rb") as stream:
            # An empty file cannot be mapped.
            if not (size := stream.seek(0, 2)):
                raise Malformed("the file is empty")
            file = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        length = container.header_bytes(file[:8], size)
        plan = layout.check(container.parse(file[8 : 8 + length], size))
        if kinds and plan.kind not in kinds:
            reader = {"weights": "read", "masks": "read_mask", "ladder": "read_ladder"}[plan.kind]
            raise Malformed(f"this is a file of kind {plan.kind!r}, not {kinds[0]!r}", f"Open it with {reader}().")
        yield file, plan


def _view(file: mmap.mmap, plan: Layout, name: str) -> Array:
    piece = plan.pieces[name]
    dtype = container.DTYPES[piece.dtype]
    count = (piece.end - piece.begin) // dtype.itemsize
    return np.frombuffer(file, dtype, count, plan.data + piece.begin) if count else np.empty(0, dtype)


def _dense(file: mmap.mmap, plan: Layout, name: str) -> Array:
    stored = _view(file, plan, name)
    with about(f"tensor {name!r}"):
        if stored.dtype.kind == "b" and stored.size and stored.view(np.uint8).max() > 1:
            raise Malformed("a bool is neither 0 nor 1")
        _check_finite(stored)
    return stored.astype(stored.dtype.newbyteorder("=")).reshape(plan.pieces[name].shape)


def _decode(file: mmap.mmap, plan: Layout, name: str) -> tuple[Array, Bools]:
    tensor = plan.pruned[name]
    kept_at = _where(file, plan, name)
    # Widened first: numpy tests and scatters float16 several times slower.
    values = _view(file, plan, f"{name}:values").astype(np.float32, copy=False)
    with about(f"pruned tensor {name!r}"):
        _check_finite(values)
    dense = np.zeros(tensor.numel, np.float32)
    dense[kept_at] = values
    return dense.reshape(tensor.shape), _as_mask(kept_at, tensor)


def _as_mask(kept_at: NDArray[np.intp], tensor: PrunedTensor) -> Bools:
    mask = np.zeros(tensor.numel, np.bool_)
    mask[kept_at] = True
    return mask.reshape(tensor.shape)


def _where(file: mmap.mmap, plan: Layout, name: str) -> NDArray[np.intp]:
    tensor = plan.pruned[name]
    with about(f"pruned tensor {name!r}"):
        return codec.decode(tensor.coding, _view(file, plan, f"{name}:mask"), tensor.numel, tensor.kept)


def _check_finite(values: Array) -> None:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise Malformed("a value is infinite or not a number")


@contextmanager
def _explained(path: FilePath, otherwise: str) -> Iterator[None]:
    try:
        yield
    except Malformed as error:
        raise SparseFileError(f"{path}: {error}.", error.hint or otherwise) from error
    except OSError as error:
        raise SparseFileError(f"{path}: {error.strerror or error}.", otherwise) from error
