"""Run all benches and write docs/benchmarks.md, with the command that made each table.

    python tools/bench/benchmarks.py [--only PATTERN] [--deepsparse-python PATH] [--again] [--short] [--render]

What a bench found is kept as docs/benchmarks/NAME.json, its picture as docs/figures/bench-NAME.png; a bench whose file
is there is not run again unless told. On a quiet machine all of them take about an hour. SSLPRUNE_DATA says where
CIFAR-10 is. `--short` shows in some minutes that all works: two rounds of small networks, nothing kept in docs.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import features

from sslprune.bench.page import LEGEND, markdown
from sslprune.bench.plot import draw

ROOT = Path(__file__).parents[2]
ALL = "ort,openvino,torch"
KEEPS = "0.2,0.1,0.05,0.01,0.001"
LATENCY, FEATURES = "--batch 1 --threads 1", "--batch 16 --threads 2"


@dataclass(frozen=True)
class Bench:
    """A part of the page.

    Attributes:
        name: Of its file and picture.
        title: Above its tables.
        arguments: Of `sslprune bench`; "" for features.py.
        text: Below the title.
        deepsparse: Whether DeepSparse takes part where it is there.
    """

    name: str
    title: str
    arguments: str
    text: str = ""
    deepsparse: bool = False


BENCHES = (
    Bench("resnet50", "ResNet-50", f"--arch resnet50 --keep {KEEPS} --against {ALL}", deepsparse=True),
    Bench(
        "resnet50-latency-2",
        "ResNet-50, one image on two threads",
        f"--arch resnet50 --keep {KEEPS} --mask uniform --batch 1 --threads 2 --against {ALL}",
        deepsparse=True,
    ),
    Bench(
        "resnet50-erk",
        "ResNet-50, Erdos-Renyi-kernel masks",
        f"--arch resnet50 --keep {KEEPS} --mask erk {LATENCY} --against ort,openvino",
        "ERK leaves more than twice the multiplications that uniform masks leave.",
    ),
    Bench(
        "resnet50-int8",
        "Dense int8: another accuracy class",
        f"--arch resnet50 --keep 0.1,0.05 --mask uniform --against {ALL},int8",
        "Quantising a dense network is the other way to speed, and pays with accuracy instead of weights: see its "
        "error. Measured once; the faster of ONNX Runtime and OpenVINO on the same quantised file.",
    ),
    Bench(
        "resnet18-cifar",
        "ResNet-18 with CIFAR's stem",
        f"--arch resnet18_cifar --keep 0.1,0.05,0.01,0.001 --mask uniform --against {ALL}",
        deepsparse=True,
    ),
    Bench(
        "vgg19",
        "VGG-19 with one linear layer",
        f"--arch vgg19_onefc --keep 0.1,0.05,0.01 --mask uniform,global --against {ALL}",
    ),
    Bench("alexnet", "AlexNet", f"--arch alexnet --keep 0.1,0.05,0.01 --mask uniform --against {ALL}"),
    Bench(
        "mobilenetv2", "MobileNetV2", f"--arch mobilenetv2_100 --keep 0.5,0.2,0.1,0.05 --mask uniform --against {ALL}"
    ),
    Bench(
        "zoo-resnet20",
        "Trained networks of the zoo",
        f"rotnet-resnet20 --keep 0.5,0.2,0.1,0.05,0.02,0.01,0.005,0.001 --against {ALL}",
        "The bundled family, at its own size.",
    ),
    Bench("features", "Features of a whole data set", ""),
)


def short(bench: Bench) -> str:
    """The same engines on a network that takes no time."""
    if not bench.arguments or "--arch" not in bench.arguments:
        return bench.arguments
    words = bench.arguments.split()
    words[words.index("--arch") + 1] = "resnet18_cifar"
    words[words.index("--keep") + 1] = "0.1,0.05"
    return " ".join(words)


def run(bench: Bench, args: argparse.Namespace, results: Path) -> None:
    """Run one bench and keep what it found; a bench that cannot run here is left out and said so."""
    path = results / f"{bench.name}.json"
    if args.render or (path.exists() and not args.again):
        return
    if bench.arguments:
        words = (short(bench) if args.short else bench.arguments).split()
        if bench.deepsparse and args.deepsparse_python:
            words[words.index("--against") + 1] += ",deepsparse"
            words += ["--deepsparse-python", str(args.deepsparse_python)]
        program = ["-m", "sslprune", "bench", *words, "--settle", str(args.settle)]
        program += ["--repeat", "2" if args.short else str(args.repeat)]
    else:
        program = [features.__file__, *(["--repeat", "2"] if args.short else [])]
    done = subprocess.run([sys.executable, *program, "--json"], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        print(f"{bench.name} failed and is left out", file=sys.stderr)
        return
    found = {**json.loads(done.stdout), "date": datetime.now(UTC).strftime("%Y-%m-%d")}
    results.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def section(bench: Bench, found: dict[str, Any], figures: Path) -> str:
    """A bench's part of the page; draws its picture where there are keep rates to draw."""
    parts = [f"## {bench.title}", f"Measured on {found['date']}.", *([bench.text] if bench.text else [])]
    if not bench.arguments:
        return "\n\n".join([*parts, f"`{found['command']}`", features.markdown(found)])
    if len({row["keep"] for row in found["rows"]}) > 2:
        figures.mkdir(parents=True, exist_ok=True)
        picture = figures / f"bench-{bench.name}.png"
        draw(picture, found)
        parts.append(f"![{bench.title}: speed-up against keep](figures/{picture.name})")
    return "\n\n".join([*parts, markdown(found)])


def page(results: Path, docs: Path) -> str:
    """docs/benchmarks.md, of the results that are there."""
    parts = [
        "# Benchmarks",
        "Generated by `python tools/bench/benchmarks.py`; do not edit by hand. Each table has its command above it. "
        "Random networks are pruned by magnitude (`sslprune/bench/synthetic.py`): heavy-tailed weights, batch norm "
        "calibrated on noise. Trained ones leave other shares of their multiplications: compare by *MACs left*, too.",
        LEGEND.strip(),
    ]
    for bench in BENCHES:
        path = results / f"{bench.name}.json"
        if path.exists():
            parts.append(section(bench, json.loads(path.read_text(encoding="utf-8")), docs / "figures").strip())
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Run what is not there yet, then write the page of all that is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", metavar="PATTERN", help="names of benches, such as 'resnet50*'")
    parser.add_argument("--deepsparse-python", type=Path, metavar="PATH")
    parser.add_argument("--repeat", type=int, default=20, metavar="N", help="of `sslprune bench`")
    parser.add_argument("--settle", type=int, default=0, metavar="N", help="of `sslprune bench`")
    parser.add_argument("--again", action="store_true", help="run benches again whose results are there")
    parser.add_argument("--short", action="store_true", help="only show that all works")
    parser.add_argument("--render", action="store_true", help="run nothing, write the page anew")
    args = parser.parse_args()
    docs = Path(tempfile.mkdtemp(prefix="benchmarks-")) if args.short else ROOT / "docs"
    for bench in BENCHES:
        if fnmatch.fnmatch(bench.name, args.only):
            print(f"== {bench.name}", file=sys.stderr)
            run(bench, args, docs / "benchmarks")
    written = docs / "benchmarks.md"
    written.write_text(page(docs / "benchmarks", docs), encoding="utf-8")
    print(f"Wrote {written}.", file=sys.stderr)


if __name__ == "__main__":
    main()
