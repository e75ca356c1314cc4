"""A pretext's options: one frozen dataclass each with defaults, read from a recipe's `[task]` table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from sslprune.errors import RecipeError, nearest


@dataclass(frozen=True)
class Options:
    """The options of a pretext without any. Fields of subclasses are int, float or str, and have defaults."""


Chosen = TypeVar("Chosen", bound=Options)


def read(kind: type[Chosen], table: Mapping[str, int | float | str], *, pretext: str) -> Chosen:
    """Turn a table into options.

    Args:
        kind: The pretext's dataclass.
        table: What the recipe says; the rest stays at its default.
        pretext: The pretext's name, for messages.

    Raises:
        RecipeError: An option is unknown (the message names the nearest), of another type, or out of its range.
    """
    known = {item.name: item.type for item in fields(kind)}
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in known:
            raise RecipeError(
                f"the pretext {pretext!r} has no option {name!r}.", f"Choose from [task]: {nearest(name, known)}."
            )
        wanted = str(known[name])
        if wanted == "float" and type(value) is int:
            value = float(value)
        if type(value).__name__ != wanted:
            raise RecipeError(
                f"task.{name} = {value!r} is not of type {wanted}.", f"Correct [task] for the pretext {pretext!r}."
            )
        values[name] = value
    return kind(**values)


def require(holds: bool, law: str) -> None:
    """Refuse options that break a law; for `__post_init__`.

    Raises:
        RecipeError: It does not hold.
    """
    if not holds:
        raise RecipeError(f"[task]: {law}, which does not hold here.", "Correct the recipe.")
