"""A mean over seeds with its standard error, and differences of such means with their noise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)
"""Student's t, two-sided 95 %, for 1 to 10 degrees of freedom; beyond, that of 10 is taken (a little too cautious)."""


@dataclass(frozen=True)
class Sample:
    """One figure, measured with several seeds.

    Attributes:
        values: One a seed, at least one.
    """

    values: tuple[float, ...]

    @property
    def n(self) -> int:
        """How many seeds."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return fmean(self.values)

    @property
    def error(self) -> float | None:
        """The standard error of the mean; None of a single seed, which says nothing of chance."""
        return stdev(self.values) / math.sqrt(self.n) if self.n > 1 else None

    def __str__(self) -> str:
        """
        >>> str(Sample((70.0, 72.0))), str(Sample((70.0,)))
        ('71.00 ± 1.00 (n = 2)', '70.00 (n = 1)')
        """
        error = "" if self.error is None else f" ± {self.error:.2f}"
        return f"{self.mean:.2f}{error} (n = {self.n})"


@dataclass(frozen=True)
class Term:
    """One mean of a contrast.

    Attributes:
        sign: 1.0 or -1.0, times a share where means are averaged.
        label: What the sample is.
        sample: The sample.
    """

    sign: float
    label: str
    sample: Sample


@dataclass(frozen=True)
class Contrast:
    """A signed sum of means, such as a difference, with the noise that it must rise above.

    Attributes:
        what: The question, in words.
        terms: What is added up.
        spread: The standard deviation of one seed, pooled over like samples; None where no sample has two seeds.
        freedom: The degrees of freedom of `spread`.
        decisive: Whether it counts for the verdict, or is only shown beside.
        against: A fixed figure that is subtracted.
    """

    what: str
    terms: tuple[Term, ...]
    spread: float | None = None
    freedom: int = 0
    decisive: bool = True
    against: float = 0.0

    @property
    def value(self) -> float:
        """The signed sum of the means, less `against`."""
        return math.fsum(term.sign * term.sample.mean for term in self.terms) - self.against

    @property
    def noise(self) -> float | None:
        """Half the 95 % interval of `value`; None where one of the samples has a single seed."""
        if self.spread is None or any(term.sample.n < 2 for term in self.terms):
            return None
        variance = math.fsum(term.sign**2 / term.sample.n for term in self.terms)
        return STUDENT[min(self.freedom, len(STUDENT)) - 1] * self.spread * math.sqrt(variance)


def pooled(samples: Iterable[Sample]) -> tuple[float | None, int]:
    """The standard deviation of one seed, pooled over samples, and its degrees of freedom.

    With two seeds a sample's own deviation is hardly known; like samples know it together.

    >>> pooled([Sample((1.0, 3.0)), Sample((5.0, 7.0)), Sample((9.0,))])
    (1.4142135623730951, 2)
    """
    several = [sample for sample in samples if sample.n > 1]
    freedom = sum(sample.n - 1 for sample in several)
    if not freedom:
        return None, 0
    squares = math.fsum(stdev(sample.values) ** 2 * (sample.n - 1) for sample in several)
    return math.sqrt(squares / freedom), freedom


def difference(
    what: str, left: tuple[str, Sample], right: tuple[str, Sample], like: Sequence[Sample], *, decisive: bool = True
) -> Contrast:
    """`left` minus `right`, its noise from all samples that are `like` them."""
    spread, freedom = pooled(like)
    return Contrast(what, (Term(1.0, *left), Term(-1.0, *right)), spread, freedom, decisive)
