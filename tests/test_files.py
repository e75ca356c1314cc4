"""The old content or the new one, never a half, and nothing left lying about."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sslprune.errors import OutputExistsError, StorageError
from sslprune.files import new_folder, sha256, sweep, write_atomic


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones among them."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@settings(max_examples=30)
@given(st.binary(), st.one_of(st.binary(), st.text()))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, old: bytes, new: bytes | str) -> None:
    folder = tmp_path_factory.mktemp("files")
    assert write_atomic(folder / "deep" / "file", old) == folder / "deep" / "file"
    write_atomic(folder / "deep" / "file", new)
    assert content(folder) == {"deep/file": new.encode() if isinstance(new, str) else new}


def test_a_writer_function_gets_a_path_beside_the_destination(tmp_path: Path) -> None:
    seen = []

    def write(path: Path) -> None:
        seen.append(path)
        path.write_bytes(b"new")

    write_atomic(tmp_path / "file", write)
    assert seen[0].parent == tmp_path
    assert seen[0].name.startswith(".")
    assert content(tmp_path) == {"file": b"new"}


def test_the_file_may_be_read_by_others(tmp_path: Path) -> None:
    assert write_atomic(tmp_path / "file", b"").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_a_writer_that_raises_leaves_the_old_content(tmp_path: Path, error: BaseException) -> None:
    write_atomic(tmp_path / "file", b"old")

    def write(path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    with pytest.raises(type(error)):
        write_atomic(tmp_path / "file", write)
    assert content(tmp_path) == {"file": b"old"}


def test_an_os_error_is_a_storage_error_that_names_the_destination(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(StorageError, match="taken"):
        write_atomic(tmp_path / "taken", b"new")
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(StorageError, match="below"):
        write_atomic(tmp_path / "file" / "below", b"new")
    assert content(tmp_path) == {"file": b"old"}


def on_a_full_disk(body: str, folder: Path) -> None:
    """Run `body` in a process whose files cannot grow above 64 KiB; it must end in StorageError."""
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from sslprune.errors import StorageError; from sslprune.files import new_folder, write_atomic\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))\n"
        "folder = Path(sys.argv[1])\n"
        f"try:\n    {body}\nexcept StorageError as error:\n    sys.exit(7 if 'cannot write' in str(error) else 1)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(folder)], check=False).returncode == 7


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    write_atomic(tmp_path / "file", b"old")
    on_a_full_disk("write_atomic(folder / 'file', b'x' * (1 << 20))", tmp_path)
    assert content(tmp_path) == {"file": b"old"}


def test_a_full_disk_leaves_the_old_folder(tmp_path: Path) -> None:
    with new_folder(tmp_path / "model") as draft:
        (draft / "file").write_bytes(b"old")
    on_a_full_disk(
        "with new_folder(folder / 'model', force=True) as d: (d / 'a').write_bytes(b'a'); "
        "(d / 'file').write_bytes(b'x' * (1 << 20))",
        tmp_path,
    )
    assert content(tmp_path) == {"model/file": b"old"}


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with new_folder(tmp_path / "zoo" / "model") as draft:
        (draft / "a").write_bytes(b"1")
        (draft / "inner").mkdir()
        (draft / "inner" / "b").write_bytes(b"2")
        assert not (tmp_path / "zoo" / "model").exists()
    assert content(tmp_path) == {"zoo/model/a": b"1", "zoo/model/inner/b": b"2"}
    assert [path.name for path in (tmp_path / "zoo").iterdir()] == ["model"]
    assert (tmp_path / "zoo" / "model").stat().st_mode & 0o777 == 0o755


def test_an_existing_folder_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(OutputExistsError, match="model exists already"), new_folder(tmp_path / "model"):
        pytest.fail("the body ran")
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]


def test_force_replaces_the_whole_folder(tmp_path: Path) -> None:
    with new_folder(tmp_path / "model") as draft:
        (draft / "old").write_bytes(b"1")
    with new_folder(tmp_path / "model", force=True) as draft:
        (draft / "new").write_bytes(b"2")
    assert content(tmp_path) == {"model/new": b"2"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_a_body_that_raises_leaves_the_old_folder(tmp_path: Path, error: BaseException) -> None:
    def fill() -> None:
        with new_folder(tmp_path / "model", force=True) as draft:
            (draft / "half").write_bytes(b"1")
            raise error

    with pytest.raises(type(error)):
        fill()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").write_bytes(b"0")
    with pytest.raises(type(error)):
        fill()
    assert content(tmp_path) == {"model/old": b"0"}


def test_what_killed_writers_left_is_swept_away_and_nothing_else(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from sslprune.files import new_folder, write_atomic\n"
        "path = Path(sys.argv[1])\n"
        "if sys.argv[2] == 'file': write_atomic(path, lambda p: os.kill(os.getpid(), 9))\n"
        "with new_folder(path, force=True) as draft: (draft / 'a').write_bytes(b'1'); os.kill(os.getpid(), 9)\n"
    )
    for kind in ("file", "folder"):
        killed = subprocess.run([sys.executable, "-c", program, str(tmp_path / "x[1]"), kind], check=False)
        assert killed.returncode == -9
    others = [".x[1]", ".x[1].tmp", ".x[1].5.a1_b2c3d.tmp", ".x1.a1_b2c3d.tmp", "x[1]"]
    for name in others:
        (tmp_path / name).write_bytes(b"")
    assert len(list(tmp_path.iterdir())) == len(others) + 2
    sweep(tmp_path / "x[1]")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


@settings(max_examples=10)
@given(st.binary(max_size=100), st.integers(0, 3))
def test_sha256_is_that_of_the_content(tmp_path_factory: pytest.TempPathFactory, piece: bytes, mebibytes: int) -> None:
    path = tmp_path_factory.mktemp("hash") / "file"
    path.write_bytes(bytes(mebibytes << 20) + piece)
    assert sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
