"""`sslprune demo`: the main job on data that needs no download, with a table and a picture at the end."""

from __future__ import annotations

import argparse
from pathlib import Path

from sslprune.commands.shared import Subparsers, add_command, add_json, print_json, progress, rate, say, size, table


def add(commands: Subparsers) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "demo",
        run,
        "Evaluate the bundled networks on digits, then train, prune, save and load a small family of your own.",
        example="sslprune demo --out demo.png",
    )
    command.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="where the picture goes (default: sslprune-demo.png, replaced if there)",
    )
    command.add_argument("--force", action="store_true", help="replace what stands at --out")
    command.add_argument("--no-train", action="store_true", help="only the first part: the bundled networks")
    add_json(command)


def run(args: argparse.Namespace) -> None:
    """Run both parts, print the tables, draw the picture."""
    from sslprune import demo, figures
    from sslprune.errors import UnknownModelError
    from sslprune.extras import require
    from sslprune.files import refuse_existing

    picture = args.out or Path("sslprune-demo.png")
    refuse_existing(picture, force=args.force or args.out is None)
    require("matplotlib", extra="plot", purpose="the picture")  # said now, not after the training
    say("1. The bundled networks, trained on CIFAR-10 without labels, on digits they never saw.")
    bundled = demo.bundled_family(say=say)
    families = [] if bundled is None else [bundled]
    if not args.no_train:
        say("2. The whole chain in small: RotNet on digits, a short ladder, sparse files, load by name.")
        families.append(demo.own_family(say=say, progress=progress()))
    if not families:
        raise UnknownModelError("no model is bundled.", "Reinstall sslprune, or run without --no-train.")
    figures.draw(picture, [family.curve() for family in families])
    if args.json:
        print_json(
            {"schema": 1, "picture": str(picture), "rows": [row for family in families for row in family.as_rows()]}
        )
        return
    for family in families:
        print(f"\n{family.title}")
        lines = [
            [
                rung.name,
                rate(rung.keep),
                size(rung.bytes) if rung.bytes else "",
                f"{family.dense_bytes / rung.bytes:.1f}x" if rung.bytes else "",
                f"{rung.linear:.1f} %",
                f"{rung.knn:.1f} %",
                rung.stage,
                f"{rung.milliseconds:.2f}",
            ]
            for rung in [*family.rungs, family.floor]
        ]
        print(table(["network", "keep", "file", "smaller", "linear", "kNN", "stage", "ms/image"], lines))
    print(
        "\nlinear, kNN: top-1 on 500 test digits, features pooled to 4x4, stage chosen on held-out training digits; the"
    )
    print(
        "random network is untrained. ms: torch on this machine, one image, where zeros still cost as much as weights."
    )
    print(f"Picture: {picture}")
    print(demo.next_step(families))
