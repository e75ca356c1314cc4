"""Which models there are: the shipped index `zoo.json`, further indexes, the local zoo's folders. No torch here."""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from sslprune.errors import KeepError, ManifestError, UnknownModelError, nearest
from sslprune.zoo.manifest import MANIFEST, FileRecord, Manifest
from sslprune.zoo.names import Name, percent, split_keep

NEAR = 0.2
"""A keep rate that is asked for resolves to a rung within this fraction of it."""


@dataclass(frozen=True)
class Entry:
    """One model of the zoo, without its weights.

    Args:
        name: Full name.
        status: "bundled" (in the package), "local" (in the local zoo).
        folder: Where its files lie.
        manifest: What is stated about it.
        manifest_record: The manifest's own identity as the index has it; None for local models, which have no other.
    """

    name: Name
    status: str
    folder: Path
    manifest: Manifest
    manifest_record: FileRecord | None = None

    def row(self) -> dict[str, Any]:
        """What `sslprune list --json` says of it."""
        return {
            "name": str(self.name),
            "pretext": self.name.pretext,
            "arch": self.name.arch,
            "data": self.name.data,
            "keep": self.manifest.keep,
            "kept": self.manifest.kept,
            "prunable": self.manifest.prunable,
            "bytes": self.manifest.bytes,
            "macs": self.manifest.macs_left,
            "metrics": dict(self.manifest.metrics),
            "status": self.status,
            "licence": self.manifest.licence,
        }


@dataclass(frozen=True)
class Index:
    """All models at hand, and the short names that stand for families."""

    entries: tuple[Entry, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)

    def find(self, text: str, *, keep: float | None = None, arch: str | None = None, data: str | None = None) -> Entry:
        """The model that a name, full or short, stands for.

        Args:
            text: A name such as "rotnet-resnet20-cifar10-keep5%", "rotnet-resnet20-keep5" or "rotnet": an alias, or
                words of a family's name in their order, the pretext first.
            keep: The keep rate, where the name does not say it; the nearest rung within 20 % of it is taken.
            arch: Architecture, where the name leaves it out.
            data: Data set, likewise.

        Raises:
            UnknownModelError: No family, or more than one, fits; the message names the nearest.
            KeepError: No rung is near, or the rate is missing or said twice; the message lists the rungs.
        """
        stem, named = split_keep(text)
        if keep is not None and (not isinstance(keep, int | float) or isinstance(keep, bool) or not 0 < keep <= 1):
            raise KeepError(f"keep = {keep!r} is not a fraction in (0, 1].", "Give 0.05 for five per cent.")
        if named is not None and keep is not None and named != keep:
            raise KeepError(f"{text!r} and keep={keep:g} contradict each other.", "Say the keep rate once.")
        family = self._family(stem, arch, data)
        return self._rung(family, named if named is not None else keep)

    def select(self, pattern: str = "*", **filters: Any) -> list[Entry]:
        """The entries whose name fits a shell pattern and whose row fits every filter (keep=0.05, arch="resnet20")."""
        chosen = []
        for entry in self.entries:
            row = entry.row()
            if unknown := filters.keys() - row.keys():
                raise UnknownModelError(
                    f"models have no field {sorted(unknown)[0]!r}.", f"Filter by one of: {', '.join(row)}."
                )
            wanted = {key: value for key, value in filters.items() if value is not None}
            nominal = row | {"keep": entry.name.keep}
            if _fits(str(entry.name), pattern) and all(nominal[key] == value for key, value in wanted.items()):
                chosen.append(entry)
        return chosen

    def families(self) -> list[str]:
        """The families, in order."""
        return list(dict.fromkeys(entry.name.family for entry in self.entries))

    def _family(self, stem: str, arch: str | None, data: str | None) -> str:
        first, *words = stem.split("-")
        said = {word for word in (arch, data) if word}
        stem = "-".join(word for word in (stem, arch, data) if word)
        families = self.families()
        if stem in families:
            return stem
        if (aliased := self.aliases.get(stem)) in families:
            return str(aliased)
        fitting = []
        for family in families:
            pretext, *others = family.split("-")
            if pretext == first and said <= set(others) and _in_order(words, others):
                fitting.append(family)
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise UnknownModelError(f"{stem!r} stands for several models.", f"Say which: {', '.join(fitting)}.")
        known = [*families, *self.aliases]
        raise UnknownModelError(f"there is no model {stem!r}.", f"Nearest: {nearest(stem, known)}. All: sslprune list.")

    def _rung(self, family: str, keep: float | None) -> Entry:
        rungs = {entry.name.keep: entry for entry in reversed(self.entries) if entry.name.family == family}
        listed = ", ".join(f"{percent(rung)}%" for rung in sorted(rungs, reverse=True))
        if keep is None:
            raise KeepError(
                f"{family!r} leaves the keep rate open.", f"Add keep=..., or -keepN% to the name, N of: {listed}."
            )
        near = min(rungs, key=lambda rung: abs(rung - keep))
        if abs(near - keep) > NEAR * keep * (1 + 1e-9):
            raise KeepError(f"{family} has no rung near keep {percent(keep)}%.", f"Its rungs: {listed}.")
        return rungs[near]


def open_index() -> Index:
    """Read the shipped index, those in `SSLPRUNE_INDEX`, and the local zoo; earlier ones win over later ones of a name.

    Raises:
        ManifestError: An index is not readable.
    """
    entries: dict[str, Entry] = {}
    aliases: dict[str, str] = {}
    for path in _index_files():
        found, short = read_index(path)
        entries = {str(entry.name): entry for entry in found} | entries
        aliases = short | aliases
    entries = {str(entry.name): entry for entry in scan(local_zoo())} | entries
    ordered = sorted(
        entries.values(), key=lambda entry: (entry.status != "bundled", entry.name.family, -entry.name.keep)
    )
    return Index(tuple(ordered), aliases)


def local_zoo() -> Path:
    """`SSLPRUNE_ZOO`, or `~/.local/share/sslprune/zoo`."""
    # Not Path.expanduser, which raises for a user without a home, as containers have.
    return Path(os.path.expanduser(os.environ.get("SSLPRUNE_ZOO") or "~/.local/share/sslprune/zoo"))


def scan(zoo: Path) -> Iterable[Entry]:
    """The models of a zoo's folder; folders that hold none, or one whose manifest is malformed, are passed over."""
    for folder in model_folders(zoo):
        try:
            manifest = Manifest.load(folder)
        except ManifestError:
            continue
        yield Entry(Name.parse(manifest.name), "local", folder, manifest)


def model_folders(zoo: Path) -> list[Path]:
    """The folders of a zoo that have a manifest, readable or not; hidden ones are of a writer that is at work."""
    # Not Path.is_dir, which raises where a folder above may not be entered.
    found = sorted(zoo.glob(f"*/{MANIFEST}")) if os.path.isdir(zoo) else []
    return [path.parent for path in found if not path.parent.name.startswith(".")]


def read_index(path: Path) -> tuple[list[Entry], dict[str, str]]:
    """Entries and aliases of one index file; its models' folders lie in `bundled/` beside it.

    Raises:
        ManifestError: It is not an index, or a model's manifest is missing or changed.
    """
    try:
        table = json.loads(path.read_bytes())
        if table["schema"] != 1:
            raise ValueError(f"schema {table['schema']!r} is not known")
        models = {Name.parse(name): FileRecord(**item["manifest"]) for name, item in table["models"].items()}
        aliases = {str(short): str(family) for short, family in table["aliases"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        problem = ascii(str(error))[1:-1]
        raise ManifestError(
            f"{path} is not an index of sslprune: {problem}", "Correct SSLPRUNE_INDEX, or reinstall."
        ) from error
    entries = []
    for name, record in models.items():
        folder = path.parent / "bundled" / name.folder
        if folder.is_dir():
            entries.append(Entry(name, "bundled", folder, Manifest.load(folder), record))
    return entries, aliases


def index_table(folders: Iterable[Path], aliases: Mapping[str, str]) -> dict[str, Any]:
    """The content of an index over these model folders: every file's identity, counts, metrics, licence."""
    models = {}
    for folder in folders:
        manifest = Manifest.load(folder)
        models[manifest.name] = {
            "status": "bundled",
            "manifest": asdict(FileRecord.of(folder / MANIFEST)),
            "files": {name: asdict(record) for name, record in manifest.files.items()},
            "keep": manifest.keep,
            "kept": manifest.kept,
            "prunable": manifest.prunable,
            "macs": manifest.macs_left,
            "metrics": dict(manifest.metrics),
            "licence": manifest.licence,
            "endpoints": {},
        }
    ordered = sorted(models.items(), key=lambda item: (Name.parse(item[0]).family, -Name.parse(item[0]).keep))
    return {"schema": 1, "models": dict(ordered), "aliases": dict(sorted(aliases.items()))}


def shipped() -> Path:
    """The index that ships with the package."""
    return Path(str(resources.files("sslprune") / "zoo" / "zoo.json"))


def _index_files() -> list[Path]:
    further = [Path(entry) for entry in os.environ.get("SSLPRUNE_INDEX", "").split(os.pathsep) if entry]
    return [shipped(), *further]


def _in_order(words: Iterable[str], others: Iterable[str]) -> bool:
    rest = iter(others)
    return all(word in rest for word in words)


def _fits(name: str, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(name, candidate) for candidate in (pattern, f"*{pattern}*", f"{pattern}%"))
