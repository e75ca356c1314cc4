"""What a mask, or a trained network, looks like layer by layer: plain rows for tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from sslprune.masks import Mask
from sslprune.models import prunable
from sslprune.models.cost import uses
from sslprune.prune.criteria import Criterion

Row = dict[str, Any]

THRESHOLDS = (0.0, 1e-12, 1e-8, 1e-4)
"""Sizes up to which a weight may be called zero. The paper says "machine precision" (Fig. 6 and 10) and no number; ours
are exactly 0, and three that bracket any reading of it: float32 weights of 1e-8 beside others of 1e-2 add nothing."""


def layers(mask: Mask, model: nn.Module, size: int) -> list[Row]:
    """Weights and MACs of every layer, dense and left.

    Args:
        mask: Over the weights of `model`.
        model: Any network of this architecture; only its shape counts.
        size: Height and width of its images, in pixels.

    Returns:
        One row a layer, in the network's order: "layer", "kept", "prunable", "keep", "macs", "macs_left".
    """
    used = uses(model, size)
    return [
        {
            "layer": line.name,
            "kept": line.kept,
            "prunable": line.prunable,
            "keep": line.keep,
            "macs": line.prunable * used[line.name],
            "macs_left": line.kept * used[line.name],
        }
        for line in mask.table()
    ]


def report(mask: Mask, model: nn.Module, size: int, criterion: Criterion | None = None) -> dict[str, Any]:
    """A mask in one JSON object: its totals, the criterion with all of its options, and its layers.

    Returns:
        "kept", "prunable", "keep", "macs", "macs_left", "emptied" (names of layers without a weight), "criterion" (None
        where it is not known), and "layers", the rows of `layers`.
    """
    rows = layers(mask, model, size)
    totals = {key: sum(row[key] for row in rows) for key in ("kept", "prunable", "macs", "macs_left")}
    return {
        **totals,
        "keep": mask.keep,
        "emptied": [row["layer"] for row in rows if row["kept"] == 0],
        "criterion": None if criterion is None else criterion.to_json(),
        "layers": rows,
    }


def overlaps(one: Mask, other: Mask) -> list[Row]:
    """Intersection over union of two masks, layer by layer and, last, of all ("layer": "all").

    Returns:
        Rows "layer", "overlap" in [0, 1], and "chance": what two unrelated masks of these keep rates would have on
        average, about pq / (p + q - pq).

    Raises:
        MaskError: They cover different weights.
    """
    whole = {"layer": "all", "overlap": one.overlap(other), "chance": _chance(one.keep, other.keep)}
    pairs = [(name, Mask({name: one[name]}), Mask({name: other[name]})) for name in one]
    return [
        *(
            {"layer": name, "overlap": here.overlap(there), "chance": _chance(here.keep, there.keep)}
            for name, here, there in pairs
        ),
        whole,
    ]


def dead_filters(mask: Mask) -> list[Row]:
    """Filters (output channels) of which no weight is kept, layer by layer.

    Returns:
        Rows "layer", "dead", "filters", and "unread": input channels of which no weight is kept.
    """
    rows = []
    for name, kept in mask.items():
        flat = kept.flatten(2).any(2) if kept.ndim > 2 else kept
        grid = flat if flat.ndim == 2 else flat.unsqueeze(1)
        rows.append(
            {
                "layer": name,
                "dead": int((~grid.any(1)).sum()),
                "filters": grid.shape[0],
                "unread": int((~grid.any(0)).sum()),
            }
        )
    return rows


def zeros(weights: Mapping[str, Tensor], thresholds: Sequence[float] = THRESHOLDS) -> list[Row]:
    """How much of a trained, unpruned network is zero already (Caron et al. 2020, Fig. 6 and 10).

    Args:
        weights: Name -> weight; the prunable ones, so batch norm and the last classifier are not counted, as there.
        thresholds: Sizes up to which a weight counts as zero; 0.0 is exactly zero.

    Returns:
        Rows "layer" ("all" for the last ones), "threshold", "zeros", "prunable", "fraction".
    """
    counted = [
        (name, threshold, int((weight.detach().abs() <= threshold).sum()), weight.numel())
        for name, weight in weights.items()
        for threshold in thresholds
    ]
    total = sum(weight.numel() for weight in weights.values())
    counted += [("all", at, sum(found for _, other, found, _ in counted if other == at), total) for at in thresholds]
    return [
        {"layer": name, "threshold": at, "zeros": found, "prunable": size, "fraction": found / size}
        for name, at, found, size in counted
    ]


def zeros_of(model: nn.Module, thresholds: Sequence[float] = THRESHOLDS) -> list[Row]:
    """`zeros` of a network's prunable weights."""
    return zeros(prunable(model), thresholds)


def _chance(one: float, other: float) -> float:
    either = one + other - one * other
    return one * other / either if either else 1.0
