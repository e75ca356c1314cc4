"""Features of CIFAR-10's 10,000 test images: images a second by the sparse engine and by ONNX Runtime dense, in turns.

    python tools/bench/features.py [NAME] [--threads 2] [--repeat 5] [--json]

Either engine has a process of its own, and the batch size that suits it best, found on 400 of the images. A turn is
the whole test set once, already pre-processed: decoding and scaling are the same for both. SSLPRUNE_DATA says where
CIFAR-10 is.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from sslprune.bench.contest import Heat, open_all
from sslprune.bench.machine import machine, versions
from sslprune.bench.subjects import Subject, write_files, zoo_subject
from sslprune.bench.turns import in_turns
from sslprune.data import sources
from sslprune.errors import BenchError
from sslprune.export.parity import relative_error
from sslprune.zoo.info import info_of

BATCHES = (1, 16, 80, 400)
SAMPLE = 400
ENGINES = ("sslprune", "ort")


@dataclass(frozen=True)
class Speed:
    """An engine at its best batch size."""

    engine: str
    variant: str
    batch: int
    images_per_s: float
    images_per_s_best: float


def turns(
    subject: Subject,
    files: dict[str, Path],
    images: Path,
    batches: dict[str, list[tuple[int, str | None]]],
    threads: int,
    repeat: int,
) -> dict[tuple[str, int], tuple[str, list[float], np.ndarray]]:
    """By engine and batch size: the way it ran, the seconds of each turn over all images, and its features."""
    with ExitStack() as stack:
        opened = {}
        for engine, sizes in batches.items():
            for batch, way in sizes:
                # Each has a folder of its own for its outputs.
                own = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "images.npy"
                own.symlink_to(images)
                for _, found in open_all(Heat(subject, files, own, batch, threads, variant=way), [engine], stack):
                    if isinstance(found, BenchError):
                        raise found
                    opened[engine, batch] = found
        children = {f"{engine} {batch}": found.child for (engine, batch), found in opened.items()}
        seconds, failures = in_turns(children, repeat)
    for failure in failures.values():
        raise failure
    return {
        (engine, batch): (found.variant, seconds[f"{engine} {batch}"], found.outputs)
        for (engine, batch), found in opened.items()
    }


def measure(name: str, threads: int, repeat: int, sample: int) -> dict[str, Any]:
    """Find the batch sizes, then race over the whole test set."""
    subject = zoo_subject(name)
    pictures = sources.open("cifar10", size=subject.size).split("test").images
    images = info_of(subject.model).preprocessing(pictures).numpy()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = write_files(subject, folder, ENGINES)
        few, whole = folder / "few.npy", folder / "whole.npy"
        np.save(few, images[:sample])
        np.save(whole, images)
        best: dict[str, int] = {}
        ways: dict[str, str] = {}
        for engine in ENGINES:
            sizes = [batch for batch in BATCHES if sample % batch == 0]
            found = turns(subject, files, few, {engine: [(batch, None) for batch in sizes]}, threads, 3)
            best[engine] = min(sizes, key=lambda batch: median(found[engine, batch][1]))
            ways[engine] = found[engine, best[engine]][0]
            print(f"{engine}: batch {best[engine]} of {sizes}", file=sys.stderr)
        chosen: dict[str, list[tuple[int, str | None]]] = {engine: [(best[engine], ways[engine])] for engine in ENGINES}
        found = turns(subject, files, whole, chosen, threads, repeat)
    speeds = [
        Speed(engine, way, batch, len(images) / median(seconds), len(images) / min(seconds))
        for (engine, batch), (way, seconds, _) in found.items()
    ]
    ours, theirs = (found[engine, best[engine]][2] for engine in ENGINES)
    exact = subject.exact(images[:sample])
    return {
        "schema": 1,
        "command": f"python tools/bench/features.py {name} --threads {threads} --repeat {repeat}",
        "machine": machine(),
        "versions": versions(),
        "name": subject.name,
        "keep": subject.keep,
        "threads": threads,
        "images": len(images),
        "rows": [vars(speed) for speed in speeds],
        "ratio": speeds[0].images_per_s / speeds[1].images_per_s,
        "ratio_min": speeds[0].images_per_s_best / speeds[1].images_per_s_best,
        "max_rel_difference": relative_error(ours, theirs),
        "max_rel_err": {
            engine: relative_error(found[engine, best[engine]][2][:sample], exact) for engine in ENGINES
        },
    }  # fmt: skip


def markdown(found: dict[str, Any]) -> str:
    """The table and what holds of both."""
    lines = ["| engine | way | batch | images/s, median | images/s, best |", "| --- | ---: | ---: | ---: | ---: |"]
    for row in found["rows"]:
        way, speeds = row["variant"] or "-", f"{row['images_per_s']:.0f} | {row['images_per_s_best']:.0f}"
        lines.append(f"| {row['engine']} | {way} | {row['batch']} | {speeds} |")
    threads = "1 thread" if found["threads"] == 1 else f"{found['threads']} threads"
    errors, ratio, least = found["max_rel_err"], found["ratio"], found["ratio_min"]
    said = [
        f"{found['name']} on CIFAR-10's {found['images']:,} test images, {threads}: sslprune is",
        f"**{ratio:.1f} times** as fast as ONNX Runtime dense by medians, {least:.1f} times by the best",
        f"turns. Features differ by {found['max_rel_difference']:.1e} of the largest; from torch in float64, on",
        f"{SAMPLE:,} of the images, by {errors['sslprune']:.1e} (sslprune) and {errors['ort']:.1e} (ONNX Runtime).",
    ]
    return "\n".join([*lines, "", *said]) + "\n"


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="rotnet-resnet20-cifar10-keep5%")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = measure(args.name, args.threads, args.repeat, SAMPLE)
    print(json.dumps(found, indent=1) if args.json else f"`{found['command']}`\n\n{markdown(found)}")


if __name__ == "__main__":
    main()
