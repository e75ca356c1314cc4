"""A bundled model's folder to run and to spoil."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sslprune.zoo.locate import locate
from sslprune.zoo.manifest import MANIFEST, FileRecord

NAME = "rotnet-resnet20-cifar10-keep5%"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a bundled model's folder."""
    return Path(shutil.copytree(locate(NAME).folder, tmp_path / "model"))


@pytest.fixture
def restate() -> Callable[[Path], None]:
    """`restate(folder)`: the manifest as a forger writes it, with the hashes of the files that lie there."""

    def rewrite(folder: Path) -> None:
        table = json.loads((folder / MANIFEST).read_text())
        files = [path for path in sorted(folder.iterdir()) if path.name != MANIFEST]
        table["files"] = {path.name: asdict(FileRecord.of(path)) for path in files}
        (folder / MANIFEST).write_text(json.dumps(table))

    return rewrite


@pytest.fixture(scope="session")
def pictures() -> NDArray[np.uint8]:
    """uint8 [300,32,32,3]: more than are run at a time."""
    return np.random.default_rng(0).integers(0, 256, (300, 32, 32, 3), np.uint8)
