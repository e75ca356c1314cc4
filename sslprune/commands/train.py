"""`sslprune train`: run a recipe; started by torchrun, on several processes."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from sslprune.commands.shared import (
    Subparsers,
    add_command,
    add_data,
    add_device,
    add_json,
    add_places,
    at_least_one,
    print_json,
    progress,
    rate,
    say,
    size,
    table,
    use_device,
)

if TYPE_CHECKING:
    from sslprune.config import Recipe
    from sslprune.run_folder import RunFolder
    from sslprune.zoo.manifest import Manifest


def add(commands: Subparsers) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "train",
        run,
        "Train without labels, prune down the ladder, measure and write every rung. Run again, it goes on.",
        example="sslprune train rotnet-resnet20-cifar10-laptop",
    )
    command.add_argument("recipe", help="a bundled recipe's name, or a .toml file")
    add_places(command)
    command.add_argument("--force", action="store_true", help="replace models of another recipe in the zoo")
    command.add_argument(
        "--dry-run",
        action="store_true",
        help="two updates of the unpruned and of the first pruned round on noise, and what the whole run would cost; "
        "needs no data, writes nothing",
    )
    command.add_argument(
        "--workers",
        type=at_least_one,
        metavar="N",
        help="processes that decode images of large data (default: one a core)",
    )
    add_data(command)
    add_device(command)
    add_json(command)


def run(args: argparse.Namespace) -> None:
    """Run the recipe and print the family; started by torchrun, all processes train it and one prints."""
    from sslprune import pipeline, ranks
    from sslprune.config import Recipe
    from sslprune.run_folder import RunFolder
    from sslprune.setting import Options

    recipe = Recipe.load(args.recipe)
    if args.dry_run:
        _try(args, recipe)
        return
    folder = RunFolder.of(recipe, runs=args.runs, zoo=args.zoo, force=args.force)
    with ranks.joined(args.device) as args.device:
        use_device(args)
        first = ranks.is_first()
        if first:
            say(f"run {folder.path}, zoo {folder.zoo}")
        options = Options(
            device=args.device,
            data_dir=args.data_dir,
            download=args.download,
            progress=progress(),
            workers=args.workers,
        )
        manifests = pipeline.run(recipe, folder, options)
    if first:
        _print(args, folder, manifests)


def _try(args: argparse.Namespace, recipe: Recipe) -> None:
    from sslprune.dry_run import dry_run

    use_device(args)
    report = dry_run(recipe, device=args.device)
    if args.json:
        print_json(report.to_json())
    else:
        print(report)


def _print(args: argparse.Namespace, folder: RunFolder, manifests: list[Manifest]) -> None:
    from sslprune import jsonl

    if args.json:
        models, rows = [asdict(manifest) for manifest in manifests], jsonl.read(folder.path / "results.jsonl")
        print_json({"schema": 1, "run": str(folder.path), "zoo": str(folder.zoo), "models": models, "rows": rows})
        return
    if not manifests:
        for row in jsonl.read(folder.path / "results.jsonl"):
            print(f"{row['name']}: {row['metric']} {row['value']:.2f} % on {row['data']}, keep {rate(row['keep'])}")
        say(f"Next: sslprune report {folder.path.parent}, with all runs beside it.")
        return
    metrics = sorted({metric for manifest in manifests for metric in manifest.metrics})
    lines = [
        [
            m.name,
            rate(m.keep),
            size(m.bytes),
            *(f"{m.metrics[metric]:.2f}" if metric in m.metrics else "" for metric in metrics),
        ]
        for m in manifests
    ]
    print(table(["name", "keep", "file", *metrics], lines))
    say(f"Next: sslprune show {manifests[-1].name}, or sslprune.load({manifests[-1].name!r}) in Python.")
