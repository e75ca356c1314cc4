"""Pictures of ladders: accuracy and bytes against keep, one style."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslprune.errors import MissingExtraError
from sslprune.files import write_atomic

if TYPE_CHECKING:
    from sslprune.demo import Family

LINEAR, KNN, BYTES, GREY = "#0072B2", "#D55E00", "#009E73", "#767676"
"""Okabe and Ito's colours, which colour-blind people tell apart."""


def draw_families(path: Path, families: Sequence[Family]) -> None:
    """Draw accuracy against keep and bytes against keep, one row a family, as a PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
        StorageError: The picture cannot be written.
    """
    figure = _figure(len(families))
    for (accuracy, size), family in zip(figure.subplots(len(families), 2, squeeze=False), families, strict=True):
        keeps = [rung.keep * 100 for rung in family.rungs]
        accuracy.plot(keeps, [rung.linear for rung in family.rungs], "o-", color=LINEAR, label="linear probe")
        accuracy.plot(keeps, [rung.knn for rung in family.rungs], "s-", color=KNN, label="nearest neighbours")
        for value, colour, word in ((family.floor.linear, LINEAR, "linear"), (family.floor.knn, KNN, "kNN")):
            accuracy.axhline(value, color=colour, linestyle=":", linewidth=1)
            accuracy.annotate(
                f"random network, {word}", (max(keeps), value), fontsize=7, color=colour, va="bottom", ha="left"
            )
        accuracy.set_ylabel("top-1 on digits, %")
        accuracy.set_title(family.title, loc="left", fontsize=9)
        accuracy.legend(frameon=False, fontsize=8, loc="lower center")

        size.plot(keeps, [rung.bytes / 1e3 for rung in family.rungs], "o-", color=BYTES)
        size.axhline(family.dense_bytes / 1e3, color=GREY, linestyle=":", linewidth=1)
        size.annotate("dense fp32 weights", (max(keeps), family.dense_bytes / 1e3), fontsize=7, color=GREY, va="bottom")
        size.set_yscale("log")
        size.set_ylabel("file, kB")
        for axes in (accuracy, size):
            _keep_axis(axes, keeps)
    write_atomic(path, lambda temporary: figure.savefig(temporary, format="png", dpi=150))


def _keep_axis(axes: Any, keeps: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.invert_xaxis()
    axes.set_xticks(keeps, [f"{keep:.2g}%" if keep < 100 else "100%" for keep in keeps], fontsize=7)
    axes.minorticks_off()
    axes.set_xlabel("weights kept")
    axes.spines[["top", "right"]].set_visible(False)


def _figure(rows: int) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("drawing needs matplotlib.", "Install it: pip install 'sslprune[plot]'") from error
    return Figure(figsize=(10, 3.4 * rows), layout="constrained")
