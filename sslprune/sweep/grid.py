"""A grid file: blocks of runs, each a recipe and lists of values for its fields. Read, and every mistake named.

```toml
[[runs]]
recipe = "rotnet-small.toml"                          # beside this file, or a bundled recipe's name
grid = { seed = [0, 1], "training.optimizer" = ["adam", "sgd"] }
set = { limit = 10000 }                               # for all of this block

[[runs]]                                              # re-trains, on labels, the masks that these recipes find
recipe = "retrain-small.toml"
masks_of = ["rotnet-small.toml", "labels-small.toml"]
grid = { seed = [0, 1], "mask.keep" = [0.05, 0.01], "mask.init" = ["ticket", "reinit"] }
```
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sslprune.config import Recipe
from sslprune.errors import RecipeError, nearest
from sslprune.sweep.fields import dotted_fields, flatten

BLOCK = ("recipe", "grid", "set", "masks_of")
FILLED_IN = ("mask.family", "mask.sha256")
COSMETIC = ("name", "notes", "gpu_hours")


@dataclass(frozen=True)
class Block:
    """One `[[runs]]` block.

    Args:
        where: What errors call it.
        recipe: The recipe as its file has it.
        grid: Dotted field -> the values that it takes; the block makes their product.
        set: Dotted field -> the value that it has in the whole block.
        masks_of: The recipes whose masks are re-trained; empty for ordinary runs.
    """

    where: str
    recipe: Recipe
    grid: Mapping[str, tuple[Any, ...]]
    set: Mapping[str, Any]
    masks_of: tuple[Recipe, ...] = ()


@dataclass(frozen=True)
class Grid:
    """A grid file, its recipes read.

    Args:
        name: The file's stem.
        blocks: Its blocks in order.
    """

    name: str
    blocks: tuple[Block, ...]

    @classmethod
    def load(cls, path: str | Path) -> Grid:
        """Read a grid file and the recipes that it names.

        Raises:
            RecipeError: The file or one of its recipes is missing or wrong; the message says which block and field.
        """
        path = Path(path)
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"cannot read the grid {path}: {error}", "Give a TOML file that exists.") from error
        except tomllib.TOMLDecodeError as error:
            raise RecipeError(f"grid {path} is not TOML: {error}", "Correct that line.") from error
        return cls.of(table, name=path.stem, folder=path.parent)

    @classmethod
    def of(cls, table: Mapping[str, Any], *, name: str, folder: Path) -> Grid:
        """The grid of a TOML table; its recipes lie relative to `folder`."""
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) is None:
            raise RecipeError(f"{name!r} cannot name a sweep's folder.", "Use letters, digits, dots, dashes.")
        for key in table:
            if key != "runs":
                raise RecipeError(f"grid {name} has an unknown field {key!r}.", "A grid is a list of [[runs]] blocks.")
        blocks = table.get("runs", [])
        if not blocks or not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
            raise RecipeError(f"grid {name} has no runs.", "Add a [[runs]] block with a recipe.")
        return cls(name, tuple(_block(block, f"{name}.runs[{number}]", folder) for number, block in enumerate(blocks)))


def _block(table: Mapping[str, Any], where: str, folder: Path) -> Block:
    for key in table:
        if key not in BLOCK:
            raise RecipeError(f"{where} has an unknown field {key!r}.", f"Did you mean: {nearest(key, BLOCK)}?")
    if not isinstance(table.get("recipe"), str):
        raise RecipeError(f"{where} names no recipe.", 'Write recipe = "NAME" or recipe = "FILE.toml".')
    families = table.get("masks_of", [])
    if not isinstance(families, list) or not all(isinstance(family, str) for family in families):
        raise RecipeError(f"{where}.masks_of is not a list of recipes.", 'Write masks_of = ["FILE.toml", ...].')
    if families != list(dict.fromkeys(families)) or ("masks_of" in table and not families):
        raise RecipeError(f"{where}.masks_of is empty or says a recipe twice.", "Name every family once.")
    grid, fixed = _fields(table, "grid", where), _fields(table, "set", where)
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise RecipeError(f"{where}.grid: {key} = {values!r} is not a list of values.", f"Write {key} = [...].")
        if key in fixed:
            raise RecipeError(f"{where} has {key} in its grid and in its set.", "Leave it in one of them.")
        if key in COSMETIC:
            raise RecipeError(f"{where}.grid: {key} does not decide a result.", "Leave it out of the grid.")
    if filled := [key for key in (*grid, *fixed) if families and key in FILLED_IN]:
        raise RecipeError(f"{where} sets {filled[0]}, which masks_of fills in.", "Leave one of them out.")
    return Block(
        where,
        _recipe(table["recipe"], folder),
        {key: tuple(values) for key, values in grid.items()},
        fixed,
        tuple(_family(family, folder, where) for family in families),
    )


def _fields(table: Mapping[str, Any], part: str, where: str) -> dict[str, Any]:
    given = table.get(part, {})
    if not isinstance(given, dict):
        raise RecipeError(f"{where}.{part} is not a table.", f'Write {part} = {{ "training.lr" = ... }}.')
    known = dotted_fields().keys() - {"name", "task"}
    flat = flatten(given)
    for key in flat:
        if key not in known and not re.fullmatch(r"task\..+", key):
            hint = f"Did you mean: {nearest(key, known)}?"
            raise RecipeError(f"{where}.{part} has an unknown field {key!r}.", hint)
    return flat


def _recipe(text: str, folder: Path) -> Recipe:
    return Recipe.load(folder / text if text.endswith(".toml") else text)


def _family(text: str, folder: Path, where: str) -> Recipe:
    recipe = _recipe(text, folder)
    if recipe.mask.family:
        raise RecipeError(f"{where}.masks_of: {text} re-trains a mask and finds none.", "Name a recipe with a ladder.")
    return recipe
