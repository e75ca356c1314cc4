"""Linear SVMs after Goyal et al.: average precision against a definition and scikit-learn, costs, difficult images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sslprune.errors import ArchitectureError, DatasetError
from sslprune.evaluate.svm import LinearSvm, average_precision, fit_svms, normalised, svm_eval
from sslprune.models import Preprocessing, build

metrics = pytest.importorskip("sklearn.metrics")

FEW = LinearSvm(costs=(0.1, 1.0, 10.0))
SHOWN = arrays.arrays(bool, st.integers(1, 30)).filter(lambda shown: bool(shown.any()))


def by_definition(shown, scores):
    """Sum over the recalls reached of the step in recall times the best precision at that recall or a higher one."""
    points = []
    for threshold in sorted(set(scores), reverse=True):
        chosen = scores >= threshold
        points.append((shown[chosen].sum() / shown.sum(), shown[chosen].mean()))
    area, before = 0.0, 0.0
    for recall, _ in points:
        area += (recall - before) * max(precision for other, precision in points if other >= recall)
        before = recall
    return area


@given(shown=SHOWN, seed=st.integers(0, 1000), levels=st.integers(1, 40))
def test_average_precision_is_the_area_under_the_monotone_curve(shown, seed, levels):
    scores = np.random.default_rng(seed).integers(0, levels, len(shown)).astype(float)
    assert average_precision(shown, scores) == pytest.approx(by_definition(shown, scores))


@given(shown=SHOWN, seed=st.integers(0, 1000))
def test_it_is_never_below_scikit_learns_and_equal_where_precision_only_falls(shown, seed):
    scores = np.random.default_rng(seed).random(len(shown))
    theirs = metrics.average_precision_score(shown, scores)
    assert average_precision(shown, scores) >= theirs - 1e-12
    at_hits = shown[np.argsort(-scores)]
    precision = (np.cumsum(at_hits) / np.arange(1, len(shown) + 1))[at_hits]
    if (np.diff(precision) <= 0).all():
        assert average_precision(shown, scores) == pytest.approx(theirs)


def test_where_precision_rises_again_they_differ():
    shown, scores = np.array([False, True, True]), np.array([3.0, 2.0, 1.0])
    assert average_precision(shown, scores) == pytest.approx(2 / 3)
    assert metrics.average_precision_score(shown, scores) == pytest.approx((1 / 2 + 2 / 3) / 2)


@given(shown=SHOWN, seed=st.integers(0, 1000))
def test_the_order_of_equal_scores_does_not_count(shown, seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, len(shown)).astype(float)
    order = rng.permutation(len(shown))
    assert average_precision(shown, scores) == average_precision(shown[order], scores[order])


def blobs(count, seed, classes=3, dims=6):
    """Images of one class each, on an axis of its own, with noise; labels -1 and 1."""
    rng = np.random.default_rng(seed)
    label = np.arange(count) % classes
    x = 0.1 * rng.standard_normal((count, dims))
    x[np.arange(count), label] += 1
    return torch.from_numpy(x).float(), torch.from_numpy(np.where(np.eye(classes)[label] == 1, 1, -1))


def test_a_separable_set_is_separated():
    result = fit_svms(*blobs(60, 0), *blobs(45, 1), classes=("a", "b", "c"), protocol=FEW)
    assert result.value == 100
    assert [each.name for each in result.classes] == ["a", "b", "c"]
    assert all(each.converged for each in result.classes)
    assert result.counts == {"n_train": 60, "n_test": 45}
    assert result.dims == 6


def test_noise_is_worth_the_share_of_positives():
    x, y = blobs(300, 0)
    there, truth = blobs(300, 1)
    rng = torch.Generator().manual_seed(0)
    result = fit_svms(
        torch.randn(x.shape, generator=rng), y, torch.randn(there.shape, generator=rng), truth, protocol=FEW
    )
    assert 25 < result.value < 50


def test_difficult_images_are_ignored_in_testing_and_training():
    x, y = blobs(60, 0)
    there, truth = blobs(45, 1)
    plain = fit_svms(x, y, there, truth, protocol=FEW)
    # Difficult ones that would ruin everything: looking like class a, shown as 0.
    hard = torch.zeros(30, 6)
    hard[:, 0] = 1
    unknown = torch.full((30, 3), -1)
    unknown[:, 0] = 0
    again = fit_svms(
        torch.cat([x, hard]),
        torch.cat([y, unknown]),
        torch.cat([there, hard]),
        torch.cat([truth, unknown]),
        protocol=FEW,
    )
    assert again.classes[0] == plain.classes[0]
    as_there = LinearSvm(costs=FEW.costs, difficult_in_training="negative")
    negative = fit_svms(torch.cat([x, hard]), torch.cat([y, unknown]), there, truth, protocol=as_there)
    assert negative.classes[0].held_out < 90 < plain.classes[0].held_out


def test_the_cost_is_chosen_by_cross_validation_and_reproducibly():
    x, y = blobs(90, 0)
    x = x + 0.6 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    grid = LinearSvm(costs=(1e-4, 1e-2, 1.0, 5.0))
    result = fit_svms(x, y, x, y, protocol=grid)
    assert result == fit_svms(x, y, x, y, protocol=grid)
    rows = normalised(x, 1e-5)
    from sklearn.model_selection import cross_val_score
    from sklearn.svm import LinearSVC

    for number, each in enumerate(result.classes):
        means = [
            cross_val_score(
                LinearSVC(C=cost, class_weight={1: 2, -1: 1}, max_iter=2000, dual=True, random_state=0),
                rows,
                y[:, number].numpy(),
                cv=3,
                scoring="average_precision",
            ).mean()
            for cost in grid.costs
        ]
        assert each.cost == grid.costs[int(np.argmax(means))]
        assert each.held_out == pytest.approx(100 * max(means))


def test_the_test_set_chooses_nothing():
    train = blobs(60, 0)
    there, truth = blobs(45, 1)
    one, other = fit_svms(*train, there, truth, protocol=FEW), fit_svms(*train, -there, truth, protocol=FEW)
    assert [each.cost for each in one.classes] == [each.cost for each in other.classes]
    assert one.value > other.value


def test_rows_have_norm_one_and_zero_rows_stay_zero():
    rows = normalised(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), 1e-5)
    assert rows[0] == pytest.approx([3 / (5 + 1e-5), 4 / (5 + 1e-5)])
    assert (rows[1] == 0).all()
    assert rows.dtype == np.float64


def test_the_protocol_is_goyals():
    protocol = LinearSvm()
    assert len(protocol.costs) == 26
    assert protocol.costs[:2] == (1e-7, 1e-6)
    assert protocol.costs[9:11] == (100.0, 2**-4)
    assert protocol.costs[-1] == 2**-19
    assert (protocol.folds, protocol.max_iter, protocol.tol, protocol.positive_weight) == (3, 2000, 1e-4, 2.0)


def test_too_few_images_of_a_class_are_refused():
    x, y = blobs(60, 0)
    rare = y.clone()
    rare[3:, 0] = -1
    with pytest.raises(DatasetError, match="the class 0 has 1 training images"):
        fit_svms(x, rare, x, y, protocol=FEW)
    absent = y.clone()
    absent[:, 2] = -1
    with pytest.raises(DatasetError, match="no test image shows the class c"):
        fit_svms(x, y, x, absent, protocol=FEW, classes="abc")
    with pytest.raises(DatasetError, match="2 names, 3 training"):
        fit_svms(x, y, x, y, protocol=FEW, classes="ab")
    with pytest.raises(DatasetError, match="a train label is 2"):
        fit_svms(x, 2 * y, x, y, protocol=FEW)


def test_a_network_end_to_end():
    net = build("resnet20_cifar", seed=0)
    preprocessing = Preprocessing((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 16)
    rng = np.random.default_rng(0)
    labels = np.where(rng.random((24, 2)) < 0.5, 1, -1)
    images = (rng.integers(0, 60, (24, 16, 16, 3)) + 190 * (labels[:, :1, None, None] > 0)).astype(np.uint8)
    options = {"protocol": FEW, "preprocessing": preprocessing, "classes": ("light", "chance")}
    result = svm_eval(net, (images, labels), (images, labels), **options)
    assert (result.stage, result.dims) == ("pooled", 64)
    assert result.classes[0].ap > 95
    assert svm_eval(net, (images, labels), (images, labels), stage="layer1", **options).dims == 16 * 16 * 16
    described = result.described()
    assert described["ap"].keys() == described["cost"].keys() == {"light", "chance"}
    assert described["protocol"] == "LinearSvm"
    with pytest.raises(ArchitectureError):
        svm_eval(net, (images, labels), (images, labels), stage="layer9", **options)
    with pytest.raises(DatasetError, match=r"not integers \[N,C\]"):
        svm_eval(net, (images, labels[:, 0]), (images, labels), **options)
