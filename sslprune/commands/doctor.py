"""`sslprune doctor`: what this machine has, what is missing, and how to get it."""

from __future__ import annotations

import argparse

from sslprune.commands.shared import Subparsers, add_command, add_json, print_json


def add(commands: Subparsers) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "doctor",
        run,
        "Say what this machine has, what is missing, and how to get it.",
        example="sslprune doctor --json",
    )
    add_json(command)


def run(args: argparse.Namespace) -> None:
    """Look around and print what was found."""
    from sslprune.doctor import examine

    found = examine()
    if args.json:
        print_json({"schema": 1, **found})
        return
    for title in ("machine", "packages", "extras", "data", "zoo"):
        print(title)
        width = max(map(len, found[title]))
        print("\n".join(f"  {name.ljust(width)}  {text}" for name, text in found[title].items()))
    print("\n".join(["", *(found["advice"] or ["Nothing is missing."])]))
