"""`sslprune evaluate`: measure a model's frozen features on a labelled data set."""

from __future__ import annotations

import argparse
from functools import partial

from sslprune.commands.shared import (
    Subparsers,
    add_command,
    add_data,
    add_device,
    add_json,
    add_out,
    at_least_one,
    print_json,
    progress,
    table,
    use_device,
)


def add(commands: Subparsers) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "evaluate",
        run,
        "Measure frozen features, stage by stage: linear probe, or nearest neighbours.",
        example="sslprune evaluate rotnet-resnet20-keep5% --task knn --data digits",
    )
    command.add_argument("model", help="a model's name or folder")
    command.add_argument(
        "--task", choices=("linear", "knn"), default="linear", help="what to measure (default: linear)"
    )
    command.add_argument("--data", required=True, metavar="SOURCE", help="digits, cifar10, cifar100, folder:PATH")
    command.add_argument("--keep", type=float, metavar="FRACTION", help="the keep rate, where the name leaves it out")
    command.add_argument(
        "--pool", type=at_least_one, default=4, metavar="N", help="pool each stage to N x N (default: 4)"
    )
    command.add_argument("--seed", type=int, default=0, help="which training images are held out (default: 0)")
    add_out(command, "also write the rows to this JSON-lines file", required=False)
    add_data(command)
    add_device(command)
    add_json(command)


def run(args: argparse.Namespace) -> None:
    """Measure and print one row a stage; the stage chosen on held-out training images is marked."""
    from sslprune.data import sources
    from sslprune.evaluate.transfer import evaluate_backbone
    from sslprune.files import refuse_existing, write_atomic
    from sslprune.zoo.info import info_of
    from sslprune.zoo.load import load
    from sslprune.zoo.write import write_lines

    if args.out:
        refuse_existing(args.out, force=args.force)
    use_device(args)
    model = load(args.model, keep=args.keep, device=args.device)
    info = info_of(model)
    source = sources.open(args.data, data_dir=args.data_dir, download=args.download, size=info.preprocessing.size)
    train, test = source.labelled("train"), source.labelled("test")
    rows = evaluate_backbone(
        model,
        train,
        test,
        name=info.name,
        data=source.name,
        keep=info.keep,
        seed=args.seed,
        pool=args.pool,
        tasks=(args.task,),
        classes=source.classes,
        recipe_sha256=info.manifest.recipe_sha256,
        device=args.device,
        progress=progress(),
    ).rows
    if args.out:
        write_atomic(args.out, partial(write_lines, rows=rows))
    if args.json:
        print_json({"schema": 1, "rows": rows})
        return
    lines = [
        [
            row["layer"],
            f"{row['value']:.2f} %",
            f"{row['protocol']['held_out_top1']:.2f} %",
            row["counts"]["dims"],
            "<- best on held-out" if row["protocol"]["best_stage"] else "",
        ]
        for row in rows
    ]
    print(f"{info.name} on {source.name}: {args.task}, {len(train[1])} + {len(test[1])} images, pool {args.pool}")
    print(table(["stage", "test", "held out", "dims", ""], lines))
