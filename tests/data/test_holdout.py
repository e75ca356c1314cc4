"""The test part of data sets that have none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslprune.data.holdout import held_out

labelled = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(lambda labels: np.array(labels, np.int64))


def names(count):
    return [f"image {i}.png" for i in range(count)]


@given(labels=labelled, fraction=st.floats(0, 1))
def test_as_many_as_asked_for_and_every_class_in_proportion(labels, fraction):
    count = round(fraction * len(labels))
    chosen = held_out(labels, names(len(labels)), count)
    assert chosen.sum() == count
    for label in np.unique(labels):
        members = labels == label
        assert abs(chosen[members].sum() - members.sum() * count / len(labels)) < 1


@given(labels=labelled, data=st.data())
def test_the_order_of_the_examples_decides_nothing_within_a_class(labels, data):
    same = np.zeros_like(labels)
    keys = names(len(labels))
    order = np.array(data.draw(st.permutations(range(len(labels)))))
    chosen = held_out(same, keys, len(labels) // 3)
    assert (held_out(same, [keys[i] for i in order], len(labels) // 3) == chosen[order]).all()


def test_the_choice_is_the_same_for_ever():
    assert np.flatnonzero(held_out(np.zeros(20, np.int64), names(20), 5)).tolist() == [11, 15, 16, 18, 19]


def test_nothing_of_nothing():
    assert held_out(np.zeros(0, np.int64), [], 0).shape == (0,)


@pytest.mark.parametrize("key", ["ü.png", "\udcff.png"])
def test_any_file_name_is_a_key(key):
    assert held_out(np.zeros(1, np.int64), [key], 1).tolist() == [True]
