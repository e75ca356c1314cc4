"""Every file of the corpus raises the error that is named for it, in every decoder, before memory is taken."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import sys
import tracemalloc
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sslprune import errors
from sslprune.export import sparse_file

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
EXPECTED: dict[str, dict[str, str]] = json.loads((HERE / "expected.json").read_text(encoding="utf-8"))

FIXED, HEADER, DATA, DEFLATED = 1 << 20, 48, 1300, 10_500
"""The bound of FORMAT.md, section 7: bytes, bytes a byte of header, bytes a byte of data, plain and deflated."""


def load(path: Path) -> ModuleType:
    """A module beside the tests, which are no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make = load(HERE / "make.py")
decoder = load(HERE.parent / "export" / "decoder.py")


def refusal(name: str) -> errors.SparseFileError:
    """What a file of the corpus raises."""
    told = EXPECTED[name]
    with pytest.raises(getattr(errors, told["error"])) as caught:
        getattr(sparse_file, told["reader"])(CORPUS / name)
    assert isinstance(caught.value, errors.SparseFileError)
    return caught.value


@pytest.mark.parametrize("name", EXPECTED)
def test_a_malformed_file_raises_the_error_that_is_named_for_it(name: str) -> None:
    error = refusal(name)
    assert type(error).__name__ == EXPECTED[name]["error"]
    lines = str(error).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{CORPUS / name}: ")
    assert EXPECTED[name]["message"] in str(error)
    assert all(len(line) < 400 + len(str(CORPUS)) and line.isprintable() for line in lines)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_independent_decoder_refuses_it(name: str) -> None:
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError, RecursionError, zlib.error)):
        decoder.decode((CORPUS / name).read_bytes())


@pytest.mark.parametrize("name", EXPECTED)
def test_refusing_takes_no_more_memory_than_the_specification_says(name: str) -> None:
    size = (CORPUS / name).stat().st_size
    tracemalloc.start()
    try:
        refusal(name)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < FIXED + HEADER * size


def test_the_corpus_is_what_its_generator_writes() -> None:
    made = make.corpus()
    assert {name: told for name, (told, _) in made.items()} == EXPECTED
    assert {path.name for path in CORPUS.iterdir()} == made.keys()
    for name, (_, content) in made.items():
        assert (CORPUS / name).read_bytes() == content, name


def test_the_corpus_is_large_and_takes_little_room() -> None:
    assert len(EXPECTED) >= 60
    assert sum(path.stat().st_size for path in CORPUS.iterdir()) < 500_000
    assert all(told["why"] and told["message"] for told in EXPECTED.values())


@pytest.mark.parametrize("kind", make.READERS)
def test_the_files_that_were_spoiled_are_good(tmp_path: Path, kind: str) -> None:
    good = make.good_files()[kind]
    for file in (good, make.Draft.of(good).file()):
        (tmp_path / "file").write_bytes(file)
        getattr(sparse_file, make.READERS[kind])(tmp_path / "file")
        decoder.decode(file)


@pytest.mark.parametrize("kind", make.READERS)
def test_a_good_file_cut_anywhere_is_refused(tmp_path: Path, kind: str) -> None:
    good = make.good_files()[kind]
    for length in range(len(good)):
        (tmp_path / "file").write_bytes(good[:length])
        with pytest.raises(errors.SparseFileError):
            getattr(sparse_file, make.READERS[kind])(tmp_path / "file")


# What would be too large to commit

LARGE = {
    "lists": (b'{"a":[', b"[],", b"[]]}"),
    "objects": (b'{"a":[', b'{"":{"":[]}},', b"{}]}"),
    "texts": (b'{"a":["\\ud83d\\ude00",', b'"aa",', b'""]}'),
    "depth": (b'{"a":', b"[", b"}"),
    "digits": (b'{"a":', b"9", b"}"),
}


@pytest.mark.parametrize("name", LARGE)
def test_the_largest_header_takes_no_more_memory_than_the_specification_says(tmp_path: Path, name: str) -> None:
    first, again, last = LARGE[name]
    limit = sparse_file.container.MAX_HEADER
    header = first + again * ((limit - len(first) - len(last)) // len(again)) + last
    path = tmp_path / "file"
    path.write_bytes(make.assemble(header, b""))
    tracemalloc.start()
    try:
        with pytest.raises(errors.SparseFileError):
            sparse_file.read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < FIXED + HEADER * path.stat().st_size
    path.write_bytes(make.assemble(header + b" " * 8, b""))
    with pytest.raises(errors.SparseFileError, match="header claims"):
        sparse_file.read(path)


@pytest.mark.parametrize("spoiled", [False, True])
@pytest.mark.parametrize(("coding", "bound"), [("gap8", DATA), ("gap8-deflate", DEFLATED)])
def test_decoding_the_densest_file_takes_no_more_memory_than_the_specification_says(
    tmp_path: Path, coding: str, bound: int, spoiled: bool
) -> None:
    escapes = 40_000
    gaps = b"\xff" * escapes + (b"\xff" * 2 if spoiled else b"\0" * 5)
    draft = make.Draft.of(make.good_files()["weights"])
    draft.resize("fc.weight:mask", gaps if coding == "gap8" else make.deflated(gaps))
    draft.pruned["fc.weight"] |= {"coding": coding, "shape": [escapes * 255 + 5]}
    path = tmp_path / "file"
    path.write_bytes(draft.file())
    header = path.stat().st_size - len(draft.data)
    tracemalloc.start()
    try:
        if spoiled:
            with pytest.raises(errors.SparseFileError, match="past the end"):
                sparse_file.read(path)
        else:
            assert sparse_file.read(path).masks["fc.weight"].sum() == 5
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < FIXED + HEADER * header + bound * len(draft.data)
    assert spoiled or peak > 0.9 * bound * len(draft.data)  # so the bound is tight


# What is not a file, and files that stay open


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path, tmp_path / "missing" / "file"):
        with pytest.raises(errors.SparseFileError, match="no such file"):
            sparse_file.read(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(errors.SparseFileError, match="no such file"):
        sparse_file.read(tmp_path / "pipe")


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="this system does not list what is mapped")
@pytest.mark.parametrize("name", ["weights-nan-value", "weights-gap-past-the-end", "ladder-alive-lies", "noise"])
def test_a_refused_file_is_closed_even_while_its_error_is_held(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"mapped-{name}"
    path.write_bytes((CORPUS / name).read_bytes())
    gc.disable()  # not closed by chance
    try:
        caught: Any = None
        try:
            getattr(sparse_file, EXPECTED[name]["reader"])(path)
        except errors.SparseFileError as error:
            caught = error
        assert caught is not None
        assert path.name not in Path("/proc/self/maps").read_text()
        assert path.name not in {os.path.basename(os.readlink(link.path)) for link in os.scandir("/proc/self/fd")}
    finally:
        gc.enable()
