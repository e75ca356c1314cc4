"""Which model is meant: a name, full or short, or a folder. Needs neither torch nor numpy."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from sslprune.zoo.index import Entry, Index, open_index
from sslprune.zoo.manifest import MANIFEST, Manifest
from sslprune.zoo.names import Name

_LOG = logging.getLogger(__name__)


def locate(name: str | Path, *, keep: float | None = None, arch: str | None = None, data: str | None = None) -> Entry:
    """The entry of a model that is given by name or by folder.

    Raises:
        UnknownModelError: No model, or more than one, has this name.
        KeepError: No rung is near, or a folder, which has one keep rate, is asked for another.
        ManifestError: The folder is not a model's.
    """
    folder = Path(name)
    # Not Path.is_file, which raises for names that no file can have.
    if os.path.isfile(folder / MANIFEST) or isinstance(name, Path) or "/" in name:
        manifest = Manifest.load(folder)
        entry = Entry(Name.parse(manifest.name), "folder", folder, manifest)
        if (keep, arch, data) != (None, None, None):
            Index((entry,)).find(
                entry.name.family, keep=entry.name.keep if keep is None else keep, arch=arch, data=data
            )
        return entry
    entry = open_index().find(name, keep=keep, arch=arch, data=data)
    _LOG.info("%s (keep %s) is %s", name, keep, entry.name)
    return entry
