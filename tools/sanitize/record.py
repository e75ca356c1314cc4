"""Write small plans, images and what torch computes of them to a file, for `replay.cpp`: kernels tested without Python.

python tools/sanitize/record.py plans.txt
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/support")]

from random_nets import random_net  # noqa: E402

from sslprune.bench.synthetic import pruned  # noqa: E402
from sslprune.errors import ArchitectureError  # noqa: E402
from sslprune.runtime import kernels  # noqa: E402
from sslprune.runtime.plan import place  # noqa: E402
from sslprune.runtime.prepare import lowered  # noqa: E402


class Recorder:
    """Takes the calls that a compiled program takes, and keeps them as words."""

    calls: list[str]

    def __init__(self, *how: Any) -> None:
        self.calls = [_words("program", *how[:4])]

    def __getattr__(self, name: str) -> Any:
        return lambda *how: self.calls.append(_words(name, *how))


def nets(count: int) -> Iterator[tuple[nn.Module, tuple[int, int]]]:
    """A real network, and so many random ones."""
    yield pruned("resnet20_cifar", 0.05, size=16), (16, 16)
    for seed in range(count):
        net = random_net(seed)
        yield net, net.image


def record(net: nn.Module, size: tuple[int, int], lanes: int, seed: int) -> str:
    """One plan, two times as many images as it runs at once, and the results in float64 rounded to float32."""
    images = torch.randn(2 * lanes, 3, *size, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        exact = deepcopy(net).double()(images.double())
        own = float((net(images).double() - exact).abs().max())
    tolerance = max(1e-5 * float(exact.abs().max()), 2 * own)
    plan = place(lowered(net, size), lanes)
    known, kernels._module = kernels._module, lambda: SimpleNamespace(Program=Recorder)
    try:
        recorder = kernels.program(plan, isa="any")
    finally:
        kernels._module = known
    numbers = images.numpy().ravel(), exact.float().numpy().ravel(), np.float32([tolerance])
    return "\n".join([*recorder.calls, _words("run", *numbers), ""])


def _words(*parts: Any) -> str:
    """Names as they are, "" and None as "-", numbers in decimal, float32 by their bits; a list after its length."""
    return " ".join(word for part in parts for word in _flat(part))


def _flat(part: Any) -> Iterator[str]:
    if isinstance(part, np.ndarray):
        yield str(part.size)
        yield from map(str, (part.view(np.uint32) if part.dtype == np.float32 else part).tolist())
    elif isinstance(part, list | tuple):
        yield str(len(part))
        for each in part:
            yield from _flat(each)
    else:
        yield str(part) if part not in ("", None) else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--nets", type=int, default=24)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with args.file.open("w") as file:
        for seed, (net, size) in enumerate(nets(args.nets)):
            for lanes in (1, 16):
                try:
                    file.write(record(net, size, lanes, seed))
                except ArchitectureError as error:
                    sys.exit(f"net {seed} has no plan: {error}")


if __name__ == "__main__":
    main()
