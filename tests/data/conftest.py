"""Real data sets, tiny, written by the tests themselves."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# Read before any test changes it.
REAL = os.environ.get("SSLPRUNE_DATA")


@pytest.fixture
def own_places(tmp_path, monkeypatch):
    """No data anywhere but below the returned folder: `root` is SSLPRUNE_DATA, `cache` the user cache."""
    for name in ("work", "root"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("SSLPRUNE_DATA", str(tmp_path / "root"))
    monkeypatch.setenv("SSLPRUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def real_data(tmp_path, monkeypatch):
    """The folder of real data sets that SSLPRUNE_DATA named when the tests began."""
    if not REAL or not Path(REAL).is_dir():
        pytest.skip("SSLPRUNE_DATA names no folder of real data sets")
    monkeypatch.setenv("SSLPRUNE_CACHE", str(tmp_path / "cache"))
    return Path(REAL)


@pytest.fixture
def pictures():
    """`pictures(n, size)`: n different random images, uint8 [n, size, size, 3]."""
    return lambda n, size=32, seed=0: np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), np.uint8)


@pytest.fixture
def encode():
    """`encode(array, "PNG")`: the bytes of an image file."""

    def encode(array, form="PNG"):
        file = io.BytesIO()
        Image.fromarray(array).save(file, form, **({"lossless": True} if form == "WEBP" else {}))
        return file.getvalue()

    return encode


@pytest.fixture
def write_parquet(encode):
    """`write_parquet(path, images, labels)`: as the `datasets` library lays it out; images may be raw bytes or None."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")

    def write(path, images, labels, image="img", label="label", row_group_size=4):
        cells = [encode(cell) if isinstance(cell, np.ndarray) else cell for cell in images]
        kind = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
        column = arrow.array([{"bytes": cell, "path": f"{i}.png"} for i, cell in enumerate(cells)], kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        table = arrow.table({image: column, label: arrow.array(labels)})
        parquet.write_table(table, path, row_group_size=row_group_size)
        return path

    return write


@pytest.fixture
def write_pickle():
    """`write_pickle(path, images, labels)`: an original CIFAR batch file."""

    def write(path, images, labels, key="labels", protocol=2):
        path.parent.mkdir(parents=True, exist_ok=True)
        planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2).reshape(len(images), -1))
        path.write_bytes(
            pickle.dumps({"batch_label": "a batch", key: list(map(int, labels)), "data": planes}, protocol)
        )
        return path

    return write
