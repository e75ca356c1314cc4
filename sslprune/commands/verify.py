"""`sslprune verify`: hash, decode and run models, and compare what they hold with what is stated of them."""

from __future__ import annotations

import argparse

from sslprune.commands.shared import Subparsers, add_command, add_json, print_json, table


def add(commands: Subparsers) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "verify",
        run,
        "Check models: every file's sha256, the decoded counts, and one forward pass.",
        example="sslprune verify --all",
    )
    command.add_argument("models", nargs="*", metavar="MODEL", help="names or folders")
    command.add_argument("--all", action="store_true", help="every model at hand")
    add_json(command)


def run(args: argparse.Namespace) -> None:
    """Check each and print a line; the first line that fails decides the exit code, after all are checked."""
    from sslprune.errors import IntegrityError, SslpruneError, UnknownModelError
    from sslprune.zoo.index import open_index
    from sslprune.zoo.load import locate
    from sslprune.zoo.verify import verify_model

    if not args.models and not args.all:
        raise UnknownModelError("no model was named.", "Name some, or give --all.")
    entries = [locate(name) for name in args.models] + (list(open_index().entries) if args.all else [])
    results = []
    for entry in entries:
        try:
            verify_model(entry)
            results.append({"name": str(entry.name), "folder": str(entry.folder), "ok": True, "problem": None})
        except SslpruneError as error:
            results.append(
                {"name": str(entry.name), "folder": str(entry.folder), "ok": False, "problem": error.problem}
            )
    if args.json:
        print_json({"schema": 1, "models": results})
    else:
        print(table(["model", "result"], [[item["name"], "ok" if item["ok"] else item["problem"]] for item in results]))
    failed = [item["name"] for item in results if not item["ok"]]
    if failed:
        raise IntegrityError(
            f"{len(failed)} of {len(results)} models failed: {', '.join(map(str, failed))}.", "Get them again."
        )
