"""A recipe's fields by their dotted names, and how a cell's name says what a field is set to."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from sslprune.config import Recipe
from sslprune.step import Step

LONGEST = 40
"""Characters that one field takes in a name at most."""


def dotted_fields(kind: Any = Recipe, prefix: str = "") -> dict[str, Any]:
    """Every field of a recipe with its type, tables taken apart: "seed", "training.lr", ...; "task" is a table itself.

    >>> fields = dotted_fields()
    >>> fields["training.batch"], "training" in fields, "task" in fields
    (<class 'int'>, False, True)
    """
    found: dict[str, Any] = {}
    hints = get_type_hints(kind)
    for item in fields(kind):
        hint = hints[item.name]
        if isinstance(hint, type) and is_dataclass(hint) and hint is not Step:
            found |= dotted_fields(hint, f"{prefix}{item.name}.")
        else:
            found[f"{prefix}{item.name}"] = hint
    return found


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted fields, so that `training.lr = ...` and `"training.lr" = ...` mean the same.

    >>> flatten({"seed": 1, "training": {"lr": 0.1}, "training.batch": 8})
    {'seed': 1, 'training.lr': 0.1, 'training.batch': 8}
    """
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def put(table: dict[str, Any], dotted: str, value: Any) -> None:
    """Set a dotted field of a recipe's TOML table, in place."""
    *path, last = dotted.split(".") if not dotted.startswith("task.") else ("task", dotted.removeprefix("task."))
    for part in path:
        table = table.setdefault(part, {})
    table[last] = value


def get(recipe: Recipe, dotted: str) -> Any:
    """The value of a dotted field; None for an option of `task` that the recipe does not set."""
    if dotted.startswith("task."):
        return recipe.task.get(dotted.removeprefix("task."))
    value: Any = recipe
    for part in dotted.split("."):
        value = getattr(value, part)
    return value


def token(recipe: Recipe, dotted: str) -> str:
    """How names say what a field of a recipe is set to.

    It depends on the field and its value alone, so a longer grid does not rename the cells that it had before. Words
    that no other field knows stand by themselves; other values come after their field.

    >>> recipe = Recipe.load("rotnet-resnet20-digits-demo")
    >>> [token(recipe, name) for name in ("seed", "pretext", "training.optimizer", "training.lr", "training.length")]
    ['s0', 'rotnet', 'sgd', 'lr0.05', 'length2.5ep']
    >>> [token(recipe, name) for name in ("training.nesterov", "mask.control", "ladder.rungs", "transfer.pool")]
    ['nesterov', 'no-control', 'rungs0.2_0.05_0.01', 'transfer-pool4']
    """
    table, _, leaf = dotted.rpartition(".")
    if table in ("task", "transfer"):  # tables that share words with others
        leaf = f"{table}-{leaf}"
    value = get(recipe, dotted)
    if dotted == "seed":
        return f"s{value}"
    if value is None or value is False or value in ("", ()):
        return f"no-{leaf}"
    if value is True:
        return leaf
    if dotted in ("pretext", "arch", "data", "subset", "variant") or _is_word(dotted):
        return short(_text(value))
    return short(f"{leaf}{_text(value)}")


def _is_word(dotted: str) -> bool:
    """Whether the field is one of a few words; no two such fields share one."""
    hint = _hints().get(dotted)
    return get_origin(hint) is not None and all(isinstance(word, str) for word in get_args(hint))


@cache
def _hints() -> dict[str, Any]:
    return dotted_fields()


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return "_".join(map(_text, value))
    if isinstance(value, float):
        return repr(value).removesuffix(".0").replace("+", "")
    return str(value)


def short(text: str, *, longest: int = LONGEST) -> str:
    """A text as names may spell it; where it is too long, cut, and told apart by eight digits of its hash.

    >>> short("images:0.1"), short("a" * 100, longest=12)
    ('images-0.1', 'aaa-28165978')
    """
    safe = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-.")
    return safe if len(safe) <= longest else f"{safe[: longest - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
