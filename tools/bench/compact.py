"""Exact compaction: what is left of a pruned network, and how much faster dense runtimes run the smaller one.

    python tools/bench/compact.py [--arch resnet50 ...] [--keep 0.05 0.01 0.001] [--mask normalised] [--repeat 15]
        [--json]

Networks are synthetic (`sslprune.bench.synthetic`), images of the size they were made for. Times are ONNX Runtime's and
torch's, one image, one thread; the networks of a row take turns, and the median is given. No engine here profits from
zeros.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from codec import cpu
from torch import nn

from sslprune.bench.synthetic import pruned
from sslprune.export.onnx_file import write_onnx
from sslprune.prune.compact import compact_exactly

SIZES = {
    "alexnet": 224,
    "resnet18": 224,
    "resnet50": 224,
    "resnet18_cifar": 32,
    "resnet20_cifar": 32,
    "vgg19_onefc": 32,
}


@dataclass(frozen=True)
class Row:
    """One network, before and after; times in milliseconds."""

    arch: str
    mask: str
    keep: float
    parameters: tuple[int, int]
    macs: tuple[int, int]
    channels: tuple[int, int]
    max_rel_err: float
    seconds_to_compact: float
    ort_ms: tuple[float, float]
    torch_ms: tuple[float, float]


def measure(arch: str, mask: str, keep: float, repeat: int) -> Row:
    """Compact one network and time both."""
    size = SIZES[arch]
    model = pruned(arch, keep, size=size, mask=mask)
    start = time.perf_counter()
    smaller, done = compact_exactly(model, size)
    seconds = time.perf_counter() - start
    image = np.random.default_rng(0).standard_normal((1, 3, size, size), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        engines = [session(net, size, image, Path(folder) / f"{n}.onnx") for n, net in enumerate((model, smaller))]
    engines += [eager(net, image) for net in (model, smaller)]
    before, after, torch_before, torch_after = medians(engines, repeat)
    return Row(
        arch,
        mask,
        keep,
        (done.before.parameters, done.after.parameters),
        (done.before.macs, done.after.macs),
        (done.before.channels, done.after.channels),
        done.difference,
        seconds,
        (before, after),
        (torch_before, torch_after),
    )


def session(net: nn.Module, size: int, image: np.ndarray, path: Path) -> Callable[[], object]:
    """A run of the network in ONNX Runtime."""
    write_onnx(net, path, size=size, metadata={})
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    opened = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    return lambda: opened.run(None, {"input": image})


def eager(net: nn.Module, image: np.ndarray) -> Callable[[], object]:
    """A run of the network in torch."""
    x = torch.from_numpy(image)

    @torch.inference_mode()
    def run() -> object:
        return net(x)

    return run


def medians(engines: list[Callable[[], object]], repeat: int) -> list[float]:
    """Milliseconds of each, taking turns."""
    for engine in engines:
        engine()
    taken: list[list[float]] = [[] for _ in engines]
    for _ in range(repeat):
        for engine, found in zip(engines, taken, strict=True):
            start = time.perf_counter()
            engine()
            found.append((time.perf_counter() - start) * 1e3)
    return [statistics.median(found) for found in taken]


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    head = [
        "network",
        "mask",
        "keep",
        "parameters, M",
        "MACs, M",
        "MACs left",
        "error",
        "ORT, ms",
        "faster",
        "torch, ms",
        "faster",
    ]
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    for row in rows:
        cells = [
            row.arch,
            row.mask,
            f"{row.keep:.3g}",
            " -> ".join(f"{count / 1e6:.2f}" for count in row.parameters),
            " -> ".join(f"{count / 1e6:.1f}" for count in row.macs),
            f"{row.macs[1] / row.macs[0]:.1%}",
            f"{row.max_rel_err:.1g}",
            " -> ".join(f"{ms:.2f}" for ms in row.ort_ms),
            f"{row.ort_ms[0] / row.ort_ms[1]:.1f}x",
            " -> ".join(f"{ms:.2f}" for ms in row.torch_ms),
            f"{row.torch_ms[0] / row.torch_ms[1]:.1f}x",
        ]
        lines.append(" | ".join(cells))
    return "\n".join(f"| {line} |" for line in lines)


def main() -> None:
    """Print the machine and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", nargs="+", choices=tuple(SIZES), default=["resnet50", "resnet18", "resnet18_cifar"])
    parser.add_argument("--keep", type=float, nargs="+", default=[0.05, 0.01, 0.001])
    parser.add_argument("--mask", nargs="+", choices=("normalised", "global", "uniform"), default=["normalised"])
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for arch in args.arch:
        for mask in args.mask:
            for keep in args.keep:
                rows.append(measure(arch, mask, keep, args.repeat))
                print(f"{arch} {mask} {keep}", file=sys.stderr)
    machine = f"{cpu()}, {platform.system()} {platform.machine()}"
    versions = {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__, "numpy": np.__version__}
    if args.json:
        print(json.dumps({"schema": 1, "machine": machine, "versions": versions, "rows": [asdict(r) for r in rows]}))
        return
    print(f"{machine}; {', '.join(f'{name} {version}' for name, version in versions.items())}; 1 thread, 1 image\n")
    print(table(rows))


if __name__ == "__main__":
    main()
