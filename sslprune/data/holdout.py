"""A test part for data sets that come without one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def held_out(labels: NDArray[np.int64], keys: Sequence[str], count: int) -> NDArray[np.bool_]:
    """Choose `count` examples for testing, every class in proportion, by a hash of each example's key.

    Hashes rather than a random generator: the choice stays the same on every platform and version for ever, and an
    example that is added later moves few of the others.

    Args:
        labels: Class numbers, int64 `[N]`; all zero where there are none.
        keys: One different text an example.
        count: How many to choose, 0 to N.

    Returns:
        bool `[N]`, True for the chosen.

    >>> int(held_out(np.array([0, 0, 0, 0, 1, 1]), list("abcdef"), 3).sum())
    3
    """
    chosen = np.zeros(len(labels), bool)
    if not len(labels):
        return chosen
    classes, sizes = np.unique(labels, return_counts=True)
    order = np.array([hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest() for key in keys])
    for label, share in zip(classes, _shares(sizes, count), strict=True):
        members = np.flatnonzero(labels == label)
        chosen[members[np.argsort(order[members], kind="stable")[:share]]] = True
    return chosen


def _shares(sizes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """`count` divided in proportion to `sizes`, largest remainders first; sums to `count` exactly."""
    shares, remainders = np.divmod(sizes * count, sizes.sum())
    shares[np.argsort(-remainders, kind="stable")[: count - shares.sum()]] += 1
    return shares
