"""From measured differences to a verdict, by rules that were written down before the measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sslprune.report.sample import Contrast


class Outcome(StrEnum):
    """What one difference says about one expectation."""

    YES = "yes"
    NO = "no"
    NOISE = "within noise"
    ONE_SEED = "one seed"


class Verdict(StrEnum):
    """What our rows say about a claim."""

    AGREES = "agrees"
    DISAGREES = "disagrees"
    NOT_TESTABLE = "not testable here"


@dataclass(frozen=True)
class Expectation:
    """What a claim expects of a difference d.

    Attributes:
        margin: In the figures' own unit, at least 0.
        text: The expectation in words, with `{margin}` in it.
        decide: (d, noise, margin) to the outcome.
    """

    margin: float
    text: str
    decide: Callable[[float, float, float], Outcome]

    def outcome(self, contrast: Contrast) -> Outcome:
        """What one measured difference says."""
        noise = contrast.noise
        return Outcome.ONE_SEED if noise is None else self.decide(contrast.value, noise, self.margin)

    def __str__(self) -> str:
        return self.text.format(margin=f"{self.margin:g}")


def more(margin: float) -> Expectation:
    """d is above noise, and at least the margin."""
    return Expectation(
        margin,
        "*yes* where d is at least {margin} and above noise; *no* where d plus noise is below {margin}",
        _more,
    )


def same(margin: float) -> Expectation:
    """d lies within the margin to both sides, and is measured at least so finely."""
    return Expectation(
        margin,
        "*yes* where d lies within ±{margin} and the noise is at most {margin}; *no* where d lies outside ±{margin} "
        "and outside the noise",
        _same,
    )


def not_less(margin: float) -> Expectation:
    """d is not below minus the margin."""
    return Expectation(
        margin,
        "*yes* where d is at least -{margin} and the noise is at most {margin}; *no* where d is below -{margin} and "
        "below the noise",
        _not_less,
    )


def not_more(margin: float) -> Expectation:
    """d is not above the margin."""
    return Expectation(
        margin,
        "*yes* where d is at most {margin} and the noise is at most {margin}; *no* where d is above {margin} and above "
        "the noise",
        lambda value, noise, allowed: _not_less(-value, noise, allowed),
    )


def judge(expectation: Expectation, contrasts: Sequence[Contrast]) -> tuple[Verdict, str]:
    """The verdict over all decisive differences, and how it came about.

    A clear contradiction outweighs agreement elsewhere; what is within noise, or of one seed, decides nothing.
    """
    outcomes = [expectation.outcome(contrast) for contrast in contrasts if contrast.decisive]
    counts = {outcome: outcomes.count(outcome) for outcome in Outcome}
    many = "1 comparison" if len(outcomes) == 1 else f"{len(outcomes)} comparisons"
    tally = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    if counts[Outcome.NO]:
        return Verdict.DISAGREES, ("in part: " if counts[Outcome.YES] else "") + f"of {many}: {tally}"
    if counts[Outcome.YES]:
        return Verdict.AGREES, f"of {many}: {tally}"
    if counts[Outcome.NOISE]:
        return Verdict.NOT_TESTABLE, f"within noise, of {many}: {tally}"
    if counts[Outcome.ONE_SEED]:
        return Verdict.NOT_TESTABLE, "one seed: chance cannot be told from effect"
    return Verdict.NOT_TESTABLE, "no rows"


def _more(value: float, noise: float, margin: float) -> Outcome:
    if value >= margin and value > noise:
        return Outcome.YES
    return Outcome.NO if value + noise < margin else Outcome.NOISE


def _same(value: float, noise: float, margin: float) -> Outcome:
    if abs(value) <= margin:
        return Outcome.YES if noise <= margin else Outcome.NOISE
    return Outcome.NO if abs(value) > noise else Outcome.NOISE


def _not_less(value: float, noise: float, margin: float) -> Outcome:
    if value >= -margin:
        return Outcome.YES if noise <= margin else Outcome.NOISE
    return Outcome.NO if -value > noise else Outcome.NOISE
