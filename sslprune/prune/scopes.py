"""How many weights each layer keeps where layers are not ranked together: equally dense, or Erdos-Renyi-kernel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from sslprune.masks import Mask
from sslprune.prune.select import check_count, count_kept


def uniform(weights: Mapping[str, Tensor], keep: float) -> dict[str, int]:
    """Every layer keeps round(keep x its weights)."""
    return {name: count_kept(keep, weight.numel()) for name, weight in weights.items()}


def erk(weights: Mapping[str, Tensor], count: int, *, within: Mask, least: Mapping[str, int]) -> dict[str, int]:
    """Erdos-Renyi-kernel counts (Evci et al. 2020, arXiv 1911.11134, appendix; code github.com/google-research/rigl).

    A layer's density is proportional to the sum of its weight's dimensions over their product; layers that would be
    denser than 1 (or than `within` leaves them) are full, and the rest shares what is left in the same proportion.
    Fractions are rounded down, and what is then missing goes to the largest remainders, the earlier layer first.

    Args:
        weights: Name -> weight tensor.
        count: How many weights all layers keep together; exactly so many are.
        within: Weights that are kept already.
        least: By name, how many a layer keeps in any case, where `within` has so many.

    Raises:
        KeepError: `within` keeps fewer than `count`, or `least` asks for more.
    """
    most = {name: int(within[name].sum()) for name in weights}
    floor = {name: min(least.get(name, 0), most[name]) for name in weights}
    check_count(count, sum(most.values()), sum(floor.values()))
    # Density x weights: sum(shape) / product(shape) x product(shape).
    shares = {name: float(sum(weight.shape)) for name, weight in weights.items()}
    wanted = _fill(shares, count, floor, most)
    counts = {name: min(most[name], max(floor[name], math.floor(amount + 1e-9))) for name, amount in wanted.items()}
    order = sorted(counts, key=lambda name: counts[name] - wanted[name])  # stable: the earlier of equals first
    return _settled(counts, order, count, floor, most)


def _fill(
    shares: Mapping[str, float], count: int, floor: Mapping[str, int], most: Mapping[str, int]
) -> dict[str, float]:
    """Amounts proportional to `shares` between the bounds that sum to `count`: the factor is found by halving."""

    def amounts(factor: float) -> dict[str, float]:
        return {name: min(max(factor * share, floor[name]), most[name]) for name, share in shares.items()}

    low, high = 0.0, 1.0 + max((most[name] / share for name, share in shares.items()), default=0.0)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(amounts(middle).values()) < count else (low, middle)
    return amounts(high)


def _settled(
    counts: dict[str, int], order: Sequence[str], count: int, floor: Mapping[str, int], most: Mapping[str, int]
) -> dict[str, int]:
    """Give or take one weight at a time until the total is exact."""
    while (off := count - sum(counts.values())) != 0:
        step = 1 if off > 0 else -1
        able = [name for name in order[::step] if floor[name] <= counts[name] + step <= most[name]]
        for name in able[: abs(off)]:
            counts[name] += step
    return counts
