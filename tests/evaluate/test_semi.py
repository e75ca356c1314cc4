"""Few labels: the same part of each class, whoever asks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from sslprune.errors import DatasetError
from sslprune.evaluate import linear_eval
from sslprune.evaluate.semi import FewLabels, semi_eval
from sslprune.models import Preprocessing, build

PREPROCESSING = Preprocessing((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 8)


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    fraction=st.sampled_from([0.01, 0.1, 0.5, 1.0]),
    seed=st.integers(0, 9),
)
def test_a_part_of_each_class(sizes, fraction, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.arange(len(labels))[:, None, None, None]
    part = FewLabels(fraction, subset_seed=seed).of((rows, labels))
    chosen = part.data[0].ravel()
    assert (np.diff(chosen) > 0).all()
    counts = np.bincount(labels[chosen], minlength=len(sizes))
    assert counts.tolist() == [max(1, round(fraction * size)) for size in sizes]
    assert part.data[1].tolist() == labels[chosen].tolist()
    assert part.count == len(chosen)
    assert set(FewLabels(fraction / 2, subset_seed=seed).of((rows, labels)).data[0].ravel()) <= set(chosen)


@pytest.mark.parametrize("fraction", [0.0, -1.0, 1.5, float("nan")])
def test_impossible_fractions(fraction):
    with pytest.raises(DatasetError, match="cannot be kept"):
        FewLabels(fraction).of((np.zeros((2, 1)), [0, 1]))


IMAGES = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), np.uint8)
LABELS = np.arange(60) % 3


def test_arrays_and_datasets_give_the_same_part():
    whole = TensorDataset(torch.from_numpy(IMAGES), torch.from_numpy(LABELS))
    few = FewLabels(0.2, data="toy")
    arrays, tensors, dataset = few.of((IMAGES, LABELS)), few.of(whole.tensors), few.of(whole)
    assert arrays.sha256 == tensors.sha256 == dataset.sha256
    assert arrays.described()["subset_sha256"] == arrays.sha256
    assert (arrays.data[0] == tensors.data[0].numpy()).all()
    for row, (image, label) in enumerate(zip(*arrays.data, strict=True)):
        assert (dataset.data[row][0].numpy() == image).all()
        assert dataset.data[row][1] == label
    assert FewLabels(0.2, data="other").of((IMAGES, LABELS)).sha256 != arrays.sha256
    with pytest.raises(DatasetError, match="no positions"):
        few.of(DataLoader(whole))


@pytest.mark.parametrize(
    ("method", "options"),
    [("linear", {}), ("knn", {"k": 2}), ("finetune", {"epochs": 1}), ("sgd", {"num_classes": 3})],
)
def test_every_method_sees_the_part_only(method, options):
    from sslprune.evaluate.sgd_probe import SgdLinear

    net = build("resnet20_cifar", seed=0)
    if method == "sgd":
        options = {**options, "protocol": SgdLinear().scaled(2)}
    found = semi_eval(
        net,
        (IMAGES, LABELS),
        (IMAGES, LABELS),
        FewLabels(0.2, method),
        preprocessing=PREPROCESSING,
        **options,
    )
    if method == "linear":
        part = FewLabels(0.2, method).of((IMAGES, LABELS)).data
        assert found.accuracy == linear_eval(net, part, (IMAGES, LABELS), preprocessing=PREPROCESSING).accuracy
    if method == "finetune":
        assert found.counts["n_train"] == 12
