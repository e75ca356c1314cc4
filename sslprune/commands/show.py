"""`sslprune show`: everything stated about one model."""

from __future__ import annotations

import argparse

from sslprune.commands.shared import Subparsers, add_command, add_json, print_json, rate, size, table


def add(commands: Subparsers) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "show",
        run,
        "Show one model: counts, figures, files, layers.",
        example="sslprune show rotnet-resnet20-keep5%",
    )
    command.add_argument("name", help="a model's name")
    command.add_argument("--keep", type=float, metavar="FRACTION", help="the keep rate, where the name leaves it out")
    add_json(command)


def run(args: argparse.Namespace) -> None:
    """Print it."""
    from sslprune.zoo.listing import describe

    found = describe(args.name, keep=args.keep)
    if args.json:
        print_json({"schema": 1, **found})
        return
    manifest = found["manifest"]
    share = manifest["macs_left"] / manifest["macs"] if manifest["macs"] else 1.0
    print(f"{found['name']}  ({found['status']}, {found['licence']})")
    print(f"  keeps {found['kept']:,} of {found['prunable']:,} prunable weights ({rate(found['keep'])})")
    print(f"  {manifest['macs_left'] / 1e6:.3g} M of {manifest['macs'] / 1e6:.3g} M MACs an image ({rate(share)})")
    print(f"  data terms: {manifest['data_terms']}")
    print(
        f"  recipe {(manifest['recipe_sha256'] or 'none')[:12]}, seed {manifest['seed']}, "
        f"parent {manifest['parent'] or 'none'}"
    )
    for metric, value in found["metrics"].items():
        print(f"  {metric}: {value:.2f} %")
    print(f"  heads: {', '.join(found['heads']) or 'none'}")
    print(f"  folder: {found['folder']}\n")
    files = manifest["files"].items()
    print(table(["file", "size", "sha256"], [[name, size(item["size"]), item["sha256"][:16]] for name, item in files]))
    print()
    layers = [
        [layer["name"], f"{layer['kept']:,}", f"{layer['prunable']:,}", rate(layer["kept"] / layer["prunable"])]
        for layer in manifest["layers"]
    ]
    print(table(["weight", "kept", "prunable", "keep"], layers))
