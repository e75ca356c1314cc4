"""Which updates each round makes, by hand; and that a setting follows from the recipe alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sslprune import models
from sslprune.config import Ladder, Recipe, Start, Training
from sslprune.errors import CheckpointError, DatasetError, UnknownPretextError
from sslprune.files import sha256
from sslprune.prune.criteria import Criterion, find
from sslprune.prune.schedule import Round
from sslprune.setting import Options, prepare, span
from sslprune.step import Step
from sslprune.train.loop import Span

RECIPE = Recipe(
    "toy",
    "rotnet",
    "resnet20",
    "digits",
    Training(Step(5, "ep"), batch=16),
    Ladder((0.5,), rewind=Step(1, "ep")),
    limit=40,
)
FIRST, LATER = Round(0, 1.0, is_rung=True), Round(3, 0.5123, is_rung=False)


@pytest.mark.parametrize(
    ("ladder", "first", "later"),
    [
        ({}, Span(0, 0, 50, snapshot=10), Span(3, 10, 50)),
        ({"rewind": Step(500, "it")}, Span(0, 0, 50, snapshot=500), Span(3, 500, 50)),
        ({"rewind": Step(0, "it")}, Span(0, 0, 50, snapshot=0), Span(3, 0, 50)),
        ({"retrain": Step(2, "ep")}, Span(0, 0, 50, snapshot=10), Span(3, 10, 30)),
        ({"mode": "pretrained"}, Span(0, 0, 50, snapshot=0), Span(3, 0, 50)),
        ({"mode": "pretrained", "retrain": Step(2, "ep")}, Span(0, 0, 50, snapshot=0), Span(3, 0, 20)),
        ({"mode": "warm"}, Span(0, 0, 50, snapshot=10), Span(3, 0, 50)),
        (
            {"mode": "warm", "retrain": Step(0.55, "ep"), "retrain_lr": 0.05},
            Span(0, 0, 50, snapshot=10),
            Span(3, 0, 6, peak=0.05),
        ),
    ],
)
def test_spans(ladder: dict, first: Span, later: Span) -> None:
    start = Start("other.pth", "0" * 64) if ladder.get("mode") == "pretrained" else Start()
    recipe = replace(RECIPE, ladder=replace(RECIPE.ladder, **ladder), start=start)
    assert span(recipe, FIRST, 10) == replace(first, label="toy keep 1")
    assert span(recipe, LATER, 10) == replace(later, label="toy keep 0.5123")


def test_a_setting_follows_from_the_recipe_and_leaves_the_global_random_state(tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    one, other = (prepare(RECIPE, tmp_path, Options(progress=False)) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    for first, second in zip(one.learner.state_dict().values(), other.learner.state_dict().values(), strict=True):
        assert torch.equal(first, second)
    assert torch.equal(one.loop.data(1, 2)[0].images, other.loop.data(1, 2)[0].images)
    assert one.preprocessing == other.preprocessing
    assert one.loop.data.per_epoch == 2
    assert len(one.loop.data.images) == 40
    assert one.loop.data.labels is None  # rotations need none, so none are there to be seen
    assert list(tmp_path.iterdir()) == []


def test_the_prunable_weights_are_the_learners_own_without_the_head(tmp_path: Path) -> None:
    setting = prepare(replace(RECIPE, pretext="labels"), tmp_path, Options(progress=False))
    parameters = dict(setting.learner.named_parameters())
    assert all(weight is parameters[f"backbone.{name}"] for name, weight in setting.weights.items())
    assert not any("classifier" in name for name in setting.weights)
    assert setting.loop.data.labels is not None


def test_random_networks_of_the_same_shape_differ_by_seed(tmp_path: Path) -> None:
    setting = prepare(RECIPE, tmp_path, Options(progress=False))
    one, same, other = (setting.random_network(seed).state_dict() for seed in (1, 1, 2))
    assert one.keys() == setting.learner.backbone.state_dict().keys()
    assert torch.equal(one["conv1.weight"], same["conv1.weight"])
    assert not torch.equal(one["conv1.weight"], other["conv1.weight"])


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownPretextError, match="rotnte"):
        prepare(replace(RECIPE, pretext="rotnte"), tmp_path, Options())
    with pytest.raises(DatasetError, match="digist"):
        prepare(replace(RECIPE, data="digist"), tmp_path, Options())


def test_a_run_starts_from_the_checkpoint_that_it_names(tmp_path: Path) -> None:
    given = models.build("resnet20_cifar", num_classes=7, seed=11)
    torch.save({"state_dict": given.state_dict()}, tmp_path / "other.pth")
    start = Start(
        str(tmp_path / "other.pth"), sha256(tmp_path / "other.pth"), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)
    )
    recipe = replace(RECIPE, start=start, ladder=replace(RECIPE.ladder, mode="pretrained"))
    setting = prepare(recipe, tmp_path, Options(progress=False))
    backbone = setting.learner.backbone.state_dict()
    assert backbone.keys() == models.build("resnet20_cifar").state_dict().keys()
    assert all(torch.equal(tensor, given.state_dict()[name]) for name, tensor in backbone.items())
    assert (setting.preprocessing.mean, setting.preprocessing.std) == (start.mean, start.std)
    assert setting.learner.training
    with pytest.raises(CheckpointError, match="sha256"):
        prepare(replace(recipe, start=replace(start, sha256="0" * 64)), tmp_path, Options(progress=False))


def test_the_ladder_says_how_masks_are_found(tmp_path: Path) -> None:
    ladder = replace(RECIPE.ladder, score="random", scope="erk", guard=2, stem_keep=1.0)
    setting = prepare(replace(RECIPE, ladder=ladder), tmp_path, Options(progress=False))
    criterion = Criterion("random", "erk", guard=2, stem_keep=1.0, seed=RECIPE.seed)
    assert setting.prune(setting.weights, 0.1) == find(setting.weights, 0.1, criterion)
