"""ONNX Runtime for browsers under Node, installed once into a cache outside of the repository.

`tests/export/web` pins it. Installing it asks the npm registry for some 30 MB.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WEB = Path(__file__).resolve().parents[1] / "export" / "web"


class WebRuntimeMissing(Exception):
    """Node, npm or the registry is missing; says which."""


def modules() -> Path:
    """The folder whose `node_modules` has the pinned runtime; installed there first, if need be.

    Raises:
        WebRuntimeMissing: It cannot be had here.
    """
    if missing := [tool for tool in ("node", "npm") if not shutil.which(tool)]:
        raise WebRuntimeMissing(f"{missing[0]} is not installed")
    lock = hashlib.sha256((WEB / "package-lock.json").read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sslprune-tests"
    installed = cache / f"web-{lock}"
    if not installed.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(WEB / name, folder)
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            try:
                done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=180)
            except subprocess.TimeoutExpired:
                raise WebRuntimeMissing("the npm registry does not answer") from None
            if done.returncode:
                raise WebRuntimeMissing(f"npm ci failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
            Path(folder, "ready").mkdir()
            for name in ("package.json", "node_modules"):
                shutil.move(Path(folder, name), Path(folder, "ready", name))
            try:
                os.rename(Path(folder, "ready"), installed)
            except OSError:  # another process was faster
                assert installed.is_dir()
    return installed


def run(path: Path, x: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Every output of an ONNX file by name, for a float32 batch [N,3,H,W].

    Raises:
        WebRuntimeMissing: The runtime cannot be had here.
    """
    folder = modules()
    with tempfile.TemporaryDirectory() as scratch:
        numbers = Path(scratch, "input.f32")
        numbers.write_bytes(np.ascontiguousarray(x, "<f4").tobytes())
        command = ["node", WEB / "run.mjs", folder, path, numbers, ",".join(map(str, x.shape))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    return {
        name: np.frombuffer(base64.b64decode(found["data"]), "<f4").reshape(found["dims"])
        for name, found in printed.items()
    }
