"""Coverage-guided fuzzing of what else is read from a model's folder: manifest, config, probe.

    python tools/fuzz/fuzz_model_folder.py [-max_total_time=60] [any option of libFuzzer]

Any bytes must be read or raise one of our errors. The first byte of an input says which reader gets the rest.
"""

from __future__ import annotations

import json
import os
import random
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(
    include=["sslprune.zoo.manifest", "sslprune.zoo.model_config", "sslprune.models.head_file"]
):
    from sslprune.models.head_file import read_head_file
    from sslprune.zoo.manifest import Manifest
    from sslprune.zoo.model_config import read_config

import sslprune
from sslprune.errors import SslpruneError

FOLDER = Path(tempfile.mkdtemp(prefix="sslprune-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
READERS = {
    "manifest.json": lambda path: Manifest.load(path.parent),
    "config.json": read_config,
    "head-cifar10.safetensors": read_head_file,
}

VALUES: list[Any] = [
    None,
    True,
    "",
    "x\n",
    "\ud800",
    "\u202e",
    [],
    {},
    [[]],
    {"a": 1},
    0,
    -1,
    0.5,
    1e308,
    10**400,
    2**53,
]
VALUES += [float("nan"), float("inf"), "resnet18", "../x", "0" * 64, [0.5] * 3, [0.0] * 3, [1e-320] * 3, [0, 8]]


def check(content: bytes) -> None:
    """Raise where a reader misbehaves."""
    if not content:
        return
    name = list(READERS)[content[0] % len(READERS)]
    (FOLDER / name).write_bytes(content[1:])
    try:
        READERS[name](FOLDER / name)
    except SslpruneError as error:
        lines = str(error).splitlines()
    else:
        return
    assert len(lines) == 2, "an error is two lines"


def mutate(content: bytes, max_size: int, seed: int) -> bytes:
    """Another value at any place of the JSON, half of the time."""
    chance = random.Random(seed)
    head = struct.calcsize("<BQ")
    probe = len(content) > head and list(READERS)[content[0] % len(READERS)].startswith("head")
    try:
        if chance.random() < 0.5:
            raise ValueError("bytes, this time")
        begin, end = (head, head + int.from_bytes(content[1:head], "little")) if probe else (1, len(content))
        table = json.loads(content[begin:end])
        holder, key = chance.choice(spots(table))
        holder[key] = chance.choice(VALUES)
        text = json.dumps(table).encode()
    except (ValueError, LookupError, RecursionError):
        return bytes(atheris.Mutate(content, max_size))
    length = struct.pack("<Q", len(text)) if probe else b""
    return (content[:1] + length + text + content[end:])[:max_size]


def spots(table: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON document, as (object or list, key)."""
    keys = list(table) if isinstance(table, dict) else list(range(len(table))) if isinstance(table, list) else []
    return [(table, key) for key in keys] + [spot for key in keys for spot in spots(table[key])]


def main() -> None:
    """Run libFuzzer, with the bundled models' files for seeds."""
    seeds = Path(tempfile.mkdtemp(prefix="sslprune-seeds-"))
    for folder in sorted((Path(sslprune.__file__).parent / "zoo" / "bundled").iterdir()):
        for number, name in enumerate(READERS):
            (seeds / f"{folder.name}-{name}").write_bytes(bytes([number]) + (folder / name).read_bytes()[:30_000])
    defaults = ["-timeout=5", "-max_len=30000", "-rss_limit_mb=2048", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], str(seeds), *defaults, *sys.argv[1:]], check, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
