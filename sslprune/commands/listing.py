"""`sslprune list`: the models at hand."""

from __future__ import annotations

import argparse

from sslprune.commands.shared import Subparsers, add_command, add_json, print_json, rate, say, size, table


def add(commands: Subparsers) -> None:
    """Add the command."""
    command = add_command(
        commands, "list", run, "List the models of the zoo.", example="sslprune list rotnet --keep 0.05"
    )
    command.add_argument("pattern", nargs="?", default="*", help="a part of the name, or a shell pattern")
    command.add_argument("--keep", type=float, metavar="FRACTION", help="only this rung, such as 0.05")
    command.add_argument("--arch", help="only this architecture")
    command.add_argument("--data", help="only networks trained on this data")
    add_json(command)


def run(args: argparse.Namespace) -> None:
    """Print the table, or the JSON that programs read."""
    from sslprune.zoo.index import open_index

    entries = open_index().select(args.pattern, keep=args.keep, arch=args.arch, data=args.data)
    rows = [entry.row() for entry in entries]
    if args.json:
        print_json({"schema": 1, "models": rows})
        return
    if not rows:
        say(f"No model fits {args.pattern!r}. All of them: sslprune list")
        return
    metrics = sorted({metric for row in rows for metric in row["metrics"]})
    lines = [
        [
            row["name"],
            rate(row["keep"]),
            f"{row['kept']:,}",
            size(row["bytes"]),
            f"{row['macs'] / 1e6:.3g} M",
            *(f"{row['metrics'][metric]:.2f}" if metric in row["metrics"] else "" for metric in metrics),
            row["status"],
        ]
        for row in rows
    ]
    print(table(["name", "keep", "weights", "file", "MACs", *metrics, "status"], lines))
