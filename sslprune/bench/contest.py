"""Which engines there are, what each needs, and opening them so that each is at its best."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from sslprune.bench.subjects import Subject
from sslprune.bench.turns import Child, in_turns
from sslprune.errors import BenchError, nearest
from sslprune.extras import require

OURS = "sslprune"
DENSE = ("ort", "openvino")
"""The dense runtimes: the faster of them is what a speed-up is measured against."""

PEERS = (*DENSE, "torch", "deepsparse", "int8")
OTHER_CLASS = frozenset({"int8"})
"""Of another accuracy class: rounded on purpose."""

_WRITING = ("onnx", "onnxscript")
_NEEDS: Mapping[str, Sequence[str]] = {
    "ort": ("onnxruntime", *_WRITING),
    "openvino": ("openvino", *_WRITING),
    "deepsparse": _WRITING,
    "int8": ("onnxruntime", *_WRITING),
}
_TRIALS = 5
"""Runs of each way of an engine, to find its best."""


class Job(TypedDict):
    """What a child opens; paths as text, "" where there is none."""

    engine: str
    variant: str
    arch: str
    folder: str
    weights: str
    onnx: str
    images: str
    outputs: str
    size: int
    batch: int
    threads: int


@dataclass(frozen=True)
class Heat:
    """What engines are opened on.

    Attributes:
        subject: The network.
        files: See `subjects.write_files`.
        images: A .npy file; outputs and logs go beside it.
        batch: Images a call.
        threads: That an engine may use.
        deepsparse_python: The interpreter of DeepSparse's environment.
        variant: The way to run an engine; None tries all that it has.
    """

    subject: Subject
    files: Mapping[str, Path]
    images: Path
    batch: int
    threads: int
    deepsparse_python: Path | None = None
    variant: str | None = None


@dataclass(frozen=True)
class Opened:
    """An engine in the contest.

    Attributes:
        child: Its process.
        variant: The way that was fastest, where there are several.
        outputs: Of its first run, [N,...].
    """

    child: Child
    variant: str
    outputs: NDArray[np.float32]


def check_engines(names: Sequence[str], deepsparse_python: Path | None) -> None:
    """Find out before anything is built whether all engines can be had.

    Raises:
        BenchError: There is no such engine, one is named twice, or DeepSparse has no interpreter.
        MissingExtraError: A package is not installed.
    """
    for name in names:
        if name not in PEERS:
            raise BenchError(f"there is no engine {name!r} to compare with.", f"Nearest: {nearest(name, PEERS)}.")
        for module in _NEEDS.get(name, ()):
            require(module, extra="bench", purpose=f"the engine {name!r}")
    if len(set(names)) < len(names):
        raise BenchError(f"an engine is named twice: {', '.join(names)}.", "Name each once.")
    if "deepsparse" in names and deepsparse_python is None:
        raise BenchError(
            "deepsparse lives in another environment, and none is given.",
            "Give its interpreter: --deepsparse-python PATH.",
        )


def variants(engine: str, batch: int, threads: int) -> tuple[str, ...]:
    """The ways to run an engine that may be its best: which of them is, is measured.

    >>> variants("ort", 16, 2)
    ('whole batch', 'a part a thread')
    """
    can_split = batch > 1 and threads > 1 and batch % threads == 0
    if engine == "ort":
        return ("whole batch", "a part a thread") if can_split else ("whole batch",)
    if engine == "openvino":
        return ("latency", "throughput") if batch > 1 and (threads == 1 or can_split) else ("latency",)
    if engine == "int8":
        try:
            require("openvino", extra="bench", purpose="int8")
        except ImportError:
            return ("onnxruntime",)
        return ("onnxruntime", "openvino")
    return ("",)


def open_all(heat: Heat, engines: Sequence[str], stack: ExitStack) -> Iterator[tuple[str, Opened | BenchError]]:
    """Open the engines one after the other, each at its best; the stack closes them.

    Yields:
        An engine's name and how it was opened, or why it could not be.
    """
    for engine in engines:
        try:
            yield engine, _open(heat, engine, stack)
        except BenchError as error:
            yield engine, error


def _open(heat: Heat, engine: str, stack: ExitStack) -> Opened:
    tried: dict[str, Child] = {}
    ways = variants(engine, heat.batch, heat.threads) if heat.variant is None else (heat.variant,)
    outputs = {way: heat.images.with_name(f"{engine}-{number}.npy") for number, way in enumerate(ways)}
    failure = None
    for way, path in outputs.items():
        job = Job(
            engine=engine,
            variant=way,
            arch=heat.subject.arch,
            folder=str(heat.subject.folder or ""),
            weights=str(heat.files["weights"]),
            onnx=str(heat.files.get(engine, heat.files.get("onnx", ""))),
            images=str(heat.images),
            outputs=str(path),
            size=heat.subject.size,
            batch=heat.batch,
            threads=heat.threads,
        )
        python = heat.deepsparse_python if engine == "deepsparse" else None
        try:
            tried[way] = stack.enter_context(Child(job, engine, path.with_suffix(".log"), python))
        except BenchError as error:  # another way may still work
            failure = error
    if failure and not tried:
        raise failure
    best = next(iter(tried))
    if len(tried) > 1:
        in_turns(tried, 1)
        seconds, _ = in_turns(tried, _TRIALS)
        best = min(seconds, key=lambda way: median(seconds[way]))
    for way, child in tried.items():
        if way != best:
            child.close()
    return Opened(tried[best], best, np.load(outputs[best]))
