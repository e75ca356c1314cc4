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

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sslprune.errors import MaskError
from sslprune.export import codec, container, layout
from sslprune.export.codec import Bools
from sslprune.export.container import quote
from sslprune.export.deflate import Bytes, sparse_enough
from sslprune.export.layout import Kind, LadderTensor, Layout, PrunedTensor
from sslprune.export.malformed import UNWRITTEN, FilePath, Malformed, about, explained
from sslprune.export.mapped import Mapped, opened
from sslprune.export.rounds import decode_rounds, encode_rounds
from sslprune.export.values import DTYPES, PlainValues, ValueCoding, decode_values, encode_values
from sslprune.files import write_atomic

Array = NDArray[Any]
Values = Literal["fp32", "fp16"]

_PLAIN: Mapping[Values, PlainValues] = {"fp32": "F32", "fp16": "F16"}


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
    with explained(path, UNWRITTEN):
        if values not in _PLAIN:
            raise Malformed(f"values={values!r} is unknown", "Use values='fp32' or values='fp16'.")
        _check_masks(masks)
        if strays := sorted(masks.keys() - tensors.keys()):
            raise MaskError(f"there is a mask but no tensor named {strays[0]!r}.", "Give the tensor, or drop the mask.")
        may_deflate = _sparse_enough(masks)
        pruned: dict[str, PrunedTensor] = {}
        arrays: dict[str, Array] = {}
        for name, tensor in tensors.items():
            container.check_name(name)
            tensor = np.asarray(tensor)
            _check_values(name, tensor)
            if name not in masks:
                arrays[name] = _stored(tensor)
                continue
            kept = _kept_values(name, tensor, np.asarray(masks[name]), _PLAIN[values])
            coding, arrays[f"{name}:values"] = encode_values(kept, _PLAIN[values], may_deflate=may_deflate)
            pruned[name], arrays[f"{name}:mask"] = _encode(masks[name], coding, may_deflate)
        _write(path, "weights", metadata, pruned, arrays)


@dataclass(frozen=True)
class SparseInfo:
    """What a file of weights holds beside the tensors.

    Attributes:
        masks: bool of the tensor's shape for each pruned tensor, True where the weight is kept.
        metadata: What the writer's caller gave.
    """

    masks: dict[str, Bools]
    metadata: dict[str, str]


def read(path: FilePath) -> SparseContent:
    """Read a network; everything in the file is checked before any of it is returned.

    Raises:
        SparseFileError: The file is missing, truncated, malformed, hostile, of an unknown version, or not of weights.
    """
    with opened(path, "weights") as file:
        tensors: dict[str, Array] = {name: np.empty(shape, dtype) for name, (dtype, shape) in file.plan.tensors.items()}
        return SparseContent(tensors, _fill(file, tensors), file.plan.metadata)


def read_into(path: FilePath, targets: Mapping[str, Array]) -> SparseInfo:
    """Decode a network straight into arrays that exist already, such as views of a module's parameters.

    Names, shapes and dtypes are checked from the header before anything is written. The data is checked while it is
    decoded, so if this raises because of it, the content of the targets is undefined: throw them away.

    Args:
        path: A file of weights.
        targets: For every tensor of the file, and no other, a writable array in C order, of its shape, and of its
            dtype or a wider one that numpy calls safe to cast to (float64 for float32).

    Raises:
        SparseFileError: The file is missing, truncated, malformed, hostile, of an unknown version, not of weights, or
            its tensors are not those of the targets.
        ValueError: A target is read-only or not in C order.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "sparse.safetensors"
    >>> write(path, {"w": np.array([0.0, 2.0], np.float32)}, {"w": np.array([False, True])}, metadata={})
    >>> target = np.array([7.0, 7.0], np.float32)
    >>> read_into(path, {"w": target}).masks["w"], target
    (array([False,  True]), array([0., 2.], dtype=float32))
    """
    for name, target in targets.items():
        if not (target.flags.c_contiguous and target.flags.writeable):
            raise ValueError(f"the target of {name!r} is read-only or not in C order")
    with opened(path, "weights") as file:
        _check_targets(file.plan, targets)
        return SparseInfo(_fill(file, targets), file.plan.metadata)


def read_metadata(path: FilePath) -> dict[str, str]:
    """The metadata that the writer's caller gave, from the header alone; the file may be of any kind.

    Raises:
        SparseFileError: The file is missing, truncated, or its header is malformed or of an unknown version.
    """
    return read_layout(path).metadata


def read_layout(path: FilePath, *kinds: Kind) -> Layout:
    """What the file's header says (kind, metadata, shapes, counts, codings), checked; the data is not looked at.

    Args:
        path: The file.
        *kinds: The kinds that the caller can use; none for all.

    Raises:
        SparseFileError: The file is missing, truncated, of none of these kinds, or its header is malformed or of an
            unknown version.
    """
    with opened(path, *kinds) as file:
        return file.plan


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
    with explained(path, UNWRITTEN):
        _check_masks(masks)
        may_deflate = _sparse_enough(masks)
        pruned: dict[str, PrunedTensor] = {}
        arrays: dict[str, Array] = {}
        for name, mask in masks.items():
            container.check_name(name)
            pruned[name], arrays[f"{name}:mask"] = _encode(mask, None, may_deflate)
        _write(path, "masks", metadata, pruned, arrays)


def read_mask(path: FilePath) -> dict[str, Bools]:
    """The masks of a file of masks or of weights (whose values are not looked at), in the order of their names.

    Raises:
        SparseFileError: The file is missing, truncated, malformed, hostile, of an unknown version, or a ladder.
    """
    with opened(path, "masks", "weights") as file:
        return {name: _mask(file, name) for name in file.plan.pruned}


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
    with explained(path, UNWRITTEN):
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
    with opened(path, "ladder") as file:
        return {name: _ladder(file, name) for name in file.plan.ladder}


def _check_masks(masks: Mapping[str, Array]) -> None:
    for name, mask in masks.items():
        if np.asarray(mask).dtype != np.bool_:
            raise MaskError(f"the mask of {name!r} is {np.asarray(mask).dtype}, not bool.", "Give True where kept.")


def _check_values(name: str, tensor: Array) -> None:
    with about(f"tensor {name!r}"):
        container.dtype_name(tensor.dtype)
        if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
            raise Malformed("a value is infinite or not a number", "Look for the step at which training diverged.")


def _kept_values(name: str, tensor: Array, mask: Array, plain: PlainValues) -> Array:
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
        stored = kept.astype(DTYPES[plain])
    if not np.isfinite(stored).all():
        raise Malformed(
            f"pruned tensor {name!r} has the value {float(np.abs(kept).max()):g}, too large for fp16 (65504)",
            "Write it with values='fp32'.",
        )
    return stored


def _sparse_enough(masks: Mapping[str, Array]) -> bool:
    counts = [(np.count_nonzero(mask), np.size(mask)) for mask in masks.values()]
    return sparse_enough(sum(int(kept) for kept, _ in counts), sum(numel for _, numel in counts))


def _encode(mask: Array, values: ValueCoding | None, may_deflate: bool) -> tuple[PrunedTensor, Bytes]:
    flat = np.asarray(mask).reshape(-1)
    coding, stream = codec.encode(flat, may_deflate=may_deflate)
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


def _check_targets(plan: Layout, targets: Mapping[str, Array]) -> None:
    if different := plan.tensors.keys() ^ targets.keys():
        one = min(different)
        raise Malformed(f"tensor {one!r} is {'not asked for' if one in plan.tensors else 'missing'}")
    for name, (dtype, shape) in plan.tensors.items():
        target = targets[name]
        if shape != target.shape or not np.can_cast(
            dtype, target.dtype
        ):  # narrowing could make a finite number infinite
            raise Malformed(
                f"tensor {name!r} is {dtype} of shape {list(shape)}, "
                f"which does not go into {target.dtype} of shape {list(target.shape)}"
            )


def _fill(file: Mapped, targets: Mapping[str, Array]) -> dict[str, Bools]:
    """Decode every tensor into its target, and give the masks back."""
    for name in file.plan.dense:
        with about(f"tensor {name!r}"):
            _copy(file.piece(name), targets[name].reshape(-1))
    masks = {}
    for name in file.plan.pruned:
        with about(f"pruned tensor {name!r}"):
            masks[name] = _scatter(file, name, targets[name].reshape(-1))
    return masks


def _copy(stored: Array, target: Array) -> None:
    if stored.dtype.kind == "b" and stored.size and stored.view(np.uint8).max() > 1:
        raise Malformed("a bool is neither 0 nor 1")
    _check_finite(stored)
    target[...] = stored


def _scatter(file: Mapped, name: str, target: Array) -> Bools:
    tensor = file.plan.pruned[name]
    assert tensor.values is not None  # in a file of weights
    values = decode_values(tensor.values, file.piece(f"{name}:values"), tensor.kept)
    _check_finite(values)
    mask, kept_at = _where(file, name)
    target.fill(0)
    # Scattering to indices is ten times as fast as assigning through a bool mask.
    target[np.flatnonzero(mask) if kept_at is None else kept_at] = values
    return mask.reshape(tensor.shape)


def _mask(file: Mapped, name: str) -> Bools:
    with about(f"pruned tensor {name!r}"):
        return _where(file, name)[0].reshape(file.plan.pruned[name].shape)


def _where(file: Mapped, name: str) -> tuple[Bools, NDArray[np.intp] | None]:
    """The mask, flat, and the indices of the kept weights where the coding tells them."""
    tensor, stream = file.plan.pruned[name], file.piece(f"{name}:mask")
    if tensor.coding == "bitmask":
        return codec.unpack(stream, tensor.numel, tensor.kept), None
    kept_at = codec.decode(tensor.coding, stream, tensor.numel, tensor.kept)
    mask = np.zeros(tensor.numel, np.bool_)
    mask[kept_at] = True
    return mask, kept_at


def _ladder(file: Mapped, name: str) -> Bytes:
    tensor = file.plan.ladder[name]
    with about(f"ladder of tensor {name!r}"):
        return decode_rounds(tensor.rounds, file.piece(f"{name}:rounds"), tensor.numel).reshape(tensor.shape)


def _check_finite(values: Array) -> None:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise Malformed("a value is infinite or not a number")
