"""Medians, minima and ratios: what the rows of a bench must obey whatever was measured."""

from __future__ import annotations

from dataclasses import replace
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslprune.bench.contest import DENSE, PEERS
from sslprune.bench.rows import Result, Setting, rows_of

SETTING = Setting("net", "net", "uniform", 0.05, 32, 1, 1)
SECONDS = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=9)


@st.composite
def results(draw):
    engines = draw(st.lists(st.sampled_from(PEERS), unique=True))
    found = [Result("sslprune", draw(SECONDS))]
    return found + [
        Result(name, failed="it died") if draw(st.booleans()) and draw(st.booleans()) else Result(name, draw(SECONDS))
        for name in engines
    ]


@given(results())
def test_ratios_are_those_of_medians_and_of_minima_to_the_faster_dense_runtime(results):
    rows = rows_of(SETTING, results)
    assert [row.engine for row in rows] == [result.engine for result in results]
    dense = [result.seconds for result in results if result.engine in DENSE and result.seconds]
    for row, result in zip(rows, results, strict=True):
        assert (row.median_ms is None) == (not result.seconds)
        if not result.seconds:
            assert (row.failed, row.ratio_to_best_dense, row.min_ms) == ("it died", None, None)
            continue
        assert row.min_ms <= row.median_ms
        assert row.runs == len(result.seconds)
        if not dense:
            assert row.ratio_to_best_dense is row.ratio_to_best_dense_min is None
            continue
        assert row.ratio_to_best_dense == pytest.approx(min(map(median, dense)) / median(result.seconds))
        assert row.ratio_to_best_dense_min == pytest.approx(min(map(min, dense)) / min(result.seconds))
    best = [row.ratio_to_best_dense for row in rows if row.engine in DENSE and row.ratio_to_best_dense]
    assert not best or max(best) == 1


@given(results(), st.floats(0.1, 10))
def test_another_clock_changes_no_ratio(results, factor):
    other = [replace(result, seconds=[factor * second for second in result.seconds]) for result in results]
    for row, scaled in zip(rows_of(SETTING, results), rows_of(SETTING, other), strict=True):
        assert scaled.ratio_to_best_dense == pytest.approx(row.ratio_to_best_dense)
        assert scaled.ratio_to_torch == pytest.approx(row.ratio_to_torch)


def test_int8_and_torch_are_no_yardstick():
    rows = rows_of(SETTING, [Result("sslprune", [2.0]), Result("int8", [1.0]), Result("torch", [8.0])])
    assert [row.ratio_to_best_dense for row in rows] == [None, None, None]
    assert [row.ratio_to_torch for row in rows] == [4.0, 8.0, 1.0]
    assert [row.accuracy_class for row in rows] == ["fp32", "int8", "fp32"]


def test_a_row_is_one_flat_table():
    row = rows_of(SETTING, [Result("sslprune", [0.5], facts={"compile_s": 1.5}), Result("ort", [1.0])])[0].to_json()
    assert row["ratio_to_best_dense"] == 2
    assert (row["arch"], row["keep"], row["median_ms"], row["compile_s"]) == ("net", 0.05, 500.0, 1.5)
    assert not {"setting", "facts"} & row.keys()
