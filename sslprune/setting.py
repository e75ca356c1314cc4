"""A recipe made real: its images, its network and pretext, its training loop."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sslprune import models, pretext
from sslprune.config import Recipe, Start
from sslprune.data import sources
from sslprune.data.device_loader import Channels, DeviceLoader, channel_statistics
from sslprune.data.source import Source
from sslprune.data.subsets import Spec, Subset, choose
from sslprune.errors import CheckpointError
from sslprune.files import write_atomic
from sslprune.masks import Mask
from sslprune.models import Preprocessing
from sslprune.models.foreign import load_foreign
from sslprune.pretext.base import Pretext
from sslprune.prune.criteria import Criterion, Prune, pruner
from sslprune.prune.lottery import TrainRound
from sslprune.prune.rewind import State
from sslprune.prune.schedule import Round
from sslprune.train.log import Log
from sslprune.train.loop import Learner, Loop, Span, check

SUBSET = "subset.txt"
"""In a run's folder: the images of the recipe's subset, one number a line."""


@dataclass(frozen=True)
class Options:
    """What does not decide a run's result, and so is not in its recipe.

    Args:
        device: "cpu", "cuda", ...
        data_dir: Where to look for data sets first.
        download: Whether torchvision may fetch a data set that is missing.
        progress: Whether to draw progress bars on stderr.
        checkpoint_every: Seconds between two checkpoints inside a round.
    """

    device: str = "cpu"
    data_dir: Path | None = None
    download: bool = False
    progress: bool = True
    checkpoint_every: float = 60.0


@dataclass(frozen=True)
class Setting:
    """Everything that a run trains with."""

    recipe: Recipe
    source: Source
    architecture: str
    preprocessing: Preprocessing
    learner: Learner
    weights: dict[str, nn.Parameter]
    loop: Loop

    @property
    def train(self) -> TrainRound:
        """Trains one round of the descent."""
        return partial(_train_round, self)

    @property
    def prune(self) -> Prune:
        """Finds the masks of the descent."""
        ladder = self.recipe.ladder
        criterion = Criterion(
            ladder.score, ladder.scope, ladder.guard, ladder.stem_keep, ladder.first_convs, seed=self.recipe.seed
        )
        return pruner(criterion, model=self.learner.backbone, size=self.preprocessing.size)

    def random_network(self, seed: int) -> nn.Module:
        """An untrained network of the same shape: the floor that trained ones are compared with."""
        return models.build(self.architecture, seed=seed).to(self.loop.device)


def prepare(recipe: Recipe, folder: Path, options: Options) -> Setting:
    """Open the data and build the network, its pretext and the loop that trains them.

    Args:
        recipe: What to train.
        folder: The run's folder, for checkpoints and log.
        options: Device, data folder, progress.

    Raises:
        DatasetMissingError: The training data is nowhere.
        DatasetError: It cannot be used, or lacks the labels that the pretext needs.
        UnknownPretextError: There is no such pretext.
        ArchitectureError: There is no such network.
        StepError: A round would be empty, or W_k lies outside of the training.
        CheckpointError: The checkpoint to start from is missing, is another, or does not fit; or the subset of this run
            was another before.
        RecipeError: The pretext has no such option, or the subset is not written like "images:0.1".
    """
    task = pretext.find(recipe.pretext)
    source = sources.open(recipe.data, data_dir=options.data_dir, download=options.download)
    seen = _seen(recipe, source, task)
    mean, std = _constants(recipe.start) or channel_statistics(seen.images)

    architecture = models.registered_name(recipe.arch, source.size)
    backbone = _backbone(recipe, architecture)
    head = pretext.build(
        recipe.pretext,
        backbone.num_features,  # type: ignore[arg-type]
        num_images=len(seen.images),
        num_classes=seen.num_classes,
        seed=recipe.seed,
        options=recipe.task,
    )
    learner = Learner(backbone, head).to(options.device)
    data = DeviceLoader(
        seen.images,
        seen.labels,
        batch=recipe.training.batch,
        mean=mean,
        std=std,
        seed=recipe.seed,
        padding=recipe.training.padding,
        flip=recipe.training.flip,
        copies=head.copies,
        labelled=task.mixes_labelled,
        device=options.device,
    )
    for number in (0, 1) if recipe.ladder.rungs else (0,):  # the later ones are as long: refused now, not after hours
        check(span(recipe, Round(number, 1.0, is_rung=False), data.per_epoch))
    log = Log(folder / "train.log.jsonl", progress=options.progress)
    if seen.subset is not None:
        _state(seen.subset, recipe, folder, log)
    loop = Loop(
        recipe.training,
        data,
        folder / "rounds",
        recipe.sha256(),
        log,
        checkpoint_every=options.checkpoint_every,
        device=torch.device(options.device),
    )
    preprocessing = Preprocessing(mean=mean, std=std, size=source.size)
    return Setting(recipe, source, architecture, preprocessing, learner, models.prunable(backbone), loop)


@dataclass(frozen=True)
class _Seen:
    """What the pretext sees: images, labels (-1: hidden; None: none, or not needed), classes of these, the part."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    num_classes: int
    subset: Subset | None = None


def _seen(recipe: Recipe, source: Source, task: type[Pretext]) -> _Seen:
    train = source.split("train")
    images = train.images[: recipe.limit]
    labels = None if train.labels is None else train.labels[: recipe.limit]
    if not recipe.subset:
        return _Seen(images, labels, len(source.classes)) if task.needs_labels else _Seen(images, None, 0)
    subset = choose(Spec.parse(recipe.subset), labels, data=source.name, count=len(images))
    known = subset.hide(labels) if labels is not None and task.needs_labels else None
    if task.mixes_labelled:
        return _Seen(images, known, len(subset.classes), subset)
    chosen = subset.indices
    return _Seen(
        images[chosen],
        None if known is None else known[chosen],
        0 if known is None else len(subset.classes),
        subset,
    )


def _state(subset: Subset, recipe: Recipe, folder: Path, log: Log) -> None:
    """Leave the list in the run's folder, and its checksum in the log of the first round."""
    path = folder / SUBSET
    if path.exists() and path.read_text() != subset.text:
        raise CheckpointError(f"{path} lists other images: the data has changed since.", "Use another run folder.")
    if not path.exists():
        write_atomic(path, subset.text)
        counts = {"images": len(subset.indices), "classes": len(subset.classes)}
        log.write("subset", round=0, subset=recipe.subset, sha256=subset.sha256, **counts)


def _backbone(recipe: Recipe, architecture: str) -> nn.Module:
    """Fresh weights, or those of the checkpoint to start from without its classifier."""
    start = recipe.start
    if not start.source:
        return models.build(architecture, seed=recipe.seed)
    foreign = load_foreign(
        start.source, architecture, prefix=start.prefix, rename=start.rename, sha256=start.sha256
    ).model
    foreign.reset_classifier(0)  # type: ignore[operator]
    return foreign.train()


def _constants(start: Start) -> tuple[Channels, Channels] | None:
    if not start.mean:
        return None
    (red, green, blue), (reds, greens, blues) = start.mean, start.std
    return (red, green, blue), (reds, greens, blues)


def _train_round(setting: Setting, learner: nn.Module, mask: Mask, this: Round) -> State:
    assert isinstance(learner, Learner)
    return setting.loop.train(learner, setting.weights, mask, span(setting.recipe, this, setting.loop.data.per_epoch))


def span(recipe: Recipe, this: Round, per_epoch: int) -> Span:
    """Which updates a round makes: the first all of them, a later one from k to the end, or a schedule of its own.

    After a rewind the schedule goes on from k with a fresh optimiser (the paper does not say whether it restarts). A
    run that rewinds to the weights that it was given does so at k = 0.
    """
    ladder, total = recipe.ladder, recipe.training.length.updates(per_epoch)
    if recipe.mask.family:  # the mask is there already: one training, none of whose states is returned to
        return Span(0, 0, total, label=recipe.name)
    k = 0 if ladder.mode == "pretrained" else ladder.rewind.updates(per_epoch)
    label = f"{recipe.name} keep {this.keep:.4g}"
    if this.number == 0:
        return Span(0, 0, total, snapshot=k, label=label)
    if ladder.mode != "warm":
        end = total if ladder.retrain is None else k + ladder.retrain.updates(per_epoch)
        return Span(this.number, k, end, label=label)
    end = total if ladder.retrain is None else ladder.retrain.updates(per_epoch)
    return Span(this.number, 0, end, peak=ladder.retrain_lr, label=label)
