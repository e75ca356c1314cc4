"""Linear SVMs on frozen features, one a class, measured by average precision: VOC07 after Goyal et al. 2019.

"Scaling and Benchmarking Self-Supervised Visual Representation Learning" (arXiv 1905.01235, section 6.1 and its public
benchmark code). Two things differ, and are constants of the protocol. There, images that show only "difficult"
instances of a class count as negatives in training; here they are left out of training as they are out of testing
(`difficult_in_training = "negative"` brings theirs back). And images with equal scores have no order there that one
could rely on; here they enter the precision-recall curve together.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sslprune.errors import DatasetError
from sslprune.evaluate.batches import Data, length
from sslprune.evaluate.features import read_labelled, stage_name
from sslprune.evaluate.labelled import check_features, label_shape
from sslprune.evaluate.protocol import Protocol
from sslprune.evaluate.reader import Reader
from sslprune.extras import require
from sslprune.models.head import POOLED

_POWERS_OF_TEN = tuple(float(f"1e{power}") for power in range(-7, 3))
_POWERS_OF_TWO = tuple(0.5**power for power in range(4, 20))


@dataclass(frozen=True)
class LinearSvm(Protocol):
    """The constants of the VOC07 linear SVM.

    Attributes:
        image: How images become the network's input.
        map_dims: A stage's map is average-pooled to as many cells as keep it within so many features.
        normalise: Each feature row is divided by its L2 norm plus `eps`.
        eps: See `normalise`.
        solver, loss, penalty, dual, intercept_scaling, tol, max_iter: Of scikit-learn's LinearSVC.
        positive_weight: The weight of an error on an image that shows the class; 1 on one that does not.
        costs: The values of C that are tried, in the order in which the first best wins.
        folds: Of the cross-validation on the training set that chooses C for each class (stratified, not shuffled).
        chosen_by: What it maximises.
        average_precision: How the test set is measured.
        difficult_in_training: "ignored": images of label 0 are left out; "negative": they count as label -1, as in the
            authors' code.
        difficult_in_testing: Images of label 0 are left out.
    """

    image: str = "resized to the network's size, not cropped"
    map_dims: int = 9216
    normalise: str = "l2 of each row"
    eps: float = 1e-5
    solver: str = "sklearn.svm.LinearSVC"
    loss: str = "squared_hinge"
    penalty: str = "l2"
    dual: bool = True
    intercept_scaling: float = 1.0
    tol: float = 1e-4
    max_iter: int = 2000
    positive_weight: float = 2.0
    costs: tuple[float, ...] = _POWERS_OF_TEN + _POWERS_OF_TWO
    folds: int = 3
    chosen_by: str = "mean of sklearn's average_precision over the folds"
    average_precision: str = "area under the monotone precision-recall curve"
    difficult_in_training: Literal["ignored", "negative"] = "ignored"
    difficult_in_testing: str = "ignored"


@dataclass(frozen=True)
class ClassSvm:
    """One class: its average precision in per cent on the test set, the chosen C, and by what it was chosen.

    Attributes:
        name: The class.
        ap: Average precision on the test set.
        cost: C.
        held_out: Mean average precision over the folds at that C.
        converged: Whether the final solver met its tolerance within its iterations.
    """

    name: str
    ap: float
    cost: float
    held_out: float
    converged: bool


@dataclass(frozen=True)
class SvmResult:
    """What the SVMs of all classes reached.

    Attributes:
        value: Mean average precision in per cent on the test set.
        stage: Where the features are from.
        dims: How many features.
        classes: Class by class.
        protocol: By which.
        counts: Images: "n_train", "n_test".
        extracted: What else a row says of the features (`sslprune.evaluate.reader.Reader.described`).
    """

    value: float
    stage: str
    dims: int
    classes: tuple[ClassSvm, ...]
    protocol: LinearSvm
    counts: dict[str, int]
    extracted: dict[str, str] = field(default_factory=dict)

    def described(self) -> dict[str, Any]:
        """The protocol's constants and what it chose, for a result row."""
        return {
            **self.protocol.constants(),
            **self.extracted,
            "scikit_learn": metadata.version("scikit-learn"),
            "ap": {each.name: round(each.ap, 4) for each in self.classes},
            "cost": {each.name: each.cost for each in self.classes},
            "cross_validated_ap": {each.name: round(each.held_out, 4) for each in self.classes},
            "not_converged": [each.name for each in self.classes if not each.converged],
        }


def svm_eval(
    model: nn.Module,
    train: Data,
    test: Data,
    *,
    classes: Sequence[str] | None = None,
    stage: int | str = POOLED,
    protocol: LinearSvm = LinearSvm(),
    seed: int = 0,
    batch_size: int = 256,
    device: torch.device | str | None = None,
    preprocessing: Callable[[Tensor], Tensor] | None = None,
    progress: bool = False,
    runtime: str = "torch",
) -> SvmResult:
    """Measure a frozen network by linear SVMs; it stays as it is, bit for bit.

    Args:
        model: A backbone with timm's API.
        train: Images and labels [N,C] of -1 (absent), 0 (ignored) and 1 (present); resized, not cropped.
        test: The same.
        classes: Class names in label order; None counts them.
        stage: A stage, or "pooled", the last representation, which Caron et al. 2020 measure.
        protocol: The constants.
        seed: Of the solver's order of images.
        batch_size, device, preprocessing, progress, runtime: See `sslprune.evaluate.features.extract`.

    Raises:
        DatasetError: Images and labels do not fit, or a class has too few images for the folds.
        ArchitectureError: The network has no such stage.
        MissingExtraError: scikit-learn is not installed.
    """
    require("sklearn.svm", extra="eval", purpose="linear SVMs")
    name = stage_name(model, stage)
    options: dict[str, Any] = {
        "multi": True,
        "batch_size": batch_size,
        "device": device,
        "preprocessing": preprocessing,
        "progress": progress,
    }
    reader = Reader(model, name, None, runtime=runtime, expected=length(train))
    train_x, train_y = read_labelled(model, reader, train, **options)
    test_x, test_y = read_labelled(model, reader, test, what="test", **options)
    result = fit_svms(
        train_x[name], train_y, test_x[name], test_y, classes=classes, protocol=protocol, seed=seed, progress=progress
    )
    return replace(result, stage=name, extracted=reader.described())


def fit_svms(
    train_x: Tensor,
    train_y: Tensor,
    test_x: Tensor,
    test_y: Tensor,
    *,
    classes: Sequence[str] | None = None,
    protocol: LinearSvm = LinearSvm(),
    seed: int = 0,
    progress: bool = False,
) -> SvmResult:
    """The SVMs of all classes on given features, float [N,D], with labels [N,C]; see `svm_eval`."""
    from tqdm import tqdm

    train_rows = normalised(check_features(train_x), protocol.eps)
    test_rows = normalised(check_features(test_x, what="test", width=train_x.shape[1]), protocol.eps)
    train_labels = label_shape(train_y, len(train_rows)).numpy()
    test_labels = label_shape(test_y, len(test_rows), what="test").numpy()
    names = tuple(str(label) for label in range(train_labels.shape[1])) if classes is None else tuple(classes)
    if not len(names) == train_labels.shape[1] == test_labels.shape[1]:
        raise DatasetError(
            f"{len(names)} names, {train_labels.shape[1]} training and {test_labels.shape[1]} test classes.",
            "Give one name and one column of labels a class.",
        )
    found = []
    for number, name in enumerate(tqdm(names, desc="svm", unit="class", disable=not progress, file=sys.stderr)):
        here, there = train_labels[:, number], test_labels[:, number]
        if protocol.difficult_in_training == "negative":
            here = np.where(here == 0, -1, here)
        _check_class(name, here, there, protocol.folds)
        kept, measured = here != 0, there != 0
        x, y = train_rows[kept], here[kept]
        cost, held_out = _chosen_cost(x, y, protocol, seed)
        svm = _svm(cost, protocol, seed)
        converged = _fit(svm, x, y)
        ap = average_precision(there[measured] > 0, svm.decision_function(test_rows[measured]))
        found.append(ClassSvm(name, 100 * ap, cost, 100 * held_out, converged))
    return SvmResult(
        value=float(np.mean([each.ap for each in found])),
        stage=POOLED,
        dims=train_rows.shape[1],
        classes=tuple(found),
        protocol=protocol,
        counts={"n_train": len(train_rows), "n_test": len(test_rows)},
    )


def normalised(features: Tensor, eps: float) -> NDArray[np.float64]:
    """Each row divided by its L2 norm plus `eps`, in float64."""
    rows = features.cpu().numpy().astype(np.float64)
    scaled: NDArray[np.float64] = rows / (np.linalg.norm(rows, axis=1, keepdims=True) + eps)
    return scaled


def average_precision(shown: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """The area under the monotone precision-recall curve, in [0, 1]: precision at a recall is the best at any higher.

    Not the 11-point average of VOC 2007, nor scikit-learn's, whose precision may rise again. Images with equal scores
    enter together.

    Args:
        shown: bool [N], whether each image shows the class; at least one does.
        scores: float [N], the higher the surer.

    >>> average_precision(np.array([True, False, True]), np.array([3.0, 2.0, 1.0]))
    0.8333333333333333
    """
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(shown[order])
    last_of_equals = np.append(np.diff(scores[order]) != 0, True)
    hits = hits[last_of_equals]
    precision = hits / (np.flatnonzero(last_of_equals) + 1)
    monotone = np.maximum.accumulate(precision[::-1])[::-1]
    gained = np.diff(hits, prepend=0)
    return float((gained * monotone).sum() / hits[-1])


def _chosen_cost(x: NDArray[np.float64], y: NDArray[np.int8], protocol: LinearSvm, seed: int) -> tuple[float, float]:
    """The first C whose mean average precision over the folds is the highest, and that mean."""
    selection = require("sklearn.model_selection", extra="eval", purpose="linear SVMs")
    metrics = require("sklearn.metrics", extra="eval", purpose="linear SVMs")
    folds = list(selection.StratifiedKFold(protocol.folds).split(x, y))
    best = (protocol.costs[0], -1.0)
    for cost in protocol.costs:
        precisions = []
        for rest, held in folds:
            svm = _svm(cost, protocol, seed)
            _fit(svm, x[rest], y[rest])
            precisions.append(metrics.average_precision_score(y[held], svm.decision_function(x[held])))
        if np.mean(precisions) > best[1]:
            best = (cost, float(np.mean(precisions)))
    return best


def _svm(cost: float, protocol: LinearSvm, seed: int) -> Any:
    svm = require("sklearn.svm", extra="eval", purpose="linear SVMs")
    return svm.LinearSVC(
        C=cost,
        class_weight={1: protocol.positive_weight, -1: 1},
        intercept_scaling=protocol.intercept_scaling,
        penalty=protocol.penalty,
        loss=protocol.loss,
        dual=protocol.dual,
        tol=protocol.tol,
        max_iter=protocol.max_iter,
        random_state=seed,
    )


def _fit(svm: Any, x: NDArray[np.float64], y: NDArray[np.int8]) -> bool:
    """Fit in place; whether it converged, which the protocol's limit of iterations need not let it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Liblinear failed to converge")
        svm.fit(x, y)
    return bool(svm.n_iter_ < svm.max_iter)


def _check_class(name: str, train: NDArray[np.int8], test: NDArray[np.int8], folds: int) -> None:
    fewest = min(int((train == 1).sum()), int((train == -1).sum()))
    if fewest < folds:
        raise DatasetError(
            f"the class {name} has {int((train == 1).sum())} training images with it and {int((train == -1).sum())} "
            f"without: too few for {folds} folds.",
            "Give more images, or leave this class out.",
        )
    if not (test == 1).any():
        raise DatasetError(f"no test image shows the class {name}.", "Give more images, or leave this class out.")
