"""A second decoder, from FORMAT.md alone. What it says of a file, `sslprune.export.sparse_file` must say, too."""

import json
import math
import re
import zlib

import numpy as np

TYPES = {"BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4"}
VALUES = {"F16": "<f2", "F32": "<f4"}
TYPES |= {"U64": "<u8", "I64": "<i8", "F64": "<f8", **VALUES}
MEMBERS = {"weights": {"shape", "kept", "coding", "values"}, "masks": {"shape", "kept", "coding"}}
MEMBERS["ladder"] = {"shape", "rounds", "alive"}
NAME = r"(?!__metadata__\Z)(?=.{1,255}\Z)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*"

NARROW = {
    "object_pairs_hook": lambda pairs: must(len(dict(pairs)) == len(pairs)) or dict(pairs),
    "parse_int": lambda digits: must(re.fullmatch("[0-9]{1,15}", digits)) or int(digits),
}


def decode(file: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """All tensors (masks as "name:mask") and the caller's metadata; any exception means that the file is refused."""
    length = int.from_bytes(file[:8], "little")
    must(len(file) >= 8 + length, 8 <= length <= 4 << 20, length % 8 == 0)
    header, data, reached, pieces = strict(file[8 : 8 + length].decode().rstrip(" ")), file[8 + length :], 0, {}
    about = header.pop("__metadata__")
    for name, piece in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        (begin, end), shape, dtype = piece["data_offsets"], piece["shape"], np.dtype(TYPES[piece["dtype"]])
        must(len(piece) == 3, {type(begin), type(end)} == {int}, reached == begin, begin % dtype.itemsize == 0)
        must(end - begin == numel(shape) * dtype.itemsize, end <= len(data))
        pieces[name], reached = np.frombuffer(data[begin:end], dtype).reshape(shape), end
    pruned, kind = strict(about["sslprune.pruned"]), about["sslprune.kind"]
    own = {"format": "sslprune-sparse", "version": "1", "kind": kind, "pruned": about["sslprune.pruned"]}
    must(own == {key[9:]: value for key, value in about.items() if key[:9] == "sslprune."}, reached == len(data))
    decoded, members = {}, MEMBERS[kind]
    for name, told in pruned.items():
        must(re.fullmatch(NAME, name), name not in pieces, told.keys() == members)
        shape, stream = told["shape"], pieces.pop(f"{name}:rounds" if kind == "ladder" else f"{name}:mask")
        must(stream.dtype == "u1", stream.ndim == 1)
        if kind == "ladder":
            decoded[name] = rounds_of(told["rounds"], told["alive"], stream, numel(shape)).reshape(shape)
        else:
            decoded[f"{name}:mask"] = mask_of(told["coding"], told["kept"], stream, numel(shape)).reshape(shape)
        if kind == "weights":
            values, decoded[name] = pieces.pop(f"{name}:values"), np.zeros(shape, np.float32)
            decoded[name][decoded[f"{name}:mask"]] = values_of(told["values"], told["kept"], values)
    must(all(re.fullmatch(NAME, name) for name in pieces), kind == "weights" or not pieces)
    must(all(array.view("u1").max(initial=0) <= 1 for array in pieces.values() if array.dtype == bool))
    must({*map(type, about.values())} == {str}, np.all([np.isfinite(a).all() for a in (decoded | pieces).values()]))
    must(sum(numel(told["shape"]) for told in pruned.values()) + sum(a.size for a in pieces.values()) < 2**31)
    return decoded | pieces, {key: value for key, value in about.items() if key[:9] != "sslprune."}


def values_of(coding, kept, piece):
    dtype = np.dtype(VALUES[coding.removesuffix("-deflate")])
    if coding not in VALUES:
        split = (dtype.itemsize - 1) * kept
        must(piece.dtype == "u1", piece.ndim == 1, len(piece) <= split + kept)
        piece = np.concatenate([piece[:split], inflated(piece[split:])]).reshape(-1, kept).T.reshape(-1).view(dtype)
    must(piece.dtype == dtype, piece.shape == (kept,))
    return piece


def mask_of(coding, kept, stream, numel):
    if coding == "bitmask":
        bits = np.unpackbits(stream, bitorder="little")
    else:
        must(coding in ("gap8", "gap8-deflate"), len(stream) <= kept + (numel - kept) // 255)
        gaps = stream if coding == "gap8" else inflated(stream)
        ends = np.cumsum(np.minimum(gaps + np.int64(1), 255))  # an escape stands for 255 weights, not for 256
        must(0 <= numel - ends[-1:].sum() < 255)
        bits = np.bincount(ends[gaps != 255] - 1, minlength=numel)
    must(type(kept) is int, 0 <= len(bits) - numel < 8, bits.sum() == kept, bits[numel:].sum() == 0)
    return bits[:numel] == 1


def inflated(stream):
    unpacker = zlib.decompressobj(-15)
    plain = unpacker.decompress(stream.tobytes(), 8 * len(stream) + 1)
    must(unpacker.eof, not unpacker.unused_data, len(plain) <= 8 * len(stream))
    return np.frombuffer(plain, "u1")


def rounds_of(rounds, alive, stream, numel):
    must(rounds == sorted(set(rounds) & set(range(1, 256))), {type(number) for number in rounds} <= {int})
    must(type(alive) is list, bool(rounds) == bool(numel), numel <= 8 * len(stream))
    died, living = np.zeros(numel, np.uint8), np.arange(numel)
    for number, left in zip(rounds, alive, strict=True):
        width = -(-len(living) // 8)
        lives, stream = mask_of("bitmask", left, stream[:width], len(living)), stream[width:]
        died[living[~lives]], living = number, living[lives]
    must(len(stream) == 0)
    return died


def numel(shape):
    must(type(shape) is list, len(shape) <= 8, {*map(type, shape)} <= {int}, math.prod(filter(None, shape)) < 2**31)
    return math.prod(shape)


def strict(text):
    must(text[0] == "{", text[-1] == "}")
    value = json.loads(text, **NARROW)
    json.dumps(value, ensure_ascii=False).encode()  # fails at an unpaired surrogate
    return value


def must(*rules):
    if not all(rules):
        raise ValueError("refused")
