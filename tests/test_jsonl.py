"""Rows come back as they went in; a torn last line is nobody's row."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sslprune import jsonl
from sslprune.errors import StorageError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
rows = st.lists(st.dictionaries(st.text(), values, max_size=3), max_size=4)


@settings(max_examples=40)
@given(st.lists(rows, max_size=4), st.booleans())
def test_what_is_appended_is_read_in_order(tmp_path_factory: pytest.TempPathFactory, batches: list, sync: bool) -> None:
    path = tmp_path_factory.mktemp("rows") / "deep" / "rows.jsonl"
    for batch in batches:
        jsonl.append(path, batch, sync=sync)
    assert jsonl.read(path) == [row for batch in batches for row in batch]


@settings(max_examples=40)
@given(rows, rows.filter(bool), st.data())
def test_a_file_cut_anywhere_gives_its_whole_rows_and_is_mended_by_the_next_append(
    tmp_path_factory: pytest.TempPathFactory, first: list, second: list, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    jsonl.append(path, first)
    whole = path.stat().st_size
    jsonl.append(path, second[:1])
    cut = data.draw(st.integers(whole, path.stat().st_size - 1))
    path.write_bytes(path.read_bytes()[:cut])
    assert jsonl.read(path) == first
    jsonl.append(path, second)
    assert jsonl.read(path) == first + second


def test_a_torn_line_longer_than_the_search_block_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    jsonl.append(path, [{"a": 1}])
    with path.open("ab") as file:
        file.write(b'{"b": "' + b"x" * 200_000)
    jsonl.append(path, [{"c": 3}])
    assert path.read_bytes() == b'{"a": 1}\n{"c": 3}\n'


def test_a_file_that_is_one_torn_line_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"x" * 100_000)
    assert jsonl.read(path) == []
    jsonl.append(path, [{"a": 1}])
    assert jsonl.read(path) == [{"a": 1}]


def test_rows_of_others_may_hold_raw_text_of_any_alphabet(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    text = "Zeile\u2028eins \x85 für alle"
    whole = json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n"
    path.write_bytes(whole + whole[: whole.index("ü".encode()) + 1])
    assert jsonl.read(path) == [{"text": text}]


def test_no_file_has_no_rows(tmp_path: Path) -> None:
    assert jsonl.read(tmp_path / "rows.jsonl") == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_writes_nothing(tmp_path: Path, bad: float) -> None:
    path = tmp_path / "rows.jsonl"
    with pytest.raises(ValueError, match="JSON compliant"):
        jsonl.append(path, [{"good": 1}, {"bad": bad}])
    assert not path.exists()


def test_a_full_disk_is_a_storage_error_and_leaves_earlier_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    jsonl.append(path, [{"a": 1}])
    program = (
        "import resource, sys; from pathlib import Path; from sslprune import jsonl, errors\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: jsonl.append(Path(sys.argv[1]), [{'long': 'x' * 10000}])\n"
        "except errors.StorageError as error: sys.exit(7)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == 7
    assert jsonl.read(path) == [{"a": 1}]
    jsonl.append(path, [{"b": 2}])
    assert jsonl.read(path) == [{"a": 1}, {"b": 2}]


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"rows\.jsonl"):
        jsonl.append(tmp_path / "file" / "rows.jsonl", [{"a": 1}])
