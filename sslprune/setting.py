"""A recipe made real: its images, its network and pretext, its training loop."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from sslprune import models, pretext, ranks
from sslprune.config import Recipe
from sslprune.data.source import Source
from sslprune.data.subsets import Subset
from sslprune.errors import CheckpointError
from sslprune.files import write_atomic
from sslprune.masks import Mask
from sslprune.models import Preprocessing
from sslprune.models.foreign import load_foreign
from sslprune.models.width import features
from sslprune.prune.criteria import Criterion, Prune, pruner
from sslprune.prune.lottery import TrainRound
from sslprune.prune.rewind import State
from sslprune.prune.schedule import Round
from sslprune.train.log import Log
from sslprune.train.loop import Learner, Loop, Span, check
from sslprune.training_data import open_training_data

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
        workers: Processes that decode images, where a data set is too large for memory. None: one a core.
    """

    device: str = "cpu"
    data_dir: Path | None = None
    download: bool = False
    progress: bool = True
    checkpoint_every: float = 60.0
    workers: int | None = None


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
        return pruner(criterion(self.recipe), model=self.learner.backbone, size=self.preprocessing.size)

    def random_network(self, seed: int) -> nn.Module:
        """An untrained network of the same shape: the floor that trained ones are compared with."""
        return models.build(self.architecture, seed=seed).to(self.loop.device)


def prepare(recipe: Recipe, folder: Path, options: Options) -> Setting:
    """Open the data and build the network, its pretext and the loop that trains them.

    Of several processes each does so; the data, and the checkpoint to start from, must be at hand for all of them.

    Args:
        recipe: What to train.
        folder: The run's folder, for checkpoints and log.
        options: Device, data folder, progress.

    Raises:
        DatasetMissingError: The training data is nowhere.
        DatasetError: It cannot be used, lacks the labels that the pretext needs, or the batch does not go into equal
            parts for all processes.
        UnknownPretextError: There is no such pretext.
        ArchitectureError: There is no such network.
        StepError: A round would be empty, or W_k lies outside of the training.
        CheckpointError: The checkpoint to start from is missing, is another, or does not fit; or the subset of this run
            was another before.
        RecipeError: The pretext has no such option, or the subset is not written like "images:0.1".
    """
    task = pretext.find(recipe.pretext)
    seen = open_training_data(recipe, task, data_dir=options.data_dir, download=options.download)

    architecture = models.registered_name(recipe.arch, seen.source.size)
    backbone = _backbone(recipe, architecture)
    head = pretext.build(
        recipe.pretext,
        features(backbone),
        num_images=len(seen.images),
        num_classes=seen.num_classes,
        seed=recipe.seed,
        options=recipe.task,
    )
    learner = Learner(backbone, head).to(options.device)
    data = seen.loader(
        recipe, copies=head.copies, labelled=task.mixes_labelled, device=options.device, workers=options.workers
    )
    for number in (0, 1) if recipe.ladder.rungs else (0,):  # the later ones are as long: refused now, not after hours
        check(span(recipe, Round(number, 1.0, is_rung=False), data.per_epoch))
    log = Log(folder / "train.log.jsonl", progress=options.progress)
    if seen.subset is not None:
        ranks.on_first(partial(_state, seen.subset, recipe, folder, log))
    loop = Loop(
        recipe.training,
        data,
        folder / "rounds",
        recipe.sha256(),
        log,
        checkpoint_every=options.checkpoint_every,
        device=torch.device(options.device),
    )
    preprocessing = Preprocessing(mean=seen.mean, std=seen.std, size=seen.source.size)
    return Setting(recipe, seen.source, architecture, preprocessing, learner, models.prunable(backbone), loop)


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


def _train_round(setting: Setting, learner: nn.Module, mask: Mask, this: Round) -> State:
    assert isinstance(learner, Learner)
    return setting.loop.train(learner, setting.weights, mask, span(setting.recipe, this, setting.loop.data.per_epoch))


def criterion(recipe: Recipe) -> Criterion:
    """By what a recipe's ladder prunes."""
    ladder = recipe.ladder
    return Criterion(ladder.score, ladder.scope, ladder.guard, ladder.stem_keep, ladder.first_convs, seed=recipe.seed)


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
