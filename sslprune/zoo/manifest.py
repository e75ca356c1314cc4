"""`manifest.json`: what a model's folder holds, with sizes and sha256, and what was counted and measured."""

from __future__ import annotations

import builtins
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from sslprune.errors import IntegrityError, ManifestError, SslpruneError
from sslprune.files import sha256
from sslprune.zoo.names import Name

MANIFEST = "manifest.json"
MAX_BYTES = 4 << 20
"""A manifest larger than this is refused unread."""

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_HEAD = re.compile(r"head-(.+)\.safetensors")


@dataclass(frozen=True)
class FileRecord:
    """A file's identity: its size in bytes and its sha256 (64 hex digits)."""

    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """Measure a file."""
        return cls(path.stat().st_size, sha256(path))


@dataclass(frozen=True)
class LayerRecord:
    """Counts of one prunable weight tensor; MACs an image at the model's input size, dense and with zeros left out."""

    name: str
    kept: int
    prunable: int
    macs: int
    macs_left: int


@dataclass(frozen=True)
class Manifest:
    """Everything that is stated about a published model.

    Args:
        name: The full name.
        keep: The real keep rate, kept / prunable.
        kept: Prunable weights kept.
        prunable: Prunable weights.
        macs: MACs an image of the prunable weights, dense.
        macs_left: The same, pruned weights left out.
        layers: The counts of every prunable tensor.
        files: Every file of the folder except the manifest itself.
        metrics: "data/task" -> per cent, at the stage that was chosen on held-out training images.
        recipe_sha256: Identity of the recipe, or None for a model pruned by hand.
        seed: The recipe's seed, or None.
        versions: Of the packages that made the model.
        licence: SPDX identifier of the weights' licence.
        data_terms: The terms of the data that the weights saw.
        parent: Name of the unpruned network; None for one that is unpruned itself.
        schema: Version of this record.
    """

    name: str
    keep: float
    kept: int
    prunable: int
    macs: int
    macs_left: int
    layers: tuple[LayerRecord, ...]
    files: Mapping[str, FileRecord]
    metrics: Mapping[str, float]
    recipe_sha256: str | None
    seed: int | None
    versions: Mapping[str, str]
    licence: str
    data_terms: str
    parent: str | None
    schema: int = field(default=1)

    @property
    def bytes(self) -> int:
        """The size of the weights' file."""
        return self.files["sparse.safetensors"].size

    def to_json(self) -> str:
        """The text of `manifest.json`."""
        return json.dumps(asdict(self), indent=1, allow_nan=False) + "\n"

    @property
    def heads(self) -> list[str]:
        """The tasks that there is a published probe for."""
        return [match[1] for name in self.files if (match := _HEAD.fullmatch(name))]

    @classmethod
    def from_json(cls, text: str | builtins.bytes, *, where: object) -> Self:
        """Read a manifest, which may come from anywhere, hence field by field.

        Raises:
            ManifestError: It is not JSON, of another schema, or a field is missing, unknown or impossible.
        """
        try:
            table = json.loads(text)
            if type(table["schema"]) is not int or table["schema"] != 1:
                raise ValueError(f"schema {table['schema']!r} is not known; a newer sslprune may read it")
            files = {name: FileRecord(**record) for name, record in table.pop("files").items()}
            layers = tuple(LayerRecord(**layer) for layer in table.pop("layers"))
            manifest = cls(**table, files=files, layers=layers)
            manifest._check()
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
            problem = ascii(str(error))[1:-1]  # may quote foreign text: one printable line of it
            raise ManifestError(f"{where} is not a manifest of sslprune: {problem}", "Get the model again.") from error
        return manifest

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the manifest of a model's folder.

        Raises:
            ManifestError: There is none, or it is malformed.
        """
        path = folder / MANIFEST
        try:
            too_large = path.stat().st_size > MAX_BYTES
            text = b"" if too_large else path.read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
            raise ManifestError(
                f"{folder} is not a model's folder: no readable {MANIFEST}.", "See `sslprune list`."
            ) from error
        if too_large:
            raise ManifestError(f"{path} is larger than {MAX_BYTES} bytes.", "Get the model again.")
        return cls.from_json(text, where=path)

    def _check(self) -> None:
        for name, record in self.files.items():
            if not _FILE_NAME.fullmatch(name) or name == MANIFEST:
                raise ValueError(f"{name!r} is not a file's name here")
            if not _is_count(record.size) or not _SHA256.fullmatch(record.sha256):
                raise ValueError(f"the record of {name} is impossible")
        if "sparse.safetensors" not in self.files or "config.json" not in self.files:
            raise ValueError("it names no sparse.safetensors or no config.json")
        self._check_counts()
        self._check_words()

    def _check_counts(self) -> None:
        stated: list[Manifest | LayerRecord] = [self, *self.layers]
        for each in stated:
            counts = (each.kept, each.prunable, each.macs, each.macs_left)
            if not all(map(_is_count, counts)) or each.kept > each.prunable or each.macs_left > each.macs:
                raise ValueError(f"the counts of {each.name!r} are impossible")
        if len({layer.name for layer in self.layers}) != len(self.layers):
            raise ValueError("it lists a layer twice")
        for count in ("kept", "prunable", "macs", "macs_left"):
            if sum(getattr(layer, count) for layer in self.layers) != getattr(self, count):
                raise ValueError(f"its layers' {count} do not add up to {getattr(self, count)}")
        if not _is_number(self.keep) or not 0 < self.keep <= 1 or abs(self.keep * self.prunable - self.kept) > 0.5:
            raise ValueError(f"keep {self.keep!r} is not {self.kept} / {self.prunable}")

    def _check_words(self) -> None:
        said = (self.name, self.licence, self.data_terms, *(layer.name for layer in self.layers))
        if not all(map(_is_text, said)):
            raise ValueError("name, licence, data_terms and every layer's name must be said, in printable text")
        for name in (self.name,) if self.parent is None else (self.name, self.parent):
            try:
                Name.parse(name)
            except SslpruneError as error:
                raise ValueError(error.problem) from error
        if not all(_is_text(name) and _is_number(value) for name, value in self.metrics.items()):
            raise ValueError("its metrics are not finite numbers by name")
        if not all(_is_text(name) and _is_text(version) for name, version in self.versions.items()):
            raise ValueError("its versions are not text by name")
        if self.recipe_sha256 is not None and not _SHA256.fullmatch(self.recipe_sha256):
            raise ValueError("recipe_sha256 is not a sha256")
        if self.seed is not None and type(self.seed) is not int:
            raise ValueError(f"seed {self.seed!r} is not a whole number")


def verify(folder: Path, records: Mapping[str, FileRecord], names: Iterable[str]) -> None:
    """Check files against their records, before anything in them is used.

    Args:
        folder: Where they lie.
        records: Sizes and hashes.
        names: Which files to check.

    Raises:
        ManifestError: A file has no record.
        IntegrityError: A file is missing, or its size or sha256 is another; the message has both.
    """
    for name in names:
        if name not in records:
            raise ManifestError(f"the manifest of {folder} does not list {name}.", "Get the model again.")
        path, record = folder / name, records[name]
        if not path.is_file():
            raise IntegrityError(f"{path} is missing.", "Get the model again.")
        size = path.stat().st_size
        if size != record.size:
            raise IntegrityError(f"{path} has {size} bytes, not {record.size}.", "Get the model again.")
        if (found := sha256(path)) != record.sha256:
            raise IntegrityError(
                f"{path} has sha256 {found}, not {record.sha256}.", "Get the model again; do not use this file."
            )


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and bool(value)
