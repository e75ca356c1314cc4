"""Subsets: the same lists for ever, every class in its share, smaller ones within larger ones."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslprune.data.subsets import Spec, choose
from sslprune.errors import DatasetError, RecipeError

labelled = st.lists(st.integers(0, 5), min_size=1, max_size=60).map(lambda labels: np.array(labels, np.int64))
fractions = st.floats(0.01, 1.0)
seeds = st.integers(0, 3)


@given(labelled, fractions, seeds)
def test_a_share_of_images_takes_of_every_class_its_share_and_at_least_one(labels, fraction: float, seed: int) -> None:
    subset = choose(Spec("images", fraction, seed), labels, data="toy", count=len(labels))
    chosen = subset.indices
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    for label in np.unique(labels):
        size = int((labels == label).sum())
        assert int((labels[chosen] == label).sum()) == max(1, round(fraction * size))
    assert subset.classes.tolist() == np.unique(labels).tolist()


@given(labelled, fractions, seeds)
def test_a_share_of_classes_takes_all_their_images(labels, fraction: float, seed: int) -> None:
    subset = choose(Spec("classes", fraction, seed), labels, data="toy", count=len(labels))
    assert len(subset.classes) == max(1, round(fraction * len(np.unique(labels))))
    assert subset.indices.tolist() == np.flatnonzero(np.isin(labels, subset.classes)).tolist()


@given(labelled, fractions, fractions, seeds, st.sampled_from(["images", "classes"]))
def test_a_smaller_share_is_part_of_a_larger_one(labels, one: float, other: float, seed: int, kind) -> None:
    small, large = (
        choose(Spec(kind, fraction, seed), labels, data="toy", count=len(labels)) for fraction in sorted((one, other))
    )
    assert set(small.indices.tolist()) <= set(large.indices.tolist())


@given(labelled, fractions, seeds, st.sampled_from(["images", "classes"]))
def test_hidden_labels_are_known_exactly_in_the_subset_and_numbered_anew(labels, fraction, seed, kind) -> None:
    subset = choose(Spec(kind, fraction, seed), labels, data="toy", count=len(labels))
    hidden = subset.hide(labels)
    assert np.flatnonzero(hidden >= 0).tolist() == subset.indices.tolist()
    assert sorted(set(hidden[hidden >= 0].tolist())) == list(range(len(subset.classes)))
    assert (subset.classes[hidden[subset.indices]] == labels[subset.indices]).all()


def test_lists_are_the_same_for_ever_and_differ_by_data_and_seed() -> None:
    labels = np.arange(1000) % 10
    lists = [
        choose(Spec("images", 0.1, seed), labels, data=data, count=1000) for data in ("toy", "other") for seed in (0, 1)
    ]
    assert len({each.sha256 for each in lists}) == 4
    assert lists[0].indices[:5].tolist() == [5, 14, 17, 57, 58]
    assert lists[0].sha256 == "06227862ecb64da5f51066b0191277cb0cef85c0e8906f6071f01daecf77fd87"
    assert lists[0].sha256 == hashlib.sha256("".join(f"{i}\n" for i in lists[0].indices).encode()).hexdigest()


def test_without_labels_a_share_of_images_is_drawn_from_all() -> None:
    subset = choose(Spec("images", 0.25), None, data="toy", count=40)
    assert len(subset.indices) == 10
    assert subset.classes.tolist() == []
    with pytest.raises(DatasetError, match="no labels"):
        choose(Spec("classes", 0.5), None, data="toy", count=40)
    with pytest.raises(DatasetError, match="no images"):
        choose(Spec("images", 0.5), None, data="toy", count=0)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("images:0.1", Spec("images", 0.1)),
        ("classes:.25:7", Spec("classes", 0.25, 7)),
        ("images:1", Spec("images", 1.0)),
        ("images:1.0:0", Spec("images", 1.0)),
    ],
)
def test_specs_are_read(text: str, spec: Spec) -> None:
    assert Spec.parse(text) == spec


@pytest.mark.parametrize(
    "text", ["", "images", "images:0", "images:0.0", "images:1.1", "pixels:0.1", "images:0.1:-1", "images:10%"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="is not a part of a data set"):
        Spec.parse(text)
