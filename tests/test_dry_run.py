"""Every bundled recipe can be tried out, and trying leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sslprune.config import Ladder, Recipe, Training, bundled_recipes
from sslprune.cost_hours import cost
from sslprune.dry_run import Report, dry_run
from sslprune.errors import DatasetError, DivergedError
from sslprune.step import Step

SMALL = Recipe(
    "toy",
    "rotnet",
    "resnet20",
    "cifar10",
    Training(Step(3, "ep"), batch=500, lr=0.1),
    Ladder((0.5, 0.1), per_round=0.5, rewind=Step(1, "ep")),
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def check(report: Report, recipe: Recipe, updates: int) -> None:
    """What holds of every report."""
    assert [tried.round for tried in report.tried] == ([0, 1] if recipe.ladder.rungs else [0])
    assert [len(tried.losses) for tried in report.tried] == [updates] * len(report.tried)
    assert report.tried[0].kept == report.prunable < report.parameters
    if recipe.ladder.rungs:
        assert report.tried[1].nonzero <= report.tried[1].kept == round(report.tried[1].keep * report.prunable)
    assert report.gpu_hours == cost(recipe).gpu_hours
    assert json.loads(json.dumps(report.to_json()))["recipe"] == recipe.name
    assert f"{report.prunable:,} prunable weights" in str(report)


def test_a_recipe_is_tried_and_its_run_foretold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSLPRUNE_DATA", str(tmp_path / "nothing"))
    state = torch.random.get_rng_state()
    report = dry_run(SMALL)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not list(tmp_path.iterdir())
    check(report, SMALL, 2)
    assert [tried.nonzero for tried in report.tried] == [report.prunable, report.prunable // 2]
    assert (report.architecture, report.pixels, report.images) == ("resnet20_cifar", 32, 50_000)
    assert (report.rounds, report.updates_per_round) == (5, [300, 200, 200, 200, 200])
    assert (report.views_per_update, report.views) == (2000, 1100 * 2000)
    assert report.rungs == {"1": report.prunable, "0.5": report.prunable // 2, "0.1": round(report.prunable / 10)}
    assert dry_run(SMALL).tried == report.tried
    assert dry_run(replace(SMALL, seed=1)).tried != report.tried


def test_what_differs_from_the_run_is_stated() -> None:
    smaller = dry_run(replace(SMALL, ladder=Ladder(())), size=16, updates=1)
    assert smaller.cut == [
        "tried on 8 images of noise, 2 an update instead of 500, the learning rate cut likewise",
        "images of 16 pixels instead of 32",
    ]
    check(smaller, replace(SMALL, ladder=Ladder(())), 1)


def test_data_of_unknown_size_and_divergence_are_named() -> None:
    with pytest.raises(DatasetError, match=r"how many images folder:x has"):
        dry_run(replace(SMALL, data="folder:x"))
    with pytest.raises(DivergedError, match="round 0"):
        dry_run(replace(SMALL, training=replace(SMALL.training, lr=1e38, batch=2)), updates=4)


@pytest.mark.slow
@pytest.mark.parametrize("name", bundled_recipes())
def test_every_bundled_recipe_is_tried(name: str) -> None:
    recipe = Recipe.load(name)
    check(dry_run(recipe, updates=1, size=64 if recipe.data == "imagenet" else None), recipe, 1)
