"""What a bench ran on: processor, cores, instructions, how busy it was; and the versions of what ran."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from sslprune.doctor import cores

PACKAGES = ("sslprune", "torch", "numpy", "onnx", "onnxruntime", "openvino")


def machine() -> dict[str, Any]:
    """Processor, system, cores that may be used, and the load of the last minute (None where it is not known)."""
    return {
        "cpu": cpu(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": cores(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def cpu() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def versions() -> dict[str, str]:
    """Of Python and of the packages that are installed here."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
