"""`sslprune.compile`: a pruned network as an inference engine for ordinary CPUs that skips what pruning removed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sslprune.errors import ArchitectureError
from sslprune.runtime import kernels
from sslprune.runtime.held import Held
from sslprune.runtime.ops import Lowered
from sslprune.runtime.plan import ConvStep, Plan, place
from sslprune.runtime.prepare import lowered
from sslprune.runtime.side_by_side import LANES, SideBySide, if_faster

_CHANNELS = 3


@dataclass(frozen=True)
class LayerCost:
    """What a layer costs for one image.

    Attributes:
        layer: The module, by its dotted name ("" for copies at the network's ends).
        path: How it runs: "sparse", "dense" (where too few weights are zero for skipping them to pay), "copy", "max
            pool", "average".
        macs: Multiplications that are left.
        seconds: On one thread, the fastest of a few runs.
    """

    layer: str
    path: str
    macs: int
    seconds: float


@dataclass(frozen=True)
class _Compiled:
    """For one size of image: one image at a time, and many together where that was measured to be faster."""

    plan: Plan
    program: Any
    together: SideBySide | None = None
    measured: bool = False


class Engine:
    """A network that is ready to run; call it with images. May be called by several threads at once.

    Attributes:
        reason: Why the network runs dense, in torch; None if it does not. Known once a size of image was seen.
    """

    def __init__(self, model: nn.Module | Held, threads: int | None = None, batch: int | None = None) -> None:
        self._held = model if isinstance(model, Held) else Held(model)
        self._dense: nn.Module | None = None
        self._threads = threads
        self._batch = batch
        self._isa = kernels.chosen_isa()
        self._compiled: dict[tuple[int, int], _Compiled | str] = {}
        self._lock = Lock()
        self.reason: str | None = None
        if self._isa is None:
            self.reason = "sslprune was installed without its compiled kernels"

    def __call__(self, images: Any) -> Any:
        """The network's outputs.

        Args:
            images: float32 tensor on the CPU or numpy array [N,3,H,W], pre-processed; any N, 0 too.

        Returns:
            The same kind, float32 [N,...].

        Raises:
            ArchitectureError: They have another shape or type, or the network does not run at their size.
        """
        array = _checked(images)
        result = self._run(array)
        return torch.from_numpy(result) if isinstance(images, Tensor) else result

    def compile(self, height: int, width: int) -> Engine:
        """Plan now for images of this size, rather than at the first call; the engine itself."""
        self._for((height, width))
        return self

    def plan(self, height: int, width: int) -> Plan | None:
        """What is run for images of this size, or None if that is dense."""
        compiled = self._for((height, width))
        return None if isinstance(compiled, str) else compiled.plan

    def summary(self, height: int, width: int) -> tuple[LayerCost, ...]:
        """What each layer costs for images of this size, in order; empty where the network runs dense."""
        compiled = self._for((height, width))
        if isinstance(compiled, str):
            return ()
        image = np.zeros(_CHANNELS * height * width, np.float32)
        seconds = compiled.program.times(image)
        return tuple(
            LayerCost(
                step.layer,
                "dense" if way.name == "dense" else _PATHS[type(step).__name__],
                step.macs if isinstance(step, ConvStep) else 0,
                taken,
            )
            for step, way, taken in zip(compiled.plan.steps, compiled.program.ways, seconds, strict=True)
        )

    @property
    def threads(self) -> int:
        """How many threads a call may use: as told, or as torch uses."""
        return self._threads or torch.get_num_threads()

    def __reduce__(self) -> tuple[Callable[..., Engine], tuple[Held, int | None, int | None]]:
        return Engine, (self._held, self._threads, self._batch)

    def __repr__(self) -> str:
        how = f"dense: {self.reason}" if self.reason else f"sparse, {self._isa}"
        return f"Engine({self._held.name}, threads={self.threads}, {how})"

    def _run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        compiled = self._for((images.shape[2], images.shape[3]))
        if isinstance(compiled, str):
            with torch.inference_mode():
                return np.asarray(self._whole()(torch.from_numpy(images)).numpy())
        result = np.empty((len(images), *compiled.plan.result), np.float32)
        flat = result.reshape(len(images), -1) if len(images) else result.reshape(0, 1)
        if not len(images):
            return result
        rows = images.reshape(len(images), -1)
        if len(images) >= LANES and not compiled.measured:
            compiled = self._measure(compiled, (images.shape[2], images.shape[3]))
        together = len(images) // LANES * LANES if compiled.together else 0
        if compiled.together:
            compiled.together.run(rows[:together], flat[:together], self.threads)
        if together < len(images):
            compiled.program.run(rows[together:], flat[together:], self.threads)
        return result

    def _whole(self) -> nn.Module:
        """The network itself, where it runs dense."""
        if self._dense is None:
            self._dense = self._held.module()
        return self._dense

    def _measure(self, compiled: _Compiled, size: tuple[int, int]) -> _Compiled:
        """Find out, once for each size of image, whether many are faster together."""
        found = self._with_together(compiled, lowered(self._held, size), size)
        with self._lock:
            # Another thread may have measured meanwhile: all keep to the first answer.
            known = self._compiled[size]
            if isinstance(known, _Compiled) and not known.measured:
                self._compiled[size] = known = found
        return known if isinstance(known, _Compiled) else found

    def _with_together(self, compiled: _Compiled, network: Lowered, size: tuple[int, int]) -> _Compiled:
        images = np.random.default_rng(0).standard_normal((LANES, _CHANNELS * size[0] * size[1]), np.float32)
        return replace(compiled, together=if_faster(network, compiled.program, images, self._isa), measured=True)

    def _for(self, size: tuple[int, int]) -> _Compiled | str:
        with self._lock:
            found = self._compiled.get(size)
            if found is None:
                found = self._compiled[size] = self._compile(size)
                self.reason = found if isinstance(found, str) else self.reason
            return found

    def _compile(self, size: tuple[int, int]) -> _Compiled | str:
        if self._isa is None:
            return str(self.reason)
        try:
            network = lowered(self._held, size)
        except ArchitectureError as error:
            return error.problem
        plan = place(network)
        compiled = _Compiled(plan, kernels.program(plan, isa=self._isa))
        many = self._batch is not None and self._batch >= LANES
        return self._with_together(compiled, network, size) if many else compiled


def compile(model: nn.Module, threads: int | None = None, batch: int | None = None) -> Engine:
    """Make an engine of a pruned network: the same outputs, computed from the weights that are left.

    Batch norm is folded, and what the output does not depend on is removed, exactly. Plans are made for each size of
    image when it is first seen. A network that does something the engine does not know runs dense in torch, and
    `reason` says why.

    Args:
        model: A float32 network of one output, in any mode. Not changed; later changes of it are not seen.
        threads: How many threads a call may use; by default as many as torch.
        batch: How many images a call usually has: a hint. Any number is right; the first call with 16 images or more
            measures whether 16 are faster together, and with this hint that is done when the plan is made. The
            results are the same to the last bit.

    Returns:
        A callable that takes and gives float32 [N,3,H,W] tensors or numpy arrays.

    Raises:
        ArchitectureError: `threads` or `batch` is not positive, or `SSLPRUNE_ISA` asks for what this machine lacks.

    >>> import numpy as np, sslprune
    >>> engine = sslprune.compile(sslprune.load("rotnet-resnet20-keep1%"))
    >>> engine(np.zeros((2, 3, 32, 32), np.float32)).shape
    (2, 64)
    """
    for name, value in {"threads": threads, "batch": batch}.items():
        if value is not None and value < 1:
            raise ArchitectureError(f"{name}={value} is not a positive number.", "Leave it out for the default.")
    return Engine(model, threads, batch)


_PATHS = {"ConvStep": "sparse", "SplitStep": "copy", "MaxPoolStep": "max pool", "AverageStep": "average"}


def _checked(images: Any) -> NDArray[np.float32]:
    """As a C-ordered array."""
    if isinstance(images, Tensor):
        if images.device.type != "cpu":
            raise ArchitectureError(f"the images are on {images.device}.", "The engine runs on the CPU: images.cpu().")
        if images.layout != torch.strided:
            raise ArchitectureError("the images are a sparse tensor.", "Convert them: images.to_dense().")
        images = images.detach().numpy() if images.dtype == torch.float32 else np.empty(0, np.uint8)
    if not isinstance(images, np.ndarray) or images.dtype != np.float32:
        raise ArchitectureError("the images are not float32.", "Pre-process them, or convert: images.float().")
    if images.ndim != 4 or images.shape[1] != _CHANNELS or not all(images.shape[1:]):
        raise ArchitectureError(
            f"images of shape {list(images.shape)} are not [N,{_CHANNELS},H,W].", "Put channels before rows."
        )
    return np.ascontiguousarray(images)
