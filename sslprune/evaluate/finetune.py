"""Fine-tuning: all weights of a network on labelled images, its mask held after every step.

What was pruned stays exactly 0, so that the result is as sparse as the start and saves as a small file again. Masks may
get smaller on the way (`shrink`), which is how pruning during transfer is compared with pruning before it (Caron et al.
2020, arXiv 2001.03554, Fig. 2).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslprune.data.draws import generator_for
from sslprune.errors import ArchitectureError, DatasetError, DivergedError, MaskError
from sslprune.evaluate.augment import augment
from sslprune.evaluate.batches import (
    Data,
    Prepare,
    batches,
    is_indexed,
    is_pair,
    is_pictures,
    length,
    preparation,
    to_device,
)
from sslprune.evaluate.features import frozen
from sslprune.evaluate.labelled import label_shape, label_tensor
from sslprune.evaluate.protocol import Protocol
from sslprune.evaluate.svm import average_precision
from sslprune.masks import Mask
from sslprune.models.anatomy import prunable

Shrink = Callable[[int, dict[str, nn.Parameter], Mask], Mask]
"""(epochs done, the masked weights, the mask so far) to the mask from here on: the same, or a smaller one."""


@dataclass(frozen=True)
class Finetune(Protocol):
    """The constants of a fine-tuning.

    Attributes:
        epochs: Passes over the training set.
        lr: The first learning rate.
        batch: Images a step.
        optimizer, momentum, nesterov, weight_decay: Of the optimiser; all weights, classifier and biases alike.
        schedule: "cosine" down to 0 step by step, or "step": times `gamma` after each of `milestones`.
        milestones: Epochs.
        gamma: See `schedule`.
        augmentation: One of `sslprune.evaluate.augment.AUGMENTATIONS`, of uint8 pictures once they have the network's
            size; images that come pre-processed are taken as they are.
        loss: "cross entropy" of one label an image, or "binary cross entropy" of each class where an image may show
            several, the mean over all entries that are not 0.
        test: How test images are seen.
        source: Where the constants are from.
    """

    epochs: int = 10
    lr: float = 0.01
    batch: int = 128
    optimizer: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-4
    schedule: Literal["cosine", "step"] = "cosine"
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    augmentation: str = "crop+flip"
    loss: Literal["cross entropy", "binary cross entropy"] = "cross entropy"
    test: str = "whole image at the network's size"
    source: str = "sslprune"

    def scaled(self, epochs: int) -> Finetune:
        """The same in another number of epochs, its milestones at the same places in proportion."""
        milestones = tuple(round(milestone * epochs / self.epochs) for milestone in self.milestones)
        return replace(self, epochs=epochs, milestones=milestones)

    def rate(self, step: int, per_epoch: int) -> float:
        """The learning rate of a step, counted from 0."""
        if self.schedule == "cosine":
            return self.lr * 0.5 * (1 + math.cos(math.pi * step / (self.epochs * per_epoch)))
        return self.lr * float(self.gamma ** sum(step >= milestone * per_epoch for milestone in self.milestones))


VOC07 = Finetune(
    epochs=90,
    lr=0.01,
    batch=128,
    weight_decay=1e-6,
    schedule="step",
    milestones=(50, 65, 80),
    augmentation="resized-crop+flip",
    loss="binary cross entropy",
    source="epochs, lr, milestones: Caron et al. 2020, section 4.1; batch, weight decay, Nesterov, views: Goyal et al. "
    "2019, legacy task; loss: ours",
)
"""Full fine-tuning on VOC07, multi-label, measured by mean average precision."""

CIFAR = Finetune(
    epochs=182,
    lr=0.1,
    batch=256,
    nesterov=False,
    weight_decay=2e-4,
    schedule="step",
    milestones=(91, 136),
    source="Chen et al., CVPR 2021 (arXiv 2012.06908); views: ours",
)
"""Fine-tuning on CIFAR-10 and CIFAR-100."""


@dataclass(frozen=True, eq=False)
class FinetuneResult:
    """What a fine-tuning reached; the network itself was changed in place.

    Attributes:
        value: Top-1, or mean average precision, in per cent on the test set; None without a test set.
        metric: "top1" or "map".
        per_class: Average precision of each class in per cent; empty for "top1".
        losses: Mean training loss of each epoch.
        mask: Which weights are kept at the end.
        protocol: By which constants.
        augmented: Whether images were augmented here: not where they came pre-processed.
        counts: "n_train" (images of the last epoch), "n_test", "prunable", "nonzero".
    """

    value: float | None
    metric: str
    per_class: tuple[float, ...]
    losses: tuple[float, ...]
    mask: Mask
    protocol: Finetune
    augmented: bool
    counts: dict[str, int]


def finetune(
    model: nn.Module,
    train: Data,
    test: Data | None = None,
    *,
    protocol: Finetune | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    batch: int | None = None,
    num_classes: int | None = None,
    classes: Sequence[str] | None = None,
    mask: Mask | None = None,
    shrink: Shrink | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    preprocessing: Callable[[Tensor], Tensor] | None = None,
    progress: bool = False,
) -> FinetuneResult:
    """Train all weights of a network on labelled images, in place; pruned weights are exactly 0 after every step.

    Equal arguments give equal weights, bit for bit, on one machine and number of threads; the global random state is
    left alone. The network gets a fresh classifier unless it has one with as many outputs as there are classes (a
    published probe is dropped: it would not be saved). Its training flags are as before afterwards.

    Args:
        model: A network with timm's API, for example from `sslprune.load`.
        train: Images (uint8 [N,H,W,3] or pre-processed float [N,3,H,W]) and labels: integers [N], or -1, 0 and 1 for
            each class, [N,C]. Or a Dataset of such items, or a DataLoader of such batches, read in its own order.
        test: The same, to measure on; None measures nothing.
        protocol: The constants; None takes `Finetune()`, with the binary loss where labels are [N,C].
        epochs, lr, batch: Instead of the protocol's; milestones move in proportion.
        num_classes: Outputs; None takes one more than the largest training label.
        classes: Their names in label order, which `sslprune.save` keeps with the classifier; None takes those that the
            training Dataset states in its attribute `classes`, if it does.
        mask: What is kept; None takes that of the loaded network, or its weights that are not 0.
        shrink: Called after every epoch but the last.
        seed: Of the classifier, the order of images, their views and dropout.
        device: Where to train; None stays where the model is. It is moved back afterwards.
        preprocessing: uint8 [N,H,W,3] to float32 [N,3,H,W]; None takes the model's own.
        progress: Whether to draw a bar on stderr.

    Returns:
        The result. `model.sslprune`, where there is one, has the mask and keep of the end, so that `sslprune.save`
        writes a small file.

    Raises:
        DatasetError: Images and labels do not fit, there are more or fewer class names than outputs, or a constant of
            the protocol is impossible.
        MaskError: The mask is of another network, or `shrink` gave one that is no part of the one before.
        DivergedError: The loss is not finite; the network is as the last step left it.
        ArchitectureError: The network has no classifier to replace.
    """
    first = _first_labels(train)
    multi = first.ndim == 2
    chosen = _constants(protocol, multi, epochs, lr, batch)
    outputs = num_classes or (first.shape[1] if multi else _largest_label(train, first) + 1)
    named = _class_names(train, classes, outputs)
    with _seeded(seed, model, device):
        _fit_classifier(model, outputs)
        # Moved with the model: a mask on another device would be copied at every step.
        held = _starting_mask(model, mask)
        prepare = preparation(model, preprocessing)
        losses, held, seen, augmented = _train(
            model, train, chosen, held, shrink, seed, device, prepare, multi, progress
        )
        value, per_class, tested = _measure(model, test, chosen.batch, device, prepare, multi)
    _restate(model, held, named)
    weights = held.weights_of(model).values()
    return FinetuneResult(
        value=value,
        metric="map" if multi else "top1",
        per_class=per_class,
        losses=losses,
        mask=held,
        protocol=chosen,
        augmented=augmented,
        counts={
            "n_train": seen,
            "n_test": tested,
            "prunable": held.prunable,
            "nonzero": sum(int(weight.count_nonzero()) for weight in weights),
        },
    )


def _constants(
    protocol: Finetune | None, multi: bool, epochs: int | None, lr: float | None, batch: int | None
) -> Finetune:
    chosen = protocol or Finetune(loss="binary cross entropy" if multi else "cross entropy")
    if epochs is not None:
        chosen = chosen.scaled(epochs)
    chosen = replace(chosen, lr=chosen.lr if lr is None else lr, batch=chosen.batch if batch is None else batch)
    if chosen.epochs < 1 or chosen.batch < 1 or not 0 < chosen.lr < math.inf or chosen.optimizer != "sgd":
        raise DatasetError(
            f"cannot fine-tune {chosen.epochs} epochs in batches of {chosen.batch} at lr {chosen.lr} by "
            f"{chosen.optimizer}.",
            "Give at least one epoch, batches of one image or more, a positive rate, and sgd.",
        )
    if multi != (chosen.loss == "binary cross entropy"):
        raise DatasetError(
            f"the loss {chosen.loss!r} does not go with labels of {'several classes' if multi else 'one class'} an "
            "image.",
            "Give labels [N] for cross entropy, [N,C] of -1, 0 and 1 for binary cross entropy.",
        )
    return chosen


def _train(
    model: nn.Module,
    train: Data,
    protocol: Finetune,
    mask: Mask,
    shrink: Shrink | None,
    seed: int,
    device: torch.device | str | None,
    prepare: Prepare,
    multi: bool,
    progress: bool,
) -> tuple[tuple[float, ...], Mask, int, bool]:
    from tqdm import tqdm

    losses: list[float] = []
    seen, augmented = 0, False
    # In eval mode on its device first: `frozen` brings the flags and the device back, whatever happens below.
    with frozen(model, device) as here:
        model.train()
        mask = mask.to(here)
        weights = mask.weights_of(model)
        mask.hold_(weights)
        optimizer = torch.optim.SGD(
            model.parameters(),
            lr=protocol.lr,
            momentum=protocol.momentum,
            nesterov=protocol.nesterov,
            weight_decay=protocol.weight_decay,
        )
        per_epoch, step = _steps(train, protocol.batch), 0
        bar = tqdm(total=per_epoch * protocol.epochs, desc="fine-tune", disable=not progress, file=sys.stderr)
        with bar:
            for epoch in range(protocol.epochs):
                total, seen = 0.0, 0
                for images, labels in _epoch(train, protocol.batch, seed, epoch):
                    x = prepare(to_device(images, here))
                    if is_pictures(images):
                        augmented = protocol.augmentation != "none"
                        x = augment(x, protocol.augmentation, generator_for(seed, "fine-tune views", step))
                    # A DataLoader need not tell how many batches it has.
                    rate = protocol.rate(min(step, protocol.epochs * per_epoch - 1), per_epoch)
                    loss = _step(model, optimizer, rate, x, labels.to(here), multi)
                    mask.hold_(weights)
                    if not math.isfinite(loss):
                        raise DivergedError(
                            f"the loss of fine-tuning is {loss} at step {step}.", "Lower the learning rate."
                        )
                    total, seen, step = total + loss * len(x), seen + len(x), step + 1
                    bar.update()
                    bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                if not seen:
                    raise DatasetError("the train set is empty.", "Give at least one labelled image.")
                losses.append(total / seen)
                if shrink is not None and epoch + 1 < protocol.epochs:
                    mask = _shrunk(shrink(epoch + 1, weights, mask).to(here), mask)
                    mask.hold_(weights)
    return tuple(losses), mask.to("cpu"), seen, augmented


def _step(
    model: nn.Module, optimizer: torch.optim.Optimizer, rate: float, x: Tensor, labels: Tensor, multi: bool
) -> float:
    for group in optimizer.param_groups:
        group["lr"] = rate
    with torch.enable_grad():
        logits = model(x)
        if int(labels.max()) >= logits.shape[1]:
            raise DatasetError(
                f"a train label is {int(labels.max())}, but the network has {logits.shape[1]} outputs.",
                "Give num_classes, one more than the largest label.",
            )
        loss = _binary(logits, labels) if multi else F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
    optimizer.step()
    return float(loss.detach())


def _binary(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean binary cross entropy over the entries that are not 0."""
    counted = (labels != 0).to(logits)
    each = F.binary_cross_entropy_with_logits(logits, (labels > 0).to(logits), reduction="none")
    return (each * counted).sum() / counted.sum().clamp(min=1)


def _shrunk(after: Mask, before: Mask) -> Mask:
    if not after.is_subset_of(before):
        raise MaskError(
            "a mask brought pruned weights back while fine-tuning.", "Prune within the mask that `shrink` is given."
        )
    return after


@torch.inference_mode()
def _measure(
    model: nn.Module,
    test: Data | None,
    batch: int,
    device: torch.device | str | None,
    prepare: Prepare,
    multi: bool,
) -> tuple[float | None, tuple[float, ...], int]:
    if test is None:
        return None, (), 0
    logits, labels = [], []
    with frozen(model, device) as here:
        for images, some in batches(test, batch):
            logits.append(model(prepare(to_device(images, here))).float().cpu())
            labels.append(_need(some, "test"))
    if not logits:
        raise DatasetError("the test set is empty.", "Give at least one labelled image.")
    scores, truth = torch.cat(logits), torch.cat(labels)
    if not multi:
        known = label_tensor(truth, len(scores), what="test")
        return float((scores.argmax(1) == known).double().mean() * 100), (), len(known)
    shown = label_shape(truth, len(scores), what="test").numpy()
    if shown.shape[1] != scores.shape[1] or not (shown == 1).any(0).all():
        raise DatasetError(
            f"the test set shows {int((shown == 1).any(0).sum())} of {scores.shape[1]} classes.",
            "Give test images of every class.",
        )
    columns = zip(shown.T, scores.double().numpy().T, strict=True)
    each = tuple(100 * average_precision(column[column != 0] > 0, score[column != 0]) for column, score in columns)
    return float(np.mean(each)), each, len(shown)


def _fit_classifier(model: nn.Module, outputs: int) -> None:
    """A fresh classifier, unless the network has one of so many outputs."""
    net: Any = model
    if not hasattr(model, "reset_classifier"):
        raise ArchitectureError(
            f"{type(model).__name__} has no reset_classifier().", "Take a network with timm's API, as sslprune.load's."
        )
    if getattr(model, "num_classes", 0) != outputs or getattr(model, "probe", None) is not None:
        home = next(model.parameters()).device
        training = model.training
        net.reset_classifier(outputs)
        model.to(home).train(training)


def _starting_mask(model: nn.Module, mask: Mask | None) -> Mask:
    own = getattr(getattr(model, "sslprune", None), "mask", None)
    if mask is not None:
        return mask
    return own if isinstance(own, Mask) else Mask.nonzero(prunable(model))


def _class_names(train: Data, given: Sequence[str] | None, outputs: int) -> tuple[str, ...]:
    if given is None:
        stated = getattr(getattr(train, "dataset", train), "classes", ())
        names = tuple(stated) if isinstance(stated, (list, tuple)) else ()
        return names if len(names) == outputs and all(isinstance(name, str) for name in names) else ()
    if len(given) != outputs:
        raise DatasetError(
            f"there are {len(given)} class names for {outputs} outputs.", "Give one name for each, in label order."
        )
    return tuple(given)


def _restate(model: nn.Module, mask: Mask, classes: tuple[str, ...]) -> None:
    info = getattr(model, "sslprune", None)
    if is_dataclass(info) and not isinstance(info, type) and hasattr(info, "mask"):
        model.sslprune = replace(info, mask=mask, keep=mask.keep, classes=classes)  # type: ignore[assignment]


@contextmanager
def _seeded(seed: int, model: nn.Module, device: torch.device | str | None) -> Iterator[None]:
    """In the body the global random state, from which classifiers and dropout draw, starts from `seed`."""
    homes = {tensor.device for tensor in model.parameters()} | ({torch.device(device)} if device else set())
    cuda = sorted({home.index or 0 for home in homes if home.type == "cuda"})
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        for index in cuda:
            torch.cuda.default_generators[index].manual_seed(seed)
        yield


def _epoch(train: Data, batch: int, seed: int, epoch: int) -> Iterator[tuple[Any, Tensor]]:
    order: Sequence[int] | None = None
    size = batch
    if is_indexed(train):
        count = length(train)
        assert count is not None
        size = min(batch, count)
        generator = generator_for(seed, "fine-tune order", epoch)
        # The last batch is left out where it is short: batch norm has no statistics of one image.
        order = torch.randperm(count, generator=generator)[: count // size * size].tolist()
    for images, labels in batches(train, size, order):
        yield images, _checked(_need(labels, "train"), len(images))


def _steps(train: Data, batch: int) -> int:
    count = length(train)
    if is_indexed(train):
        assert count is not None
        return count // min(batch, count)
    try:
        return max(1, len(train))  # type: ignore[arg-type]
    except TypeError:
        raise DatasetError(
            "a stream of images does not tell how many steps an epoch has.",
            "Give a DataLoader or Dataset with a length.",
        ) from None


def _first_labels(train: Data) -> Tensor:
    if is_pair(train):
        labels = train[1]  # type: ignore[index]
        tensor = torch.as_tensor(np.array(labels) if not isinstance(labels, Tensor) else labels)
        return _checked(tensor, len(train[0]))  # type: ignore[index]
    order = [0] if is_indexed(train) else None
    for images, labels in batches(train, 1, order):
        return _checked(_need(labels, "train"), len(images))
    raise DatasetError("the train set is empty.", "Give at least one labelled image.")


def _largest_label(train: Data, first: Tensor) -> int:
    if is_pair(train):
        return int(first.max())
    known = getattr(getattr(train, "dataset", train), "classes", None)
    if known is not None:
        return len(known) - 1
    if not is_indexed(train):
        return max(int(_need(labels, "train").max()) for _, labels in batches(train, 256))
    count = length(train)
    assert count is not None
    return max(int(_need(labels, "train").max()) for _, labels in batches(train, 256, range(count)))


def _need(labels: Tensor | None, what: str) -> Tensor:
    if labels is None:
        raise DatasetError(f"the {what} images have no labels.", "Give (images, labels), or items (image, label).")
    return labels.cpu()


def _checked(labels: Tensor, count: int) -> Tensor:
    return label_shape(labels, count) if labels.ndim == 2 else label_tensor(labels, count)
