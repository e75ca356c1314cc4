"""Rows that say what a mask keeps, layer by layer, by hand on small masks."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sslprune import models
from sslprune.masks import Mask
from sslprune.models import prunable
from sslprune.models.cost import uses
from sslprune.prune import analysis
from sslprune.prune.criteria import Criterion, find


def test_a_report_adds_up_and_states_the_criterion() -> None:
    model = models.build("resnet20_cifar", seed=0)
    criterion = Criterion("lamp", guard=2, stem_keep=1.0)
    mask = find(prunable(model), 0.1, criterion)
    report = analysis.report(mask, model, 32, criterion)
    rows = report["layers"]
    assert [row["layer"] for row in rows] == list(mask)
    assert (report["kept"], report["prunable"]) == (mask.kept, mask.prunable)
    assert report["macs"] == sum(row["prunable"] * uses(model, 32)[row["layer"]] for row in rows)
    assert all(row["macs_left"] * row["prunable"] == row["macs"] * row["kept"] for row in rows)
    assert report["criterion"]["guard"] == 2
    assert rows[0]["keep"] == 1.0
    assert report["emptied"] == []
    json.dumps(report)


def test_emptied_layers_are_named() -> None:
    model = models.build("resnet20_cifar", seed=0)
    mask = Mask({name: torch.zeros_like(w, dtype=torch.bool) for name, w in prunable(model).items()})
    report = analysis.report(mask, model, 32)
    assert report["emptied"] == list(mask)
    assert (report["macs_left"], report["criterion"]) == (0, None)


def test_overlaps_by_hand() -> None:
    one = Mask({"a": torch.tensor([True, True, False, False]), "b": torch.tensor([True])})
    other = Mask({"a": torch.tensor([True, False, True, False]), "b": torch.tensor([True])})
    rows = analysis.overlaps(one, other)
    assert [(row["layer"], row["overlap"]) for row in rows] == [("a", 1 / 3), ("b", 1.0), ("all", 0.5)]
    assert rows[0]["chance"] == pytest.approx(1 / 3)
    assert rows[1]["chance"] == 1.0


def test_chance_is_what_unrelated_masks_have() -> None:
    draw = torch.Generator().manual_seed(0)
    one, other = (Mask({"a": torch.rand(200_000, generator=draw) < keep}) for keep in (0.3, 0.1))
    row = analysis.overlaps(one, other)[-1]
    assert row["overlap"] == pytest.approx(row["chance"], rel=0.05)


def test_dead_filters_by_hand() -> None:
    conv = torch.zeros(3, 2, 2, 2, dtype=torch.bool)
    conv[1, 0, 1, 1] = True
    mask = Mask({"conv": conv, "linear": torch.tensor([[True, False, False], [False, False, True]])})
    assert analysis.dead_filters(mask) == [
        {"layer": "conv", "dead": 2, "filters": 3, "unread": 1},
        {"layer": "linear", "dead": 0, "filters": 2, "unread": 1},
    ]


@given(st.lists(st.sampled_from([0.0, -0.0, 1e-13, -1e-9, 1e-5, 1.0]), min_size=1, max_size=20))
def test_zeros_are_counted_at_each_threshold(values: list[float]) -> None:
    weights = {"a": torch.tensor(values), "b": torch.tensor([0.0, 1.0])}
    rows = {(row["layer"], row["threshold"]): row for row in analysis.zeros(weights)}
    for at in analysis.THRESHOLDS:
        found = sum(abs(value) <= at * (1 + 1e-6) for value in values)
        assert rows["a", at]["zeros"] == found
        assert rows["all", at]["zeros"] == found + 1
        assert rows["all", at]["fraction"] == (found + 1) / (len(values) + 2)


def test_a_fresh_network_has_no_zeros() -> None:
    assert all(row["zeros"] == 0 for row in analysis.zeros_of(models.build("resnet20_cifar", seed=0), [0.0]))
