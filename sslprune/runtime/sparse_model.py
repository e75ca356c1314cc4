"""A loaded network that runs on its non-zeros: pictures in, features or logits out, published head included."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from sslprune.errors import DatasetError
from sslprune.models.anatomy import stages
from sslprune.models.head import POOLED, HeadedBackbone, check_stage
from sslprune.models.preprocess import Preprocessing
from sslprune.runtime.engine import Engine, LayerCost
from sslprune.runtime.features import FeatureEngine

if TYPE_CHECKING:
    from sslprune.zoo.info import ModelInfo

CHUNK_BYTES = 16 << 20
"""Pictures that are pre-processed at a time, as float32."""


_IMAGES = (("uint8", 3), ("float32", 3))
"""What images may be: their type, and how many channels they have."""


class SparseModel:
    """A network in the sparse engine; what `sslprune.load(NAME, runtime="sparse")` gives.

    Args:
        network: A module from `sslprune.load`, on the CPU and in eval mode.
        threads: As for `sslprune.compile`.

    Attributes:
        network: The module; later changes of its weights are not seen.
        sslprune: Which model of the zoo it is.
        preprocessing: Turns uint8 pictures into the network's input.
        classes: Class names in the order of the logits; empty where it gives features, or where they are not known.
        num_features: Width of the pooled features.
        stages: The stages whose features it gives, beside the pooled ones.
        reason: Why pictures of the network's own size run dense, in torch; None if they do not.
    """

    def __init__(self, network: nn.Module, threads: int | None = None) -> None:
        self.network = network
        self.sslprune: ModelInfo = network.sslprune  # type: ignore[assignment]
        self.preprocessing: Preprocessing = self.sslprune.preprocessing
        headed = isinstance(network, HeadedBackbone) and network.probe is not None
        self.classes: tuple[str, ...] = tuple(network.classes) if headed else self.sslprune.classes  # type: ignore[arg-type]
        self.num_features: int = network.num_features  # type: ignore[assignment]
        self.stages: list[str] = list(stages(network))
        self._threads = threads
        self._features: dict[tuple[str, int], FeatureEngine] = {}
        self._engine: Engine | None = None
        size = self.preprocessing.size
        if headed:
            self.reason = self._probed().reason(size, size)
        else:
            with torch.inference_mode(False):
                self._engine = Engine(network, threads).compile(size, size)
            self.reason = self._engine.reason

    def __call__(self, images: Any) -> Any:
        """Features, or logits where there is a head (or the network has a classifier).

        Args:
            images: uint8 [N,H,W,3] (RGB, 0 to 255), which the model's own pre-processing turns into input, or float32
                [N,3,H,W] that is pre-processed already: numpy array or tensor on the CPU. Any N; run in chunks.

        Returns:
            The same kind, float32 [N,num_features] or [N,classes].

        Raises:
            DatasetError: Images of another dtype or shape.
            ArchitectureError: The network does not run at their size.
        """
        return self._run(images, self._logits if self._engine is None else self._engine)

    def features(self, images: Any, *, stage: str = POOLED, pool: int = 1) -> Any:
        """Features of a stage, whether there is a head or not.

        Args:
            images: As for a call.
            stage: One of `stages`, or "pooled" for the network's own pooled features.
            pool: The stage's maps are average-pooled to at most `pool` x `pool` cells; plays no part for "pooled".

        Returns:
            The same kind as the images, float32 [N,D].

        Raises:
            ArchitectureError: The network has no such stage.
            DatasetError: As for a call.
        """
        engine = self._engine_of(stage, pool)
        return self._run(images, lambda x: engine(x)[stage])

    def summary(self) -> tuple[LayerCost, ...]:
        """What each layer costs for a picture of the network's own size; empty where it runs dense."""
        size = self.preprocessing.size
        with torch.inference_mode(False):
            return (self._engine or self._probed()).summary(size, size)

    def __reduce__(self) -> tuple[Callable[..., SparseModel], tuple[nn.Module, int | None]]:
        return SparseModel, (self.network, self._threads)

    def __repr__(self) -> str:
        how = f"dense: {self.reason}" if self.reason else "sparse"
        return f"SparseModel({self.sslprune.name!r}, {how})"

    def _logits(self, x: Tensor) -> Tensor:
        network: Any = self.network
        logits: Tensor = network.probe(self._probed()(x)[network.stage])
        return logits

    def _probed(self) -> FeatureEngine:
        """What the head sits on."""
        network: Any = self.network
        return self._engine_of(network.stage, network.pool)

    def _engine_of(self, stage: str, pool: int) -> FeatureEngine:
        if stage != POOLED:
            check_stage(self.network, stage)
        key = (stage, 1 if stage == POOLED else pool)
        if key not in self._features:
            self._features[key] = FeatureEngine(self.network, stage, lambda _: pool, threads=self._threads)
        return self._features[key]

    def _run(self, images: Any, run: Callable[[Tensor], Tensor]) -> Any:
        _check(images)
        size = self.preprocessing.size
        chunk = max(1, CHUNK_BYTES // (4 * 3 * size * size))
        found = []
        # The engine traces the network at a new size of image, which inference mode would hide from it.
        with torch.inference_mode(False), torch.no_grad():
            # Also of no images at all there is a result, of no rows.
            for begin in range(0, max(1, len(images)), chunk):
                some = images[begin : begin + chunk]
                x = some if isinstance(some, Tensor) else torch.from_numpy(np.array(some))
                found.append(run(self.preprocessing(x) if x.dtype == torch.uint8 else x))
        result = torch.cat(found)
        return result if isinstance(images, Tensor) else result.numpy()


def _check(images: Any) -> None:
    said = type(images).__name__
    if isinstance(images, (np.ndarray, Tensor)):
        kind, shape = str(images.dtype).removeprefix("torch."), tuple(images.shape)
        said = f"{kind} {list(shape)}"
        if isinstance(images, Tensor) and images.device.type != "cpu":
            said = f"on {images.device}"
        elif len(shape) == 4 and 0 not in shape[1:] and (kind, shape[3 if kind == "uint8" else 1]) in _IMAGES:
            return
    raise DatasetError(
        f"images are {said}.",
        "Give arrays or tensors on the CPU: pictures uint8 [N,H,W,3], or pre-processed float32 [N,3,H,W].",
    )
