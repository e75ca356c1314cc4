"""Prune while transferring, to be compared with pruning before: masks get smaller between stretches of one training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import nn

from sslprune.errors import KeepError
from sslprune.masks import Mask
from sslprune.prune.criteria import Prune
from sslprune.prune.magnitude import prune as by_magnitude


class TrainStretch(Protocol):
    """Trains `network` in place under `mask`, the stretch of this number of a training of `stretches`."""

    def __call__(self, network: nn.Module, mask: Mask, stretch: int, stretches: int) -> object: ...


def iterative(keep: float, steps: int) -> tuple[float, ...]:
    """Keep rates that fall by the same factor each time and end on `keep` (Han et al. 2015; Caron et al.'s rounds).

    >>> iterative(0.25, 2)
    (0.5, 0.25)
    """
    _check(keep, steps)
    return (*(keep ** (step / steps) for step in range(1, steps)), keep)


def gradual(keep: float, steps: int) -> tuple[float, ...]:
    """Keep rates on the cubic curve of Zhu & Gupta 2017 (arXiv 1710.01878, equation 1): fast first, then slower.

    >>> gradual(0.2, 2)
    (0.3, 0.2)
    """
    _check(keep, steps)
    return (*(round(keep + (1 - keep) * (1 - step / steps) ** 3, 12) for step in range(1, steps)), keep)


def prune_during(
    network: nn.Module,
    weights: Mapping[str, nn.Parameter],
    keeps: Sequence[float],
    train: TrainStretch,
    *,
    within: Mask | None = None,
    prune: Prune = by_magnitude,
) -> Mask:
    """Train, prune, train on, prune, ..., train on: no rewinding (Caron et al. 2020, Fig. 2, "during").

    Args:
        network: What trains, heads included.
        weights: Its prunable weights, by the names that the mask uses.
        keeps: The keep rate of every pruning, falling; from `iterative` or `gradual`. Pruning before the transfer is
            what comes of pruning with `prune` and a single stretch.
        train: Trains one stretch; there is one more than keep rates, and the last one goes on under the final mask. One
            optimiser through all of them is the caller's, and so is holding the mask.
        within: What is kept at the start. None: all.
        prune: Finds the masks.

    Returns:
        The final mask; the network's weights outside of it are 0.
    """
    mask = Mask.full(weights) if within is None else within
    for stretch, keep in enumerate(keeps):
        train(network, mask, stretch, len(keeps) + 1)
        mask = prune(weights, keep, within=mask)
        mask.hold_(weights)
    train(network, mask, len(keeps), len(keeps) + 1)
    mask.hold_(weights)
    return mask


def _check(keep: float, steps: int) -> None:
    if not 0 < keep <= 1 or steps < 1:
        raise KeepError(
            f"there is no way to keep = {keep!r} in {steps} steps.", "Give a fraction and one step or more."
        )
