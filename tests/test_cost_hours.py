"""What recipes cost, counted by hand; and the hours that the bundled ones state."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sslprune.config import Found, Ladder, Recipe, Training, bundled_recipes
from sslprune.cost_hours import FLOPS, cost, seen, views_an_image
from sslprune.errors import DatasetError
from sslprune.pretext import PRETEXTS
from sslprune.step import Step

BASE = Recipe(
    "toy",
    "labels",
    "resnet20",
    "cifar10",
    Training(Step(10, "ep"), batch=500),
    Ladder((0.8, 0.64), rewind=Step(1, "ep")),
)
RESNET20 = 9 * ((3 * 16 + 6 * 16**2) * 32**2 + (16 * 32 + 5 * 32**2) * 16**2 + (32 * 64 + 5 * 64**2) * 8**2)
"""Its multiply-accumulates without the classifier, of an image of 32 pixels."""


def test_a_cost_by_hand() -> None:
    found = cost(BASE)
    assert (found.rounds, found.per_epoch, found.updates) == (3, 100, (1000, 900, 900))
    assert (found.views_per_update, found.macs) == (500, RESNET20)
    assert found.views == 2800 * 500
    assert found.gpu_hours == pytest.approx(6 * 1.4e6 * RESNET20 / FLOPS / 3600)


@pytest.mark.parametrize(
    ("pretext", "task", "views"),
    [
        ("labels", {}, 1),
        ("rotnet", {}, 4),
        ("exemplar", {}, 8),
        ("exemplar", {"copies": 3}, 3),
        ("npid", {}, 1),
        ("npid", {"negatives": 7}, 1),
        ("s4l", {}, 8),
        ("simclr", {}, 2),
    ],
)
def test_views_an_image(pretext: str, task: dict, views: int) -> None:
    assert pretext in PRETEXTS
    assert views_an_image(replace(BASE, pretext=pretext, task=task)) == views


@pytest.mark.parametrize(
    ("fields", "images", "classes"),
    [
        ({}, 50_000, 10),
        ({"limit": 300}, 300, 10),
        ({"subset": "images:0.1"}, 5_000, 10),
        ({"subset": "classes:0.2"}, 10_000, 2),
        ({"subset": "images:0.1", "pretext": "s4l"}, 50_000, 10),
        ({"subset": "classes:0.2", "pretext": "s4l"}, 50_000, 2),
        ({"data": "imagenet"}, 1_281_167, 1000),
    ],
)
def test_what_a_recipe_sees(fields: dict, images: int, classes: int) -> None:
    shape = seen(replace(BASE, **fields))
    assert (shape.images, shape.classes) == (images, classes)


def test_a_mask_is_one_training_and_a_warm_ladder_its_own_length() -> None:
    mask = Found("rotnet-resnet20-cifar10", "0" * 64)
    assert cost(replace(BASE, ladder=Ladder(), mask=mask)).updates == (1000,)
    warm = replace(BASE.ladder, mode="warm", retrain=Step(50, "it"))
    assert cost(replace(BASE, ladder=warm)).updates == (1000, 50, 50)


def test_data_of_unknown_size_have_no_cost() -> None:
    with pytest.raises(DatasetError, match="without reading it"):
        cost(replace(BASE, data="folder:x"))


STATED = [name for name in bundled_recipes() if Recipe.load(name).gpu_hours is not None]


def test_all_recipes_of_the_paper_state_their_hours() -> None:
    assert [name for name in bundled_recipes() if name.endswith("-paper")] == [
        name for name in STATED if name.endswith("-paper")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", STATED)
def test_stated_hours_are_the_counted_ones(name: str) -> None:
    recipe = Recipe.load(name)
    assert recipe.gpu_hours == pytest.approx(cost(recipe).gpu_hours, rel=0.1)
