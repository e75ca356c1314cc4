"""The command `sslprune`: parser, exit codes, errors in two lines. Each subcommand is a file of `commands/`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from sslprune import __version__
from sslprune.commands import (
    bench,
    demo,
    doctor,
    evaluate,
    export,
    features,
    finetune,
    listing,
    predict,
    prune,
    report,
    show,
    sweep,
    train,
    verify,
)
from sslprune.errors import SslpruneError

NEEDED = frozenset({"torch", "torchvision", "timm", "safetensors", "huggingface_hub", "tomli_w"})
"""Dependencies that small machines may do without (`pip install --no-deps`)."""

COMMANDS = (
    listing,
    show,
    demo,
    evaluate,
    finetune,
    predict,
    features,
    train,
    sweep,
    prune,
    report,
    bench,
    export,
    verify,
    doctor,
)


def parser() -> argparse.ArgumentParser:
    """The whole command line; building it imports neither torch nor numpy."""
    top = argparse.ArgumentParser(
        prog="sslprune",
        description="Convnets pre-trained without labels, pruned, and small: load, evaluate, train, prune.",
        epilog="Start with: sslprune demo. Each command has its own --help.",
    )
    top.add_argument("--version", action="version", version=f"sslprune {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit code: 0 done, 1 failed with a named error. (A usage error exits with 2 by itself.)
    """
    args = parser().parse_args(arguments)
    try:
        args.run(args)
        sys.stdout.flush()
    except SslpruneError as error:
        print(f"sslprune: {error.problem}\n{error.hint}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if (package := (error.name or "").partition(".")[0]) not in NEEDED:
            raise
        print(
            f"sslprune: this needs {package}, which is not installed.\n"
            "Run: pip install sslprune (with its dependencies). Without torch there are list, show, predict --runtime "
            "onnx and features --runtime onnx.",
            file=sys.stderr,
        )
        return 1
    except BrokenPipeError:
        # The reader (head, less) has gone; Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print(
            "sslprune: interrupted.\nRun the same command again; a training goes on where it stopped.", file=sys.stderr
        )
        return 1
    return 0
