"""A recipe tried out in two updates a round: real network, pretext, optimiser and pruning, on a few images of noise.

No data set is needed and nothing is written. What differs from a run is stated in `Report.cut`.
"""

from __future__ import annotations

import math
import resource
import sys
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from sslprune import models
from sslprune.config import Recipe
from sslprune.cost_hours import FLOPS, GPU, build_head, cost, descent, seen, synthetic
from sslprune.errors import DivergedError
from sslprune.masks import Mask
from sslprune.models.width import features
from sslprune.prune import lottery
from sslprune.prune.criteria import pruner
from sslprune.prune.rewind import State, snapshot
from sslprune.prune.schedule import Round
from sslprune.setting import criterion, span
from sslprune.train import optim
from sslprune.train.loop import Learner, Stepper

IMAGES, BATCH = 8, 2
"""Of the noise set, and of an update: so that ResNet-50 at 224 pixels fits a laptop."""


@dataclass(frozen=True)
class Tried:
    """A round that was tried.

    Attributes:
        round: Its number.
        keep: Its keep rate.
        kept: Prunable weights that its mask keeps.
        nonzero: Those that are not zero after the updates: no pruned one is among them.
        losses: The loss of each update.
    """

    round: int
    keep: float
    kept: int
    nonzero: int
    losses: list[float]


@dataclass(frozen=True)
class Report:
    """What a recipe would do, and what the updates that were tried gave.

    Attributes:
        recipe: Its name.
        architecture: timm's name of the network.
        pixels: Height and width of the images that were tried.
        parameters: All that trains, the pretext's head included.
        prunable: Weights that pruning may remove.
        images: Images of the training set.
        rounds: Trainings of the run, the unpruned one included.
        updates_per_round: Of every round, in order.
        rungs: Keep rate to prunable weights kept, for every rung.
        views_per_update: Images that the network sees in an update.
        views: Images that it sees in the whole run.
        gpu_hours: The estimate of `cost_hours` for the whole run.
        gpu: Of which GPU, at which sustained rate.
        tried: The rounds that were tried.
        peak_bytes: Most memory in use: of the accelerator, or of this process since its start.
        cut: How the trial differs from the run.
    """

    recipe: str
    architecture: str
    pixels: int
    parameters: int
    prunable: int
    images: int
    rounds: int
    updates_per_round: list[int]
    rungs: dict[str, int]
    views_per_update: int
    views: int
    gpu_hours: float
    gpu: str
    tried: list[Tried]
    peak_bytes: int
    cut: list[str]

    def to_json(self) -> dict[str, Any]:
        """A JSON object with all of it."""
        return {"schema": 1, **asdict(self)}

    def __str__(self) -> str:
        first, *later = self.updates_per_round
        hours = f"{self.gpu_hours:,.0f}" if self.gpu_hours >= 10 else f"{self.gpu_hours:.2g}"
        lines = [
            f"{self.recipe}: {self.architecture}, {self.parameters:,} parameters, {self.prunable:,} prunable weights",
            f"{self.images:,} images, {self.views_per_update:,} views an update, {self.rounds} rounds of {first:,} "
            f"updates{f' and then {later[0]:,}' if later else ''}: {self.views:,} views",
            f"about {hours} GPU-hours ({self.gpu}; an estimate)",
            "weights at each rung: " + ", ".join(f"{keep} {kept:,}" for keep, kept in self.rungs.items()),
        ]
        for tried in self.tried:
            losses = ", ".join(f"{loss:.4f}" for loss in tried.losses)
            lines.append(f"round {tried.round}, keep {tried.keep:g} ({tried.kept:,} weights): losses {losses}")
        return "\n".join([*lines, f"peak memory {self.peak_bytes / 2**20:,.0f} MiB", *self.cut])


def dry_run(recipe: Recipe, *, updates: int = 2, device: torch.device | str = "cpu", size: int | None = None) -> Report:
    """Make a few updates of the unpruned round and of the first pruned one; nothing is read and nothing written.

    Args:
        recipe: What to try.
        updates: How many of each round.
        device: Where.
        size: Height and width of the images, in pixels, to be quicker; None: as in the recipe's data.

    Raises:
        DatasetError: How large the recipe's data are is not known without reading them.
        ArchitectureError: There is no such network.
        UnknownPretextError: There is no such pretext.
        RecipeError: The pretext has no such option, or the subset is not written like "images:0.1".
        StepError: A round would be empty.
        DivergedError: A loss is infinite or not a number.
    """
    shape, stated = seen(recipe), cost(recipe)
    pixels = shape.size if size is None else size
    architecture = models.registered_name(recipe.arch, shape.size)
    backbone = models.build(architecture, seed=recipe.seed)
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(recipe.seed)
        head = build_head(recipe, num_features=features(backbone), num_images=IMAGES, num_classes=shape.classes)
        learner = Learner(backbone, head).to(device)
        weights = models.prunable(backbone)
        trial = _Trial(recipe, learner, weights, stated.per_epoch, updates, pixels, shape.classes, device)
        for _ in lottery.descend(
            learner, weights, descent(recipe)[:2], trial.train, prune=trial.prune, mode=recipe.ladder.mode
        ):
            pass
    prunable = sum(weight.numel() for weight in weights.values())
    return Report(
        recipe=recipe.name,
        architecture=architecture,
        pixels=pixels,
        parameters=sum(parameter.numel() for parameter in learner.parameters()),
        prunable=prunable,
        images=shape.images,
        rounds=stated.rounds,
        updates_per_round=list(stated.updates),
        rungs={f"{each.keep:g}": round(each.keep * prunable) for each in descent(recipe) if each.is_rung},
        views_per_update=stated.views_per_update,
        views=stated.views,
        gpu_hours=stated.gpu_hours,
        gpu=f"{GPU} at {FLOPS / 1e12:g} TFLOP/s",
        tried=trial.tried,
        peak_bytes=_peak(torch.device(device)),
        cut=[
            f"tried on {IMAGES} images of noise, {BATCH} an update instead of {recipe.training.batch}, the learning "
            "rate cut likewise",
            *(["the memory of all images holds these only: losses mean little"] if recipe.pretext == "npid" else []),
            *([f"images of {pixels} pixels instead of {shape.size}"] if pixels != shape.size else []),
            *(["from fresh weights instead of the recipe's [start]"] if recipe.start.source else []),
            *(["on all weights instead of the recipe's [mask]"] if recipe.mask.family else []),
        ],
    )


class _Trial:
    """The first updates of each round, in place of all of them."""

    def __init__(
        self,
        recipe: Recipe,
        learner: Learner,
        weights: dict[str, nn.Parameter],
        per_epoch: int,
        updates: int,
        pixels: int,
        classes: int,
        device: torch.device | str,
    ) -> None:
        self.recipe, self.learner, self.weights = recipe, learner, weights
        self.per_epoch, self.updates = per_epoch, updates
        self.data = synthetic(learner.pretext, images=IMAGES, classes=classes, size=pixels, batch=BATCH, device=device)
        self.prune = pruner(criterion(recipe), model=learner.backbone, size=pixels)
        self.tried: list[Tried] = []

    def train(self, network: nn.Module, mask: Mask, this: Round) -> State:
        """A few updates from where the round starts."""
        whole, training = span(self.recipe, this, self.per_epoch), self.recipe.training
        mask = mask.to(next(network.parameters()).device)
        kept = snapshot(network)
        optimizer = optim.build(training, network.parameters())
        step = Stepper(
            self.learner, optimizer, mask, self.weights, compile=training.compile, precision=training.precision
        )
        losses = []
        for update in range(whole.start, whole.start + self.updates):
            batch, draws = self.data(this.number, update)
            views, targets = self.learner.pretext.views(batch, draws)
            lr = optim.rate(training, update, total=whole.total, per_epoch=self.per_epoch, peak=whole.peak)
            loss, outputs = step(views, targets, lr * min(1.0, BATCH / training.batch))
            if not math.isfinite(float(loss)):
                raise DivergedError(f"the loss is {float(loss)} in round {this.number}.", "Lower training.lr.")
            losses.append(float(loss))
            self.learner.pretext.after_update(outputs, targets)
        nonzero = sum(int(weight.count_nonzero()) for weight in self.weights.values())
        self.tried.append(Tried(this.number, this.keep, mask.kept, nonzero, losses))
        return kept


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
