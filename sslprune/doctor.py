"""What a machine has for sslprune: versions, cores, extras, data sets, models. Facts only; the command prints them."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata, util
from typing import Any

from sslprune import __version__

CORE = ("torch", "torchvision", "timm", "numpy", "pillow", "safetensors", "huggingface-hub", "tomli-w")
EXTRAS = {"eval": "sklearn", "plot": "matplotlib", "parquet": "pyarrow", "onnx": "onnxruntime", "slim": "torch_pruning"}


def examine() -> dict[str, Any]:
    """Look at machine, packages, extras, data sets and zoo.

    Returns:
        Tables (name -> text) "machine", "packages", "extras", "data", "zoo", and "advice": what is missing, with the
        command that gets it.
    """
    from sslprune.data import sources
    from sslprune.errors import SslpruneError
    from sslprune.zoo.index import local_zoo, open_index

    advice: list[str] = []
    packages = {name: _version(name) for name in CORE}
    for name, version in packages.items():
        if version == "missing":
            advice.append(f"{name} is missing: pip install {name}")
    extras = {}
    for extra, module in EXTRAS.items():
        there = util.find_spec(module) is not None
        extras[extra] = "installed" if there else f"pip install 'sslprune[{extra}]'"
    data = {}
    for name in ("digits", "cifar10", "cifar100"):
        try:
            data[name] = ", ".join(sources.open(name).splits())
        except SslpruneError as error:
            data[name] = "not found"
            advice.append(f"{name}: {error.hint}")
    entries = open_index().entries
    counts = {status: sum(entry.status == status for entry in entries) for status in ("bundled", "local")}
    zoo = {"bundled models": str(counts["bundled"]), f"local models in {local_zoo()}": str(counts["local"])}
    return {
        "machine": _machine(advice),
        "packages": packages,
        "extras": extras,
        "data": data,
        "zoo": zoo,
        "advice": advice,
    }


def _machine(advice: list[str]) -> dict[str, str]:
    machine = {
        "sslprune": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(cores()),
    }
    if util.find_spec("torch") is None:
        return machine
    import torch

    from sslprune.compat import patch_torchvision

    machine["torch threads"] = str(torch.get_num_threads())
    machine["vector instructions"] = torch.backends.cpu.get_cpu_capability()
    machine["sparse engine"] = _sparse_engine(advice)
    machine["cuda"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    machine["torchvision"] = (
        "operators declared by sslprune: a CUDA build beside CPU torch" if patch_torchvision() else "healthy"
    )
    if torch.get_num_threads() > cores():
        advice.append(f"torch uses {torch.get_num_threads()} threads on {cores()} cores: set OMP_NUM_THREADS={cores()}")
    return machine


def _sparse_engine(advice: list[str]) -> str:
    from sslprune.errors import ArchitectureError
    from sslprune.runtime.kernels import chosen_isa, isas

    if not isas():
        advice.append("the sparse engine was not compiled: install a C++ compiler, then sslprune again")
        return "not compiled: sslprune.compile runs networks dense"
    try:
        return f"{chosen_isa()} (of {', '.join(isas())})"
    except ArchitectureError as error:
        advice.append(error.problem + " " + error.hint)
        return error.problem


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"
