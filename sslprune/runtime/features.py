"""Features of one stage of a network, or of all stages at once, by the sparse engine."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslprune.models.anatomy import forward_stages, stages
from sslprune.models.head import POOLED, stage_features
from sslprune.runtime.engine import Engine, LayerCost

Pool = Callable[[int], int]
"""Channels of a map to the cells a side that it is pooled to, at most."""


class FeatureEngine:
    """Pre-processed images to the features of some stages, by name; every stage from a single pass.

    The engine computes one output: the pooled maps of all stages side by side as its channels, smaller ones among
    zeros. May be called by several threads at once.

    Args:
        model: A backbone with timm's API, in eval mode. Not changed; later changes of it are not seen.
        stage: A name of `stages(model)`, "pooled" for the network's own pooled features, or None for all stages.
        pool: How far maps are pooled; plays no part for "pooled".
        threads: As for `sslprune.compile`.

    Raises:
        ArchitectureError: The network has no stages.
    """

    def __init__(self, model: nn.Module, stage: str | None, pool: Pool, *, threads: int | None = None) -> None:
        self.names = (POOLED,) if stage == POOLED else tuple(name for name in stages(model) if stage in (None, name))
        self._network = _OneOutput(model, self.names, pool)
        with torch.inference_mode(False):
            self._engine = Engine(self._network, threads)
        self._shapes: dict[tuple[int, int], list[tuple[int, ...]]] = {}

    def reason(self, height: int, width: int) -> str | None:
        """Why images of this size run dense, in torch; None if they do not."""
        with torch.inference_mode(False):
            return None if self._engine.plan(height, width) is not None else self._engine.reason

    def summary(self, height: int, width: int) -> tuple[LayerCost, ...]:
        """What each layer costs for images of this size; empty where they run dense."""
        with torch.inference_mode(False):
            return self._engine.summary(height, width)

    def __call__(self, x: Tensor) -> dict[str, Tensor]:
        """The features.

        Args:
            x: float32 [N,3,H,W] on the CPU, pre-processed; any N.

        Returns:
            By stage float32 [N,D], as `sslprune.models.head.stage_features` gives them.

        Raises:
            ArchitectureError: Images of another shape or type, or of a size at which the network does not run.
        """
        # The engine traces the network at a new size of image, which inference mode would hide from it.
        with torch.inference_mode(False), torch.no_grad():
            whole: Tensor = self._engine(x)
            found, first = {}, 0
            for name, shape in zip(self.names, self._shapes_at((x.shape[2], x.shape[3])), strict=True):
                part = whole[:, first : first + shape[0]]
                found[name] = part[:, :, : shape[1], : shape[2]].flatten(1) if len(shape) == 3 else part
                first += shape[0]
            return found

    def _shapes_at(self, size: tuple[int, int]) -> list[tuple[int, ...]]:
        if (known := self._shapes.get(size)) is None:
            known = self._shapes[size] = [
                tuple(each.shape[1:]) for each in self._network.parts(torch.zeros(1, 3, *size))
            ]
        return known


class _OneOutput(nn.Module):
    """A network that returns the features of some stages as one tensor."""

    def __init__(self, model: nn.Module, names: tuple[str, ...], pool: Pool) -> None:
        super().__init__()
        self.model = model
        self._names = names
        self._pool = pool
        self.training = model.training

    def forward(self, x: Tensor) -> Tensor:
        parts = self.parts(x)
        if len(parts) == 1:
            return parts[0]
        rows, columns = (max(part.shape[axis] for part in parts) for axis in (2, 3))
        return torch.cat([_among_zeros(part, rows, columns) for part in parts], 1)

    def parts(self, x: Tensor) -> list[Tensor]:
        """One a stage: [N,C,h,w], or [N,D] for the pooled features."""
        if self._names == (POOLED,):
            return [stage_features(self.model, x, POOLED, 1)]
        maps = zip(stages(self.model), forward_stages(self.model, x), strict=True)
        return [self._pooled(each) for name, each in maps if name in self._names]

    def _pooled(self, maps: Tensor) -> Tensor:
        cells = self._pool(maps.shape[1])
        return F.adaptive_avg_pool2d(maps, (min(cells, maps.shape[2]), min(cells, maps.shape[3])))


def _among_zeros(maps: Tensor, rows: int, columns: int) -> Tensor:
    below, right = rows - maps.shape[2], columns - maps.shape[3]
    return F.pad(maps, (0, right, 0, below)) if below or right else maps
