"""What the training loop costs beyond the network: data, views, masks, log and checkpoint against bare updates.

    python tools/bench/loop.py [--recipe NAME ...] [--keep 0.05] [--updates 50] [--repeat 5] [--device cpu] [--json]

Bare is forward, loss, backward and optimiser step of the same learner on one batch of random views of the same shape
that lies on the device; the loop does the same work on the recipe's data. They take turns in one process, and medians
are compared. A ratio of 1.10 says that the loop takes a tenth longer.
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
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from codec import cpu

from sslprune.config import Ladder, Recipe
from sslprune.masks import Mask
from sslprune.prune.magnitude import prune
from sslprune.setting import Options, Setting, prepare
from sslprune.train import optim
from sslprune.train.loop import Span, Stepper

RECIPES = [f"{pretext}-resnet20-cifar10-laptop" for pretext in ("rotnet", "exemplar", "npid", "simclr", "labels")]


@dataclass(frozen=True)
class Row:
    """One recipe; times in milliseconds an update, medians, the least in brackets in the table."""

    recipe: str
    keep: float
    views: int
    loop_ms: float
    loop_min_ms: float
    bare_ms: float
    bare_min_ms: float
    ratio: float


def measure(recipe: Recipe, keep: float, updates: int, repeat: int, options: Options) -> Row:
    """Time both, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        setting = prepare(replace(recipe, ladder=Ladder(())), Path(folder), options)
        mask = (
            prune(setting.weights, keep, within=Mask.full(setting.weights)) if keep < 1 else Mask.full(setting.weights)
        )
        mask.hold_(setting.weights)
        bare, views = bare_updates(setting)
        times: dict[str, list[float]] = {"loop": [], "bare": []}
        for number in range(repeat + 1):  # the first turn warms up
            span = Span(number, 0, updates)
            looped = seconds(lambda span=span: setting.loop.train(setting.learner, setting.weights, mask, span))
            plain = seconds(lambda: [bare() for _ in range(updates)])
            if number:
                times["loop"].append(1000 * looped / updates)
                times["bare"].append(1000 * plain / updates)
    loop, plain = (statistics.median(times[name]) for name in ("loop", "bare"))
    return Row(recipe.name, mask.keep, views, loop, min(times["loop"]), plain, min(times["bare"]), loop / plain)


def bare_updates(setting: Setting) -> tuple[Callable[[], object], int]:
    """One update of a copy of the learner on a fixed batch of random views; and the number of these."""
    learner = deepcopy(setting.learner)
    batch, generator = setting.loop.data(0, 0)
    views, targets = learner.pretext.views(batch, generator)
    views = torch.randn_like(views)
    optimizer = optim.build(setting.loop.training, learner.parameters())
    # The loop's own update without a mask: the same precision and memory format.
    stepper = Stepper(learner, optimizer, Mask.full({}), {}, compile=setting.loop.training.compile)
    return lambda: stepper(views, targets, setting.loop.training.lr), len(views)


def seconds(work: Callable[[], object]) -> float:
    """How long it takes; an accelerator's queue is empty before and after."""
    synchronise()
    start = time.perf_counter()
    work()
    synchronise()
    return time.perf_counter() - start


def synchronise() -> None:
    """Wait for the accelerator, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", nargs="+", default=RECIPES, help="bundled recipes or .toml files")
    parser.add_argument("--keep", type=float, default=0.05, help="the mask that the loop holds (default: 0.05)")
    parser.add_argument("--updates", type=int, default=50, help="a turn (default: 50)")
    parser.add_argument("--repeat", type=int, default=5, help="turns (default: 5)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    options = Options(device=args.device, progress=False)
    machine = (
        f"{cpu()}, {args.device}, {args.threads} threads, Python {platform.python_version()}, torch {torch.__version__}"
    )
    rows = []
    for name in args.recipe:
        rows.append(measure(Recipe.load(name), args.keep, args.updates, args.repeat, options))
        row = rows[-1]
        print(
            f"{row.recipe:40} {row.views:5} views  loop {row.loop_ms:8.2f} ({row.loop_min_ms:.2f}) ms  bare "
            f"{row.bare_ms:8.2f} ({row.bare_min_ms:.2f}) ms  ratio {row.ratio:.3f}",
            file=sys.stderr,
        )
    if args.json:
        print(json.dumps({"schema": 1, "machine": machine, "rows": [asdict(row) for row in rows]}, indent=1))
    else:
        print(machine)


if __name__ == "__main__":
    main()
