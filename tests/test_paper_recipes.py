"""The recipes of the paper against its hyper-parameter table (Caron et al. 2020, supplement 6.4), typed in again."""

from __future__ import annotations

import pytest

from sslprune.config import Recipe, bundled_recipes
from sslprune.prune.schedule import rounds

TABLE = """
labels   vgg19    cifar10                        160  512  1e-3   0 1e-4 80,120      adam
rotnet   vgg19    cifar10                        160  512  1e-3   0 1e-4 80,120      adam
labels   resnet18 cifar10                        160  512  1e-3   0 1e-4 80,120      adam
rotnet   resnet18 cifar10                        160  512  1e-3   0 1e-4 80,120      adam
exemplar vgg19    cifar10                        180  512  3e-4   0 1e-4 120         adam
exemplar resnet18 cifar10                        180  512  3e-4   0 1e-4 120         adam
labels   resnet50 imagenet                        90 1536  0.1    0 1e-4 50,65,80    sgd
labels   alexnet  imagenet                        90 4096  0.4    0 1e-4 30,60       sgd
labels   resnet50 imagenet-images10              200  768  0.1    5 1e-3 140,160,180 sgd
labels   resnet50 imagenet-classes10             200  768  0.3    5 3e-4 140,160,180 sgd
s4l      resnet50 imagenet-images10              200 2048  0.1    5 3e-4 140,160,180 sgd
s4l      resnet50 imagenet-classes10             200 2048  0.1    5 3e-4 140,160,180 sgd
rotnet   resnet50 imagenet                        90 1536  1.0    5 1e-5 50,65,80    sgd
exemplar resnet50 imagenet                        40 1536  0.3    0 1e-5 20,30       sgd
npid     resnet50 imagenet                       150 1024  0.03   0 1e-4 cosine      sgd
rotnet   alexnet  imagenet                        90 8192  0.5    2 1e-5 30,60       sgd
exemplar alexnet  imagenet                        30 4096  0.1    0 1e-4 20          sgd
"""
ROWS = [line.split() for line in TABLE.split("\n") if line]
NAMES = ["-".join([*row[:3], "paper"]) for row in ROWS]
OURS = [0.8**n for n in (1, 3, 5, 7, 9, 11, 13, 15, 17, 20, 22, 25, 27, 30)]


def test_there_is_a_recipe_for_every_row_and_no_other() -> None:
    assert sorted(NAMES) == [name for name in bundled_recipes() if name.endswith("-paper")]


@pytest.mark.parametrize(("name", "row"), list(zip(NAMES, ROWS, strict=True)))
def test_the_constants_are_those_of_the_table(name: str, row: list[str]) -> None:
    pretext, arch, data, epochs, batch, lr, warmup, decay, milestones, optimizer = row
    recipe, training = Recipe.load(name), Recipe.load(name).training
    assert (recipe.pretext, recipe.arch) == (pretext, arch)
    data, _, part = data.partition("-")
    assert (recipe.data, recipe.subset) == (data, {"": "", "images10": "images:0.1", "classes10": "classes:0.1"}[part])
    assert recipe.variant == "-".join(filter(None, [part, "paper"]))
    assert str(training.length) == f"{epochs}ep"
    assert (training.batch, training.lr, training.weight_decay) == (int(batch), float(lr), float(decay))
    assert training.warmup.count == int(warmup)
    assert (training.optimizer, training.momentum, training.nesterov) == (optimizer, 0.9, False)
    if milestones == "cosine":
        assert training.schedule == "cosine"
    else:
        assert (training.schedule, training.gamma) == ("step", 0.1)
        assert [str(step) for step in training.milestones] == [f"{epoch}ep" for epoch in milestones.split(",")]
    assert (training.padding, training.flip) == (2 if data == "cifar10" else 0, True)
    assert "ours" in recipe.notes


@pytest.mark.parametrize("name", NAMES)
def test_the_ladder_is_the_papers(name: str) -> None:
    recipe, ladder = Recipe.load(name), Recipe.load(name).ladder
    assert (ladder.score, ladder.scope, ladder.guard, ladder.stem_keep) == ("magnitude", "global", 0, None)
    assert (ladder.per_round, ladder.mode, ladder.retrain) == (0.2, "rewind", None)
    descent = list(rounds(ladder.rungs, ladder.per_round))
    if recipe.pretext == "npid":  # too costly below, the paper says
        assert ladder.rungs[-1] == 0.1
        assert len(descent) == 1 + 11
    else:
        assert len(descent) == 1 + 30
        assert ladder.rungs == pytest.approx(OURS, rel=3e-3)
        assert [each.keep for each in descent] == pytest.approx([0.8**n for n in range(31)], rel=3e-3)
    # Three times 1.28 million samples in every setting of ImageNet (the paper's Table 1), one epoch on CIFAR-10.
    tenth = recipe.subset and recipe.pretext == "labels"
    assert str(ladder.rewind) == ("1ep" if recipe.data == "cifar10" else "30ep" if tenth else "3ep")


def test_npid_has_the_papers_negatives_and_nothing_is_cropped_twice() -> None:
    task = Recipe.load("npid-resnet50-imagenet-paper").task
    assert (task["negatives"], task["crop"]) == (16_384, 1)
    assert all(Recipe.load(name).task.get("crop", 1) == 1 for name in NAMES)
