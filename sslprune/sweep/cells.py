"""From a grid to its cells: which recipes there are, what they are called, which need which. Pure."""

from __future__ import annotations

import fnmatch
import itertools
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sslprune.config import Recipe
from sslprune.errors import KeepError, RecipeError, nearest
from sslprune.run_folder import RunFolder
from sslprune.sweep.fields import get, put, short, token
from sslprune.sweep.grid import Block, Grid
from sslprune.zoo.index import NEAR

NAMED = ("pretext", "arch", "data", "variant", "seed")
"""Fields that models' names have a place for; other fields of a grid go into the variant."""

LONGEST = 160
"""Characters of a cell's name at most: with hashes and endings it must stay below the 255 that file systems allow."""

TO_THE_GRID = "Move the field that tells them apart from `set` to `grid`, as a list of one, or set a variant."


@dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Args:
        recipe: What is run.
        needs: The names of those cells that must have finished before.
    """

    recipe: Recipe
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The cell's name, which is its recipe's."""
        return self.recipe.name


def cells_of(grid: Grid) -> tuple[Cell, ...]:
    """All cells of a grid, those that others need first, else in the order of the file; the last field varies fastest.

    A model is written by one cell only: a seed above 0 adds "s1" to the variant in models' names, and a field of the
    grid that is not as in the recipe's file adds its value.

    Raises:
        RecipeError: A field has a value that it cannot have, or two cells would be the same or write the same model.
        KeepError: A mask is asked for that its family will not have.
    """
    made = [(block, recipe) for block in grid.blocks for recipe in _recipes(block)]
    writers = _tell_apart(made)
    maker = {recipe.sha256(): recipe.name for _, recipe in made}
    cells = []
    for _, recipe in made:
        found = recipe.mask
        if found.family and found.sha256 not in maker and (other := writers.get(f"{found.family}-keep100")):
            raise RecipeError(
                f"{recipe.name} re-trains {found.family}, which {other} of this sweep makes by other settings.",
                "Put these settings into the family's recipe file, so that masks_of means the same.",
            )
        cells.append(Cell(recipe, (maker[found.sha256],) if found.sha256 in maker else ()))
    return tuple(sorted(cells, key=lambda cell: len(cell.needs)))


def pick(cells: Sequence[Cell], pattern: str) -> tuple[Cell, ...]:
    """The cells whose name fits a pattern such as "rotnet-*", and those that they need.

    Raises:
        RecipeError: No name fits.
    """
    picked = {cell.name for cell in cells if fnmatch.fnmatchcase(cell.name, pattern)}
    if not picked:
        names = nearest(pattern, (cell.name for cell in cells))
        raise RecipeError(f"no cell is called {pattern!r}.", f"Some that there are: {names}.")
    needed = {name for cell in cells if cell.name in picked for name in cell.needs}
    return tuple(cell for cell in cells if cell.name in picked | needed)


def _recipes(block: Block) -> Iterator[Recipe]:
    for family in block.masks_of or (None,):
        for values in itertools.product(*block.grid.values()):
            yield _recipe(block, dict(zip(block.grid, values, strict=True)), family)


def _recipe(block: Block, point: Mapping[str, Any], family: Recipe | None) -> Recipe:
    table: dict[str, Any] = tomllib.loads(block.recipe.to_toml())
    for dotted, value in {**block.set, **point}.items():
        put(table, dotted, value)
    if family is not None:
        put(table, "mask.family", "filled in below")
        put(table, "mask.sha256", "0" * 64)
    recipe = _parsed(table, name=block.recipe.name, where=block.where)
    if family is not None:
        recipe = _with_mask_of(recipe, _seeded(family, recipe.seed))
    parts = [block.recipe.name, *([_apart(family.name, block.recipe.name)] if family else [])]
    name = short("-".join([*parts, *(token(recipe, dotted) for dotted in point)]), longest=LONGEST)
    if recipe.mask.family:  # it writes no model, so its names need no variant
        return replace(recipe, name=name)
    changed = [dotted for dotted in point if dotted not in NAMED and get(recipe, dotted) != get(block.recipe, dotted)]
    variant = "-".join(part for part in [recipe.variant, *(token(recipe, dotted) for dotted in changed)] if part)
    return replace(_seeded(replace(recipe, variant=variant), recipe.seed), name=name)


def _parsed(table: Mapping[str, Any], *, name: str, where: str) -> Recipe:
    import tomli_w

    try:
        return Recipe.from_toml(tomli_w.dumps(table), name=name)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error.problem}", error.hint) from error


def _seeded(recipe: Recipe, seed: int) -> Recipe:
    """The recipe with a seed, which its models' names say from 1 on."""
    parts = recipe.variant.split("-") if recipe.variant else []
    if seed != 0 and f"s{seed}" not in parts:
        parts.append(f"s{seed}")
    return replace(recipe, seed=seed, variant="-".join(parts))


def _with_mask_of(recipe: Recipe, family: Recipe) -> Recipe:
    """The recipe on the mask that a family finds, which must have that rung: seen now, not after hours of training."""
    keep, rungs = recipe.mask.keep, (1.0, *family.ladder.rungs)
    if not any(abs(rung - keep) <= NEAR * keep for rung in rungs):  # as `load_masks` looks for it
        raise KeepError(
            f"{family.name} has no rung near mask.keep = {keep}.", f"Its rungs: {', '.join(map(str, rungs))}."
        )
    name = _place(family).name(1.0).family
    return replace(recipe, mask=replace(recipe.mask, family=name, sha256=family.sha256()))


def _apart(name: str, other: str) -> str:
    """The parts of a name that the other name does not have; the whole where it has all.

    >>> _apart("rotnet-vgg11-cifar10-small", "retrain-vgg11-cifar10-small")
    'rotnet'
    """
    parts = other.split("-")
    return "-".join(part for part in name.split("-") if part not in parts) or name


def _tell_apart(made: Sequence[tuple[Block, Recipe]]) -> dict[str, str]:
    """Refuse cells that are not told apart; else the folder of every model -> the cell that writes it."""
    runs: dict[str, str] = {}
    blocks: dict[str, str] = {}
    models: dict[str, str] = {}
    for block, recipe in made:
        identity = recipe.sha256()
        if same := runs.get(identity):
            raise RecipeError(
                f"{same} ({blocks[same]}) and {recipe.name} ({block.where}) are the same run.", "Leave one of them out."
            )
        if recipe.name in blocks:
            raise RecipeError(
                f"{blocks[recipe.name]} and {block.where} each have a cell called {recipe.name}.", TO_THE_GRID
            )
        runs[identity] = recipe.name
        blocks[recipe.name] = block.where
        for model in _models(recipe):
            if (other := models.setdefault(model, recipe.name)) != recipe.name:
                raise RecipeError(f"{other} and {recipe.name} would write the same model, {model}.", TO_THE_GRID)
    return models


def _models(recipe: Recipe) -> list[str]:
    place = _place(recipe)
    return [place.name(keep).folder for keep in place.keeps()]


def _place(recipe: Recipe) -> RunFolder:
    """Where names are made; nothing is read or written there."""
    return RunFolder(recipe, Path(recipe.name), Path(recipe.name))
