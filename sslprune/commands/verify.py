"""`sslprune verify`: hash, decode and run models, and compare what they hold with what is stated of them."""

from __future__ import annotations

import argparse
from typing import Any

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
    command.set_defaults(refuse=command.error)
    add_json(command)


def run(args: argparse.Namespace) -> None:
    """Check each and print a line; the first line that fails decides the exit code, after all are checked."""
    if not args.models and not args.all:
        args.refuse("name some models, or give --all")

    from sslprune.errors import IntegrityError

    results = [_check(model) for model in [*args.models, *(_all() if args.all else [])]]
    if args.json:
        print_json({"schema": 1, "models": results})
    else:
        print(table(["model", "result"], [[item["name"], "ok" if item["ok"] else item["problem"]] for item in results]))
    failed = [item["name"] for item in results if not item["ok"]]
    if failed:
        raise IntegrityError(
            f"{len(failed)} of {len(results)} models failed: {', '.join(map(str, failed))}.", "Get them again."
        )


def _all() -> list[Any]:
    """Every entry of the index, and the local folders whose manifest is so malformed that the index has no entry."""
    from sslprune.zoo.index import local_zoo, model_folders, open_index

    entries = open_index().entries
    listed = {entry.folder for entry in entries}
    return [*entries, *(folder for folder in model_folders(local_zoo()) if folder not in listed)]


def _check(model: Any) -> dict[str, Any]:
    from sslprune.errors import SslpruneError
    from sslprune.zoo.index import Entry
    from sslprune.zoo.locate import locate
    from sslprune.zoo.verify import verify_model

    result = {"name": str(model), "folder": None, "ok": True, "problem": None}
    try:
        entry = model if isinstance(model, Entry) else locate(model)
        result |= {"name": str(entry.name), "folder": str(entry.folder)}
        verify_model(entry)
    except SslpruneError as error:
        result |= {"ok": False, "problem": error.problem}
    return result
