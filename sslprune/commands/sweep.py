"""`sslprune sweep`: run a grid of recipes."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
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
    say,
    table,
)

if TYPE_CHECKING:
    from sslprune.sweep.cells import Cell
    from sslprune.sweep.launch import Outcome
    from sslprune.sweep.place import Place


def add(commands: Subparsers) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "sweep",
        run,
        "Run every recipe of a grid: here, on a Ray cluster, or elsewhere from printed lines. Run again, it goes on.",
        example="sslprune sweep grid.toml --jobs 2",
    )
    command.add_argument("grid", type=Path, help="a TOML file of [[runs]] blocks: recipe, grid, set, masks_of")
    add_places(command)
    command.add_argument("--only", metavar="PATTERN", help="only cells of such names, and the families that they need")
    ask = command.add_mutually_exclusive_group()
    ask.add_argument("--list", action="store_true", help="only say how each cell stands")
    ask.add_argument("--print", action="store_true", help="only print a line for each cell to do, families first")
    how = command.add_mutually_exclusive_group()
    how.add_argument("--jobs", type=at_least_one, default=1, metavar="N", help="cells at a time, here (default: 1)")
    how.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="run on this Ray cluster (auto, HOST:PORT; extra: ray); a lost node's cell is run again on another. "
        "--runs, --zoo and data must lie on storage that all nodes see under the same paths",
    )
    command.add_argument("--cpus-per-cell", type=at_least_one, default=1, metavar="N", help="with --ray (default: 1)")
    command.add_argument("--gpus-per-cell", type=float, default=0.0, metavar="N", help="with --ray (default: 0)")
    add_data(command)
    add_device(command)
    add_json(command)


def run(args: argparse.Namespace) -> None:
    """Run the grid, or say what there is to run.

    Raises:
        SweepError: Cells have failed.
    """
    from sslprune.sweep.cells import cells_of, pick
    from sslprune.sweep.grid import Grid
    from sslprune.sweep.place import Place

    grid = Grid.load(args.grid)
    cells = cells_of(grid)
    if args.only:
        cells = pick(cells, args.only)
    place = Place.of(grid.name, cells, runs=args.runs, zoo=args.zoo, flags=_flags(args))
    if args.list:
        _list(cells, place, json=args.json)
    elif args.print:
        _print(cells, place, json=args.json)
    else:
        _run(cells, place, args)


def _flags(args: argparse.Namespace) -> list[str]:
    """What is handed on to every `sslprune train`."""
    flags = ["--device", args.device]
    if args.data_dir:
        flags += ["--data-dir", str(args.data_dir.absolute())]
    if args.download:
        flags += ["--download"]
    # Trainings beside each other share the cores; Ray's are given theirs by Ray.
    here = not (args.print or args.ray)
    threads = args.threads or (max(1, (os.cpu_count() or 1) // args.jobs) if here and args.jobs > 1 else None)
    return [*flags, "--threads", str(threads)] if threads else flags


def _list(cells: tuple[Cell, ...], place: Place, *, json: bool) -> None:
    states = {cell.name: place.state(cell) for cell in cells}
    if json:
        print_json(_document(place, [{**_about(cell, place), "state": states[cell.name]} for cell in cells]))
        return
    print(table(["cell", "state"], list(states.items())))
    done = sum(state == "finished" for state in states.values())
    say(f"{done} of {len(cells)} finished, in {place.runs}.")


def _print(cells: tuple[Cell, ...], place: Place, *, json: bool) -> None:
    to_do = [cell for cell in cells if place.state(cell) != "finished"]
    place.write_recipes(to_do)
    if json:
        print_json(_document(place, [{**_about(cell, place), "command": place.line(cell)} for cell in to_do]))
        return
    for cell in to_do:
        print(place.line(cell))
    families = len({need for cell in to_do for need in cell.needs} & {cell.name for cell in to_do})
    if families:
        first = sum(not cell.needs for cell in to_do)
        say(f"The first {first} must have ended before the others start: these train on their masks.")
    say(f"{len(cells) - len(to_do)} of {len(cells)} had finished; the lines of the others were printed.")


def _run(cells: tuple[Cell, ...], place: Place, args: argparse.Namespace) -> None:
    from sslprune.errors import SweepError
    from sslprune.sweep import local, on_ray

    ended: list[str] = []

    def report(outcome: Outcome) -> None:
        ended.append(outcome.cell)
        took = f", {outcome.seconds:.0f} s" if outcome.seconds else ""
        say(f"[{len(ended)}/{len(cells)}] {outcome.cell}: {outcome.state}{took}")
        if outcome.error:
            say("    " + outcome.error.replace("\n", "\n    "))

    with place.locked():
        place.write_recipes(cells)
        say(f"sweep {place.sweep}, zoo {place.zoo}")
        if args.ray:
            cpus, gpus = args.cpus_per_cell, args.gpus_per_cell
            outcomes = on_ray.run(cells, place, address=args.ray, cpus=cpus, gpus=gpus, report=report)
        else:
            outcomes = local.run(cells, place, jobs=args.jobs, report=report)
    if args.json:
        pairs = zip(cells, outcomes, strict=True)
        about = [
            {**_about(cell, place), "state": end.state, "seconds": round(end.seconds, 1), "error": end.error}
            for cell, end in pairs
        ]
        print_json(_document(place, about))
    else:
        rows = [[each.cell, each.state, f"{each.seconds:.0f} s" if each.seconds else ""] for each in outcomes]
        print(table(["cell", "state", "time"], rows))
    if bad := [each.cell for each in outcomes if each.state != "finished"]:
        raise SweepError(
            f"{len(bad)} of {len(cells)} cells have not finished, {bad[0]} the first.",
            f"See {place.sweep / 'logs'}, then run the same command again: what has finished stays.",
        )
    say(f"Next: sslprune report {place.runs}")


def _about(cell: Cell, place: Place) -> dict[str, object]:
    return {
        "name": cell.name,
        "recipe_sha256": cell.recipe.sha256(),
        "recipe": str(place.recipe(cell)),
        "run": str(place.folder(cell).path),
        "needs": list(cell.needs),
    }


def _document(place: Place, cells: list[dict[str, object]]) -> dict[str, object]:
    return {"schema": 1, "sweep": str(place.sweep), "zoo": str(place.zoo), "cells": cells}
