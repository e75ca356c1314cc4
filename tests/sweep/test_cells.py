"""The cells of a grid: its product, each with names of its own, which follow from the cell alone."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sslprune.config import Found, Ladder, Recipe, Training
from sslprune.errors import KeepError, RecipeError
from sslprune.run_folder import RunFolder
from sslprune.step import Step
from sslprune.sweep.cells import LONGEST, Cell, cells_of, pick
from sslprune.sweep.grid import Block, Grid

FAMILY = Recipe("rotnet-tiny", "rotnet", "resnet20", "digits", Training(Step(2, "ep")), Ladder((0.5, 0.2)))
OTHER = replace(FAMILY, name="labels-tiny", pretext="labels")
AGAIN = Recipe("retrain-tiny", "labels", "resnet20", "digits", Training(Step(2, "ep")))

SEEDS = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=2, unique=True)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "seed": SEEDS,
        "pretext": st.lists(st.sampled_from(["rotnet", "labels", "exemplar"]), min_size=1, unique=True),
        "training.optimizer": st.lists(st.sampled_from(["adam", "sgd"]), min_size=1, unique=True),
        "training.lr": st.lists(st.sampled_from([0.1, 0.01, 1e-5, 1, 1e30]), min_size=1, unique=True),
        "training.length": st.lists(st.sampled_from(["2ep", "3ep", "2it"]), min_size=1, unique=True),
        "ladder.rungs": st.lists(st.sampled_from([[], [0.5, 0.2], [0.5]]), min_size=1, unique_by=tuple),
        "training.flip": st.lists(st.booleans(), min_size=1, unique=True),
        "task.margin": st.lists(st.sampled_from([0.5, 1, "soft"]), min_size=1, unique=True),
    },
)
GRIDS = FIELDS.filter(lambda grid: math.prod(map(len, grid.values())) <= 12)
MASKS = st.fixed_dictionaries(
    {"seed": SEEDS},
    optional={
        "mask.keep": st.lists(st.sampled_from([1.0, 0.5, 0.2]), min_size=1, unique=True),
        "mask.control": st.lists(st.sampled_from(["", "permuted", "nonzero"]), min_size=1, unique=True),
        "mask.first_convs": st.lists(st.integers(1, 9), min_size=1, max_size=2, unique=True),
    },
)


def block(recipe: Recipe, grid: dict, fixed: dict | None = None, *families: Recipe, number: int = 0) -> Block:
    return Block(f"g.runs[{number}]", recipe, {key: tuple(grid[key]) for key in grid}, fixed or {}, families)


def cells(*blocks: Block) -> tuple[Cell, ...]:
    return cells_of(Grid("g", blocks))


def models(cell: Cell) -> list[Path]:
    folder = RunFolder(cell.recipe, Path("run"), Path("zoo"))
    return [folder.folder_of(keep) for keep in folder.keeps()]


FEW = settings(max_examples=20, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])


@FEW
@given(GRIDS, MASKS)
def test_a_grid_is_the_product_of_its_values_each_cell_with_places_of_its_own(grid: dict, masks: dict) -> None:
    found = cells(block(FAMILY, grid), block(AGAIN, masks, None, FAMILY, OTHER, number=1))
    plain = [cell for cell in found if not cell.recipe.mask.family]
    assert len(plain) == math.prod(map(len, grid.values()))
    assert len(found) - len(plain) == 2 * math.prod(map(len, masks.values()))
    for names in (
        [cell.name for cell in found],
        [cell.recipe.run_name for cell in found],
        [cell.recipe.sha256() for cell in found],
        [model for cell in found for model in models(cell)],
    ):
        assert len(names) == len(set(names))
    for cell in found:
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*", cell.name)
        assert len(cell.name) <= LONGEST
        assert Recipe.from_toml(cell.recipe.to_toml(), name=cell.name) == cell.recipe
    assert found == cells(block(FAMILY, grid), block(AGAIN, masks, None, FAMILY, OTHER, number=1))


@FEW
@given(GRIDS, MASKS)
def test_what_a_cell_needs_comes_before_it_and_is_its_masks_family(grid: dict, masks: dict) -> None:
    found = cells(block(AGAIN, masks, None, FAMILY, OTHER), block(FAMILY, {"seed": masks["seed"]}, number=1))
    place = {cell.name: number for number, cell in enumerate(found)}
    named = {cell.name: cell.recipe for cell in found}
    for cell in found:
        mask = cell.recipe.mask
        assert all(place[need] < place[cell.name] for need in cell.needs)
        assert len(cell.needs) == mask.family.startswith("rotnet")  # the other family is left to the zoo
        for need in cell.needs:
            family = RunFolder(named[need], Path("run"), Path("zoo")).name(1.0).family
            assert (family, named[need].sha256(), named[need].seed) == (mask.family, mask.sha256, cell.recipe.seed)


@FEW
@given(GRIDS, st.data())
def test_a_grid_that_shrinks_keeps_the_runs_of_what_is_left(grid: dict, data: st.DataObject) -> None:
    fewer = {key: data.draw(st.lists(st.sampled_from(grid[key]), min_size=1, unique_by=repr)) for key in grid}
    few, many = (cells(block(FAMILY, each)) for each in (fewer, grid))
    assert {cell.recipe.run_name for cell in few} <= {cell.recipe.run_name for cell in many}


@given(st.permutations(["pretext", "training.lr", "seed"]))
def test_a_cell_as_its_recipe_says_is_that_recipe(order: list[str]) -> None:
    grid = {"pretext": ["rotnet", "labels"], "training.lr": [0.1, 0.2], "seed": [0, 3]}
    found = cells(block(FAMILY, {key: grid[key] for key in order}))
    assert [cell.recipe.sha256() for cell in found].count(FAMILY.sha256()) == 1


def test_names_can_be_read() -> None:
    grid = {"seed": [0, 1], "training.optimizer": ["sgd", "adam"], "training.length": ["2ep", "3ep"]}
    found = cells(block(FAMILY, grid))
    assert [cell.name for cell in found[:3]] == [
        "rotnet-tiny-s0-sgd-length2ep",
        "rotnet-tiny-s0-sgd-length3ep",
        "rotnet-tiny-s0-adam-length2ep",
    ]
    variants = ["", "length3ep", "adam", "adam-length3ep", "s1", "length3ep-s1", "adam-s1", "adam-length3ep-s1"]
    assert [cell.recipe.variant for cell in found] == variants
    (cell,) = cells(block(AGAIN, {"seed": [1], "mask.keep": [0.2], "mask.init": ["ticket"]}, None, FAMILY))
    assert cell.name == "retrain-tiny-rotnet-s1-keep0.2-ticket"
    family = replace(FAMILY, seed=1, variant="s1")
    assert cell.recipe.mask == Found("rotnet-resnet20-digits-s1", family.sha256(), keep=0.2, init="ticket")
    assert cell.recipe.variant == ""


def test_a_variant_of_ones_own_stays_and_says_the_seed_once() -> None:
    found = cells(block(FAMILY, {"seed": [0, 2], "variant": ["slim"]}))
    assert [cell.recipe.variant for cell in found] == ["slim", "slim-s2"]
    (cell,) = cells(block(replace(FAMILY, seed=2, variant="s2"), {}))
    assert cell.recipe.variant == "s2"


def test_settings_of_a_block_hold_in_all_of_its_cells() -> None:
    found = cells(block(FAMILY, {"seed": [0, 1]}, {"limit": 9, "training.batch": 4, "task.margin": 2}))
    assert [(cell.recipe.limit, cell.recipe.training.batch, cell.recipe.task) for cell in found] == [
        (9, 4, {"margin": 2})
    ] * 2


@pytest.mark.parametrize(
    ("blocks", "problem"),
    [
        ([block(FAMILY, {"seed": [0, 0]})], r"rotnet-tiny-s0 .*are the same run"),
        ([block(FAMILY, {"training.lr": [1, 1.0]})], "are the same run"),
        ([block(FAMILY, {}), block(FAMILY, {"seed": [0]}, number=1)], r"runs\[0\].*runs\[1\].*the same run"),
        (
            [block(FAMILY, {"seed": [1]}), block(FAMILY, {"seed": [1]}, {"limit": 5}, number=1)],
            r"runs\[0\] and g\.runs\[1\] each have a cell called rotnet-tiny-s1",
        ),
        (
            [block(FAMILY, {}), block(replace(FAMILY, name="b"), {}, {"limit": 5}, number=1)],
            "rotnet-tiny and b would write the same model, rotnet-resnet20-digits-keep100",
        ),
        ([block(FAMILY, {"data": ["folder:a", "folder:b"]})], "would write the same model, rotnet-resnet20-folder"),
        (
            [block(FAMILY, {}, {"limit": 5}), block(AGAIN, {}, None, FAMILY, number=1)],
            "re-trains rotnet-resnet20-digits, which rotnet-tiny of this sweep makes by other settings",
        ),
        ([block(FAMILY, {"seed": ["one"]})], r"g\.runs\[0\]: rotnet-tiny\.seed = 'one' is not of type int"),
        ([block(FAMILY, {"training.optimizer": ["adagrad"]})], r"runs\[0\]: .*'adagrad' is not known"),
        ([block(FAMILY, {"training.lr": [-1.0]})], "training.lr.* are positive"),
        ([block(AGAIN, {"mask.init": ["ticket"], "mask.control": ["permuted"]}, None, FAMILY)], "mask.control goes"),
        ([block(FAMILY, {}, None, OTHER)], "has no .ladder."),
    ],
)
def test_cells_that_cannot_be_are_named(blocks: list[Block], problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        cells(*blocks)


def test_a_rung_that_the_family_will_not_have_is_seen_before_anything_trains() -> None:
    with pytest.raises(
        KeepError, match=r"rotnet-tiny has no rung near mask\.keep = 0\.05\.\nIts rungs: 1\.0, 0\.5, 0\.2"
    ):
        cells(block(AGAIN, {"mask.keep": [0.5, 0.05]}, None, FAMILY))
    assert cells(block(AGAIN, {"mask.keep": [0.19]}, None, FAMILY))


def test_a_pattern_picks_cells_and_what_they_need() -> None:
    found = cells(block(FAMILY, {"seed": [0, 1]}), block(AGAIN, {"seed": [0, 1]}, None, FAMILY, number=1))
    assert [cell.name for cell in pick(found, "retrain*-s1")] == ["rotnet-tiny-s1", "retrain-tiny-rotnet-s1"]
    assert [cell.name for cell in pick(found, "rotnet-*")] == ["rotnet-tiny-s0", "rotnet-tiny-s1"]
    with pytest.raises(RecipeError, match=r"no cell is called 'rotnte'.\n.*rotnet-tiny-s0"):
        pick(found, "rotnte")
