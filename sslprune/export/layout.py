"""What a sparse file's header promises, checked before any data is looked at: `FORMAT.md`, sections 2 to 6."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from sslprune.export import container
from sslprune.export.codec import Coding, check_length
from sslprune.export.container import Header, Piece, compact_json, quote
from sslprune.export.malformed import Malformed, about
from sslprune.export.rounds import Rounds
from sslprune.export.values import ValueCoding, check_values

FORMAT = "sslprune-sparse"
VERSION = "1"
RESERVED = "sslprune."

Kind = Literal["weights", "masks", "ladder"]

_MEMBERS: Mapping[Kind, frozenset[str]] = {
    "weights": frozenset({"shape", "kept", "coding", "values"}),
    "masks": frozenset({"shape", "kept", "coding"}),
    "ladder": frozenset({"shape", "rounds", "alive"}),
}
_KEYS = frozenset(RESERVED + key for key in ("format", "version", "kind", "pruned"))


@dataclass(frozen=True)
class PrunedTensor:
    """A mask and, in a file of weights, its values: how each is coded (`values` is None in a file of masks)."""

    shape: tuple[int, ...]
    kept: int
    coding: Coding
    values: ValueCoding | None = None

    @property
    def numel(self) -> int:
        """How many weights the tensor has, kept or not."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class LadderTensor:
    """For each weight the round at which it died."""

    shape: tuple[int, ...]
    rounds: Rounds

    @property
    def numel(self) -> int:
        """How many weights the tensor has."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """A checked header: what the file holds, and in which bytes.

    Attributes:
        kind: What sort of file it is.
        metadata: The caller's metadata, without the format's own.
        pruned: Masks, with or without values, by tensor name; empty in a ladder.
        ladder: Rounds by tensor name; empty in the other kinds.
        dense: Names of the tensors that are stored as they are.
        pieces: The arrays in the container, by piece name.
        data: The offset in the file at which their bytes begin.
    """

    kind: Kind
    metadata: dict[str, str]
    pruned: dict[str, PrunedTensor]
    ladder: dict[str, LadderTensor]
    dense: tuple[str, ...]
    pieces: dict[str, Piece]
    data: int

    @property
    def tensors(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Dtype and shape of every tensor that a file of weights decodes to, in the order of their names."""
        decoded = {name: (np.dtype(np.float32), tensor.shape) for name, tensor in self.pruned.items()}
        for name in self.dense:
            decoded[name] = container.DTYPES[self.pieces[name].dtype].newbyteorder("="), self.pieces[name].shape
        return dict(sorted(decoded.items()))


def own_metadata(kind: Kind, tensors: Mapping[str, PrunedTensor | LadderTensor]) -> dict[str, str]:
    """The format's own metadata for these tensors."""
    descriptions = {name: _describe(tensor) for name, tensor in sorted(tensors.items())}
    own = {"format": FORMAT, "version": VERSION, "kind": kind, "pruned": compact_json(descriptions)}
    return {RESERVED + key: value for key, value in own.items()}


def check(header: Header) -> Layout:
    """Read a header's meaning.

    Raises:
        Malformed: It breaks a rule of sections 2 to 6 that can be decided without the data.
    """
    kind = _kind(header.metadata)
    caller = {key: value for key, value in header.metadata.items() if not key.startswith(RESERVED)}
    pruned: dict[str, PrunedTensor] = {}
    ladder: dict[str, LadderTensor] = {}
    left = dict(header.pieces)
    descriptions = container.json_object(header.metadata[RESERVED + "pruned"], f"metadata '{RESERVED}pruned'")
    for name, members in sorted(descriptions.items()):
        container.check_name(name)
        if not isinstance(members, dict) or members.keys() != _MEMBERS[kind]:
            raise Malformed(f"pruned tensor {quote(name)} is not described by {_and(_MEMBERS[kind])} alone")
        if kind == "ladder":
            ladder[name] = _ladder(name, members, left)
        else:
            pruned[name] = _pruned(name, members, left)
    dense = tuple(sorted(left))
    for name in dense:
        _check_dense(name, kind, descriptions)
    _check_total([*pruned.values(), *ladder.values()], [left[name] for name in dense])
    return Layout(kind, caller, pruned, ladder, dense, header.pieces, header.data)


def _kind(metadata: Mapping[str, str]) -> Kind:
    found, version = metadata.get(RESERVED + "format"), metadata.get(RESERVED + "version")
    if found != FORMAT:
        raise Malformed(
            f"not a sparse file: '{RESERVED}format' is {quote(found) if found else 'missing'}",
            "Open an ordinary safetensors file with the safetensors library.",
        )
    if version != VERSION:
        raise Malformed(
            f"version {quote(version or '')} of the format is unknown; this reader knows {VERSION}",
            "Try a newer sslprune: pip install --upgrade sslprune",
        )
    reserved = {key for key in metadata if key.startswith(RESERVED)}
    if wrong := reserved ^ _KEYS:
        one = min(wrong)
        raise Malformed(f"metadata {quote(one)} is {'unknown' if one in reserved else 'missing'}")
    for kind in get_args(Kind):
        if metadata[RESERVED + "kind"] == kind:
            known: Kind = kind
            return known
    raise Malformed(f"unknown kind of file: {quote(metadata[RESERVED + 'kind'])}")


def _pruned(name: str, members: Mapping[str, Any], left: dict[str, Piece]) -> PrunedTensor:
    what = f"pruned tensor {quote(name)}"
    shape, kept, coding, values = (members.get(key) for key in ("shape", "kept", "coding", "values"))
    tensor = PrunedTensor(container.shape_of(shape, what), kept, coding, values)  # type: ignore[arg-type]
    if type(kept) is not int or kept > tensor.numel:
        raise Malformed(f"{what} claims to keep {quote(str(kept))} of {tensor.numel} weights")
    if coding not in get_args(Coding):
        raise Malformed(f"{what} has the unknown coding {quote(str(coding))}")
    mask = _take(name, "mask", left)
    with about(what):
        check_length(tensor.coding, _length(mask), tensor.numel, kept)
    if "values" in members:
        if tensor.values is None or tensor.values not in get_args(ValueCoding):
            raise Malformed(f"{what} has values of the unknown coding {quote(str(values))}")
        piece = _take(name, "values", left)
        with about(what):
            check_values(tensor.values, piece.dtype, piece.shape, kept)
    return tensor


def _ladder(name: str, members: Mapping[str, Any], left: dict[str, Piece]) -> LadderTensor:
    what = f"ladder of tensor {quote(name)}"
    for key in ("rounds", "alive"):
        if not isinstance(members[key], list) or not all(type(number) is int for number in members[key]):
            raise Malformed(f"{what} has {key} that are not a list of numbers")
    tensor = LadderTensor(
        container.shape_of(members["shape"], what), Rounds(tuple(members["rounds"]), tuple(members["alive"]))
    )
    piece = _take(name, "rounds", left)
    with about(what):
        tensor.rounds.check(tensor.numel)
        if (length := _length(piece)) != (asked := sum(tensor.rounds.bytes_each(tensor.numel))):
            raise Malformed(f"{length} bytes where its rounds ask for {asked}")
    return tensor


def _take(name: str, part: str, left: dict[str, Piece]) -> Piece:
    try:
        return left.pop(f"{name}:{part}")
    except KeyError:
        raise Malformed(f"pruned tensor {quote(name)} lacks its piece '{name}:{part}'") from None


def _length(piece: Piece) -> int:
    if piece.dtype != "U8" or len(piece.shape) != 1:
        raise Malformed(f"the mask is stored as {piece.dtype} with {len(piece.shape)} axes, not as U8 with 1")
    return piece.shape[0]


def _check_dense(name: str, kind: Kind, descriptions: Mapping[str, object]) -> None:
    if ":" in name:
        raise Malformed(f"no pruned tensor asks for the piece {quote(name)}")
    container.check_name(name)
    if name in descriptions:
        raise Malformed(f"tensor {quote(name)} is there twice: pruned and dense")
    if kind != "weights":
        raise Malformed(f"a file of {kind} holds the dense tensor {quote(name)}")


def _check_total(tensors: list[PrunedTensor | LadderTensor], dense: list[Piece]) -> None:
    total = sum(tensor.numel for tensor in tensors) + sum(math.prod(piece.shape) for piece in dense)
    if total > container.MAX_NUMEL:
        raise Malformed(f"its tensors claim {total} elements in all; the limit is {container.MAX_NUMEL}")


def _describe(tensor: PrunedTensor | LadderTensor) -> dict[str, object]:
    if isinstance(tensor, LadderTensor):
        return {
            "shape": list(tensor.shape),
            "rounds": list(tensor.rounds.rounds),
            "alive": list(tensor.rounds.alive),
        }
    values = {} if tensor.values is None else {"values": tensor.values}
    return {"shape": list(tensor.shape), "kept": tensor.kept, "coding": tensor.coding} | values


def _and(words: frozenset[str]) -> str:
    return ", ".join(sorted(words))
