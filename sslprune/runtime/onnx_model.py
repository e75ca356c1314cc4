"""A network that runs without torch: numpy in, numpy out, pre-processing and published head included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sslprune.errors import ArchitectureError, DatasetError
from sslprune.models.head_file import POOLED, HeadFile
from sslprune.runtime.numpy_head import logits, pool_flat
from sslprune.runtime.onnx_file import OnnxFile, read_onnx, unusable
from sslprune.runtime.onnx_session import OnnxSession

if TYPE_CHECKING:
    from sslprune.zoo.info import Identity

Array = NDArray[np.float32]

CHUNK_BYTES = 16 << 20
"""Pre-processed pictures that are run at a time; what lies between the layers is many times that."""

MAX_CHUNK = 256
"""Pictures that are run at a time, however small they are."""


def open_onnx(path: str | Path, *, device: str = "cpu") -> OnnxModel:
    """Open an ONNX file that `sslprune export --format onnx` wrote, wherever it lies.

    There is no hash to check it against; `sslprune.load(name, runtime="onnx")` has one.

    Args:
        path: The file.
        device: "cpu", "cuda" or "cuda:N".

    Raises:
        SparseFileError: It is no such file, or hostile.
        DeviceError: ONNX Runtime cannot use the device.
        MissingExtraError: onnxruntime is not installed.
    """
    return OnnxModel(read_onnx(Path(path)), device=device)


class OnnxModel:
    """A network in ONNX Runtime.

    Args:
        file: The checked file.
        head: Classify by this probe.
        identity: Which model of the zoo it is.
        device: "cpu", "cuda" or "cuda:N".

    Attributes:
        metadata: What the file says of itself.
        sslprune: Which model of the zoo it is (name, keep, preprocessing, manifest, folder, architecture); None for a
            file that was opened by itself.
        preprocessing: Turns uint8 pictures into the network's input.
        classes: Class names in the order of the logits; empty where it gives features.
        num_features: Width of the pooled features; None for a file that gives logits.
        stages: The stages whose features it gives, beside the pooled ones.

    Raises:
        SparseFileError: The graph is not one that sslprune writes.
        ArchitectureError: It lacks the head's stage.
        DeviceError, MissingExtraError: See `OnnxSession`.
    """

    def __init__(
        self, file: OnnxFile, *, head: HeadFile | None = None, identity: Identity | None = None, device: str = "cpu"
    ) -> None:
        self.metadata = file.metadata
        self.preprocessing = file.metadata.preprocessing
        self.sslprune = identity
        self._path = file.path
        self._head = head
        self._session = OnnxSession(file.content, file.path, device=device)
        self._check_interface()
        first, *self.stages = self._session.outputs
        self._width = int(self._session.outputs[first][1])  # type: ignore[arg-type]
        self.num_features = self._width if first == "features" else None
        self.classes = file.metadata.classes if head is None else head.classes
        if head is not None:
            self._check_stage(head.stage)

    def __call__(self, images: NDArray[Any]) -> Array:
        """Features, or logits where there is a head (or the file has a classifier).

        Args:
            images: uint8 [N,H,W,3] (RGB, 0 to 255), which the model's own pre-processing turns into input, or float32
                [N,3,size,size] that is pre-processed already. Any N; run in chunks.

        Returns:
            float32 [N,num_features], or [N,classes].

        Raises:
            DatasetError: Images of another dtype or shape.
            SparseFileError: ONNX Runtime fails.
        """
        if (head := self._head) is None:
            return self._run(images, self.metadata.output, lambda found: found, self._width)
        return self._run(images, head.stage, lambda found: logits(head, _flat(found, head.pool)), len(head.classes))

    def features(self, images: NDArray[Any], *, stage: str = POOLED, pool: int = 1) -> Array:
        """Features of a stage, whether there is a head or not.

        Args:
            images: As for a call.
            stage: One of `stages`, or "pooled" for the network's own pooled features.
            pool: The stage's maps are average-pooled to at most `pool` x `pool` cells; plays no part for "pooled".

        Returns:
            float32 [N,D].

        Raises:
            ArchitectureError: The file does not give this stage.
            DatasetError, SparseFileError: As for a call.
        """
        self._check_stage(stage)
        return self._run(images, stage, lambda found: _flat(found, pool), self._features_wide(stage, pool))

    def __repr__(self) -> str:
        return f"OnnxModel({self.metadata.name!r}, {', '.join(self._session.outputs)})"

    def _run(self, images: NDArray[Any], stage: str, finish: Callable[[Array], Array], width: int) -> Array:
        self._check_images(images)
        output = "features" if stage == POOLED else stage
        size = self.preprocessing.size
        chunk = max(1, min(MAX_CHUNK, CHUNK_BYTES // (4 * 3 * size * size)))
        results = [np.empty((0, width), np.float32)]
        for begin in range(0, len(images), chunk):
            batch = images[begin : begin + chunk]
            x = self.preprocessing.numpy(batch) if batch.dtype == np.uint8 else batch
            found = finish(self._session.run(output, x))
            if found.shape[1:] != (width,):
                raise unusable(self._path, f"its output {output!r} is {found.shape[1:]} an image, not ({width},)")
            results.append(found)
        return np.concatenate(results)

    def _features_wide(self, stage: str, pool: int) -> int:
        if stage == POOLED:
            return self._width
        channels, height, width = map(int, self._session.outputs[stage][1:])  # type: ignore[arg-type]
        return channels * min(pool, height) * min(pool, width)

    def _check_images(self, images: NDArray[Any]) -> None:
        size = self.preprocessing.size
        if isinstance(images, np.ndarray) and images.ndim == 4:
            if images.dtype == np.uint8 and images.shape[3] == 3 and 0 not in images.shape[1:]:
                return
            if images.dtype == np.float32 and images.shape[1:] == (3, size, size):
                return
        said = f"{images.dtype} {list(images.shape)}" if isinstance(images, np.ndarray) else type(images).__name__
        raise DatasetError(
            f"images are {said}.",
            f"Give numpy arrays: pictures uint8 [N,H,W,3], or pre-processed float32 [N,3,{size},{size}].",
        )

    def _check_stage(self, stage: str) -> None:
        given = [POOLED, *self.stages] if self.num_features else self.stages
        if stage not in given:
            raise ArchitectureError(
                f"{self._path} does not give the stage {stage!r}.",
                f"It gives: {', '.join(given) or 'logits only'}. Any stage, with torch: sslprune.load(name).",
            )

    def _check_interface(self) -> None:
        """The input and outputs that sslprune writes, with a free batch axis and all others stated."""
        session, size = self._session, self.preprocessing.size
        if list(session.inputs) != ["input"] or session.inputs["input"][1:] != [3, size, size]:
            raise unusable(self._path, f"its inputs are {session.inputs}, not 'input' [batch,3,{size},{size}]")
        if next(iter(session.outputs), None) != self.metadata.output:
            raise unusable(self._path, f"its outputs are {list(session.outputs)}, not {self.metadata.output!r} first")
        ranks = [2] + [4] * (len(session.outputs) - 1)
        for rank, (name, shape) in zip(ranks, session.outputs.items(), strict=True):
            if len(shape) != rank or not all(isinstance(length, int) and length > 0 for length in shape[1:]):
                raise unusable(self._path, f"its output {name!r} has the shape {shape}")
        if any(isinstance(shape[0], int) for shape in (session.inputs | session.outputs).values()):
            raise unusable(self._path, "its batch axis is not free")
        if self.metadata.classes and self.metadata.output != "logits":
            raise unusable(self._path, "it names classes but gives features")


def _flat(found: Array, pool: int) -> Array:
    return pool_flat(found, pool) if found.ndim == 4 else found
