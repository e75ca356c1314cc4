"""A published linear probe in numpy: pool a stage's maps, standardise, one linear layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sslprune.errors import ArchitectureError
from sslprune.models.head_file import HeadFile

Array = NDArray[np.float32]


def pool_flat(maps: Array, pool: int) -> Array:
    """As `sslprune.models.head.pool_flat`: each map to at most `pool` x `pool` means, [N,C,H,W] to [N,C*h*w].

    Where the cells do not divide the pixels, neighbouring cells share some, as in torch's `adaptive_avg_pool2d`: cell i
    of n over H pixels is the mean of pixels floor(i*H/n) to ceil((i+1)*H/n).

    >>> pool_flat(np.arange(3, dtype=np.float32).reshape(1, 1, 1, 3), 2)
    array([[0.5, 1.5]], dtype=float32)
    """
    rows, columns = (_cells(pixels, pool) for pixels in maps.shape[2:])
    pooled = np.empty((*maps.shape[:2], len(rows), len(columns)), np.float32)
    for y, row in enumerate(rows):
        for x, column in enumerate(columns):
            pooled[:, :, y, x] = maps[:, :, row, column].mean((2, 3))
    return pooled.reshape(len(maps), maps.shape[1] * len(rows) * len(columns))


def logits(head: HeadFile, features: Array) -> Array:
    """Features [N,D] to logits [N,C].

    Raises:
        ArchitectureError: The features have another width than the head.
    """
    if features.shape[1] != head.mean.size:
        raise ArchitectureError(
            f"the network gives {features.shape[1]} features, but the head takes {head.mean.size}.",
            "Get the model again: its head is another network's.",
        )
    return ((features - head.mean) / head.std @ head.weight.T + head.bias).astype(np.float32, copy=False)


def _cells(pixels: int, pool: int) -> list[slice]:
    cells = min(pool, pixels)
    return [slice(i * pixels // cells, -(-(i + 1) * pixels // cells)) for i in range(cells)]
