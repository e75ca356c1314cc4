"""A backbone's transfer: honest choice of the stage, complete rows, a head that reproduces the number."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sslprune.errors import ArchitectureError, DatasetError
from sslprune.evaluate import evaluate_backbone, features, knn_eval, linear_eval
from sslprune.evaluate.features import extract_stages
from sslprune.evaluate.knn import knn_accuracy
from sslprune.evaluate.labelled import hold_out
from sslprune.models import Preprocessing, build, stages
from sslprune.models.head import HeadedBackbone

PREPROCESSING = Preprocessing((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 32)
Set = tuple[np.ndarray, np.ndarray]


def stripes(count: int, seed: int) -> Set:
    """Noisy pictures of vertical, horizontal and no stripes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    wave = np.tile(np.array([0, 0, 90, 90], np.uint8), 8)
    pattern = np.stack(
        [np.broadcast_to(wave, (32, 32)), np.broadcast_to(wave[:, None], (32, 32)), np.full((32, 32), 45)]
    )
    images = pattern[labels][..., None] + rng.integers(0, 160, (count, 32, 32, 3))
    return images.astype(np.uint8), labels


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return build("resnet20_cifar", seed=1)


@pytest.fixture(scope="module")
def train() -> Set:
    return stripes(90, 0)


@pytest.fixture(scope="module")
def test() -> Set:
    return stripes(60, 1)


def evaluate(net: nn.Module, train: Set, test: Set, **changes: object) -> object:
    fields = {"name": "random", "data": "stripes", "keep": 1.0, "seed": 0, "preprocessing": PREPROCESSING}
    return evaluate_backbone(net, train, test, **{**fields, **changes})


def test_rows_say_all(net: nn.Module, train: Set, test: Set) -> None:
    rows = evaluate(net, train, test, recipe_sha256="ab").rows
    assert [(row["task"], row["layer"]) for row in rows] == [
        (task, stage) for task in ("linear", "knn") for stage in stages(net)
    ]
    for row, dims in zip(rows, [256, 512, 1024] * 2, strict=True):
        assert row["counts"] == {
            "n_train": 90,
            "n_test": 60,
            "prunable": 267_696,
            "nonzero": 267_696,
            "dims": dims,
        }
        assert (row["name"], row["data"], row["split"], row["metric"]) == ("random", "stripes", "test", "top1")
        assert (row["unit"], row["keep"], row["seed"], row["recipe_sha256"]) == ("%", 1.0, 0, "ab")
        assert row["protocol"]["pool"] == 4
        assert row["protocol"]["held_out"] == 0.1
    assert {"l2", "l2_grid", "standardised", "solver", "converged", "held_out_top1"} <= rows[0]["protocol"].keys()
    assert rows[3]["protocol"]["k"] == 4
    assert rows[3]["protocol"]["temperature"] == 0.1
    assert rows[3]["protocol"]["similarity"] == "cosine"
    assert any(row["value"] > 80 for row in rows)


def test_the_best_stage_is_chosen_without_the_test_set(net: nn.Module, train: Set, test: Set) -> None:
    rows = evaluate(net, train, test).rows
    for task in ("linear", "knn"):
        mine = [row["protocol"] for row in rows if row["task"] == task]
        chosen = [protocol for protocol in mine if protocol["best_stage"]]
        assert len(chosen) == 1
        assert chosen[0]["held_out_top1"] == max(protocol["held_out_top1"] for protocol in mine)

    images, labels = test
    other = evaluate(net, train, (images, (labels + 1) % 3)).rows
    for row, same in zip(rows, other, strict=True):
        assert row["protocol"] == same["protocol"]
        assert row["value"] != same["value"]


def test_the_held_out_number_of_knn_is_measured_without_the_held_out_images(
    net: nn.Module, train: Set, test: Set
) -> None:
    row = evaluate(net, train, test, tasks=("knn",), seed=4).rows[1]
    x, y = extract_stages(net, train[0], preprocessing=PREPROCESSING)["layer2"], torch.from_numpy(train[1])
    rest, held = hold_out(y, 4)
    assert row["protocol"]["held_out_top1"] == knn_accuracy(x[rest], y[rest], x[held], y[held], k=4)


def test_the_head_reproduces_the_number_of_its_row(net: nn.Module, train: Set, test: Set) -> None:
    transfer = evaluate(net, train, test, classes=["vertical", "horizontal", "none"])
    best = next(row for row in transfer.rows if row["task"] == "linear" and row["protocol"]["best_stage"])
    head = transfer.head
    assert (head.task, head.stage, head.pool) == ("stripes", best["layer"], 4)
    classifier = HeadedBackbone(net, head).eval()
    with torch.no_grad():
        guesses = classifier(PREPROCESSING(test[0])).argmax(1).numpy()
    assert (guesses == test[1]).mean() * 100 == pytest.approx(best["value"])
    assert classifier.classes == ("vertical", "horizontal", "none")


def test_twice_gives_the_same_rows_and_leaves_the_backbone_alone(net: nn.Module, train: Set, test: Set) -> None:
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert evaluate(net, train, test).rows == evaluate(net, train, test).rows
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_one_task_alone(net: nn.Module, train: Set, test: Set) -> None:
    transfer = evaluate(net, train, test, tasks=("knn",))
    assert {row["task"] for row in transfer.rows} == {"knn"}
    assert transfer.head is None
    with pytest.raises(DatasetError, match="sorcery"):
        evaluate(net, train, test, tasks=("sorcery",))


def test_linear_eval_agrees_with_the_rows(net: nn.Module, train: Set, test: Set) -> None:
    rows = {row["layer"]: row for row in evaluate(net, train, test, tasks=("linear",)).rows}
    best = linear_eval(net, train, test, preprocessing=PREPROCESSING)
    assert best.held_out == {stage: row["protocol"]["held_out_top1"] for stage, row in rows.items()}
    assert rows[best.stage]["protocol"]["best_stage"]
    assert best.accuracy == rows[best.stage]["value"]
    assert best.head("stripes").stage == best.stage

    last = linear_eval(net, train, test, stage=-1, preprocessing=PREPROCESSING)
    assert (last.stage, last.accuracy) == ("layer3", rows["layer3"]["value"])


def test_knn_eval_agrees_with_the_rows(net: nn.Module, train: Set, test: Set) -> None:
    rows = {row["layer"]: row for row in evaluate(net, train, test, tasks=("knn",)).rows}
    best = knn_eval(net, train, test, preprocessing=PREPROCESSING)
    assert rows[best.stage]["protocol"]["best_stage"]
    assert (best.accuracy, best.k, best.temperature) == (rows[best.stage]["value"], 4, 0.1)
    assert knn_eval(net, train, train, stage="pooled", k=1, preprocessing=PREPROCESSING).accuracy == 100


def test_features_are_the_networks_own(net: nn.Module, train: Set) -> None:
    assert features(net, train[0][:5], preprocessing=PREPROCESSING).shape == (5, 64)
    assert features(net, train[0][:5], stage="layer1", pool=2, preprocessing=PREPROCESSING).shape == (5, 64)


def test_what_does_not_fit_is_refused(net: nn.Module, train: Set, test: Set) -> None:
    images, labels = train
    for evaluation in (linear_eval, knn_eval):
        with pytest.raises(DatasetError, match=r"90 train images go with labels of shape \(89,\)"):
            evaluation(net, (images, labels[:89]), test, preprocessing=PREPROCESSING)
        with pytest.raises(DatasetError, match="60 test images"):
            evaluation(net, train, (test[0], test[1][:3]), preprocessing=PREPROCESSING)
        with pytest.raises(ArchitectureError, match="no stage 'layer7'"):
            evaluation(net, train, test, stage="layer7", preprocessing=PREPROCESSING)
    with pytest.raises(DatasetError, match="all 90 training labels"):
        linear_eval(net, (images, labels * 0), test, preprocessing=PREPROCESSING)
