"""One look for all figures: Okabe and Ito's colours, which colour-blind people tell apart, and a marker for each."""

from __future__ import annotations

from dataclasses import dataclass, replace

GREY = "#6B6B6B"


@dataclass(frozen=True)
class Look:
    """How a line is drawn.

    Attributes:
        colour: A hex colour, readable on white.
        marker: matplotlib's; empty for none.
        line: "-", "--" or ":".
        hollow: Whether its markers are white inside.
        width: In points.
    """

    colour: str
    marker: str = ""
    line: str = "-"
    hollow: bool = False
    width: float = 1.5


_LOOKS = {
    "labels": Look("#000000", "s"),
    "rotnet": Look("#0072B2", "o"),
    "exemplar": Look("#D55E00", "^"),
    "npid": Look("#009E73", "D"),
    "simclr": Look("#AA4A8A", "v"),
    "s4l": Look("#B27300", "P"),
    "random": Look(GREY, "x"),
}
_OTHER = Look("#3A86B8", "*")

FLOOR = Look(GREY, line=":", width=1.2)
PARENT = Look(GREY, line="--", width=1.0)
SHADES = ("#0072B2", "#56B4E9", "#E69F00", "#D55E00")
"""Of bars that belong together."""


def look(name: str, *, hollow: bool = False, dashed: bool = False) -> Look:
    """The look of a pretext or criterion."""
    found = _LOOKS.get(name, _OTHER)
    return replace(found, hollow=hollow, line="--" if dashed else "-")


def order(name: str) -> tuple[int, str]:
    """Sort key of pretexts and criteria, as the paper lists them: labels first, random last."""
    names = list(_LOOKS)
    return (names.index(name) if name in names else len(names), name)
