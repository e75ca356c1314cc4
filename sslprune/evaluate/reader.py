"""From pre-processed images to frozen features: by torch, or by the sparse engine, as a rule that is no timing says."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from sslprune.errors import ArchitectureError, DeviceError, UnknownRuntimeError
from sslprune.models.anatomy import forward_stages, stages
from sslprune.models.cost import share_left
from sslprune.models.head import POOLED, pool_flat, stage_features
from sslprune.runtime.features import FeatureEngine
from sslprune.runtime.kernels import chosen_isa

RUNTIMES = ("auto", "torch", "sparse")

MOST_MACS = 0.25
"""The share of MACs left up to which "auto" takes the engine. On one thread with AVX-512 it was, against eager torch in
turns, at a share of 0.3: 0.9 times as fast (MobileNetV2, 64 pixels), 1.4 (ResNet-18, 32 pixels), 1.7 (VGG-19), 1.8
(ResNet-20), 2.2 (ResNet-50, 224 pixels); at 0.2: 1.2, 2.1, 2.7, 3.8 and 3.0 times."""

FEWEST_IMAGES = 256
"""With fewer, "auto" takes torch: the engine compiles for as long as torch takes for about so many small images."""

MAX_DIMS = 9216
"""The widest features of a stage that a map is pooled to where `pool` is None: Goyal et al.'s "about 9k"."""

TOLERANCE = 1e-3
"""How far features may be from torch's, as a fraction of the largest. Rounding stays far below; a network that decides
by its images what to compute, which a trace cannot show, does not."""

_COMPARED = 4

_Run = Callable[[Tensor], dict[str, Tensor]]

_LOG = logging.getLogger(__name__)


class Reader:
    """Pre-processed images to the features of some stages, by name.

    What runs the network is chosen at the first images, and kept. "auto" takes the sparse engine if all of this holds:
    the images are on the CPU; `FEWEST_IMAGES` or more are expected; at most `MOST_MACS` of the network's MACs are left;
    the engine was compiled and knows all that the network does; its features of the first images are torch's.

    Args:
        model: A backbone with timm's API; in eval mode when images come.
        stage: A name of `stages(model)`, "pooled", or None for all stages.
        pool: See `sslprune.evaluate.features.extract`.
        runtime: "auto", "torch", or "sparse": the engine however little it gains.
        expected: How many images will come; None where nobody knows, which counts as many.

    Attributes:
        runtime: "torch" or "sparse"; what was asked for until images came.
        reason: Why it is not "sparse"; empty if it is.

    Raises:
        UnknownRuntimeError: There is no such runtime.
        ArchitectureError: The pool is impossible, or the network has no stages.
    """

    def __init__(
        self,
        model: nn.Module,
        stage: str | None,
        pool: int | None,
        *,
        runtime: str = "torch",
        expected: int | None = None,
    ) -> None:
        if runtime not in RUNTIMES:
            raise UnknownRuntimeError(
                f"there is no runtime {runtime!r} for features.", f"Choose one of: {', '.join(RUNTIMES)}."
            )
        self.runtime = runtime
        self.reason = ""
        self._model, self._stage, self._pool = model, stage, pool
        self._in_torch = stage_reader(model, stage, pool)
        self._expected = expected
        self._run: _Run | None = self._in_torch if runtime == "torch" else None

    def __call__(self, x: Tensor) -> dict[str, Tensor]:
        """The features of pre-processed images, float [N,3,H,W].

        Raises:
            DeviceError: The engine was asked for, and the images are not on the CPU.
        """
        if self._run is None:
            self._run = self._choose(x)
        return self._run(x)

    def described(self) -> dict[str, str]:
        """What a result row's protocol says of it: nothing of torch, which is what rows are computed by elsewhere."""
        return {"runtime": "sparse"} if self.runtime == "sparse" else {}

    def _choose(self, x: Tensor) -> _Run:
        forced = self.runtime == "sparse"
        if forced and x.device.type != "cpu":
            raise DeviceError(
                f"the sparse engine runs on the CPU, not on {x.device}.", "Give device='cpu', or runtime='torch'."
            )
        found = ("" if forced else self._not_worth_it(x)) or self._engine(x)
        if isinstance(found, str):
            self.runtime, self.reason = "torch", found
            _LOG.log(logging.INFO if forced else logging.DEBUG, "features dense, in torch: %s", found)
            return self._in_torch
        self.runtime = "sparse"
        _LOG.info("features by the sparse engine, %s", chosen_isa())
        return found

    def _not_worth_it(self, x: Tensor) -> str:
        """Why torch is taken without asking the engine; empty if that may be faster."""
        if x.device.type != "cpu":
            return f"the images are on {x.device}"
        if self._expected is not None and self._expected < FEWEST_IMAGES:
            return f"{self._expected} images are too few to compile for"
        try:
            share = share_left(self._model, _size(x))
        except ArchitectureError as error:
            return error.problem
        return "" if share <= MOST_MACS else f"{100 * share:.3g}% of the MACs are left"

    def _engine(self, x: Tensor) -> FeatureEngine | str:
        """The engine, or why it cannot run the network."""
        if any(each.dtype != torch.float32 for each in self._model.parameters()):
            return "its weights are not all float32"
        try:
            engine = FeatureEngine(self._model, self._stage, lambda channels: self._pool or cells(channels))
        except (RuntimeError, TypeError) as error:
            return f"the network cannot be copied: {error}"
        if reason := engine.reason(*_size(x)):
            return reason
        some = x[:_COMPARED]
        found, expected = engine(some), self._in_torch(some)
        far = max(_distance(found[name], expected[name]) for name in expected)
        return engine if far <= TOLERANCE else f"its features would be {far:.1g} of the largest away from torch's"


def stage_reader(model: nn.Module, stage: str | None, pool: int | None) -> Callable[[Tensor], dict[str, Tensor]]:
    """Pre-processed images [N,3,H,W] to the features [N,D] of a stage, or of all of them, by name.

    Args:
        model: A backbone with timm's API, in the mode that it is to run in.
        stage: A name of `stages(model)`, "pooled", or None for all stages.
        pool: See `extract`.

    Raises:
        ArchitectureError: The pool is impossible, or the network has no stages.
    """
    if pool is not None and pool < 1:
        raise ArchitectureError(f"maps cannot be pooled to {pool} x {pool} cells.", "Give a pool size of 1 or more.")
    if stage == POOLED:
        return lambda x: {POOLED: stage_features(model, x, POOLED, 1)}
    names = stages(model)

    def features(x: Tensor) -> dict[str, Tensor]:
        maps = zip(names, forward_stages(model, x), strict=True)
        return {name: pool_flat(each, pool or cells(each.shape[1])) for name, each in maps if stage in (None, name)}

    return features


def cells(channels: int) -> int:
    """Cells a side that keep a map within `MAX_DIMS` features: Goyal et al.'s 6, 4, 3 and 2 for ResNet-50's stages.

    >>> [cells(channels) for channels in (64, 256, 512, 1024, 2048)]
    [12, 6, 4, 3, 2]
    """
    return max(1, math.isqrt(MAX_DIMS // channels))


def _size(x: Tensor) -> tuple[int, int]:
    return int(x.shape[2]), int(x.shape[3])


def _distance(found: Tensor, expected: Tensor) -> float:
    """Infinite where torch gives a number that is none: skipping a zero weight may hide it."""
    far = float((found - expected).abs().max()) / float(expected.abs().max().clamp_min(1e-30))
    return math.inf if math.isnan(far) else far
