"""Rows sorted: seeds together, everything else apart."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from result_rows import ARCH, floor_rows, frozen_rows, retrain_rows, tuned_rows, zero_rows

from sslprune.errors import ResultsError
from sslprune.report.tables import Floor, tables

values = st.lists(st.floats(1, 99), min_size=1, max_size=4)


@settings(max_examples=25)
@given(values, values, st.sampled_from([1.0, 0.1, 0.05, 0.005]))
def test_seeds_of_a_cell_become_one_sample(linear, knn, keep):
    rows = frozen_rows("rotnet", keep, linear) + frozen_rows("rotnet", keep, knn, task="knn", best="block3")
    found = {(key.task, key.stage): sample for key, sample in tables(rows).frozen.items()}
    assert found["linear", "last"].values == pytest.approx(linear)
    assert found["linear", "best"].values == pytest.approx([value + 5 for value in linear])
    assert found["knn", "best"].values == found["knn", "last"].values == pytest.approx(knn)
    assert {key[:3] + key[5:] for key in tables(rows).frozen} == {(ARCH, "cifar10", "cifar10", "rotnet", "", keep)}


@settings(max_examples=25)
@given(st.floats(0.0, 1e-5))
def test_keep_rates_as_they_come_out_are_their_rungs(off):
    rows = [*retrain_rows("labels", 0.05, [70.0]), *retrain_rows("labels", 0.05 * (1 + off), [72.0])]
    rows[1] = {**rows[1], "seed": 1, "name": "another"}
    (sample,) = tables(rows).retrained.values()
    assert sample.n == 2


def test_random_masks_are_one_sample_whichever_criterion_they_were_permuted_from():
    rows = [
        *retrain_rows("labels", 0.05, [50.0, 52.0], control="permuted"),
        *retrain_rows("rotnet", 0.05, [54.0, 52.0], control="permuted"),
        *retrain_rows("rotnet", 0.05, [60.0, 61.0], control="permuted-layers"),
    ]
    found = {(key.criterion, key.control): sample.values for key, sample in tables(rows).retrained.items()}
    assert found == {("random", "permuted"): (52.0, 52.0), ("rotnet", "permuted-layers"): (60.0, 61.0)}


def test_a_rung_that_the_protocol_names_goes_before_the_share_that_came_out():
    (row,) = retrain_rows("labels", 0.31, [50.0])
    named = {**row, "protocol": {**row["protocol"], "keep": 0.5}}
    rows = [named, *retrain_rows("labels", 0.5, [50.0], init="ticket")]
    assert {key.keep for key in tables(rows).retrained} == {0.5}


def test_variants_are_kept_apart_and_seeds_are_not_variants():
    plain = frozen_rows("rotnet", 0.1, [60.0])
    slim = [{**row, "name": row["name"].replace("-s0-", "-slim-s0-")} for row in plain]
    assert {key.variant for key in tables([*plain, *slim]).frozen} == {"", "slim"}


def test_before_and_during_are_told_apart():
    rows = tuned_rows("rotnet", 0.1, [30.0, 32.0], during=False) + tuned_rows("rotnet", 0.1, [28.0], during=True)
    found = {key.pruned: sample.values for key, sample in tables(rows).tuned.items()}
    assert found == {"before": (30.0, 32.0), "during": (28.0,)}


def test_rows_are_counted_by_use():
    stray = {**zero_rows("adam", [1.0])[0], "task": "latency"}
    found = tables([*floor_rows([30.0]), *zero_rows("adam", [1.0, 2.0]), stray])
    assert found.used == {"linear": 3, "zeros": 2}
    assert found.unused == {"latency": 1}
    assert found.floor[Floor(ARCH, "cifar10", "linear", "best")].values == (30.0,)


def test_a_row_without_what_sorts_it_is_named():
    (row,) = retrain_rows("labels", 0.05, [70.0])
    broken = {**row, "protocol": {key: value for key, value in row["protocol"].items() if key != "criterion"}}
    with pytest.raises(ResultsError, match=r"retrain row of retrain-labels.*criterion"):
        tables([broken])
