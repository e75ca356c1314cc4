"""`sslprune evaluate`: measure a model on a labelled data set, its features frozen or all of it fine-tuned."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any

from sslprune.commands.shared import (
    Subparsers,
    add_command,
    add_data,
    add_device,
    add_json,
    add_out,
    add_runtime,
    at_least_one,
    heard,
    print_json,
    progress,
    table,
    use_device,
)

if TYPE_CHECKING:
    from torch import nn

    from sslprune.data.source import Source
    from sslprune.evaluate.batches import Data
    from sslprune.evaluate.results import Row
    from sslprune.evaluate.rows import About

SOURCES = "digits, cifar10, cifar100, voc07, imagenet, places205, folder:PATH, large:PATH"
"""What `--data` takes, for help texts."""


def add(commands: Subparsers) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "evaluate",
        run,
        "Measure frozen features: linear probe, nearest neighbours, SVMs, SGD classifiers; or fine-tune and measure.",
        example="sslprune evaluate rotnet-resnet20-keep5% --task knn --data digits",
    )
    command.add_argument("model", help="a model's name or folder")
    command.add_argument(
        "--task",
        choices=("linear", "knn", "svm", "sgd", "finetune"),
        default="linear",
        help="what to measure: linear and knn on every stage; svm (voc07) and sgd (large folders) after Goyal et al.; "
        "finetune changes nothing on disk (default: linear)",
    )
    command.add_argument("--data", required=True, metavar="SOURCE", help=SOURCES)
    command.add_argument("--keep", type=float, metavar="FRACTION", help="the keep rate, where the name leaves it out")
    command.add_argument(
        "--pool", type=at_least_one, default=4, metavar="N", help="linear, knn: pool stages to N x N (default: 4)"
    )
    command.add_argument(
        "--stage", default="pooled", metavar="NAME", help="svm, sgd: a stage; sgd: or all (default: pooled)"
    )
    command.add_argument("--labels", type=float, metavar="FRACTION", help="use labels on this part of each class only")
    command.add_argument("--steps", type=at_least_one, metavar="N", help="sgd: steps (default: the paper's 140000)")
    command.add_argument("--epochs", type=at_least_one, metavar="N", help="finetune: epochs (voc07: 90, else 10)")
    command.add_argument("--seed", type=int, default=0, help="held-out images, order, views, solvers (default: 0)")
    add_out(command, "also write the rows to this JSON-lines file", required=False)
    add_data(command)
    add_device(command)
    add_runtime(command, "auto", "torch", "sparse")
    command.set_defaults(refuse=command.error)
    add_json(command)


def run(args: argparse.Namespace) -> None:
    """Measure and print one row a stage; where stages compete, the one chosen on held-out images is marked."""
    from sslprune.files import refuse_existing, write_atomic
    from sslprune.zoo.info import info_of
    from sslprune.zoo.load import load
    from sslprune.zoo.write import write_lines

    if args.out:
        refuse_existing(args.out, force=args.force)
    if args.runtime == "sparse" and args.task == "finetune":
        args.refuse("--runtime sparse does not go with --task finetune: the engine cannot train")
    use_device(args)
    model = load(args.model, keep=args.keep, device=args.device)
    info = info_of(model)
    source = open_data(args, size=info.preprocessing.size)
    with heard("sslprune.evaluate.reader"):
        rows = measure(model, source, args)
    if args.out:
        write_atomic(args.out, partial(write_lines, rows=rows))
    if args.json:
        print_json({"schema": 1, "rows": rows})
        return
    _print(rows)


def open_data(args: argparse.Namespace, *, size: int) -> Source:
    """The data of `--data`: in memory, or read image by image where it is too large for that."""
    from sslprune.data import sources
    from sslprune.data.large import is_large, open_large

    if is_large(args.data):
        return open_large(args.data, data_dir=args.data_dir, size=size)
    return sources.open(args.data, data_dir=args.data_dir, download=args.download, size=size)


def measure(model: nn.Module, source: Source, args: argparse.Namespace) -> list[Row]:
    """The rows of one task, by the flags of `evaluate`."""
    from sslprune.data.large import LargeSource
    from sslprune.evaluate.semi import FewLabels

    train, test, multi = read(source, args.task, seed=args.seed)
    more: dict[str, Any] = {}
    if args.labels is not None:
        if isinstance(source, LargeSource):
            raise _refused(f"--labels does not go with {source.name}", "Give data that fits into memory.")
        if multi:
            raise _refused(f"--labels does not go with {source.name}", "Leave it out: its images have several labels.")
        part = FewLabels(args.labels, args.task, source.name).of(train)
        train, more = part.data, {"few_labels": part.described()}
    if args.task in ("linear", "knn"):
        return _stage_rows(model, source, args, train, test, more)
    return _protocol_rows(model, source, args, train, test, multi, more)


def read(source: Source, task: str, *, seed: int = 0, batch: int = 256) -> tuple[Data, Data, bool]:
    """What to train and to measure on, and whether images have several labels.

    Of data that is too large for memory both are squares of the images' centres, as large as the network's images, or
    a seventh larger to train on, where views are cut out of them.

    Raises:
        DatasetError: The task does not go with the source's labels.
    """
    from sslprune.data.large import LargeSource
    from sslprune.data.voc07 import MultiLabelSource

    if isinstance(source, LargeSource) and source.classes and task != "svm":
        from sslprune.data.centre import centre_crops

        larger = round(source.size * 8 / 7)
        test_data = centre_crops(source.val, resized=larger, cropped=source.size)
        if task in ("linear", "knn"):
            return centre_crops(source.train, resized=larger, cropped=source.size), test_data, False
        return centre_crops(source.train, batch=batch, resized=larger, cropped=larger, shuffled=seed), test_data, False
    train, test = splits(source)
    if isinstance(source, MultiLabelSource):
        if task not in ("svm", "finetune"):
            raise _refused(
                f"images of {source.name} have several labels, which {task} cannot use",
                "Give --task svm or --task finetune.",
            )
        return source.multi_labelled(train), source.multi_labelled(test), True
    if task == "svm":
        raise _refused(f"images of {source.name} have one label, which the svm task cannot use", "Give --data voc07.")
    return source.labelled(train), source.labelled(test), False


def splits(source: Source) -> tuple[str, str]:
    """The names of what to train and to measure on: train and test, or val where there is no test."""
    from sslprune.data.large import LargeSource
    from sslprune.data.voc07 import MultiLabelSource

    if isinstance(source, MultiLabelSource):
        return source.protocol_splits
    if isinstance(source, LargeSource):
        return "train", "val" if "val" in source.encoded else "test"
    return "train", "test" if "test" in source.splits() or "val" not in source.splits() else "val"


def describe(model: nn.Module, source: Source, seed: int, more: dict[str, Any]) -> About:
    """What a row says of a model and a source."""
    from sslprune.evaluate.rows import About
    from sslprune.zoo.info import info_of

    info = info_of(model)
    train, test = splits(source)
    recipe, size = info.manifest.recipe_sha256, info.preprocessing.size
    return About(info.name, info.keep, source.name, train, test, seed, recipe, size, more)


def _stage_rows(
    model: nn.Module, source: Source, args: argparse.Namespace, train: Data, test: Data, more: dict[str, Any]
) -> list[Row]:
    from sslprune.evaluate.transfer import evaluate_backbone
    from sslprune.zoo.info import info_of

    info = info_of(model)
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
        runtime=args.runtime,
    ).rows
    for row in rows:
        row["split"] = splits(source)[1]
        row["protocol"].update(more)
    return rows


def _protocol_rows(
    model: nn.Module,
    source: Source,
    args: argparse.Namespace,
    train: Data,
    test: Data,
    multi: bool,
    more: dict[str, Any],
) -> list[Row]:
    from sslprune.evaluate.finetune import VOC07, finetune
    from sslprune.evaluate.rows import finetune_rows, sgd_rows, svm_rows
    from sslprune.evaluate.sgd_probe import SgdLinear, sgd_eval
    from sslprune.evaluate.svm import svm_eval

    about = describe(model, source, args.seed, more)
    options: dict[str, Any] = {"seed": args.seed, "device": args.device, "progress": progress()}
    if args.task in ("svm", "sgd"):
        options["runtime"] = args.runtime
    if args.task == "svm":
        svm = svm_eval(model, train, test, classes=source.classes, stage=args.stage, **options)
        return svm_rows(svm, model, about)
    many = len(source.classes)
    if args.task == "sgd":
        protocol = SgdLinear() if args.steps is None else SgdLinear().scaled(args.steps)
        sgd = sgd_eval(model, train, test, num_classes=many, stage=args.stage, protocol=protocol, **options)
        return sgd_rows(sgd, model, about)
    recipe = VOC07 if multi else None
    tuned = finetune(model, train, test, protocol=recipe, epochs=args.epochs, num_classes=many, **options)
    return finetune_rows(tuned, about, source.classes)


def _print(rows: list[Row]) -> None:
    first = rows[0]
    counts = first["counts"]
    pool = f", pool {first['protocol']['pool']}" if "pool" in first["protocol"] else ""
    images = f"{counts['n_train']} + {counts['n_test']} images" + ("" if first["split"] == "test" else " (train, val)")
    print(f"{first['name']} on {first['data']}: {first['task']}, {images}{pool}")
    if first["task"] in ("linear", "knn"):
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
        print(table(["stage", "test", "held out", "dims", ""], lines))
        return
    lines = [[row["layer"] or "all", f"{row['value']:.2f} %", row["counts"].get("dims", "")] for row in rows]
    print(table(["stage", first["metric"], "dims"], lines))
    for row in rows:
        if "ap" in row["protocol"]:
            costs = row["protocol"].get("cost", {})
            each = [[name, f"{ap:.2f} %", costs.get(name, "")] for name, ap in row["protocol"]["ap"].items()]
            print(table(["class", "ap", "cost" if costs else ""], each))


def _refused(problem: str, hint: str) -> Exception:
    from sslprune.errors import DatasetError

    return DatasetError(f"{problem}.", hint)
