"""A bench's document without a bench: times that fall with the keep rate."""

from __future__ import annotations

from typing import Any

from sslprune.bench.rows import Result, Setting, rows_of


def document(*, keeps: tuple[float, ...] = (0.01, 0.1), against: tuple[str, ...] = ("ort", "openvino", "torch")) -> Any:
    """Two settings, an engine that is 1 / (2 keep) times as fast as ONNX Runtime; int8, where there is one, failed."""
    facts = {"compile_s": 1.0, "first_call_s": 0.5, "peak_mb": None, "running_mb": 12.0}
    own = {**facts, "paths": {"sparse": 30, "dense": 10}, "reason": None, "isa": "avx2", "macs": 1000, "macs_left": 55}
    rows = []
    for batch in (1, 16):
        for keep in keeps:
            found = [Result("sslprune", [0.02 * keep * batch], max_rel_err=1e-7, facts=own)]
            for number, engine in enumerate(against):
                seconds = 0.01 * batch * (1 + number)
                found.append(
                    Result("int8", failed="it died")
                    if engine == "int8"
                    else Result(engine, [seconds, 2 * seconds, seconds], max_rel_err=2e-7, facts=facts)
                )
            rows += rows_of(Setting("resnet20_cifar", "resnet20_cifar", "erk", keep, 32, batch, 2), found)
    return {
        "schema": 1,
        "command": "sslprune bench",
        "machine": {"cpu": "Abacus", "system": "Linux x86_64", "cores": 2, "load": 0.1, "isa": "avx2"},
        "versions": {"torch": "2.0"},
        "repeat": 3,
        "settle": 1,
        "rows": [row.to_json() for row in rows],
    }
