"""`sslprune bench`: how fast a pruned network runs here, beside dense runtimes."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslprune.commands.shared import Subparsers, add_command, add_json, at_least_one, print_json, say, table

if TYPE_CHECKING:
    from sslprune.bench.race import Plan
    from sslprune.bench.subjects import Subject

_DEFAULT_SETTINGS = ((1, 1), (16, 2))
"""Images a call and threads: one image as fast as can be, and many as a data set's features are taken."""


def add(commands: Subparsers) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "bench",
        run,
        "Race the sparse engine against dense runtimes, in turns: a model of the zoo, or a random pruned network.",
        example="sslprune bench --arch resnet50 --keep 0.1,0.05,0.01 --out speed.png",
    )
    command.add_argument("model", nargs="?", metavar="NAME", help="a model's name or folder")
    command.add_argument("--arch", help="instead of a model: a random network of this architecture")
    command.add_argument("--keep", type=_list(float), metavar="LIST", help="keep rates, such as 0.2,0.05,0.01")
    command.add_argument(
        "--against",
        type=_list(str),
        default=["ort", "openvino", "torch"],
        metavar="LIST",
        help="ort, openvino, torch (eager), deepsparse, int8 (default: ort,openvino,torch)",
    )
    command.add_argument("--batch", type=_list(at_least_one), metavar="LIST", help="images a call, such as 1,16")
    command.add_argument(
        "--threads",
        type=_list(at_least_one),
        metavar="LIST",
        help="threads, such as 1,2; with neither this nor --batch: 1 image on 1 thread, and 16 on 2",
    )
    command.add_argument(
        "--mask", type=_list(str), metavar="LIST", help="with --arch: uniform, global, erk (default: uniform,global)"
    )
    command.add_argument(
        "--size", type=at_least_one, metavar="N", help="with --arch: pixels a side (default: the architecture's)"
    )
    command.add_argument("--repeat", type=at_least_one, default=20, metavar="N", help="runs of each (default: 20)")
    command.add_argument(
        "--settle",
        type=int,
        default=0,
        metavar="N",
        help="untimed runs before each timed one: without them a network of less than a millisecond is measured waking "
        "up, with caches that the others have filled (default: 0)",
    )
    command.add_argument(
        "--deepsparse-python", type=Path, metavar="PATH", help="the interpreter of an environment with DeepSparse"
    )
    command.add_argument("--out", type=Path, metavar="FILE.png", help="draw speed-up against keep")
    command.add_argument("--markdown", type=Path, metavar="FILE.md", help="write the tables as Markdown")
    command.add_argument("--force", action="store_true", help="replace what stands at the destinations")
    command.set_defaults(usage_error=command.error)
    add_json(command)


def run(args: argparse.Namespace) -> None:
    """Race, then print, draw and write."""
    _check(args)
    from sslprune.bench.page import about, costs, markdown, rounds, times
    from sslprune.bench.plot import can_draw, draw
    from sslprune.bench.race import Plan, bench
    from sslprune.extras import require
    from sslprune.files import refuse_existing, write_atomic

    for path in filter(None, (args.out, args.markdown)):
        refuse_existing(path, force=args.force)
    if args.out:  # missed before half an hour of work
        if not can_draw(args.against):
            args.usage_error("--out needs ort or openvino in --against: speed-ups are measured by them")
        require("matplotlib.figure", extra="bench", purpose="drawing")
    plan = Plan(args.against, _settings(args), args.repeat, args.deepsparse_python, args.settle)
    document = bench(_subjects(args), plan, command=_command(args, plan), say=say)
    if args.out:
        draw(args.out, document)
    if args.markdown:
        write_atomic(args.markdown, markdown(document))
    if args.json:
        print_json(document)
        return
    for time, cost in zip(times(document), costs(document), strict=True):
        print(f"{time.title}: milliseconds, median (minimum)\n")
        print(table(time.header, time.rows) + "\n")
        print(table(cost.header, cost.rows) + "\n")
    print(f"{rounds(document)}; {about(document)}")
    for path in filter(None, (args.out, args.markdown)):
        say(f"Wrote {path}.")


def _check(args: argparse.Namespace) -> None:
    if (args.model is None) == (args.arch is None):
        args.usage_error("give a model's name or --arch, one of them")
    if args.arch and not args.keep:
        args.usage_error("--arch needs --keep")
    if args.model and (args.mask or args.size):
        args.usage_error("--mask and --size go with --arch; a model has its own")


def _settings(args: argparse.Namespace) -> list[tuple[int, int]]:
    if not args.batch and not args.threads:
        from sslprune.doctor import cores

        return [(batch, min(threads, cores())) for batch, threads in _DEFAULT_SETTINGS]
    return [(batch, threads) for batch in args.batch or [1] for threads in args.threads or [1]]


def _command(args: argparse.Namespace, plan: Plan) -> str:
    """What gives these numbers again, without what is only said of this machine."""
    words = ["sslprune", "bench", *([args.model] if args.model else ["--arch", args.arch])]
    for name in ("keep", "mask", "batch", "threads"):
        if given := getattr(args, name):
            words += [f"--{name}", ",".join(f"{each:g}" if name == "keep" else str(each) for each in given)]
    words += [*(["--size", str(args.size)] if args.size else []), "--against", ",".join(plan.against)]
    words += ["--deepsparse-python", "PATH"] if plan.deepsparse_python else []
    words += ["--settle", str(plan.settle)] if plan.settle else []
    return shlex.join([*words, "--repeat", str(plan.repeat)])


def _subjects(args: argparse.Namespace) -> Iterator[Callable[[], Subject]]:
    from sslprune.bench.subjects import own_size, synthetic_subject, zoo_subject
    from sslprune.bench.synthetic import MASKS
    from sslprune.errors import BenchError
    from sslprune.prune.select import count_kept

    for keep in args.keep or ():
        count_kept(keep, 0)
    if args.model:
        return iter([partial(zoo_subject, args.model, keep) for keep in args.keep or [None]])
    masks = args.mask or ["uniform", "global"]
    if unknown := [mask for mask in masks if mask not in MASKS]:
        raise BenchError(f"there is no mask {unknown[0]!r}.", f"Choose of {', '.join(MASKS)}.")
    size = args.size or own_size(args.arch)
    return iter([partial(synthetic_subject, args.arch, keep, mask, size) for mask in masks for keep in args.keep])


def _list(each: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """The type of a flag that takes values with commas between them."""

    def read(text: str) -> list[Any]:
        return [each(part.strip()) for part in text.split(",")]

    read.__name__ = f"list of {getattr(each, '__name__', 'values')}"
    return read
