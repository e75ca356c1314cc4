"""Sizes and decoding speed of sparse files shaped like ResNet-50, beside a plain copy, safetensors and gzip of dense.

    python tools/bench/codec.py [--keep 0.05 0.01] [--repeat 7]

Weights are normal, masks uniform over all convolutions with exact counts, so sizes do not depend on training. Speeds
are bytes of dense output a second, page cache warm, one thread; every engine of a row takes its turn in each round.
"""

from __future__ import annotations

import argparse
import gzip
import math
import platform
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from sslprune.export import sparse_file

Arrays = dict[str, NDArray[Any]]
MB = 1e6


def resnet50_convs() -> Iterator[tuple[str, str, tuple[int, int, int, int]]]:
    """Name of the convolution, name of its batch norm, and shape, for the 53 convolutions (He et al. 2016, table 1)."""
    yield "conv1", "bn1", (64, 3, 7, 7)
    inputs = 64
    for stage, (width, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)], start=1):
        for block in range(blocks):
            at = f"layer{stage}.{block}"
            yield f"{at}.conv1", f"{at}.bn1", (width, inputs, 1, 1)
            yield f"{at}.conv2", f"{at}.bn2", (width, width, 3, 3)
            yield f"{at}.conv3", f"{at}.bn3", (4 * width, width, 1, 1)
            if block == 0:
                yield f"{at}.downsample.0", f"{at}.downsample.1", (4 * width, inputs, 1, 1)
            inputs = 4 * width


def resnet50(keep: float, seed: int = 0) -> tuple[Arrays, Arrays]:
    """Tensors of a ResNet-50 without classifier, and masks that keep exactly round(keep x 23,454,912) weights."""
    generator = np.random.default_rng(seed)
    shapes = {f"{conv}.weight": shape for conv, _, shape in resnet50_convs()}
    prunable = sum(math.prod(shape) for shape in shapes.values())
    kept = np.zeros(prunable, np.bool_)
    kept[generator.choice(prunable, round(keep * prunable), replace=False, shuffle=False)] = True

    tensors: Arrays = {}
    masks: Arrays = {}
    for name, shape in shapes.items():
        flat, kept = kept[: math.prod(shape)], kept[math.prod(shape) :]
        masks[name] = flat.reshape(shape)
        tensors[name] = np.zeros(shape, np.float32)
        tensors[name][masks[name]] = generator.standard_normal(np.count_nonzero(flat), np.float32) / 50
    for _, norm, shape in resnet50_convs():
        for vector in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{norm}.{vector}"] = generator.random(shape[0], np.float32)
        tensors[f"{norm}.num_batches_tracked"] = np.array(1000, np.int64)
    return tensors, masks


def entropy_bytes(prunable: int, kept: int, value_bytes: int) -> float:
    """The information bound: which `kept` of `prunable` (entropy of a uniform mask), and the values as they are."""
    share = kept / prunable
    bits = -prunable * (share * math.log2(share) + (1 - share) * math.log2(1 - share)) if 0 < share < 1 else 0.0
    return bits / 8 + kept * value_bytes


def milliseconds(engines: dict[str, Callable[[], object]], repeat: int) -> dict[str, tuple[float, float]]:
    """Median and minimum for each engine, taking turns."""
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(repeat):
        for name, run in engines.items():
            begin = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - begin))
    return {name: (statistics.median(each), min(each)) for name, each in times.items()}


def cpu() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def row(keep: float, folder: Path, repeat: int) -> None:
    """Print one keep rate: sizes, then speeds."""
    tensors, masks = resnet50(keep)
    prunable, kept = sum(mask.size for mask in masks.values()), sum(int(mask.sum()) for mask in masks.values())
    rest = sum(tensor.nbytes for name, tensor in tensors.items() if name not in masks)
    dense_bytes = sum(tensor.nbytes for tensor in tensors.values())
    fp32, fp16, dense = (folder / f"{name}.safetensors" for name in ("fp32", "fp16", "dense"))
    sparse_file.write(fp32, tensors, masks, metadata={}, values="fp32")
    sparse_file.write(fp16, tensors, masks, metadata={}, values="fp16")
    safetensors.numpy.save_file(tensors, dense)
    packed = gzip.compress(dense.read_bytes(), 6, mtime=0)

    tensors_of = sparse_file.read_layout(fp32).pruned.values()
    codings = Counter(coding for tensor in tensors_of for coding in (tensor.coding, tensor.values))
    print(f"\nkeep {keep:g}: {kept:,} of {prunable:,} weights; {len(tensors_of)} tensors: "
          + ", ".join(f"{count} {coding}" for coding, count in sorted(codings.items(), key=str)))  # fmt: skip
    for path, value_bytes in ((fp32, 4), (fp16, 2)):
        bound = entropy_bytes(prunable, kept, value_bytes) + rest
        size = path.stat().st_size
        print(f"  {path.stem}: {size / MB:7.3f} MB, {size / bound:.3f} x the information bound ({bound / MB:.3f} MB)")
    print(f"  gzip -6 of the dense fp32 file: {len(packed) / MB:.3f} MB; dense: {dense.stat().st_size / MB:.3f} MB")

    engines: dict[str, Callable[[], object]] = {
        "sslprune fp32": lambda: sparse_file.read(fp32),
        "sslprune fp16": lambda: sparse_file.read(fp16),
        "numpy copy of the dense arrays": lambda: [tensor.copy() for tensor in tensors.values()],
        "safetensors.numpy of the dense file": lambda: safetensors.numpy.load_file(dense),
        "gzip of the dense file": lambda: gzip.decompress(packed),
    }
    timed = milliseconds(engines, repeat)
    copy = timed["numpy copy of the dense arrays"][0]
    for name, (median, least) in timed.items():
        speed = dense_bytes / MB / (median / 1e3)
        print(f"  {name:36} {median:8.1f} ms (min {least:6.1f}) {speed:7.0f} MB/s  {copy / median:5.2f} x numpy copy")


def main() -> None:
    """Print the machine and a block for each keep rate."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--keep", type=float, nargs="+", default=[0.2, 0.1, 0.05, 0.01, 0.001])
    parser.add_argument("--repeat", type=int, default=7)
    arguments = parser.parse_args()
    print(f"{cpu()}, {platform.system()} {platform.release()}; Python {sys.version.split()[0]}, "
          f"numpy {np.__version__}, safetensors {safetensors.__version__}")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for keep in arguments.keep:
            row(keep, Path(folder), arguments.repeat)


if __name__ == "__main__":
    main()
