"""From a trained rung to a model of the zoo: measure it, and write it with its evidence."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sslprune import jsonl, models, ranks
from sslprune.config import Ladder
from sslprune.data import sources
from sslprune.data.source import Source
from sslprune.evaluate.head import write_head
from sslprune.evaluate.results import Row, row, versions
from sslprune.evaluate.transfer import Transfer, evaluate_backbone
from sslprune.export import sparse_file
from sslprune.files import write_atomic
from sslprune.graph.surgery import Kept
from sslprune.masks import Mask
from sslprune.models.head import Head
from sslprune.prune import analysis
from sslprune.prune.lottery import Rung
from sslprune.prune.schedule import rounds
from sslprune.prune.structured import slim
from sslprune.run_folder import RunFolder
from sslprune.setting import Options, Setting, criterion
from sslprune.zoo.manifest import Manifest
from sslprune.zoo.write import Evidence, Extra, amend, write_lines, write_model

LICENCE = "Apache-2.0"
"""Of our own weights; the terms of the data that they saw stand beside it."""


@dataclass(frozen=True)
class Exam:
    """What every rung of a run is measured on."""

    sources: Sequence[Source]
    pool: int
    progress: bool

    @classmethod
    def of(cls, setting: Setting, options: Options) -> Exam:
        """The recipe's transfer data; its own data where it names none, nothing where that has no labels."""
        named = setting.recipe.transfer.data
        found = [sources.open(spec, data_dir=options.data_dir, download=options.download) for spec in named]
        candidates = found if named else [setting.source]
        labelled = [source for source in candidates if source.classes and {"train", "test"} <= set(source.splits())]
        return cls(labelled, setting.recipe.transfer.pool, options.progress and ranks.is_first())

    def measure(self, setting: Setting, model: nn.Module, *, name: str, keep: float, seed: int) -> list[Transfer]:
        """Linear probe and kNN of every stage, on every source; several processes share the work."""
        measured = []
        for source in self.sources:
            transfer = evaluate_backbone(
                model,
                source.labelled("train"),
                source.labelled("test"),
                name=name,
                data=source.name,
                keep=keep,
                seed=seed,
                pool=self.pool,
                classes=source.classes,
                recipe_sha256=setting.recipe.sha256(),
                preprocessing=setting.preprocessing,
                device=setting.loop.device,
                progress=self.progress,
                shared=True,
            )
            measured.append(transfer)
        return measured


def write_rung(setting: Setting, folder: RunFolder, rung: Rung, exam: Exam) -> Manifest:
    """Measure the learner's backbone and write it as a model of the zoo, all or nothing; several processes together."""
    name, subject = str(folder.name(rung.round.keep)), published(setting, rung)
    measured = exam.measure(setting, subject.network, name=name, keep=rung.mask.keep, seed=setting.recipe.seed)
    return ranks.on_first(partial(_write_rung, setting, folder, rung, subject, measured))


@dataclass(frozen=True, eq=False)
class Published:
    """What of a rung is measured and written: its network, the mask, and the channels where it has fewer."""

    network: nn.Module
    mask: Mask
    channels: Mapping[str, Kept] = field(default_factory=dict)


def published(setting: Setting, rung: Rung) -> Published:
    """The backbone under its mask; where whole channels were pruned, the smaller network that is left."""
    backbone, norm = setting.learner.backbone, criterion(setting.recipe).norm
    if norm is None or rung.round.number == 0:
        return Published(backbone, rung.mask)
    smaller, done = slim(backbone, rung.mask.keep, setting.preprocessing.size, within=rung.mask, norm=norm)
    return Published(smaller, Mask.full(models.prunable(smaller)), done.channels)


def _write_rung(
    setting: Setting, folder: RunFolder, rung: Rung, subject: Published, measured: Sequence[Transfer]
) -> Manifest:
    recipe, name = setting.recipe, folder.name(rung.round.keep)
    rows = [row for transfer in measured for row in transfer.rows]
    if rung.round.number == 0:
        rows += zero_rows(setting, str(name))
    named = [replace(transfer.head, task=head_task(transfer.head.task)) for transfer in measured if transfer.head]
    heads = {head.task: partial(_write_head, head) for head in named}
    evidence = Evidence(
        rows=rows,
        metrics=headline(rows),
        recipe=recipe.to_toml(),
        recipe_sha256=recipe.sha256(),
        seed=recipe.seed,
        log=[row for row in jsonl.read(setting.loop.log.path) if row.get("round") == rung.round.number],
        versions=versions(),
    )
    return write_model(
        folder.folder_of(rung.round.keep),
        name,
        subject.network,
        subject.mask,
        architecture=setting.architecture,
        preprocessing=setting.preprocessing,
        licence=LICENCE,
        data_terms=setting.source.terms,
        evidence=evidence,
        extra=Extra(heads=heads, rewound=_backbone(rung.origin) if rung.round.number == 0 else None),
        channels=subject.channels,
        force=True,
    )


def zero_rows(setting: Setting, name: str) -> list[Row]:
    """How much of the unpruned network converged to zero by itself (the paper, Fig. 6 and 10), a row a threshold."""
    training = setting.recipe.training
    return [
        row(
            name=name,
            task="zeros",
            data=setting.source.name,
            split="train",
            metric="zeros",
            value=100 * found["fraction"],
            unit="%",
            keep=1.0,
            seed=setting.recipe.seed,
            protocol={
                "threshold": found["threshold"],
                "pretext": setting.recipe.pretext,
                "optimizer": training.optimizer,
                "lr": training.lr,
                "weight_decay": training.weight_decay,
                "updates": training.length.updates(setting.loop.data.per_epoch),
            },
            counts={"zeros": found["zeros"], "prunable": found["prunable"]},
            recipe_sha256=setting.recipe.sha256(),
        )
        for found in analysis.zeros(setting.weights)
        if found["layer"] == "all"
    ]


def seal(setting: Setting, folder: RunFolder, last: Rung, exam: Exam) -> None:
    """End the run: add the ladder's masks and the random floor to the parent, and gather all result rows."""
    floor = random_floor(setting, folder, exam)
    ranks.on_first(partial(_seal, setting, folder, last, floor))


def _seal(setting: Setting, folder: RunFolder, last: Rung, floor: Sequence[Mapping[str, Any]]) -> None:
    parent = folder.folder_of(1.0)
    rows = [row for keep in folder.keeps() for row in jsonl.read(folder.folder_of(keep) / "results.jsonl")]
    rows = [row for row in rows if row["name"] != floor_name(folder)]
    own = [row for row in rows if row["name"] == str(folder.name(1.0))]
    amend(
        parent,
        {
            "ladder.safetensors": partial(_write_died, last, setting.recipe.ladder),
            "results.jsonl": partial(write_lines, rows=[*own, *floor]),
        },
    )
    write_atomic(folder.path / "results.jsonl", partial(write_lines, rows=[*rows, *floor]))
    folder.finish()


def random_floor(setting: Setting, folder: RunFolder, exam: Exam) -> list[dict[str, Any]]:
    """The same measurements on untrained networks of the same shape, one a seed; seeds once measured are read back."""
    first = setting.recipe.seed + 1
    rows: list[dict[str, Any]] = []
    for seed in range(first, first + setting.recipe.transfer.floor_seeds):
        measured = folder.path / "floor" / f"seed-{seed}.jsonl"
        if not ranks.on_first(measured.exists):
            network = setting.random_network(seed)
            transfers = exam.measure(setting, network, name=floor_name(folder), keep=1.0, seed=seed)
            found = [row for transfer in transfers for row in transfer.rows]
            ranks.on_first(partial(_write_rows, measured, found))
        rows += ranks.on_first(partial(jsonl.read, measured))
    return rows


def head_task(data: str) -> str:
    """What the head of a data set is called: by its name, or by that of the folder, without the path to it.

    >>> head_task("cifar10"), head_task("folder:photos/My Pets")
    ('cifar10', 'folder-my-pets')
    """
    kind, _, path = data.partition(":")
    return "-".join([kind, *re.findall(r"[a-z0-9._]+", Path(path).name.lower())])[:64]


def floor_name(folder: RunFolder) -> str:
    """What result rows call the untrained networks of a family's shape."""
    return f"random-{folder.recipe.arch}"


def headline(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """A model's figures, "data/task" -> per cent: each task at the stage chosen on held-out training images."""
    return {f"{row['data']}/{row['task']}": row["value"] for row in rows if row["protocol"].get("best_stage")}


def _backbone(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("backbone."): tensor for name, tensor in state.items() if name.startswith("backbone.")}


def _write_rows(path: Path, rows: Sequence[Row]) -> None:
    write_atomic(path, partial(write_lines, rows=rows))


def _write_head(head: Head, path: Path) -> None:
    write_head(path, head)


def _write_died(rung: Rung, ladder: Ladder, path: Path) -> None:
    """Write at which round each weight died, and which round is which rung: what `zoo.load_masks` reads."""
    rungs = {repr(each.keep): each.number for each in rounds(ladder.rungs, ladder.per_round) if each.is_rung}
    about = {"rounds": json.dumps(rungs)}
    sparse_file.write_ladder(path, {name: died.cpu().numpy() for name, died in rung.died.items()}, about)
