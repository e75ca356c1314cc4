"""Pictures of ladders: accuracy and bytes against keep, one style."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sslprune.extras import require
from sslprune.files import write_atomic

LINEAR, KNN, BYTES, GREY = "#0072B2", "#D55E00", "#009E73", "#767676"
"""Okabe and Ito's colours, which colour-blind people tell apart."""


@dataclass(frozen=True)
class Curve:
    """A ladder to draw: keep rates from 1 down, and for each top-1 in per cent and the file's bytes.

    Attributes:
        title: Above the picture.
        data: What the accuracy was measured on.
        keeps: Fractions in (0, 1].
        linear: Linear probe, per cent.
        knn: Nearest neighbours, per cent.
        bytes: Of each file.
        floor: Linear probe and nearest neighbours of untrained networks, per cent.
        dense_bytes: Of the dense weights in fp32.
    """

    title: str
    data: str
    keeps: Sequence[float]
    linear: Sequence[float]
    knn: Sequence[float]
    bytes: Sequence[int]
    floor: tuple[float, float]
    dense_bytes: int


def draw(path: Path, curves: Sequence[Curve]) -> None:
    """Draw accuracy against keep and bytes against keep, one row a ladder, as a PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
        StorageError: The picture cannot be written.
    """
    figure = _figure(len(curves))
    for (left, right), curve in zip(figure.subplots(len(curves), 2, squeeze=False), curves, strict=True):
        _accuracy(left, curve)
        _bytes(right, curve)
    write_atomic(path, lambda temporary: figure.savefig(temporary, format="png", dpi=150))


def _accuracy(axes: Any, curve: Curve) -> None:
    percents = [keep * 100 for keep in curve.keeps]
    lines = (
        (curve.linear, curve.floor[0], LINEAR, "o", "linear probe"),
        (curve.knn, curve.floor[1], KNN, "s", "nearest neighbours"),
    )
    for values, floor, colour, marker, label in lines:
        axes.plot(percents, values, marker=marker, color=colour, label=label)
        axes.axhline(floor, color=colour, linestyle=":", linewidth=1.2, label=f"{label}, random network")
    axes.set_ylabel(f"top-1 on {curve.data}, %")
    axes.set_title(curve.title, loc="left", fontsize=9)
    axes.legend(frameon=False, fontsize=7, loc="best")
    _keep_axis(axes, percents)


def _bytes(axes: Any, curve: Curve) -> None:
    percents = [keep * 100 for keep in curve.keeps]
    axes.plot(percents, [size / 1e3 for size in curve.bytes], "o-", color=BYTES, label="sparse file")
    axes.axhline(curve.dense_bytes / 1e3, color=GREY, linestyle=":", linewidth=1.2, label="dense weights, fp32")
    axes.set_yscale("log")
    axes.set_ylabel("kB")
    axes.legend(frameon=False, fontsize=7, loc="best")
    _keep_axis(axes, percents)


def _keep_axis(axes: Any, percents: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.invert_xaxis()
    axes.set_xticks(percents, [f"{percent:.3g}%" for percent in percents], fontsize=7)
    axes.minorticks_off()
    axes.set_xlabel("weights kept")
    axes.spines[["top", "right"]].set_visible(False)


def _figure(rows: int) -> Any:
    module = require("matplotlib.figure", extra="plot", purpose="drawing")
    return module.Figure(figsize=(10, 3.4 * rows), layout="constrained")
