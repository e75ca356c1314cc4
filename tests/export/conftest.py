"""Two decoders for one file, and valid files to spoil."""

from __future__ import annotations

import importlib.util
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from sslprune.errors import SparseFileError
from sslprune.export import sparse_file


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def decoder() -> ModuleType:
    """The decoder that was written from FORMAT.md alone."""
    return _load(Path(__file__).with_name("decoder.py"))


@pytest.fixture(scope="session")
def draft() -> ModuleType:
    """Files taken to pieces."""
    return _load(Path(__file__).parents[1] / "malformed" / "draft.py")


@pytest.fixture(scope="session")
def streams() -> ModuleType:
    """DEFLATE streams put together by hand."""
    return _load(Path(__file__).parents[1] / "malformed" / "streams.py")


@pytest.fixture(scope="session")
def good(draft: ModuleType) -> dict[str, bytes]:
    """Small valid files that have, all together, every feature of the format."""
    files: dict[str, bytes] = draft.good_files()
    return files


@pytest.fixture(scope="session")
def agree(decoder: ModuleType) -> Callable[[Path], bool]:
    """`agree(path)`: whether the file is valid, after both decoders said the same of it, to the last bit."""

    def decode(path: Path) -> bool:
        try:
            found, metadata = read(path)
        except SparseFileError:
            with pytest.raises((ValueError, LookupError, TypeError, AttributeError, RecursionError, zlib.error)):
                decoder.decode(path.read_bytes())
            return False
        expected, about = decoder.decode(path.read_bytes())
        assert metadata == about
        assert found.keys() == expected.keys()
        for name, array in found.items():
            assert (array.dtype, array.shape) == (expected[name].dtype, expected[name].shape)
            assert array.tobytes() == expected[name].tobytes()
        return True

    return decode


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """All tensors of a file of any kind (masks as "name:mask"), and its metadata."""
    kind = sparse_file.read_layout(path).kind
    if kind == "ladder":
        return dict(sparse_file.read_ladder(path)), sparse_file.read_metadata(path)
    masks = {f"{name}:mask": mask for name, mask in sparse_file.read_mask(path).items()}
    if kind == "masks":
        return dict(masks), sparse_file.read_metadata(path)
    content = sparse_file.read(path)
    assert content.masks.keys() == {name.removesuffix(":mask") for name in masks}
    assert all((content.masks[name] == masks[f"{name}:mask"]).all() for name in content.masks)
    return content.tensors | masks, content.metadata
