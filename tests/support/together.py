"""For the tests: what several processes do together, or one alone. `torchrun together.py OUT` runs all of it."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sslprune import models, pipeline, ranks
from sslprune.config import Ladder, Recipe, Training, Transfer
from sslprune.errors import SslpruneError
from sslprune.evaluate.features import extract_labelled
from sslprune.evaluate.transfer import evaluate_backbone
from sslprune.masks import Mask
from sslprune.prune.schedule import Round
from sslprune.run_folder import RunFolder
from sslprune.setting import Options, Setting, prepare
from sslprune.step import Step

QUIET = Options(progress=False, checkpoint_every=1e9)
TASKS = {
    "rotnet": {},
    "npid": {},
    "npid-nce": {"negatives": 5},
    "exemplar": {"copies": 3},
    "simclr": {},
    "s4l": {},
    "labels": {},
}


class Plain(nn.Module):
    """A network without batch norm, with as much of timm's API as training asks for."""

    num_features = 8

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2), nn.ReLU()
        )
        self.classifier = nn.Identity()

    def get_classifier(self) -> nn.Module:
        return self.classifier

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def recipe(task: str, arch: str = "plain", **fields: Any) -> Recipe:
    """Three trainings of a few updates on twenty-four digits."""
    ladder = Ladder((0.5, 0.3), per_round=0.5, rewind=Step(2, "it"))
    training = Training(Step(6, "it"), batch=6, lr=0.05, padding=0 if task == "simclr" else 2)
    subset = {"s4l": "images:0.5"}.get(task, "")
    name = task.partition("-")[0]
    made = Recipe("small", name, arch, "digits", training, ladder, limit=24, subset=subset, task=TASKS[task])
    return replace(made, **fields)


@cache
def _register() -> None:
    from timm.models import register_model

    def plain(pretrained: bool = False, **_: Any) -> nn.Module:
        return Plain()

    register_model(plain)


@contextmanager
def double():
    """In the body all that is made is float64, and timm knows the architecture "plain"."""
    _register()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def descent(task: str, folder: Path) -> dict[str, dict[str, Tensor]]:
    """A whole ladder in float64: masks and learned states of all rungs, with the state that was rewound to."""
    with double():
        setting = prepare(recipe(task), folder, QUIET)
        found: dict[str, dict[str, Tensor]] = {}
        for rung in pipeline.descend(setting):
            number = rung.round.number
            found[f"mask {number}"] = dict(rung.mask)
            found[f"state {number}"] = {name: each.clone() for name, each in setting.learner.state_dict().items()}
            found["origin"] = dict(rung.origin)
    return found


def network() -> nn.Module:
    return models.build("test_byobnet", seed=0).eval()


def pictures() -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(0)
    return chance.integers(0, 256, (70, 32, 32, 3), np.uint8), np.arange(70) % 3


def features(*, shared: bool, batch_size: int) -> tuple[dict[str, Tensor], Tensor]:
    preprocessing = models.Preprocessing((0.5,) * 3, (0.25,) * 3, 32)
    return extract_labelled(
        network(), pictures(), pool=1, batch_size=batch_size, preprocessing=preprocessing, shared=shared
    )


def figures(*, shared: bool) -> list[Any]:
    options: dict[str, Any] = {"name": "x", "data": "y", "keep": 1.0, "seed": 0, "pool": 1, "batch_size": 16}
    preprocessing = models.Preprocessing((0.5,) * 3, (0.25,) * 3, 32)
    found = evaluate_backbone(network(), pictures(), pictures(), preprocessing=preprocessing, shared=shared, **options)
    return [(row["task"], row["layer"], row["value"], row["counts"]) for row in found.rows]


def with_batch_norm(folder: Path, **fields: Any) -> Setting:
    return prepare(recipe("rotnet", "test_byobnet", **fields), folder, QUIET)


def train_a_round(setting: Setting, mask: Mask | None = None) -> None:
    setting.train(setting.learner, mask or Mask.full(setting.weights), Round(0, 1.0, is_rung=True))


def refused(act: Any) -> str:
    """What kind of error, and its first line."""
    try:
        act()
    except SslpruneError as error:
        return f"{type(error).__name__}: {error.problem}"
    return "nothing"


def poisoned(folder: Path) -> None:
    """Train while the images of the last process are not numbers."""
    setting = with_batch_norm(folder)
    load = setting.loop.data

    class Poison:
        per_epoch, scale = load.per_epoch, load.scale

        def __call__(self, round_number: int, update: int) -> Any:
            batch, draws = load(round_number, update)
            if ranks.rank() == ranks.world() - 1:
                batch.images.fill_(torch.nan)
            return batch, draws

    train_a_round(replace(setting, loop=replace(setting.loop, data=Poison())))


def odd_mask(folder: Path) -> None:
    setting = with_batch_norm(folder)
    mask = dict(Mask.full(setting.weights))
    name = next(iter(mask))
    mask[name] = mask[name].clone()
    mask[name].view(-1)[ranks.rank()] = False
    train_a_round(setting, Mask(mask))


def fail() -> None:
    raise SslpruneError(f"said by {ranks.rank()}.", "Nothing.")


def uneven() -> dict[str, Tensor] | None:
    """Rows from all processes but the first."""
    mine = torch.arange(ranks.rank() * 3, dtype=torch.float32).view(-1, 1)
    return ranks.collect({"rows": mine} if len(mine) else {})


def chain(folder: Path) -> list[str]:
    """The whole chain of a network with batch norm: the names of the family."""
    made = recipe("rotnet", "test_byobnet", transfer=Transfer(pool=1, floor_seeds=1))
    return [manifest.name for manifest in pipeline.run(made, RunFolder(made, folder / "run", folder / "zoo"), QUIET)]


def everything(out: Path) -> dict[str, Any]:
    """Every process has a folder of its own, as on machines that share none."""
    setting = with_batch_norm(out / "norm")
    train_a_round(setting)
    return {
        "descent": {task: descent(task, out / task) for task in TASKS},
        "features": features(shared=True, batch_size=16),
        "few features": features(shared=True, batch_size=100),
        "figures": figures(shared=True),
        "batch norm": dict(setting.learner.state_dict()),
        "chain": [chain(out / "chain"), chain(out / "chain")],
        "refused": {
            "nan": refused(lambda: poisoned(out / "nan")),
            "mask": refused(lambda: odd_mask(out / "mask")),
            "batch": refused(lambda: with_batch_norm(out / "batch", training=Training(Step(4, "it"), batch=5))),
            "first": refused(lambda: ranks.on_first(fail)),
        },
        "collected": uneven(),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    with ranks.joined():
        own = Path(sys.argv[1]) / str(ranks.rank())
        found = everything(own)
        torch.save(found, f"{own}.pt")
