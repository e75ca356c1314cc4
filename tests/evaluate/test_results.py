"""Rows survive the file, a torn last line does not, and nothing impossible is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslprune.errors import ResultsError, StorageError
from sslprune.evaluate.results import Row, append, read, row, versions

KEYS = [
    *("schema", "name", "task", "data", "split", "metric", "value", "unit", "keep", "seed", "layer", "protocol"),
    *("counts", "recipe_sha256", "versions"),
]


def example(value: float = 51.5, **changes: object) -> Row:
    fields = {"name": "rotnet-resnet20-cifar10-keep5%", "task": "knn", "data": "digits", "split": "test"}
    return row(**{**fields, "metric": "top1", "value": value, "unit": "%", "keep": 0.05, **changes})


def test_a_row_has_exactly_the_agreed_keys() -> None:
    assert list(example()) == KEYS
    assert example()["schema"] == 1
    assert set(versions()) == {"python", "sslprune", "torch", "timm", "numpy"}


@given(
    values=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=4),
    name=st.text(max_size=20),
    layer=st.none() | st.text(max_size=5),
)
def test_rows_survive_the_file(
    tmp_path_factory: pytest.TempPathFactory, values: list[float], name: str, layer: str | None
) -> None:
    path = tmp_path_factory.mktemp("results") / "deep" / "results.jsonl"
    rows = [example(value, name=name, layer=layer, protocol={"k": 3}) for value in values]
    append(path, rows[:1])
    append(path, rows[1:])
    assert read(path) == rows


@given(cut=st.integers(1, 400), more=st.booleans())
def test_a_torn_last_line_is_passed_over_and_mended(
    tmp_path_factory: pytest.TempPathFactory, cut: int, more: bool
) -> None:
    path = tmp_path_factory.mktemp("results") / "results.jsonl"
    append(path, [example(1), example(2)])
    whole = path.read_bytes()
    second = len(whole.splitlines(keepends=True)[1])
    path.write_bytes(whole[: -min(cut, second)])
    assert read(path) == [example(1)]
    if more:
        append(path, [example(3)])
        assert read(path) == [example(1), example(3)]


def test_a_missing_file_has_no_rows(tmp_path: Path) -> None:
    assert read(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[1]",
        "{}",
        json.dumps({**example(), "schema": 2}),
        json.dumps({**example(), "more": 1}),
        json.dumps({**example(), "value": float("nan")}),
        json.dumps({**example(), "keep": 5}),
        json.dumps({key: value for key, value in example().items() if key != "seed"}),
        b"\xff\xfe".decode("latin1"),
    ],
)
def test_a_line_that_is_no_row_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "results.jsonl"
    append(path, [example()])
    with open(path, "ab") as file:
        file.write(line.encode("latin1") + b"\n")
    append(path, [example()])
    with pytest.raises(ResultsError, match=r"results\.jsonl:2 "):
        read(path)


@pytest.mark.parametrize(
    "changes", [{"value": float("nan")}, {"value": float("inf")}, {"keep": 0}, {"keep": 1.5}, {"value": True}]
)
def test_impossible_rows_are_refused(tmp_path: Path, changes: dict[str, float]) -> None:
    with pytest.raises(ResultsError, match="Give a finite value"):
        example(**changes)
    with pytest.raises(ResultsError):
        append(tmp_path / "results.jsonl", [example(), {**example(), **changes}])
    assert not (tmp_path / "results.jsonl").exists()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        append(tmp_path / "file" / "results.jsonl", [example()])
