"""The training loop: one round of a run, from its first update (or from its last checkpoint) to its end."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sslprune import ranks
from sslprune.config import Training
from sslprune.data.draws import Draws
from sslprune.data.loader import Loader
from sslprune.errors import DivergedError, StepError
from sslprune.masks import Mask
from sslprune.pretext.base import Pretext
from sslprune.prune.rewind import State, snapshot
from sslprune.train import checkpoint, distributed, optim
from sslprune.train.log import Log

LOG_EVERY = 50
"""Updates between two lines of the log."""


class Learner(nn.Module):
    """A backbone and the pretext's head on its pooled features: all that trains, rewinds and is checkpointed."""

    def __init__(self, backbone: nn.Module, pretext: Pretext) -> None:
        super().__init__()
        self.backbone = backbone
        self.pretext = pretext

    def forward(self, views: Tensor) -> Tensor:
        """Network inputs [V, 3, H, W] -> the pretext's outputs."""
        outputs: Tensor = self.pretext(self.backbone(views))
        return outputs


@dataclass(frozen=True)
class Span:
    """The part of training that one round makes.

    Args:
        number: The round.
        start: Its first update: 0, or k where it starts from rewound weights.
        total: Where the schedule ends, in updates counted from 0.
        peak: Peak learning rate; None: the recipe's.
        snapshot: After how many updates the state is kept to be rewound to; None: nowhere.
        label: What the progress bar calls it.
    """

    number: int
    start: int
    total: int
    peak: float | None = None
    snapshot: int | None = None
    label: str = ""


@dataclass(frozen=True)
class Loop:
    """Everything that the rounds of one run share.

    Started by torchrun, several processes train one learner (see `distributed`): each sees its part of every batch, all
    hold the same state after every update, and rank 0 alone reads, writes and logs.

    Args:
        training: Optimiser, schedule, views.
        data: Batches by update number.
        folder: Where checkpoints go.
        recipe_sha256: Refuses checkpoints of other recipes.
        log: The run's log.
        checkpoint_every: Seconds between two checkpoints inside a round.
        device: Where the learner lives.
    """

    training: Training
    data: Loader
    folder: Path
    recipe_sha256: str
    log: Log
    checkpoint_every: float = 60.0
    device: torch.device = torch.device("cpu")

    def train(self, learner: Learner, weights: Mapping[str, nn.Parameter], mask: Mask, span: Span) -> State:
        """Train the learner in place through one round; a finished round is read back at once.

        Args:
            learner: On the device, holding the round's first weights.
            weights: Its prunable weights.
            mask: Which of them are kept; the others are exactly 0 after every update, with all that the optimiser
                remembers of them.
            span: The round.

        Returns:
            The state after `span.snapshot` updates, on the CPU; empty where the span has none.

        Raises:
            DivergedError: The loss, or what was learned, became infinite or not a number, on any process.
            MaskError: Processes were given different masks.
            StepError: The span is empty, or its snapshot lies outside of it.
            CheckpointError: A checkpoint is unreadable or of another recipe.
            StorageError: A checkpoint could not be written.
        """
        check(span)
        distributed.check_same(mask, span.number)
        stored = ranks.on_first(partial(self._stored, span.number))
        if stored is not None:
            learner.load_state_dict(stored["learner"])
        if stored is not None and "optimizer" not in stored:
            return dict(stored["snapshot"])

        mask = mask.to(self.device)
        optimizer = optim.build(self.training, learner.parameters())
        update, kept = span.start, {}
        if stored is not None:
            optimizer.load_state_dict(stored["optimizer"])
            update, kept = stored["update"], stored["snapshot"]
            self.log.write("resumed", round=span.number, update=update)
        elif span.snapshot == span.start:
            kept = snapshot(learner)

        step = Stepper(
            learner, optimizer, mask, weights, compile=self.training.compile, precision=self.training.precision
        )
        saved = logged = time.monotonic()
        images, waited = 0, 0.0
        with self.log.bar(total=span.total, initial=update, label=span.label) as bar:
            while update < span.total:
                asked = time.monotonic()
                batch, draws = self.data(span.number, update)
                waited += time.monotonic() - asked
                views, targets = learner.pretext.views(batch, draws)
                lr = optim.rate(self.training, update, total=span.total, per_epoch=self.data.per_epoch, peak=span.peak)
                with _global_randomness(draws, self.device):
                    loss, outputs = step(views, targets, lr)
                update += 1
                images += len(views) * ranks.world()
                bar.update()
                if update % LOG_EVERY == 0 or update == span.total:
                    now = time.monotonic()
                    row = {
                        "round": span.number,
                        "update": update,
                        "epoch": round(update / self.data.per_epoch, 4),
                        "lr": lr,
                        "loss": _finite(float(ranks.mean(loss)), span, update),
                        "score": round(self._mean(learner.pretext.score(outputs, targets)), 3),
                        "views_per_s": round(images / max(now - logged, 1e-9), 1),
                        "wait_s": round(waited, 3),
                        **self.data.report(),
                    }
                    self.log.write("update", **row)
                    bar.set_postfix_str(
                        f"loss {row['loss']:.3f}, {row['score']:.1f} %, {row['views_per_s']:.0f} images/s"
                    )
                    logged, images, waited = now, 0, 0.0
                learner.pretext.after_update(outputs, targets)
                if update == span.snapshot:
                    kept = snapshot(learner)
                if update < span.total and time.monotonic() - saved >= self.checkpoint_every:
                    self._write(
                        self._unfinished,
                        learner,
                        kept,
                        round=span.number,
                        update=update,
                        optimizer=optimizer.state_dict(),
                    )
                    saved = time.monotonic()
        if not all(bool(tensor.isfinite().all()) for tensor in learner.state_dict().values()):
            raise _diverged("what was learned is not finite", span, update)
        self._write(self._finished(span.number), learner, kept, round=span.number, update=update)
        if ranks.is_first():
            self._unfinished.unlink(missing_ok=True)
        return kept

    def _finished(self, number: int) -> Path:
        return self.folder / f"{number:02d}.pt"

    @property
    def _unfinished(self) -> Path:
        return self.folder / "unfinished.pt"

    def _stored(self, number: int) -> dict[str, Any] | None:
        """What there is of a round: its end, or with the optimiser's state what it had come to, or nothing."""
        if self._finished(number).exists():
            return checkpoint.load(self._finished(number), recipe_sha256=self.recipe_sha256)
        if not self._unfinished.exists():
            return None
        stored = checkpoint.load(self._unfinished, recipe_sha256=self.recipe_sha256)
        return stored if stored["round"] == number else None

    def _mean(self, number: float) -> float:
        """Over all processes."""
        return float(ranks.mean(torch.tensor(number, dtype=torch.float64)))

    def _write(self, path: Path, learner: Learner, snapshot: State, **more: Any) -> None:
        if not ranks.is_first():  # all hold the same
            return
        payload = {"recipe_sha256": self.recipe_sha256, "learner": learner.state_dict(), "snapshot": snapshot, **more}
        checkpoint.save(path, payload)


class Stepper:
    """One update: forward, backward, optimiser, mask. With several processes all make it at once."""

    def __init__(
        self,
        learner: Learner,
        optimizer: torch.optim.Optimizer,
        mask: Mask,
        weights: Mapping[str, nn.Parameter],
        *,
        compile: bool = False,
        precision: str = "fp32",
    ) -> None:
        learner.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        learner.train()
        self.learner, self.optimizer, self.weights = learner, optimizer, weights
        self.mask = None if mask.kept == mask.prunable else mask
        self.device = next(learner.parameters()).device
        self.precision = precision
        together = distributed.together(learner, self.device)
        self.forward = torch.compile(together) if compile else together

    def __call__(self, views: Tensor, targets: Tensor, lr: float) -> tuple[Tensor, Tensor]:
        """Make one update at this learning rate; returns the loss and the outputs of the own views, detached."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        with _autocast(views.device, self.precision):
            outputs = self.forward(views.contiguous(memory_format=torch.channels_last))
        loss = self.learner.pretext.loss(_at_least_single(outputs), targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        if self.mask is not None:
            optim.hold(self.mask, self.weights, self.optimizer)
        distributed.average_statistics(self.learner, self.device)
        return loss.detach(), outputs.detach()


def _autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """bfloat16 on CUDA, and on a CPU where the recipe says so."""
    half = device.type == "cuda" or precision == "bf16"
    return torch.autocast(device.type, torch.bfloat16) if half else nullcontext()


def _at_least_single(outputs: Tensor) -> Tensor:
    return outputs.to(torch.promote_types(outputs.dtype, torch.float32))


@contextmanager
def _global_randomness(draws: Draws, device: torch.device) -> Iterator[None]:
    """Dropout and its like draw from the global state: let that follow from the update, too, and be put back after.

    Every process draws for its own images otherwise than the others, and so than one process would.
    """
    seed = int(torch.randint(2**32, (), generator=draws.generator)) + ranks.rank()
    accelerated = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if accelerated else []):
        torch.default_generator.manual_seed(seed)
        if accelerated:
            torch.cuda.manual_seed(seed)
        yield


def _finite(loss: float, span: Span, update: int) -> float:
    if not math.isfinite(loss):
        raise _diverged(f"the loss is {loss}", span, update)
    return loss


def _diverged(what: str, span: Span, update: int) -> DivergedError:
    return DivergedError(
        f"{what} at update {update} of round {span.number}.",
        "Lower training.lr in the recipe, or lengthen training.warmup.",
    )


def check(span: Span) -> None:
    """Refuse a span that is empty, or whose snapshot lies outside of it.

    Raises:
        StepError: It is such a span.
    """
    if not 0 <= span.start < span.total:
        raise StepError(
            f"round {span.number} would train from update {span.start} to {span.total}.",
            "Let ladder.rewind lie before the end of training.length.",
        )
    if span.snapshot is not None and not span.start <= span.snapshot <= span.total:
        raise StepError(
            f"the state to rewind to, after {span.snapshot} updates, lies outside a training of {span.total}.",
            "Let ladder.rewind lie before the end of training.length.",
        )
