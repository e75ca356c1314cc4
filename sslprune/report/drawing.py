"""Pictures as PNG and SVG: log keep axis falling to the right, labels at the lines, the same bytes every time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sslprune.extras import require
from sslprune.files import write_atomic
from sslprune.report import style
from sslprune.report.pictures import Bars, Panel, Picture

WIDTH, HEIGHT = 4.6, 3.1
"""Of a panel, in inches."""

GROUP = 1.7
"""The width of a group of bars, in inches."""

DPI = 150
LABEL_HEIGHT = 0.062
"""Of a label, as a share of a panel's height."""

_SETTINGS = {
    "svg.hashsalt": "sslprune",
    "svg.fonttype": "none",  # text stays text: for search, for screen readers
    "font.size": 8.5,
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
}


def draw(picture: Picture, folder: Path) -> tuple[Path, Path]:
    """Draw a picture.

    Args:
        picture: What to draw.
        folder: Where `{name}.png` and `{name}.svg` go.

    Returns:
        The two files.

    Raises:
        MissingExtraError: matplotlib is not installed.
        StorageError: A file cannot be written.
    """
    matplotlib = require("matplotlib", extra="plot", purpose="drawing")
    require("matplotlib.style", extra="plot", purpose="drawing")
    with matplotlib.style.context(["default", _SETTINGS]):
        figure = _figure(picture)
        png, svg = (folder / f"{picture.name}.{suffix}" for suffix in ("png", "svg"))
        write_atomic(png, partial(figure.savefig, format="png", dpi=DPI, facecolor="white"))
        write_atomic(svg, partial(figure.savefig, format="svg", metadata={"Date": None}, facecolor="white"))
    return png, svg


def _figure(picture: Picture) -> Any:
    module = require("matplotlib.figure", extra="plot", purpose="drawing")
    rows, columns = len(picture.panels), max(len(row) for row in picture.panels)
    bars = [panel for row in picture.panels for panel in row if isinstance(panel, Bars)]
    wide = max([columns * WIDTH, *(1.5 + len(panel.groups) * GROUP for panel in bars)])
    figure = module.Figure(figsize=(max(wide, 5.5), rows * HEIGHT), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for places, panels in zip(grid, picture.panels, strict=True):
        for axes in places[len(panels) :]:
            axes.set_axis_off()
        limits = _limits([panel for panel in panels if isinstance(panel, Panel)])
        for axes, panel in zip(places, panels, strict=False):
            if isinstance(panel, Bars):
                _bars(axes, panel)
            else:
                _lines(axes, panel, limits)
    return figure


def _lines(axes: Any, panel: Panel, limits: tuple[float, float]) -> None:
    for level in panel.levels:
        look = level.look
        axes.axhline(level.sample.mean, color=look.colour, linestyle=look.line, linewidth=look.width, zorder=1)
    for line in panel.lines:
        look = line.look
        axes.errorbar(
            [place for place, _ in line.points],
            [sample.mean for _, sample in line.points],
            yerr=[sample.error or 0.0 for _, sample in line.points],
            color=look.colour,
            marker=look.marker,
            markersize=4.5,
            markerfacecolor="white" if look.hollow else look.colour,
            linestyle=look.line,
            linewidth=look.width,
            elinewidth=1.0,
            capsize=2.5,
        )
        first_place, first = line.points[0]
        if first_place == 100:
            axes.axhline(first.mean, color=look.colour, linewidth=0.6, alpha=0.45, zorder=0)
    axes.set_ylim(*limits)
    axes.set_title(panel.title, loc="left", fontsize=9)
    axes.set_ylabel(panel.up)
    axes.spines[["top", "right"]].set_visible(False)
    if panel.ticks:
        axes.set_xticks(list(panel.ticks), list(panel.ticks.values()))
        axes.set_xlabel("first convolutions pruned")
    else:
        _keep_axis(axes, sorted({place for line in panel.lines for place, _ in line.points}, reverse=True))
    ends = [(line.label, line.look, line.points[-1][1].mean) for line in panel.lines]
    ends += [(level.label, level.look, level.sample.mean) for level in panel.levels if level.label]
    _label(axes, ends, limits)


def _label(axes: Any, ends: Sequence[tuple[str, style.Look, float]], limits: tuple[float, float]) -> None:
    """Write each line's name at the right edge at its height, moved as little as keeps names apart."""
    places = spread([height for _, _, height in ends], gap=LABEL_HEIGHT * (limits[1] - limits[0]), within=limits)
    for (text, look, _), place in zip(ends, places, strict=True):
        axes.annotate(
            text,
            (1.0, place),
            xycoords=("axes fraction", "data"),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=look.colour,
            fontsize=8,
            annotation_clip=False,
        )


def spread(heights: Sequence[float], *, gap: float, within: tuple[float, float]) -> list[float]:
    """Heights moved apart to at least `gap`, in their order, and inside `within` as far as there is room.

    >>> spread([1.0, 1.0, 5.0], gap=1.0, within=(0.0, 10.0))
    [0.5, 1.5, 5.0]
    """
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    clusters: list[tuple[float, int]] = []  # (centre, members) from below
    for index in order:
        centre, members = heights[index], 1
        while clusters and clusters[-1][0] + clusters[-1][1] * gap / 2 > centre - members * gap / 2:
            other, count = clusters.pop()
            centre = (centre * members + other * count) / (members + count)
            members += count
            half = members * gap / 2
            centre = max(within[0] + half, min(within[1] - half, centre))
        clusters.append((centre, members))
    placed = [centre + (place - (members - 1) / 2) * gap for centre, members in clusters for place in range(members)]
    found = dict(zip(order, placed, strict=True))
    return [found[index] for index in range(len(heights))]


def _keep_axis(axes: Any, percents: Sequence[float]) -> None:
    axes.set_xscale("log")
    low, high = percents[-1], percents[0]
    room = (high / low) ** 0.04 if high > low else 1.5
    axes.set_xlim(high * room, low / room)
    names = [f"{percent:.3g}" if _readable(percent, percents, high / low) else "" for percent in percents]
    axes.set_xticks(percents, names)
    axes.minorticks_off()
    axes.set_xlabel("weights kept, % (log scale)")


def _readable(percent: float, percents: Sequence[float], decades: float) -> bool:
    """Whether a tick has room for its name beside the denser one that has it already."""
    shown = percents[0]
    for other in percents:
        named = other == percents[0] or shown / other >= decades**0.055
        shown = other if named else shown
        if other == percent:
            return named
    return False


def _bars(axes: Any, panel: Bars) -> None:
    names = list(dict.fromkeys(name for group in panel.groups.values() for name in group))
    width = 0.8 / max(1, len(names))
    for place, group in enumerate(panel.groups.values()):
        for number, name in enumerate(names):
            if name not in group:
                continue
            sample, at = group[name], place + (number - (len(names) - 1) / 2) * width
            colour = style.SHADES[number % len(style.SHADES)]
            axes.bar(at, sample.mean, width * 0.92, color=colour, label=name if not place else None)
            axes.errorbar(at, sample.mean, yerr=sample.error, color="black", linewidth=1.0, capsize=2.5)
            top = sample.mean + (sample.error or 0.0)
            axes.annotate(
                _short(sample.mean), (at, top), xytext=(0, 2), textcoords="offset points", ha="center", fontsize=7
            )
    axes.set_xticks(range(len(panel.groups)), list(panel.groups), fontsize=7.5)
    axes.set_ylim(0, 105)
    axes.set_ylabel(panel.up)
    axes.set_title(panel.title, loc="left", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        frameon=False,
        fontsize=7.5,
        title="size of a weight",
        title_fontsize=7.5,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
    )


def _short(percent: float) -> str:
    return "0" if percent == 0 else "<0.1" if percent < 0.1 else f"{percent:.1f}"


def _limits(panels: Sequence[Panel]) -> tuple[float, float]:
    """The vertical range of a row of panels: all means with their errors, and a little room."""
    samples = [sample for panel in panels for line in panel.lines for _, sample in line.points]
    samples += [level.sample for panel in panels for level in panel.levels]
    low = min((sample.mean - (sample.error or 0.0) for sample in samples), default=0.0)
    high = max((sample.mean + (sample.error or 0.0) for sample in samples), default=1.0)
    room = max(0.06 * (high - low), 0.5)
    return low - room, high + room
