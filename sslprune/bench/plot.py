"""Speed-up against keep as a picture: one panel a setting, both axes logarithmic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sslprune.bench.contest import DENSE, OURS
from sslprune.bench.page import Document, RowJson, heats
from sslprune.extras import require
from sslprune.files import write_atomic

_LOOKS = {
    OURS: ("#0072B2", "o", "sslprune"),
    "deepsparse": ("#D55E00", "^", "DeepSparse 1.8"),
    "torch": ("#009E73", "D", "torch eager"),
    "int8": ("#AA4A8A", "v", "dense int8 (other accuracy)"),
}
"""Okabe and Ito's colours, which colour-blind people tell apart."""

_GREY = "#767676"
_COLUMNS = 3


def draw(path: Path, document: Document) -> None:
    """Draw how many times as fast as the faster dense runtime each engine is, as a PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
        StorageError: The picture cannot be written.
    """
    drawn = figure(document)
    write_atomic(path, lambda temporary: drawn.savefig(temporary, format="png", dpi=150, facecolor="white"))


def figure(document: Document) -> Any:
    """The matplotlib figure that `draw` writes."""
    panels = heats(document)
    module = require("matplotlib.figure", extra="bench", purpose="drawing")
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    drawn = module.Figure(figsize=(4.6 * columns, 3.4 * rows), layout="constrained")
    places = drawn.subplots(rows, columns, squeeze=False).flatten()
    for axes in places[len(panels) :]:
        axes.set_axis_off()
    for axes, (title, keeps) in zip(places, panels, strict=False):
        _panel(axes, title, keeps)
    return drawn


def _panel(axes: Any, title: str, keeps: Mapping[float, Mapping[str, RowJson]]) -> None:
    percents = [100 * keep for keep in keeps]
    axes.axhline(1.0, color=_GREY, linestyle="--", linewidth=1.2, label="faster of ONNX Runtime, OpenVINO")
    for engine, (colour, marker, label) in _LOOKS.items():
        found = [(100 * keep, row[engine]) for keep, row in keeps.items() if engine in row]
        medians = [(percent, row["ratio_to_best_dense"]) for percent, row in found if row["ratio_to_best_dense"]]
        if not medians:
            continue
        width = 2.0 if engine == OURS else 1.3
        axes.plot(
            *zip(*medians, strict=True), color=colour, marker=marker, markersize=4.5, linewidth=width, label=label
        )
        if engine == OURS:
            minima = [(percent, row["ratio_to_best_dense_min"]) for percent, row in found]
            axes.plot(*zip(*minima, strict=True), color=colour, linestyle=":", linewidth=1.2, label="by minima")
            _say(axes, medians, colour)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.margins(x=0.08, y=0.14)
    axes.invert_xaxis()
    axes.set_xticks(percents, [f"{percent:.3g}%" for percent in percents])
    low, high = axes.get_ylim()
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if low <= tick <= high]
    axes.set_yticks(ticks, [f"{tick:g}x" for tick in ticks])
    axes.minorticks_off()
    axes.tick_params(labelsize=8)
    axes.set_xlabel("weights kept", fontsize=8.5)
    axes.set_ylabel("times as fast as the faster dense runtime", fontsize=8.5)
    axes.set_title(title, loc="left", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=7, loc="best")


def _say(axes: Any, points: Sequence[tuple[float, float]], colour: str) -> None:
    for place, value in points:
        text = f"{value:.0f}x" if value >= 100 else f"{value:.2g}x"
        axes.annotate(
            text, (place, value), xytext=(0, 6), textcoords="offset points", ha="center", color=colour, fontsize=7.5
        )


def can_draw(against: Sequence[str]) -> bool:
    """Whether there is something to measure speed-ups by."""
    return bool(set(DENSE) & set(against))
