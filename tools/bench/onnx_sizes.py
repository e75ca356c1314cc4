"""ONNX files of four pruned networks: bytes, parity in every runtime at hand, and how long ONNX Runtime takes to open.

    python tools/bench/onnx_sizes.py [--arch resnet18 resnet50 alexnet vgg19_bn] [--keep 0.1 0.01] [--repeat 5] [--json]

"gap8" are the bytes of a sparse file with gap8 masks at the same precision, "limit" 1.05 x these + 0.4 MB. The relative
error is the largest absolute difference to torch in float64 over the largest absolute output, on random images. Opening
is the creation of a session (page cache warm), the packed and the dense fp32 file taking turns. The networks are random
(`onnx_networks`): bytes depend on that only in how unevenly the kept weights lie. VGG-19 takes several GB of memory.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from networks import machine
from onnx_networks import SIZES, calm, gap8_bytes
from torch import nn

from sslprune.export import parity
from sslprune.export.onnx_file import FEATURES, export
from sslprune.export.onnx_pack import pack

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "support"))
import web_runtime

MB = 1e6
RESIDUAL_ONLY = ("reference", "web")


def measure(arch: str, keep: float, folder: Path, repeat: int) -> list[dict[str, Any]]:
    """One network at one keep rate: a row for each precision."""
    model = calm(arch, keep)
    dense = export(model, size=SIZES[arch], metadata={}, outputs=FEATURES)
    (folder / "dense.onnx").write_bytes(dense.SerializeToString(deterministic=True))
    rows = []
    for values in ("fp32", "fp16"):
        packed = pack(dense, values=values)
        path = folder / f"{values}.onnx"
        path.write_bytes(packed.SerializeToString(deterministic=True))
        onnx.checker.check_model(packed, full_check=True)
        gap8 = gap8_bytes(model, values)
        rows.append(
            {
                "arch": arch,
                "keep": keep,
                "values": values,
                "onnx_bytes": path.stat().st_size,
                "dense_onnx_bytes": dense.ByteSize(),
                "gap8_bytes": gap8,
                "limit": round(1.05 * gap8 + 0.4 * MB),
            }
        )
    del dense, packed
    for row in rows:
        path = folder / f"{row['values']}.onnx"
        row["seconds"], row["dense_seconds"] = opening(path, folder / "dense.onnx", repeat)
        row["parity"] = errors(model, path, arch, row["values"])
    return rows


def errors(model: nn.Module, path: Path, arch: str, values: str) -> dict[str, float | None]:
    """The relative error in each runtime; None where the runtime is missing. fp16 files: in ONNX Runtime alone."""
    x = parity.images(SIZES[arch], batch=1, seed=0)
    expected = parity.exact(model, x, FEATURES)["features"]
    found: dict[str, float | None] = {}
    for runtime, run in {**parity.RUNTIMES, "web": web_runtime.run}.items():
        if values == "fp16" and runtime != "onnxruntime":
            continue
        if runtime in RESIDUAL_ONLY and not arch.startswith("resnet"):
            continue
        try:
            found[runtime] = parity.relative_error(run(path, x)["features"], expected)
        except (ImportError, web_runtime.WebRuntimeMissing):
            found[runtime] = None
    return found


def opening(packed: Path, dense: Path, repeat: int) -> tuple[float, float]:
    """Median seconds until a session stands, for both files in turn, after one round that is not counted."""
    times: dict[Path, list[float]] = {packed: [], dense: []}
    for _ in range(repeat + 1):
        for path, each in times.items():
            begin = time.perf_counter()
            session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            each.append(time.perf_counter() - begin)
            del session
    return statistics.median(times[packed][1:]), statistics.median(times[dense][1:])


def line(row: dict[str, Any]) -> str:
    """A row of the Markdown table."""
    size = [f"{row[key] / MB:.2f}" for key in ("onnx_bytes", "dense_onnx_bytes", "gap8_bytes", "limit")]
    exact = ", ".join(
        f"{name} {'missing' if error is None else f'{error:.0e}'}" for name, error in row["parity"].items()
    )
    ratio = f"{row['seconds'] / row['dense_seconds']:.2f}"
    opened = [f"{row['seconds']:.3f}", f"{row['dense_seconds']:.3f}", ratio]
    keep = f"{row['keep']:.0%}"
    return f"| {' | '.join([row['arch'], keep, row['values'], *size, *opened, exact])} |"


def main() -> None:
    """Print the machine, then a row for each file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--keep", type=float, nargs="+", default=[0.1, 0.01])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    args = parser.parse_args()
    packages = ["torch", "onnx", "onnxscript", "onnxruntime", "openvino"]
    about = machine(*(name for name in packages if importlib.util.find_spec(name)))
    pinned = json.loads((web_runtime.WEB / "package.json").read_text())["dependencies"]["onnxruntime-web"]
    about += f", onnxruntime-web {pinned}"
    if not args.json:
        print(about, end="\n\n")
        print(
            "| network | keep | values | onnx MB | dense | gap8 | limit | open s | dense s | ratio | relative error |"
        )
        print("| --- " * 11 + "|", flush=True)
    rows = []
    for arch in args.arch:
        for keep in args.keep:
            with tempfile.TemporaryDirectory() as folder:
                found = measure(arch, keep, Path(folder), args.repeat)
            rows += found
            if not args.json:
                print("\n".join(map(line, found)), flush=True)
    if args.json:
        print(json.dumps({"schema": 1, "machine": about, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
