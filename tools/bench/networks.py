"""The networks that the benches of sizes and codings measure, and what they say of the machine."""

from __future__ import annotations

import importlib
import math
import platform
import sys
from collections.abc import Callable, Mapping

import numpy as np
from codec import Arrays, cpu, resnet50

from sslprune.export import sparse_file
from sslprune.zoo.index import open_index


def trained(keep: float, seed: int = 0) -> tuple[Arrays, Arrays]:
    """A ResNet-50 pruned by global magnitude, drawn by chance: unequal layers, filters and inputs, heavy tails.

    Weights are Student-t of 5 degrees of freedom, times He's standard deviation (He et al. 2015), times log-normal
    scales: sigma 0.5 a layer, 0.4 a filter, 0.3 an input channel. The exponents' spread and the masks' unevenness are
    thus those of no network in particular; the bundled models, which are real but small, are measured beside.
    """
    generator = np.random.default_rng(seed)
    tensors, _ = resnet50(1e-7, seed)
    weights: Arrays = {}
    for name in (name for name, tensor in tensors.items() if tensor.ndim == 4):
        out, into, height, width = tensors[name].shape
        scale = math.sqrt(2 / (into * height * width)) * generator.lognormal(0, 0.5)
        filters = generator.lognormal(0, 0.4, (out, 1, 1, 1)) * generator.lognormal(0, 0.3, (1, into, 1, 1))
        weights[name] = (generator.standard_t(5, tensors[name].shape) * scale * filters).astype(np.float32)
    magnitudes = np.concatenate([np.abs(weight).reshape(-1) for weight in weights.values()])
    kept = np.zeros(magnitudes.size, np.bool_)
    count = round(keep * magnitudes.size)
    kept[np.argpartition(magnitudes, magnitudes.size - count)[magnitudes.size - count :] if count else []] = True
    masks: Arrays = {}
    for name, weight in weights.items():
        masks[name], kept = kept[: weight.size].reshape(weight.shape), kept[weight.size :]
        tensors[name] = np.where(masks[name], weight, np.float32(0))
    return tensors, masks


def bundled(keep: float) -> tuple[Arrays, Arrays]:
    """A rung of the bundled family, really trained: ResNet-20, 267,696 prunable weights."""
    entry = open_index().find("rotnet-resnet20-cifar10", keep=keep)
    content = sparse_file.read(entry.folder / "sparse.safetensors")
    return dict(content.tensors), dict(content.masks)


NETWORKS: Mapping[str, Callable[[float], tuple[Arrays, Arrays]]] = {
    "uniform": resnet50,
    "magnitude": trained,
    "bundled": bundled,
}


def versions(*packages: str) -> str:
    """Python's version and those of the packages that are there."""
    found = [f"Python {sys.version.split()[0]}"]
    for package in packages:
        try:
            found.append(f"{package} {importlib.import_module(package).__version__}")
        except ImportError:
            found.append(f"no {package}")
    return ", ".join(found)


def machine(*packages: str) -> str:
    """Processor, system and versions in one line."""
    return f"{cpu()}, {platform.system()} {platform.machine()}; {versions('numpy', *packages)}"
