"""Rows of many runs: each measurement once, contradictions refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from result_rows import floor_rows, frozen_rows, retrain_rows

from sslprune.errors import ResultsError
from sslprune.report.rows import files_of, gather

ROWS = [*frozen_rows("rotnet", 0.1, [60.0, 61.0]), *floor_rows([30.0]), *retrain_rows("labels", 0.05, [70.0])]


def stored(path: Path, rows: list) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@settings(max_examples=25)
@given(copies=st.lists(st.integers(0, len(ROWS)), min_size=1, max_size=4))
def test_a_row_counts_once_however_often_it_is_given(tmp_path_factory, copies):
    folder = tmp_path_factory.mktemp("runs")
    paths = [stored(folder / f"{number}.jsonl", [*ROWS[:many], ROWS[0]]) for number, many in enumerate(copies)]
    found = gather([folder])
    most = max(1, *copies)
    assert list(found.rows) == ROWS[:most] or sorted(map(json.dumps, found.rows)) == sorted(
        map(json.dumps, ROWS[:most])
    )
    assert found.files == len(paths)
    assert found.duplicates == sum(many + 1 for many in copies) - most
    assert gather([*paths, folder]).rows == found.rows  # a file that is named twice is read once


def test_run_folders_are_found_at_any_depth_and_logs_are_none(tmp_path):
    deep = stored(tmp_path / "a" / "b" / "results.jsonl", ROWS[:1])
    beside = stored(tmp_path / "some.jsonl", ROWS[1:2])
    (tmp_path / "a" / "b" / "train.log.jsonl").write_text('{"loss": 1}\n')
    (tmp_path / "train.log.jsonl").write_text('{"loss": 1}\n')
    assert files_of(tmp_path) == sorted([deep, beside])
    assert files_of(tmp_path / "a" / "b") == [deep]
    assert files_of(deep) == [deep]


def test_one_file_by_two_paths_is_read_once(tmp_path, monkeypatch):
    stored(tmp_path / "results.jsonl", ROWS)
    monkeypatch.chdir(tmp_path)
    found = gather([tmp_path, Path("results.jsonl")])
    assert (found.files, found.duplicates) == (1, 0)


def test_nothing_to_read_is_an_error(tmp_path):
    for missing in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ResultsError, match=r"no results\.jsonl"):
            gather([missing])
    (tmp_path / "results.jsonl").write_text("")
    with pytest.raises(ResultsError, match="no result row"):
        gather([tmp_path])


def test_a_broken_row_is_refused_by_name(tmp_path):
    stored(tmp_path / "results.jsonl", ROWS)
    (tmp_path / "bad.jsonl").write_text(json.dumps({**ROWS[0], "keep": 2.0}) + "\n")
    with pytest.raises(ResultsError, match=r"bad\.jsonl:1"):
        gather([tmp_path])


def test_two_figures_for_one_measurement_are_refused(tmp_path):
    stored(tmp_path / "a.jsonl", ROWS[:1])
    stored(tmp_path / "b.jsonl", [{**ROWS[0], "value": 1.25}])
    with pytest.raises(ResultsError, match=r"1\.25.*linear of rotnet"):
        gather([tmp_path])


def test_one_name_of_two_recipes_is_refused_except_for_untrained_networks(tmp_path):
    other = {**ROWS[0], "protocol": {"other": 1}, "recipe_sha256": "f" * 64}
    stored(tmp_path / "a.jsonl", [ROWS[0], other])
    with pytest.raises(ResultsError, match="two recipes, rotnet0 and ffffffff"):
        gather([tmp_path])
    floor = floor_rows([30.0])
    stored(tmp_path / "floors" / "results.jsonl", [*floor, {**floor[0], "layer": "x", "recipe_sha256": "f" * 64}])
    assert len(gather([tmp_path / "floors"]).rows) == len(floor) + 1
