"""Labels are checked once, and a part of the training set is held out class by class."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sslprune.errors import DatasetError
from sslprune.evaluate.labelled import check_features, class_names, hold_out, label_shape, label_tensor


@given(
    sizes=st.lists(st.integers(0, 40), min_size=2, max_size=6).filter(
        lambda sizes: sum(size > 0 for size in sizes) > 1 and max(sizes) > 1
    ),
    seed=st.integers(0, 2**31),
)
def test_a_tenth_of_every_class_is_held_out(sizes: list[int], seed: int) -> None:
    labels = torch.cat([torch.full((size,), label) for label, size in enumerate(sizes)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    rest, held = hold_out(labels, seed)
    assert sorted([*rest.tolist(), *held.tolist()]) == list(range(len(labels)))
    assert torch.equal(held, held.sort().values)
    assert torch.equal(rest, rest.sort().values)
    taken = torch.bincount(labels[held], minlength=len(sizes)).tolist()
    assert taken == [max(1, round(size / 10)) if size > 1 else 0 for size in sizes]
    assert all(torch.equal(a, b) for a, b in zip(hold_out(labels, seed), (rest, held), strict=True))


def test_another_seed_holds_out_others() -> None:
    labels = torch.arange(200) % 2
    assert not torch.equal(hold_out(labels, 0)[1], hold_out(labels, 1)[1])


def test_sets_without_a_split_are_refused() -> None:
    with pytest.raises(DatasetError, match="all 5 training labels are 3"):
        hold_out(torch.full((5,), 3), 0)
    with pytest.raises(DatasetError, match="no class has two"):
        hold_out(torch.arange(5), 0)


@pytest.mark.parametrize(
    "labels", [[0, 1, 2], np.array([0, 1, 2], np.uint8), torch.tensor([0, 1, 2], dtype=torch.int32)]
)
def test_labels_come_in_many_forms(labels: object) -> None:
    assert torch.equal(label_tensor(labels, 3), torch.tensor([0, 1, 2]))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0.0, 1.0, 2.0], "float"),
        ([True, False, True], "bool"),
        ([0, 1], r"shape \(2,\)"),
        ([[0], [1], [2]], r"shape \(3, 1\)"),
        ([0, -1, 1], "label is -1"),
    ],
)
def test_other_labels_are_refused(labels: list[object], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        label_tensor(labels, 3)
    with pytest.raises(DatasetError, match="set is empty"):
        label_tensor(torch.zeros(0, dtype=torch.long), 0)


def test_labels_of_several_classes() -> None:
    labels = [[1, 0, -1], [-1, 1, 1]]
    for form in (labels, np.array(labels, np.int8), torch.tensor(labels)):
        assert torch.equal(label_shape(form, 2), torch.tensor(labels, dtype=torch.int8))
    for wrong, message in {
        "width": ([0, 1], r"not integers \[N,C\]"),
        "length": ([[0], [1], [1]], r"torch.int64 \(3, 1\)"),
        "dtype": ([[0.0], [1.0]], "float"),
        "bool": ([[True], [False]], "bool"),
        "range": (np.array([[-128], [1]], np.int8), "label is -128"),
    }.values():
        with pytest.raises(DatasetError, match=message):
            label_shape(wrong, 2)


def test_names_of_classes() -> None:
    labels = torch.tensor([0, 2, 1])
    assert class_names(labels, None) == ("0", "1", "2")
    assert class_names(labels, ["a", "b", "c", "d"]) == ("a", "b", "c", "d")
    for classes in (["a", "b"], ["a", "b", "a"]):
        with pytest.raises(DatasetError, match="cannot name the labels 0 to 2"):
            class_names(labels, classes)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_features_that_are_not_finite_are_refused(bad: float) -> None:
    features = torch.zeros(4, 3)
    features[2, 1] = bad
    with pytest.raises(DatasetError, match="image 2 are not finite"):
        check_features(features)
    with pytest.raises(DatasetError, match="not float"):
        check_features(torch.zeros(4))


def test_large_finite_features_are_accepted() -> None:
    assert check_features(torch.full((4, 3), 3e38)).shape == (4, 3)
