"""Linear classifiers by SGD on frozen features, for data sets as large as ImageNet and Places205 (Goyal et al. 2019).

Images are read, seen at random and run through the network anew in every epoch, so nothing is kept but one classifier a
stage; all stages are trained from the same pass.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslprune.data.draws import generator_for
from sslprune.errors import DatasetError, DivergedError
from sslprune.evaluate.augment import augment
from sslprune.evaluate.batches import Data, batches, is_indexed, is_pictures, length, preparation, to_device
from sslprune.evaluate.features import frozen, stage_name
from sslprune.evaluate.labelled import label_tensor
from sslprune.evaluate.protocol import Protocol
from sslprune.evaluate.reader import Reader
from sslprune.models.head import POOLED

ALL = "all"
"""The stage name for: every stage of the network."""


@dataclass(frozen=True)
class SgdLinear(Protocol):
    """The constants of the linear classifier (arXiv 1905.01235, ImageNet and Places205; ResNet-50).

    Attributes:
        iterations: Steps: 28 epochs of ImageNet, 14 of Places205.
        drop_every: Steps after which the learning rate is multiplied by `gamma`, again and again.
        gamma: See `drop_every`.
        lr, momentum, nesterov, weight_decay, batch: Of SGD. (AlexNet: a weight decay of 5e-4.)
        weight_std: The classifier starts from a normal distribution so wide, its biases from 0.
        batch_norm: Features are normalised so before the classifier.
        map_dims: A stage's map is average-pooled to as many cells as keep it within so many features.
        augmentation: One of `sslprune.evaluate.augment.AUGMENTATIONS`, of uint8 pictures once they have the network's
            size; images that come pre-processed are taken as they are.
        test: How test images are seen; a `folder:` gives their centre square.
    """

    iterations: int = 140_000
    drop_every: int = 40_000
    gamma: float = 0.1
    lr: float = 0.01
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-4
    batch: int = 256
    weight_std: float = 0.01
    batch_norm: str = "without scale and shift, running statistics with momentum 0.1 for testing"
    map_dims: int = 9216
    augmentation: str = "resized-crop+flip"
    test: str = "centre square at the network's size"

    def scaled(self, iterations: int) -> SgdLinear:
        """The same in another number of steps, its drops at the same places in proportion: for small data sets."""
        return replace(
            self, iterations=iterations, drop_every=max(1, round(self.drop_every * iterations / self.iterations))
        )

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0.

        >>> [round(SgdLinear().rate(step), 8) for step in (0, 39_999, 40_000, 139_999)]
        [0.01, 0.01, 0.001, 1e-05]
        """
        return float(self.lr * self.gamma ** (step // self.drop_every))


@dataclass(frozen=True)
class SgdResult:
    """What the linear classifiers reached.

    Attributes:
        accuracy: Stage to top-1 in per cent on the test set, shallow to deep.
        dims: Stage to how many features.
        losses: Stage to the mean training loss of the last hundred steps.
        protocol: By which constants.
        augmented: Whether images were augmented here: not where they came pre-processed.
        counts: Images: "n_train" (seen, with repeats), "n_test".
        extracted: What else a row says of the features (`sslprune.evaluate.reader.Reader.described`).
    """

    accuracy: dict[str, float]
    dims: dict[str, int]
    losses: dict[str, float]
    protocol: SgdLinear
    augmented: bool
    counts: dict[str, int]
    extracted: dict[str, str] = field(default_factory=dict)


def sgd_eval(
    model: nn.Module,
    train: Data,
    test: Data,
    *,
    num_classes: int,
    stage: int | str = POOLED,
    protocol: SgdLinear = SgdLinear(),
    seed: int = 0,
    device: torch.device | str | None = None,
    preprocessing: Callable[[Tensor], Tensor] | None = None,
    progress: bool = False,
    runtime: str = "torch",
) -> SgdResult:
    """Train linear classifiers on a frozen network, which stays as it is, bit for bit, and measure them.

    Args:
        model: A backbone with timm's API.
        train: (images, labels), a Dataset of such pairs, or a DataLoader, which then decides order and batches.
        test: The same.
        num_classes: Labels are below it.
        stage: A stage, "pooled" (the last representation), or "all" for every stage at once.
        protocol: The constants; `SgdLinear().scaled(steps)` for small data.
        seed: Of the classifiers, the order of images and their views.
        device: Where to compute; None stays where the model is.
        preprocessing: uint8 [N,H,W,3] to float32 [N,3,H,W]; None takes the model's own.
        progress: Whether to draw a bar on stderr.
        runtime: What runs the network, see `sslprune.evaluate.features.extract`; "auto" counts the views.

    Raises:
        DatasetError: Images and labels do not fit, or there are none.
        ArchitectureError: The network has no such stage.
        DivergedError: A loss is not finite.
    """
    from tqdm import tqdm

    name = None if stage == ALL else stage_name(model, stage)
    read = Reader(model, name, None, runtime=runtime, expected=protocol.iterations * protocol.batch)
    prepare = preparation(model, preprocessing)
    heads: dict[str, _Classifier] = {}
    losses: dict[str, list[float]] = {}
    step, seen, epoch, augmented = 0, 0, 0, False
    with (
        frozen(model, device) as here,
        tqdm(total=protocol.iterations, desc="linear", disable=not progress, file=sys.stderr) as bar,
    ):
        while step < protocol.iterations:
            before = step
            for images, labels in _epoch(train, protocol.batch, seed, epoch):
                if step == protocol.iterations:
                    break
                if len(images) < 2:  # batch norm has no statistics of one image
                    continue
                with torch.inference_mode():
                    x = prepare(to_device(images, here))
                    if is_pictures(images):
                        augmented = protocol.augmentation != "none"
                        x = augment(x, protocol.augmentation, generator_for(seed, "linear views", step))
                    found = read(x)
                y = _labels(labels, len(images), num_classes, "train").to(here)
                for place, rows in found.items():
                    if place not in heads:
                        heads[place] = _Classifier(place, rows.shape[1], num_classes, protocol, seed, here)
                    losses.setdefault(place, []).append(heads[place].step(rows.clone(), y, protocol.rate(step)))
                step, seen = step + 1, seen + len(y)
                bar.update()
            epoch += 1
            if step == before:
                raise DatasetError("the train set has no batch of two images.", "Give more labelled images.")
        right, tested = dict.fromkeys(heads, 0), 0
        for images, labels in batches(test, protocol.batch):
            y = _labels(labels, len(images), num_classes, "test").to(here)
            with torch.inference_mode():
                found = read(prepare(to_device(images, here)))
                for place, rows in found.items():
                    right[place] += int((heads[place](rows).argmax(1) == y).sum())
            tested += len(y)
    if not tested:
        raise DatasetError("the test set is empty.", "Give at least one labelled image.")
    return SgdResult(
        accuracy={place: 100 * count / tested for place, count in right.items()},
        dims={place: head.linear.in_features for place, head in heads.items()},
        losses={place: sum(each[-100:]) / len(each[-100:]) for place, each in losses.items()},
        protocol=protocol,
        augmented=augmented,
        counts={"n_train": seen, "n_test": tested},
        extracted=read.described(),
    )


class _Classifier:
    """Batch norm without scale and shift, a linear layer, and the optimiser that trains it."""

    def __init__(
        self, stage: str, dims: int, num_classes: int, protocol: SgdLinear, seed: int, device: torch.device
    ) -> None:
        self.stage = stage
        self.norm = nn.BatchNorm1d(dims, affine=False, device=device)
        # Built without a draw from the global random state.
        self.linear = nn.utils.skip_init(nn.Linear, dims, num_classes)
        generator = generator_for(seed, "linear", stage)
        with torch.no_grad():
            self.linear.weight.normal_(std=protocol.weight_std, generator=generator)
            self.linear.bias.zero_()
        self.linear.to(device)
        self.optimizer = torch.optim.SGD(
            self.linear.parameters(),
            lr=protocol.lr,
            momentum=protocol.momentum,
            nesterov=protocol.nesterov,
            weight_decay=protocol.weight_decay,
        )

    def __call__(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.norm.eval()(x))
        return logits

    def step(self, x: Tensor, y: Tensor, rate: float) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.enable_grad():
            loss = F.cross_entropy(self.linear(self.norm.train()(x)), y)
            self.optimizer.zero_grad()
            loss.backward()
        self.optimizer.step()
        value = float(loss.detach())
        if not value < float("inf"):
            raise DivergedError(f"the loss of the linear classifier on {self.stage} is {value}.", "Check the features.")
        return value


def _epoch(train: Data, batch: int, seed: int, epoch: int) -> Any:
    if not is_indexed(train):
        return batches(train, batch)
    count = length(train)
    assert count is not None
    size = max(1, min(batch, count))
    order = torch.randperm(count, generator=generator_for(seed, "linear order", epoch))
    return batches(train, size, order[: count // size * size].tolist())


def _labels(labels: Tensor | None, count: int, num_classes: int, what: str) -> Tensor:
    if labels is None:
        raise DatasetError(f"the {what} images have no labels.", "Give (images, labels), or items (image, label).")
    checked = label_tensor(labels, count, what=what)
    if int(checked.max()) >= num_classes:
        raise DatasetError(f"a {what} label is {int(checked.max())}.", f"Labels are below {num_classes} classes.")
    return checked
