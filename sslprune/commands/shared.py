"""What several subcommands share: common flags, tables, JSON."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Subparsers = Any


def add_command(
    commands: Subparsers, name: str, run: Callable[[argparse.Namespace], None], summary: str, *, example: str
) -> argparse.ArgumentParser:
    """Add a subcommand with its one-line summary and an example."""
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary, epilog=f"Example: {example}"
    )
    command.set_defaults(run=run)
    return command


def add_json(command: argparse.ArgumentParser) -> None:
    """`--json`: one JSON document on stdout, and nothing else there."""
    command.add_argument("--json", action="store_true", help="print one JSON document")


def add_data(command: argparse.ArgumentParser) -> None:
    """`--data-dir` and `--download`."""
    command.add_argument("--data-dir", type=Path, metavar="DIR", help="look for data sets here first")
    command.add_argument("--download", action="store_true", help="let torchvision fetch a data set that is missing")


def add_device(command: argparse.ArgumentParser) -> None:
    """`--device` and `--threads`."""
    command.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: cpu)")
    command.add_argument("--threads", type=at_least_one, metavar="N", help="CPU threads (default: one a core)")


def add_places(command: argparse.ArgumentParser) -> None:
    """`--runs` and `--zoo`."""
    command.add_argument(
        "--runs", type=Path, metavar="DIR", help="where run folders go (default: SSLPRUNE_RUNS, or ./runs)"
    )
    command.add_argument("--zoo", type=Path, metavar="DIR", help="where models go (default: SSLPRUNE_ZOO)")


def add_runtime(command: argparse.ArgumentParser, *choices: str) -> None:
    """`--runtime`; the first choice is the default."""
    known = {"auto": "auto: sparse where faster", "sparse": "sparse: skips zeros", "onnx": "onnx: without torch"}
    told = "; ".join(known[choice] for choice in choices if choice in known)
    command.add_argument(
        "--runtime",
        choices=choices,
        default=choices[0],
        help=f"what runs the network ({told}; default: {choices[0]})",
    )


def add_out(command: argparse.ArgumentParser, help: str, *, required: bool = True) -> None:
    """`--out`, the destination itself, and `--force`."""
    command.add_argument("--out", type=Path, required=required, metavar="PATH", help=help)
    command.add_argument("--force", action="store_true", help="replace what stands at the destination")


def at_least_one(text: str) -> int:
    """The type of a flag that takes a whole number above 0."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is not above 0")
    return number


at_least_one.__name__ = "whole number"  # what argparse calls it where the text is no number at all


def use_device(args: argparse.Namespace) -> None:
    """Apply `--threads`, and see whether there is such a `--device` before anything is read for it.

    Raises:
        DeviceError: There is not.
    """
    import torch

    from sslprune.errors import DeviceError

    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        torch.empty(0, device=args.device)
    except (RuntimeError, AssertionError) as error:
        problem = str(error).partition("\n")[0]
        raise DeviceError(f"there is no device {args.device!r} here: {problem}", "See `sslprune doctor`.") from error


def progress() -> bool:
    """Whether a person is watching stderr."""
    return sys.stderr.isatty()


def say(message: str) -> None:
    """A message for people, on stderr."""
    print(message, file=sys.stderr)


@contextmanager
def heard(module: str) -> Iterator[None]:
    """In the body, what a module logs as information is said."""
    logger, handler = logging.getLogger(module), _Saying()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class _Saying(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(record.getMessage(), file=sys.stderr)  # above a bar, if there is one


def print_json(document: object) -> None:
    """The one JSON document of a command."""
    print(json.dumps(document, indent=1, allow_nan=False, default=str))


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A plain table: the first column to the left, all others, which are numbers, to the right.

    >>> print(table(["name", "keep"], [["a", "5%"], ["bcd", "100%"]]))
    name  keep
    ----  ----
    a       5%
    bcd   100%
    """
    cells = [[str(cell) for cell in row] for row in (header, ["-"] * len(header), *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    cells[1] = ["-" * width for width in widths]

    def line(row: Sequence[str]) -> str:
        first = row[0].ljust(widths[0])
        return "  ".join(
            [first, *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()

    return "\n".join(line(row) for row in cells)


def size(count: int | float) -> str:
    """A number of bytes for people, in decimal units.

    >>> size(640), size(38702), size(1_091_992)
    ('640 B', '38.7 kB', '1.09 MB')
    """
    if count < 1000:
        return f"{count:.0f} B"
    return f"{count / 1e3:.3g} kB" if count < 999_500 else f"{count / 1e6:.3g} MB"


def rate(keep: float) -> str:
    """A keep rate for people.

    >>> rate(0.05), rate(0.0010003)
    ('5%', '0.1%')
    """
    return f"{keep * 100:.3g}%"
