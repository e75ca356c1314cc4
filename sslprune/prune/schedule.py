"""The ladder: which keep rate each round of pruning goes down to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sslprune.errors import RecipeError

MOST_ROUNDS = 255
"""After the unpruned one: the round at which a weight died is kept as one byte."""


@dataclass(frozen=True)
class Round:
    """One training of the descent: its number (0: unpruned), its keep rate, and whether it is a rung."""

    number: int
    keep: float
    is_rung: bool


def rounds(rungs: Sequence[float], per_round: float) -> Iterator[Round]:
    """Round 0 unpruned, then down the ladder, each stretch of rounds ending exactly on its rung.

    Args:
        rungs: Keep rates in (0, 1), descending.
        per_round: Fraction of the remaining weights removed by a round, in (0, 1) (Caron et al. 2020, section 3: 0.2).

    Yields:
        The rounds in order, with strictly falling keep rates.

    Raises:
        RecipeError: There would be more than `MOST_ROUNDS` of them.

    >>> [round.keep for round in rounds([0.7, 0.5], per_round=0.2)]
    [1.0, 0.8, 0.7, 0.56, 0.5]
    """
    yield Round(0, 1.0, is_rung=True)
    number, keep = 0, 1.0
    for rung in rungs:
        while keep > rung:
            # A step that would end within a billionth of the rung is the rung: 0.8 x 0.8 is not 0.64 in binary.
            below = keep * (1 - per_round)
            number, keep = number + 1, rung if below <= rung * (1 + 1e-9) else float(f"{below:.12g}")
            if number > MOST_ROUNDS:
                raise RecipeError(
                    f"a ladder down to {rungs[-1]:g} with {per_round:g} a round has more than {MOST_ROUNDS} rounds.",
                    "Let ladder.per_round be larger, or end on a higher rung.",
                )
            yield Round(number, keep, is_rung=keep == rung)
