"""What a recipe trains on, from memory and from disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sslprune import pretext
from sslprune.config import Recipe, Start, Training
from sslprune.data.device_loader import DeviceLoader, channel_statistics
from sslprune.data.sources import open as open_source
from sslprune.data.worker_loader import WorkerLoader
from sslprune.errors import DatasetError, RecipeError
from sslprune.models.preprocess import IMAGENET_MEAN, IMAGENET_STD
from sslprune.step import Step
from sslprune.training_data import TrainingData, open_training_data

RECIPE = Recipe("toy", "labels", "resnet20", "digits", Training(Step(1, "ep"), batch=6, padding=0))


@pytest.fixture
def large(tmp_path: Path) -> str:
    """Forty pictures, ten of each of four classes."""
    draw = np.random.default_rng(0)
    for number in range(40):
        (tmp_path / "train" / str(number % 4)).mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 256, (20, 30, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "train" / str(number % 4) / f"{number:02}.png")
    return f"large:{tmp_path}"


def opened(recipe: Recipe) -> TrainingData:
    return open_training_data(recipe, pretext.find(recipe.pretext))


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_labels_are_seen_as_far_as_recipe_and_pretext_say(where: str, large: str) -> None:
    recipe = replace(RECIPE, data=large, limit=40) if where == "disk" else replace(RECIPE, limit=40)
    classes = 4 if where == "disk" else 10
    whole = opened(recipe)
    assert (len(whole.images), whole.num_classes, whole.subset) == (40, classes, None)
    assert whole.labels is not None
    blind = opened(replace(recipe, pretext="rotnet"))
    assert (len(blind.images), blind.labels, blind.num_classes) == (40, None, 0)
    part = opened(replace(recipe, subset="images:0.5"))
    assert part.subset is not None
    assert part.labels is not None
    assert len(part.images) == len(part.labels) == len(part.subset.indices)
    assert part.labels.tolist() == whole.labels[part.subset.indices].tolist()
    assert opened(replace(recipe, subset="classes:0.5")).num_classes == classes // 2
    mixed = opened(replace(recipe, pretext="s4l", subset="images:0.5"))
    assert len(mixed.images) == 40
    assert mixed.labels is not None
    assert np.flatnonzero(mixed.labels >= 0).tolist() == part.subset.indices.tolist()
    unlabelled = opened(replace(recipe, pretext="rotnet", subset="images:0.5"))
    assert (len(unlabelled.images), unlabelled.labels) == (len(part.images), None)
    assert len(opened(replace(recipe, limit=12)).images) == 12


def test_each_kind_of_data_has_its_loader_and_constants(large: str) -> None:
    digits = opened(replace(RECIPE, limit=30))
    assert isinstance(digits.loader(RECIPE, copies=1, labelled=False), DeviceLoader)
    assert (digits.mean, digits.std) == channel_statistics(open_source("digits").split("train").images[:30])
    recipe = replace(RECIPE, data=large)
    found = opened(recipe)
    loader = found.loader(recipe, copies=2, labelled=True, workers=0)
    assert isinstance(loader, WorkerLoader)
    assert (found.mean, found.std) == (IMAGENET_MEAN, IMAGENET_STD)
    batch, draws = loader(0, 1)
    assert batch.images.shape == (12, 3, 224, 224)
    assert batch.labelled is not None
    assert draws.images == 6
    start = Start("x", "0" * 64, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    for data in (large, "digits"):
        given = opened(replace(RECIPE, data=data, start=start))
        assert (given.mean, given.std) == (start.mean, start.std)


def test_a_batch_shows_the_images_of_the_chosen_part(large: str) -> None:
    recipe = replace(RECIPE, data=large, subset="classes:0.5")
    found, whole = opened(recipe), opened(replace(RECIPE, data=large))
    assert found.subset is not None
    for place, index in enumerate(found.subset.indices.tolist()):
        assert found.images.read(place) == whole.images.read(index)
    batch, _ = found.loader(recipe, copies=1, labelled=False, workers=0)(0, 0)
    assert batch.labels is not None
    assert torch.equal(batch.labels, torch.from_numpy(found.labels)[batch.indices])


def test_what_does_not_go_with_large_data_is_refused(large: str) -> None:
    with pytest.raises(RecipeError, match="padding = 2 does not go with large"):
        opened(replace(RECIPE, data=large, training=replace(RECIPE.training, padding=2)))
    with pytest.raises(DatasetError, match="no data set"):
        opened(replace(RECIPE, data="nothing"))
