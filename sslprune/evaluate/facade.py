"""One call from a model and images to features or to a number: `features`, `linear_eval`, `knn_eval`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor, nn

from sslprune.evaluate.batches import Data, length
from sslprune.evaluate.features import extract, read_labelled, stage_name
from sslprune.evaluate.knn import TEMPERATURE
from sslprune.evaluate.labelled import Images
from sslprune.evaluate.probe import Probe
from sslprune.evaluate.reader import Reader
from sslprune.evaluate.transfer import Measured, best_stage, measure_knn, measure_linear, placed
from sslprune.models.head import POOLED, Head
from sslprune.runtime.sparse_model import SparseModel

BEST = "best"
"""The stage name for: the stage that does best on the held-out part of the training set."""

_Measure: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], Measured]


@dataclass(frozen=True, eq=False)
class LinearResult:
    """What a linear probe reached.

    Attributes:
        accuracy: Top-1 in per cent on the test set.
        stage: Where it sits.
        pool: Cells a side that its maps are pooled to.
        held_out: Stage to top-1 in per cent on the held-out part of the training set, for every stage that was tried.
        probe: The fitted probe.
        runtime: What extracted the features: "torch", or "sparse" for the sparse engine.
    """

    accuracy: float
    stage: str
    pool: int
    held_out: dict[str, float]
    probe: Probe
    runtime: str = "torch"

    def head(self, task: str) -> Head:
        """The probe as a head to save or to attach, named `task`."""
        return Head(task, self.stage, self.pool, self.probe)


@dataclass(frozen=True)
class KnnResult:
    """What the weighted nearest neighbours reached.

    Attributes:
        accuracy: Top-1 in per cent on the test set.
        stage: Where the features are from.
        pool: Cells a side that its maps are pooled to.
        held_out: Stage to top-1 in per cent on the held-out part of the training set, for every stage that was tried.
        k: Neighbours that voted.
        temperature: Of their votes.
        runtime: What extracted the features: "torch", or "sparse" for the sparse engine.
    """

    accuracy: float
    stage: str
    pool: int
    held_out: dict[str, float]
    k: int
    temperature: float
    runtime: str = "torch"


def features(
    model: nn.Module | SparseModel,
    images: Data | Images,
    *,
    stage: int | str = POOLED,
    runtime: str = "auto",
    **options: Any,
) -> Tensor:
    """Frozen features of images, by default the network's own pooled ones: float32 [N,num_features] on the CPU.

    Args:
        model: A backbone with timm's API, for example from `sslprune.load`; or what that gives with runtime="sparse".
        images: uint8 [N,H,W,3], or already pre-processed float [N,3,H,W]; or a Dataset or DataLoader of such images,
            with labels or without.
        stage: See `sslprune.evaluate.features.extract`, as for all other options and the errors.
        runtime: "auto" takes the sparse engine for many images by a network that was pruned enough, torch for all
            else; "torch" or "sparse" decide it (see `sslprune.evaluate.reader.Reader`). What was taken goes to the log
            `sslprune.evaluate.reader`, as information.
        **options: `pool`, `batch_size`, `device`, `preprocessing`, `progress`.
    """
    network, runtime = _network(model, runtime)
    return extract(network, images, stage=stage, runtime=runtime, **options)


def linear_eval(
    model: nn.Module | SparseModel,
    train: Data,
    test: Data,
    *,
    stage: int | str = BEST,
    pool: int = 4,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    runtime: str = "auto",
    **options: Any,
) -> LinearResult:
    """Fit a linear probe on frozen features of `train`, measure it on `test`.

    Args:
        model: A backbone with timm's API, or what `sslprune.load` gives with runtime="sparse"; it stays as it is.
        train: Images (uint8 [N,H,W,3] or pre-processed float [N,3,H,W]) and integer labels [N]; or a Dataset or
            DataLoader of such pairs.
        test: The same.
        stage: A stage of the network, "pooled", or "best": the one with the best held-out accuracy in training.
        pool: Each map is average-pooled to `pool` x `pool` cells.
        seed: Decides which training images are held out.
        classes: Class names in label order.
        runtime: What extracts the features, see `features`.
        **options: `batch_size`, `device`, `preprocessing`, `progress` of `sslprune.evaluate.features.extract`.

    Raises:
        DatasetError: Images and labels do not fit, a feature is not finite, or there is one class only.
        ArchitectureError: The network has no such stage.
    """

    def measure(train_x: Tensor, train_y: Tensor, test_x: Tensor, test_y: Tensor) -> Measured:
        return measure_linear(train_x, train_y, test_x, test_y, classes=classes, seed=seed)

    chosen, held_out, found, by = _measure(model, train, test, stage, pool, runtime, options, measure)
    assert found.probe is not None
    return LinearResult(found.accuracy, chosen, pool, held_out, found.probe, by)


def knn_eval(
    model: nn.Module | SparseModel,
    train: Data,
    test: Data,
    *,
    stage: int | str = BEST,
    pool: int = 4,
    seed: int = 0,
    k: int | None = None,
    temperature: float = TEMPERATURE,
    runtime: str = "auto",
    **options: Any,
) -> KnnResult:
    """Classify frozen features of `test` by their nearest neighbours among those of `train`.

    Args:
        model, train, test, stage, pool, seed, runtime, **options: See `linear_eval`.
        k: Neighbours that vote; None takes 200, or a twentieth of the training set where that is less.
        temperature: Of their votes.

    Raises:
        DatasetError: Images and labels do not fit, a feature is not finite, or k is out of range.
        ArchitectureError: The network has no such stage.
    """

    def measure(train_x: Tensor, train_y: Tensor, test_x: Tensor, test_y: Tensor) -> Measured:
        return measure_knn(train_x, train_y, test_x, test_y, seed=seed, k=k, temperature=temperature)

    chosen, held_out, found, by = _measure(model, train, test, stage, pool, runtime, options, measure)
    return KnnResult(found.accuracy, chosen, pool, held_out, found.protocol["k"], temperature, by)


def _measure(
    model: nn.Module | SparseModel,
    train: Data,
    test: Data,
    stage: int | str,
    pool: int,
    runtime: str,
    extraction: dict[str, Any],
    measure: _Measure,
) -> tuple[str, dict[str, float], Measured, str]:
    network, runtime = _network(model, runtime)
    name = None if stage == BEST else stage_name(network, stage)
    reader = Reader(network, name, pool, runtime=runtime, expected=length(train))
    train_x, train_y = read_labelled(network, reader, train, **extraction)
    test_x, test_y = read_labelled(network, reader, test, what="test", **extraction)
    device = extraction.get("device")
    train_x, test_x = placed(train_x, device), placed(test_x, device)
    found = {name: measure(x, train_y, test_x[name], test_y) for name, x in train_x.items()}
    held_out = {name: each.held_out for name, each in found.items()}
    chosen = best_stage(held_out)
    return chosen, held_out, found[chosen], reader.runtime


def _network(model: nn.Module | SparseModel, runtime: str) -> tuple[nn.Module, str]:
    """The module, and what is to run it: a model that was loaded for the engine asks for it."""
    if isinstance(model, SparseModel):
        return model.network, "sparse" if runtime == "auto" else runtime
    return model, runtime
