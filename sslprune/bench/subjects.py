"""What is raced: a random network of an architecture, or a model of the zoo; and the files that engines read."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sslprune import models
from sslprune.bench.synthetic import Masks, pruned
from sslprune.export import sparse_file
from sslprune.export.onnx_file import FEATURES, export
from sslprune.export.parity import exact, images
from sslprune.extras import require
from sslprune.models.cost import uses

_CALIBRATION = 64
"""Images that int8 ranges are taken from."""

_OLD_OPSET, _OLD_IR = 17, 8
"""What DeepSparse 1.8.0 reads."""


@dataclass(frozen=True)
class Subject:
    """A pruned network.

    Attributes:
        name: A model's name, or the architecture's.
        arch: The architecture.
        mask: What chose its weights; "zoo" for published models.
        keep: Kept / prunable weights.
        size: Height and width of its images, in pixels.
        model: In eval mode.
        folder: A published model's.
    """

    name: str
    arch: str
    mask: str
    keep: float
    size: int
    model: nn.Module
    folder: Path | None = None

    @property
    def title(self) -> str:
        """The network for people: a random one's mask belongs to it."""
        return self.name if self.folder else f"{self.arch}, {self.mask} mask"

    @cached_property
    def macs(self) -> tuple[int, int]:
        """Of the prunable weights for one image: dense, and with zeros left out."""
        counts = uses(self.model, self.size)
        weights = models.prunable(self.model)
        dense = sum(weight.numel() * counts[name] for name, weight in weights.items())
        return dense, sum(int(weight.count_nonzero()) * counts[name] for name, weight in weights.items())

    def batch(self, count: int) -> NDArray[np.float32]:
        """Images float32 [N,3,size,size], standard normal, the same every time."""
        return images(self.size, batch=count, seed=0)

    def exact(self, batch: NDArray[np.float32]) -> NDArray[np.float64]:
        """Its outputs in float64, by torch."""
        return exact(self.model, batch, FEATURES)["features"]


def synthetic_subject(arch: str, keep: float, mask: Masks, size: int | None = None) -> Subject:
    """A random network, see `synthetic.pruned`; at its architecture's own size unless told.

    Raises:
        KeepError: `keep` is not in (0, 1], or there is no such mask.
        ArchitectureError: The architecture is not known.
    """
    size = size or own_size(arch)
    return Subject(arch, arch, mask, keep, size, pruned(arch, keep, size=size, mask=mask))


def zoo_subject(name: str, keep: float | None = None) -> Subject:
    """A model by name or folder; raises what `sslprune.load` raises."""
    from sslprune.zoo.info import info_of
    from sslprune.zoo.load import load

    model = load(name, keep=keep)
    info = info_of(model)
    return Subject(info.name, info.architecture, "zoo", info.keep, info.preprocessing.size, model, info.folder)


def own_size(arch: str) -> int:
    """The height of the images that an architecture is made for, in pixels.

    Raises:
        ArchitectureError: The architecture is not known.
    """
    from sslprune.zoo.blank import blueprint

    config: Any = blueprint(arch, 0).pretrained_cfg
    return int(config["input_size"][1])


def write_files(subject: Subject, folder: Path, engines: Collection[str]) -> dict[str, Path]:
    """Write what the engines read: a sparse file for ours and torch, ONNX with dense weights for the others.

    Returns:
        "weights" and "onnx", where one of the engines needs it; "deepsparse" and "int8": ONNX of their own.

    Raises:
        MissingExtraError: A package that writes or quantises ONNX is not installed.
        ArchitectureError: torch cannot export the network.
    """
    files = {"weights": folder / "weights.safetensors"}
    tensors = {name: tensor.numpy() for name, tensor in subject.model.state_dict().items()}
    masks = {name: weight.detach().numpy() != 0 for name, weight in models.prunable(subject.model).items()}
    sparse_file.write(files["weights"], tensors, masks, metadata={})
    if {"ort", "openvino", "deepsparse", "int8"} & set(engines):
        files["onnx"] = folder / "dense.onnx"
        content = export(subject.model, size=subject.size, metadata={}, outputs=FEATURES)
        files["onnx"].write_bytes(content.SerializeToString())
        if "deepsparse" in engines:
            files["deepsparse"] = folder / "old.onnx"
            files["deepsparse"].write_bytes(_older(content).SerializeToString())
        if "int8" in engines:
            files["int8"] = folder / "int8.onnx"
            _quantise(files["onnx"], files["int8"], images(subject.size, batch=_CALIBRATION, seed=1))
    return files


def _older(content: Any) -> Any:
    """The same graph in a dialect of 2022: of what our exporter writes only ReduceMean was written otherwise then."""
    onnx = require("onnx", extra="bench", purpose="DeepSparse")
    older = onnx.ModelProto()
    older.CopyFrom(content)
    older.ir_version, older.opset_import[0].version = _OLD_IR, _OLD_OPSET
    constants = {tensor.name: tensor for tensor in older.graph.initializer}
    for node in older.graph.node:
        if node.op_type == "ReduceMean" and len(node.input) > 1:
            axes = onnx.numpy_helper.to_array(constants[node.input[1]]).tolist()
            node.attribute.append(onnx.helper.make_attribute("axes", axes))
            del node.input[1:]
    return older


class _Reader:
    """Calibration images, one by one, as ONNX Runtime asks for them."""

    def __init__(self, batch: NDArray[np.float32]) -> None:
        self._left = iter(batch)

    def get_next(self) -> Mapping[str, NDArray[np.float32]] | None:
        image = next(self._left, None)
        return None if image is None else {"input": image[None]}


def _quantise(source: Path, target: Path, batch: NDArray[np.float32]) -> None:
    """Static int8: weights per channel, activations in ranges seen on the images; QDQ, which both runtimes fuse."""
    tools = require("onnxruntime.quantization", extra="bench", purpose="quantising")

    class Reader(_Reader, tools.CalibrationDataReader):  # type: ignore[misc, name-defined]
        pass

    with _silent_root():
        tools.quantize_static(
            str(source),
            str(target),
            Reader(batch),
            quant_format=tools.QuantFormat.QDQ,
            per_channel=True,
            activation_type=tools.QuantType.QUInt8,
            weight_type=tools.QuantType.QInt8,
        )


@contextmanager
def _silent_root() -> Iterator[None]:
    """It recommends on the root logger to fold batch norm first, which was done."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
