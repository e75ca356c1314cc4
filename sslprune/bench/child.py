"""One engine in a process of its own: told by a line of JSON what to open, then by one line a turn to run.

Threads are set once for a process, and what one engine leaves behind (thread pools, memory) is no other's trouble. This
file is also run by an interpreter that knows nothing of sslprune, DeepSparse's: beside the engine it needs numpy alone.

The job has the keys of `sslprune.bench.contest.Job`; a turn's line is the number of runs before the timed one. The
answers are lines of JSON, too: facts first, then the seconds of every turn. Images are a .npy file float32 [N,3,H,W],
run `batch` at a time; the outputs go to another.
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # nothing that Python 3.8 would not understand may be run
    from collections.abc import Callable

    Job = dict[str, Any]
    Call = Callable[[Any], Any]
    """From images [batch,3,H,W] to outputs [batch,...]."""

    Opened = tuple[Callable[[], Any], Callable[[Any], Call], Callable[[], Job]]
    """What reads the network, what compiles it to a call, and what else is known in the end."""


def sslprune(job: Job) -> Opened:
    """Ours."""
    torch = _torch(job)
    runtime = import_module("sslprune.runtime.engine")
    engines: list[Any] = []

    def compiled(model: Any) -> Call:
        engine: Call = runtime.compile(model, threads=job["threads"], batch=job["batch"])
        del model  # as in `engine = sslprune.compile(sslprune.load(NAME))`: nobody else holds it
        engines.append(engine)
        engines[0].compile(job["size"], job["size"])
        return engine

    def facts() -> Job:
        paths: dict[str, int] = {}
        for layer in engines[0].summary(job["size"], job["size"]):
            if layer.macs:
                paths[layer.path] = paths.get(layer.path, 0) + layer.macs
        isa = import_module("sslprune.runtime.kernels").chosen_isa()
        return {"paths": paths, "reason": engines[0].reason, "isa": isa or torch.backends.cpu.get_cpu_capability()}

    return _model(job), compiled, facts


def torch(job: Job) -> Opened:
    """torch eager, as a module runs by itself."""
    torch = _torch(job)

    def compiled(model: Any) -> Call:
        @torch.inference_mode()  # type: ignore[untyped-decorator]
        def call(images: Any) -> Any:
            return model(torch.from_numpy(images)).numpy()

        run: Call = call
        return run

    return _model(job), compiled, dict


def ort(job: Job) -> Opened:
    """ONNX Runtime: all its optimisations, the batch's length known, and no thread that spins into another's turn."""
    runtime = import_module("onnxruntime")
    parts = job["threads"] if job["variant"] == "a part a thread" else 1

    def compiled(path: str) -> Call:
        options = runtime.SessionOptions()
        options.intra_op_num_threads = job["threads"] // parts
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_free_dimension_override_by_name("batch", job["batch"] // parts)
        options.add_session_config_entry("session.force_spinning_stop", "1")
        session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        if parts == 1:
            return lambda images: session.run(None, {name: images})[0]
        pool = ThreadPoolExecutor(parts)

        def call(images: Any) -> Any:
            return np.concatenate(
                list(pool.map(lambda part: session.run(None, {name: part})[0], np.split(images, parts)))
            )

        return call

    return (lambda: job["onnx"]), compiled, dict


def openvino(job: Job) -> Opened:
    """OpenVINO in float32, for latency (a call a batch) or throughput (a stream a thread, each with its part)."""
    runtime = import_module("openvino")
    streams = job["threads"] if job["variant"] == "throughput" else 1
    core = runtime.Core()
    settings = {
        "PERFORMANCE_HINT": "THROUGHPUT" if job["variant"] == "throughput" else "LATENCY",
        "INFERENCE_NUM_THREADS": job["threads"],
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": streams,
    }

    def read() -> Any:
        model = core.read_model(job["onnx"])
        model.reshape([job["batch"] // streams, 3, job["size"], job["size"]])
        return model

    def compiled(model: Any) -> Call:
        network = core.compile_model(model, "CPU", settings)
        requests = [network.create_infer_request() for _ in range(streams)]

        def call(images: Any) -> Any:
            for number, part in enumerate(np.split(images, streams)):
                requests[number].start_async({0: part}, share_inputs=True)
            for request in requests:
                request.wait()
            return np.concatenate([request.get_output_tensor(0).data for request in requests])

        return call

    return read, compiled, dict


def int8(job: Job) -> Opened:
    """The quantised network, in whichever of the two the variant names."""
    return openvino(job) if job["variant"] == "openvino" else ort(job)


def deepsparse(job: Job) -> Opened:
    """DeepSparse, in its own environment."""
    runtime = import_module("deepsparse")

    def compiled(path: str) -> Call:
        engine = runtime.Engine(model=path, batch_size=job["batch"], num_cores=job["threads"])
        return lambda images: engine.run([images])[0]

    return (lambda: job["onnx"]), compiled, lambda: {"version": runtime.__version__}


ENGINES = {each.__name__: each for each in (sslprune, torch, ort, openvino, int8, deepsparse)}


def main() -> None:
    """Open the engine, say what that took, then run once a line until there are no more."""
    if not __package__:  # run as a file: its neighbours are no modules to import
        del sys.path[0]
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what an engine prints is no answer

    def answer(content: Job) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    job = json.loads(sys.stdin.readline())
    try:
        run, facts = opened(job)
    except Exception as error:
        answer({"failed": next(iter(str(error).splitlines()), "") or type(error).__name__})
        raise
    answer(facts)
    for line in sys.stdin:
        for _ in range(int(line)):
            run()
        start = time.perf_counter()
        run()
        answer({"seconds": time.perf_counter() - start})


def opened(job: Job) -> tuple[Callable[[], list[Any]], Job]:
    """An engine that is ready, its outputs written; and what it took to get there.

    Memory is that of the process beyond what it had when all was imported and the images read: at its highest until
    three calls were done ("peak_mb": network read, compiled, run), and in two further calls ("running_mb").
    """
    images = np.load(job["images"])
    batches = [images[first : first + job["batch"]] for first in range(0, len(images), job["batch"])]
    read, compiled, others = ENGINES[job["engine"]](job)
    before = memory("VmRSS")
    forget_peak()
    call, read_s, compile_s = _made(read, compiled)

    def run() -> list[Any]:
        return [call(batch) for batch in batches]

    outputs, first_s = _timed(run)
    np.save(job["outputs"], np.concatenate(outputs))
    del outputs
    for _ in range(2):
        call(batches[0])
    peak = memory("VmHWM")
    forget_peak()
    for _ in range(2):
        call(batches[0])
    running = memory("VmHWM")
    facts = {
        "read_s": read_s,
        "compile_s": compile_s,
        "first_call_s": first_s,
        "peak_mb": _megabytes(before, peak),
        "running_mb": _megabytes(before, running),
    }
    return run, {**facts, **others()}


def _made(read: Callable[[], Any], compiled: Callable[[Any], Call]) -> tuple[Call, float, float]:
    """The call alone; what was read of the network is in the engine's hands, which may let it go."""
    network, read_s = _timed(lambda: [read()])
    call, compile_s = _timed(lambda: compiled(network.pop()))
    return call, read_s, compile_s


def memory(field: str) -> int | None:
    """A field of this process's status, in bytes; None where the system has none (only Linux has)."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":")), None)


def forget_peak() -> None:
    """Let VmHWM start again from what is used now."""
    with suppress(OSError):  # then the peak is that of the whole life: too high, never too low
        Path("/proc/self/clear_refs").write_text("5")


def _megabytes(before: int | None, after: int | None) -> float | None:
    return None if before is None or after is None else (after - before) / 1e6


def _timed(what: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = what()
    return result, time.perf_counter() - start


def _torch(job: Job) -> Any:
    module = import_module("torch")
    module.set_num_threads(job["threads"])
    for name in ("sslprune.export.sparse_file", "sslprune.models.factory", "sslprune.zoo.load_torch"):
        import_module(name)
    return module


def _model(job: Job) -> Callable[[], Any]:
    """Reads a zoo's folder, or the weights of an architecture from a sparse file: what ours and torch start from."""

    def read() -> Any:
        if job["folder"]:
            return import_module("sslprune.zoo.load").load(job["folder"])
        model = import_module("sslprune.zoo.blank").blank(job["arch"], 0)
        targets = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        import_module("sslprune.export.sparse_file").read_into(job["weights"], targets)
        return model.eval()

    return read


if __name__ == "__main__":
    main()
