"""`sslprune report`: the paper's figures and claims from finished runs."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from sslprune.commands.shared import Subparsers, add_command, add_json, print_json, say, table


def add(commands: Subparsers) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "report",
        run,
        "Draw the paper's figures from finished runs, and hold its claims against them: paper.md and figures/.",
        example="sslprune report docs/results --out docs",
    )
    command.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUNS",
        help="run folders, folders of them, or .jsonl files of result rows",
    )
    command.add_argument(
        "--out", type=Path, default=Path("docs"), metavar="DIR", help="the folder to write into (default: docs)"
    )
    add_json(command)


def run(args: argparse.Namespace) -> None:
    """Write the report and print the verdicts."""
    from sslprune.report import write_report

    command = shlex.join(["sslprune", "report", *map(str, args.runs), "--out", str(args.out)])
    report = write_report(args.runs, args.out, command=command)
    document = report.to_json()
    if args.json:
        print_json(document)
        return
    used, left = sum(document["rows"]["used"].values()), sum(document["rows"]["not_used"].values())
    for title in document["missing"]:
        say(f"No rows for: {title}.")
    say(f"Rows used: {used}; not used: {left}; duplicates left out: {document['rows']['duplicates']}.")
    print(
        table(["claim", "here"], [[f"{each['claim']} {each['title']}", each["verdict"]] for each in document["claims"]])
    )
    say(f"Wrote {report.page} and its figures ({len(report.figures)}). Next: open {report.page}.")
