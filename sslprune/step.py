"""A point in training, in whichever unit the protocol names it: epochs ("3ep") or updates ("500it")."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, Self

from sslprune.errors import StepError

_WRITTEN = re.compile(r"([0-9]{1,15}(?:\.[0-9]+)?)(ep|it)")


@dataclass(frozen=True)
class Step:
    """A distance from the start of training.

    Args:
        count: How many; not negative, whole where the unit is updates.
        unit: "ep" (epochs) or "it" (updates, gradient steps).

    >>> Step.parse("1.5ep").updates(100), Step.parse("500it").updates(100)
    (150, 500)
    """

    count: float
    unit: Literal["ep", "it"]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "3ep", "0.5ep" or "500it".

        Raises:
            StepError: The text is anything else.
        """
        match = _WRITTEN.fullmatch(text) if isinstance(text, str) else None
        if match is None or (match[2] == "it" and "." in match[1]):
            raise StepError(f"{text!r} is not a point in training.", 'Write epochs as "3ep" or updates as "500it".')
        return cls(float(match[1]), "ep" if match[2] == "ep" else "it")

    def updates(self, per_epoch: int) -> int:
        """The same point counted in updates, where an epoch has `per_epoch` of them; rounded to the nearest."""
        return round(self.count * per_epoch) if self.unit == "ep" else int(self.count)

    def __str__(self) -> str:
        # Digits only and all of them: the text is hashed and read again.
        return f"{Decimal(repr(self.count)).normalize():f}{self.unit}"
