"""Every pretext through the whole chain; killed in the middle it goes on bit for bit; and each learns something."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from sslprune import jsonl, pipeline
from sslprune.config import Ladder, Recipe, Training, Transfer, bundled_recipes
from sslprune.data import sources
from sslprune.errors import CheckpointError, DatasetError, RecipeError
from sslprune.evaluate.features import extract_labelled
from sslprune.evaluate.transfer import best_stage, measure_knn
from sslprune.files import sha256
from sslprune.masks import Mask
from sslprune.models import Preprocessing
from sslprune.pretext import PRETEXTS
from sslprune.prune.schedule import Round
from sslprune.run_folder import RunFolder
from sslprune.setting import SUBSET, Options, prepare
from sslprune.step import Step

QUIET = Options(progress=False, checkpoint_every=0.0)
ROUND = Round(0, 1.0, is_rung=True)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small(pretext: str, **fields) -> Recipe:
    """Two rounds of a few updates on twenty-four digits, measured on nothing."""
    base = Recipe(
        "small",
        pretext,
        "test_byobnet",
        "digits",
        Training(Step(4, "it"), batch=6, lr=0.02),
        Ladder((0.5,), per_round=0.5, rewind=Step(2, "it")),
        Transfer(),
        limit=24,
        subset="images:0.5" if pretext == "s4l" else "",
    )
    return replace(base, **fields)


@pytest.fixture
def few(tmp_path: Path) -> str:
    """Twenty digits in folders: every rung is measured on them in no time."""
    digits = sources.open("digits").split("train")
    assert digits.labels is not None
    for label in (0, 1):
        (tmp_path / "few" / str(label)).mkdir(parents=True)
        for number, image in enumerate(digits.images[digits.labels == label][:10]):
            Image.fromarray(image).save(tmp_path / "few" / str(label) / f"{number}.png")
    return f"folder:{tmp_path / 'few'}"


@pytest.mark.parametrize("name", sorted(PRETEXTS))
def test_every_pretext_goes_through_the_chain(name: str, tmp_path: Path, few: str) -> None:
    recipe = small(name, transfer=Transfer(data=(few,), pool=1))
    parent, rung = pipeline.run(recipe, RunFolder(recipe, tmp_path / "run", tmp_path / "zoo"), QUIET)
    assert parent.name == f"{name}-test_byobnet-digits-keep100%"
    assert rung.kept == round(0.5 * rung.prunable)
    rows = [row for row in jsonl.read(tmp_path / "run" / "train.log.jsonl") if row["event"] == "update"]
    assert [row["round"] for row in rows] == [0, 1]
    assert all(0 <= row["score"] <= 100 for row in rows)


def train(recipe: Recipe, folder: Path) -> nn.Module:
    """Round 0 of a recipe; the learner."""
    setting = prepare(recipe, folder, QUIET)
    setting.train(setting.learner, Mask.full(setting.weights), ROUND)
    return setting.learner


def test_negatives_are_drawn_by_the_recipe_and_change_what_is_learned(tmp_path: Path) -> None:
    full = train(small("npid"), tmp_path / "full").state_dict()
    sampled = train(small("npid", task={"negatives": 5}), tmp_path / "sampled").state_dict()
    again = train(small("npid", task={"negatives": 5}), tmp_path / "again").state_dict()
    assert all(torch.equal(sampled[name], again[name]) for name in sampled)
    assert not torch.equal(full["pretext.bank"], sampled["pretext.bank"])
    assert full["pretext.normaliser"] == 0 < sampled["pretext.normaliser"]


def test_an_unknown_option_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no option 'negative'\.\n.*negatives"):
        prepare(small("npid", task={"negative": 5}), tmp_path, QUIET)
    with pytest.raises(RecipeError, match="not a part of a data set"):
        prepare(small("labels", subset="images:2"), tmp_path, QUIET)
    assert list(tmp_path.iterdir()) == []


def test_labels_on_a_part_see_that_part_alone_and_say_which(tmp_path: Path) -> None:
    digits = sources.open("digits").split("train")
    assert digits.labels is not None
    for subset, classes in (("images:0.1", 10), ("classes:0.2", 2)):
        folder = tmp_path / subset
        setting = prepare(small("labels", subset=subset, limit=None), folder, QUIET)
        chosen = [int(line) for line in (folder / SUBSET).read_text().splitlines()]
        data = setting.loop.data
        assert torch.equal(data.images.permute(0, 2, 3, 1), torch.from_numpy(digits.images[chosen]))
        assert data.labels is not None
        assert data.labels.unique().tolist() == list(range(classes))
        assert setting.learner.pretext.classifier.out_features == classes
        (row,) = jsonl.read(folder / "train.log.jsonl")
        assert (row["event"], row["round"], row["subset"], row["classes"]) == ("subset", 0, subset, classes)
        assert (row["images"], row["sha256"]) == (len(chosen), sha256(folder / SUBSET))
        prepare(small("labels", subset=subset, limit=None), folder, QUIET)  # again: the same, so nothing to say
        assert len(jsonl.read(folder / "train.log.jsonl")) == 1
        (folder / SUBSET).write_text("0\n")
        with pytest.raises(CheckpointError, match="lists other images"):
            prepare(small("labels", subset=subset, limit=None), folder, QUIET)


def test_half_labelled_training_sees_all_images_and_only_the_labels_of_its_part(tmp_path: Path) -> None:
    setting = prepare(small("s4l", limit=None, subset="images:0.1"), tmp_path, QUIET)
    data = setting.loop.data
    chosen = [int(line) for line in (tmp_path / SUBSET).read_text().splitlines()]
    assert len(data.images) == 1297
    assert data.labels is not None
    assert data.labels.ge(0).nonzero()[:, 0].tolist() == chosen
    batch, _ = data(0, 3)
    assert batch.labelled is not None
    assert len(batch.labelled.indices) == len(batch.indices) == 6
    assert set(batch.labelled.indices.tolist()) <= set(chosen)


def test_a_part_of_unlabelled_pictures_is_a_part_of_all(tmp_path: Path) -> None:
    for number, image in enumerate(sources.open("digits").split("train").images[:20]):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "pictures" / f"{number}.png")
    recipe = small("rotnet", data=f"folder:{tmp_path / 'pictures'}", limit=None, subset="images:0.5")
    data = prepare(recipe, tmp_path / "run", QUIET).loop.data
    assert data.labels is None
    assert len((tmp_path / "run" / SUBSET).read_text().splitlines()) == len(data.images)
    with pytest.raises(DatasetError, match="has a label"):
        prepare(replace(recipe, pretext="s4l"), tmp_path / "other", QUIET)


KILLED = """
import sys, torch; torch.set_num_threads(1)
from pathlib import Path
from sslprune import pipeline
from sslprune.config import Recipe
from sslprune.run_folder import RunFolder
from sslprune.setting import Options
recipe = Recipe.load(sys.argv[1])
folder = RunFolder(recipe, Path(sys.argv[2]) / "run", Path(sys.argv[2]) / "zoo")
pipeline.run(recipe, folder, Options(progress=False, checkpoint_every=0.0))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "task"), [("npid", {}), ("npid", {"negatives": 4}), ("exemplar", {}), ("s4l", {})])
def test_killed_in_the_middle_it_goes_on_bit_for_bit(name: str, task: dict, tmp_path: Path, few: str) -> None:
    recipe = small(
        name,
        task=task,
        training=Training(Step(60, "it"), batch=6, lr=0.02),
        transfer=Transfer(data=(few,), pool=1),
    )
    (tmp_path / "small.toml").write_text(recipe.to_toml())
    command = [sys.executable, "-c", KILLED, str(tmp_path / "small.toml")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(tmp_path / "whole")], check=True, env=environment)

    unfinished = tmp_path / "killed" / "run" / "rounds" / "unfinished.pt"
    for _ in range(2):
        victim = subprocess.Popen([*command, str(tmp_path / "killed")], env=environment)
        before = unfinished.stat().st_mtime_ns if unfinished.exists() else None
        while (not unfinished.exists() or unfinished.stat().st_mtime_ns == before) and victim.poll() is None:
            time.sleep(0.002)
        victim.kill()
        assert victim.wait() == -signal.SIGKILL
    subprocess.run([*command, str(tmp_path / "killed")], check=True, env=environment)
    log = jsonl.read(tmp_path / "killed" / "run" / "train.log.jsonl")
    assert [row["event"] for row in log].count("resumed") >= 1
    for path in sorted((tmp_path / "whole" / "run").rglob("*.pt")):
        other = tmp_path / "killed" / "run" / path.relative_to(tmp_path / "whole" / "run")
        assert path.read_bytes() == other.read_bytes()
    if name == "npid":
        learned = torch.load(tmp_path / "killed" / "run" / "rounds" / "01.pt", weights_only=True)["learner"]
        assert learned["pretext.bank"].shape == (24, 128)


def knn(model: nn.Module, preprocessing: Preprocessing) -> float:
    """Top-1 on the test digits, k = 20, at the stage that is best on held-out training digits, pooled to 4x4."""
    digits = sources.open("digits")
    train_x, train_y = extract_labelled(model, digits.labelled("train"), pool=4, preprocessing=preprocessing)
    test_x, test_y = extract_labelled(model, digits.labelled("test"), what="test", pool=4, preprocessing=preprocessing)
    found = {stage: measure_knn(train_x[stage], train_y, test_x[stage], test_y, seed=0, k=20) for stage in train_x}
    return found[best_stage({stage: each.held_out for stage, each in found.items()})].accuracy


DIGITS = [name for name in bundled_recipes() if name.endswith("-test_byobnet-digits")]


def test_every_pretext_has_a_recipe_for_digits_and_one_for_cifar() -> None:
    assert {Recipe.load(name).pretext for name in DIGITS} == set(PRETEXTS)
    laptop = [Recipe.load(name) for name in bundled_recipes() if name.endswith("-cifar10-laptop")]
    assert {recipe.pretext for recipe in laptop} == set(PRETEXTS)
    assert len({recipe.run_name.split("-")[0] + recipe.variant for recipe in laptop}) == len(laptop)


@pytest.mark.slow
@pytest.mark.parametrize("name", DIGITS)
def test_what_is_learned_beats_a_random_network_by_two_points(name: str, tmp_path: Path) -> None:
    gains = []
    for seed in range(3):
        recipe = replace(Recipe.load(name), seed=seed, ladder=Ladder(()))
        setting = prepare(recipe, tmp_path / str(seed), Options(progress=False, checkpoint_every=1e9))
        backbone = setting.learner.backbone
        floor = knn(backbone, setting.preprocessing)
        setting.train(setting.learner, Mask.full(setting.weights), ROUND)
        gains.append(knn(backbone, setting.preprocessing) - floor)
    print(json.dumps({"recipe": name, "gains": [round(gain, 2) for gain in gains]}))
    assert statistics.mean(gains) >= 2
