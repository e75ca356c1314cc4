"""Re-training another run's mask: the mask is the family's, held, and what is compared differs in one thing only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from sslprune import jsonl, pipeline
from sslprune.config import Found, Ladder, Recipe, Training, Transfer
from sslprune.data import sources
from sslprune.errors import KeepError, MaskError, RecipeError, UnknownModelError
from sslprune.evaluate import results
from sslprune.masks import Mask
from sslprune.prune.criteria import convolutions
from sslprune.retrain import choose, find_family, rewound
from sslprune.run_folder import RunFolder
from sslprune.setting import Options
from sslprune.step import Step
from sslprune.zoo.index import Entry
from sslprune.zoo.load import load
from sslprune.zoo.load_masks import load_masks

QUIET = Options(progress=False, checkpoint_every=0.0)
FAMILY = Recipe(
    "family",
    "rotnet",
    "test_byobnet",
    "digits",
    Training(Step(6, "it"), batch=8, lr=0.02),
    Ladder((0.5, 0.2), per_round=0.6, rewind=Step(2, "it")),
    limit=24,
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass
class Place:
    """A zoo with a family in it."""

    root: Path
    family: Recipe
    parent: Entry

    def recipe(self, **found) -> Recipe:
        mask = Found("rotnet-test_byobnet-digits", self.family.sha256(), **{"keep": 0.2, **found})
        training = Training(Step(4, "it"), batch=8, lr=0.02)
        return Recipe("again", "labels", "test_byobnet", "digits", training, mask=mask, limit=40)

    def run(self, recipe: Recipe) -> tuple[results.Row, RunFolder]:
        folder = RunFolder(recipe, self.root / recipe.run_name, self.root / "zoo")
        assert pipeline.run(recipe, folder, QUIET) == []
        (row,) = results.read(folder.path / "results.jsonl")
        return row, folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    root = tmp_path_factory.mktemp("retrain")
    digits, labels = sources.open("digits").labelled("train")
    for label in (0, 1):
        (root / "few" / str(label)).mkdir(parents=True)
        for number, image in enumerate(digits[labels == label][:10]):
            Image.fromarray(image).save(root / "few" / str(label) / f"{number}.png")
    family = replace(FAMILY, transfer=Transfer(data=(f"folder:{root / 'few'}",), pool=1))
    pipeline.run(family, RunFolder(family, root / "family", root / "zoo"), QUIET)
    return Place(root, family, find_family(Found("rotnet-test_byobnet-digits", family.sha256()), root / "zoo"))


def test_the_mask_is_that_of_the_rung_and_the_row_says_all(place: Place) -> None:
    recipe = place.recipe()
    row, folder = place.run(recipe)
    mask = load_masks(place.parent.folder, keep=0.2)
    assert (row["task"], row["metric"], row["split"]) == ("retrain", "top1", "test")
    assert row["keep"] == mask.keep
    assert row["counts"]["kept"] == mask.kept
    assert row["counts"]["n_train"] == 40
    assert 0 < row["counts"]["nonzero"] <= mask.kept
    learned = torch.load(folder.path / "rounds" / "00.pt", weights_only=True)["learner"]
    for name, kept in mask.items():
        assert not learned[f"backbone.{name}"][~kept].any()
    protocol = row["protocol"]
    assert (protocol["criterion"], protocol["init"], protocol["control"]) == ("rotnet", "reinit", "")
    assert protocol["training"]["batch"] == 8
    assert not list((place.root / "zoo").glob("labels-*"))


def test_run_again_it_returns_at_once_and_killed_it_goes_on(place: Place) -> None:
    recipe = replace(place.recipe(init="ticket"), seed=3)
    row, folder = place.run(recipe)
    before = (folder.path / "results.jsonl").stat().st_mtime_ns
    assert place.run(recipe)[0] == row
    assert (folder.path / "results.jsonl").stat().st_mtime_ns == before
    (folder.path / "finished.json").unlink()  # killed after the training, before the end
    (folder.path / "results.jsonl").unlink()
    assert place.run(recipe)[0] == row
    assert [row["event"] for row in jsonl.read(folder.path / "train.log.jsonl")].count("update") == 1


def test_a_ticket_starts_from_the_rewound_weights_and_random_reinit_does_not(place: Place) -> None:
    state, trained = rewound(place.parent), load(place.parent.folder).state_dict()
    assert state.keys() == trained.keys()
    assert any(not torch.equal(state[name], trained[name]) for name in state)
    at_k = torch.load(place.root / "family" / "rounds" / "00.pt", weights_only=True)["snapshot"]
    assert all(torch.equal(state[name], at_k[f"backbone.{name}"]) for name in state)
    ticket, again = place.run(place.recipe(init="ticket"))[1], place.run(place.recipe(init="reinit"))[1]
    one, other = (torch.load(each.path / "rounds" / "00.pt", weights_only=True)["learner"] for each in (ticket, again))
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_controls_keep_as_many_weights_elsewhere(place: Place) -> None:
    mask = load_masks(place.parent.folder, keep=0.2)

    def control(**found) -> Mask:
        return choose(mask, Found("f", keep=0.2, **found), place.parent, seed=1)

    assert control() == mask
    permuted = control(control="permuted")
    assert permuted.kept == mask.kept
    assert permuted != mask
    assert control(control="permuted") == permuted
    within = control(control="permuted-layers")
    assert [line.kept for line in within.table()] == [line.kept for line in mask.table()]
    assert within != mask
    nonzero = control(control="nonzero")
    weights = load(place.parent.folder).state_dict()
    assert nonzero.kept == mask.kept
    assert all(bool(weights[name][kept].all()) for name, kept in nonzero.items())


@pytest.mark.parametrize("control", ["", "permuted", "permuted-layers", "nonzero"])
def test_with_first_convolutions_only_the_rest_is_dense(place: Place, control: str) -> None:
    mask = load_masks(place.parent.folder, keep=0.2)
    first = convolutions(mask)[:2]
    found = Found("f", keep=0.2, control=control, first_convs=2)  # type: ignore[arg-type]
    chosen = choose(mask, found, place.parent, seed=0)
    assert list(chosen) == list(mask)
    assert sum(int(chosen[name].sum()) for name in first) == sum(int(mask[name].sum()) for name in first)
    assert all(bool(chosen[name].all()) for name in mask if name not in first)


def test_another_family_another_rung_or_no_family_is_refused(place: Place) -> None:
    recipe = place.recipe()
    with pytest.raises(MaskError, match="not 00000000"):
        place.run(replace(recipe, mask=replace(recipe.mask, sha256="0" * 64)))
    with pytest.raises(UnknownModelError):
        place.run(replace(recipe, mask=replace(recipe.mask, family="rotnet-test_byobnet-nothing")))
    with pytest.raises(KeepError):
        place.run(place.recipe(keep=0.01))


@pytest.mark.parametrize(
    ("fields", "law"),
    [
        ({"pretext": "rotnet"}, "pretext 'labels'"),
        ({"ladder": Ladder((0.5,))}, r"no \[ladder\]"),
        ({"mask": Found(keep=0.5)}, r"\[mask\] go with mask.family"),
        ({"mask": Found("f", "1" * 63)}, "64 hex digits"),
        ({"mask": Found("f", "1" * 64, keep=0)}, "mask.keep"),
        ({"mask": Found("f", "1" * 64, init="ticket", control="permuted")}, "goes with mask.init"),
        ({"mask": Found("f", "1" * 64, first_convs=0)}, "first_convs is positive"),
    ],
)
def test_impossible_recipes_are_refused(place: Place, fields: dict, law: str) -> None:
    with pytest.raises(RecipeError, match=law):
        replace(place.recipe(), **fields)


def test_a_recipe_with_a_mask_is_read_again(place: Place) -> None:
    recipe = place.recipe(control="nonzero", first_convs=3)
    assert Recipe.from_toml(recipe.to_toml(), name=recipe.name) == recipe
    assert replace(recipe, gpu_hours=3.0).sha256() == recipe.sha256()
    assert Recipe.from_toml(replace(recipe, gpu_hours=3.0).to_toml(), name="again").gpu_hours == 3.0
