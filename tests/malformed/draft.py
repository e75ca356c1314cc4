"""A valid file taken to pieces, to be spoiled and put together again."""

from __future__ import annotations

import json
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sslprune.export import sparse_file


@dataclass
class Draft:
    """The parts of a file.

    Attributes:
        about: The metadata, without the descriptions of the tensors.
        pruned: These descriptions, by tensor.
        entries: The header's entries, by piece.
        data: What follows the header.
    """

    about: dict[str, Any]
    pruned: Any
    entries: dict[str, Any]
    data: bytearray

    @classmethod
    def of(cls, file: bytes) -> Draft:
        """Take a valid file to pieces."""
        (length,) = struct.unpack("<Q", file[:8])
        entries = json.loads(file[8 : 8 + length])
        about = entries.pop("__metadata__")
        return cls(about, json.loads(about.pop("sslprune.pruned")), entries, bytearray(file[8 + length :]))

    def text(self) -> str:
        """The header's JSON."""
        about = self.about | ({} if self.pruned is None else {"sslprune.pruned": json.dumps(self.pruned)})
        return json.dumps({"__metadata__": about} | self.entries)

    def file(self) -> bytes:
        """The whole file."""
        return assemble(self.text().encode(), self.data)

    def put(self, piece: str, at: int, content: bytes) -> None:
        """Overwrite bytes of a piece."""
        begin, end = self.entries[piece]["data_offsets"]
        assert 0 <= at <= at + len(content) <= end - begin
        self.data[begin + at : begin + at + len(content)] = content

    def content(self, piece: str) -> bytes:
        """The bytes of a piece."""
        begin, end = self.entries[piece]["data_offsets"]
        return bytes(self.data[begin:end])

    def resize(self, piece: str, content: bytes) -> None:
        """Give a piece of bytes other bytes and another length; the pieces behind it move."""
        begin, end = self.entries[piece]["data_offsets"]
        self.data[begin:end] = content
        for entry in self.entries.values():
            if entry["data_offsets"][0] >= end:
                entry["data_offsets"] = [offset + len(content) - (end - begin) for offset in entry["data_offsets"]]
        self.entries[piece] |= {"shape": [len(content)], "data_offsets": [begin, begin + len(content)]}


def assemble(header: bytes, data: bytes) -> bytes:
    """A file of this header and data, the header's length right and padded with spaces."""
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + data


GOOD = ("weights", "half", "masks", "ladder", "deflated", "deflated-half", "deflated-masks")


def good_files() -> dict[str, bytes]:
    """Small valid files that have, all together, every feature of the format."""
    conv = np.array([[0, 1, 0], [-1, 0, 2], [0, 0, 3]], np.float32)
    fc = np.zeros((2, 300), np.float32)
    fc.reshape(-1)[[0, 3, 4, 259, 515]] = [1, -2, 3e-45, -0.0, 5]
    fc_mask = np.zeros((2, 300), np.bool_)
    fc_mask.reshape(-1)[[0, 3, 4, 259, 515]] = True
    masks = {"conv.weight": conv != 0, "fc.weight": fc_mask}
    others = {
        "bn.bias": np.ones(3, np.float32),
        "bn.count": np.array(7, np.int64),
        "bn.half": np.array([1.5, -0.0], np.float16),
        "bn.on": np.array([True, False]),
        "bn.void": np.zeros((0, 3), np.float32),
        "bn.wide": np.array([1e300]),
    }
    wide = np.zeros((40, 1000), np.float32)
    wide.reshape(-1)[199::200] = [(-1) ** n * (1 + n / 200) for n in range(200)]
    died = {
        "fc.weight": np.array([[0, 1, 1, 2, 0, 3], [1, 0, 2, 2, 3, 0]], np.uint8),
        "scale": np.array(9, np.uint8),
        "void": np.zeros((3, 0), np.uint8),
    }
    with tempfile.TemporaryDirectory() as folder:
        paths = {kind: Path(folder) / kind for kind in GOOD}
        tensors = {"conv.weight": conv, "fc.weight": fc}
        sparse_file.write(paths["weights"], tensors | others, masks, metadata={"keep": "0.015", "note": "\u00e9\u4e2d"})
        sparse_file.write(paths["half"], tensors, masks, metadata={}, values="fp16")
        sparse_file.write(paths["deflated"], {"wide": wide}, {"wide": wide != 0}, metadata={})
        sparse_file.write(paths["deflated-half"], {"wide": wide}, {"wide": wide != 0}, metadata={}, values="fp16")
        sparse_file.write_mask(paths["deflated-masks"], {"wide": wide != 0}, metadata={})
        sparse_file.write_mask(paths["masks"], masks, metadata={"keep": "0.015"})
        sparse_file.write_ladder(paths["ladder"], died, {})
        return {kind: path.read_bytes() for kind, path in paths.items()}
