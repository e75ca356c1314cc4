"""`sslprune finetune`: fine-tune a model on a labelled data set, its mask held, and save it with its classifier."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from sslprune.commands.evaluate import SOURCES, describe, open_data, read
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
    rate,
    say,
    size,
    use_device,
)

if TYPE_CHECKING:
    from torch import nn

    from sslprune.evaluate.finetune import Finetune
    from sslprune.masks import Mask


def add(commands: Subparsers) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "finetune",
        run,
        "Fine-tune all weights of a model on labelled images; what was pruned stays 0. Saves it with its classifier.",
        example="sslprune finetune rotnet-resnet20-keep5% --data cifar10 --out tuned",
    )
    command.add_argument("model", help="a model's name or folder")
    command.add_argument("--data", required=True, metavar="SOURCE", help=SOURCES)
    command.add_argument("--keep", type=float, metavar="FRACTION", help="the keep rate, where the name leaves it out")
    command.add_argument("--epochs", type=at_least_one, metavar="N", help="epochs (default: 10; voc07: 90)")
    command.add_argument("--lr", type=float, help="the first learning rate (default: 0.01)")
    command.add_argument("--batch", type=at_least_one, metavar="N", help="images a step (default: 128)")
    command.add_argument("--recipe", choices=("default", "cifar", "voc07"), help="constants (default: by the data)")
    command.add_argument("--labels", type=float, metavar="FRACTION", help="use labels on this part of each class only")
    command.add_argument("--prune-to", type=float, metavar="FRACTION", help="prune to this keep rate while fine-tuning")
    command.add_argument(
        "--prune-steps", type=at_least_one, default=5, metavar="N", help="in so many steps, at most (default: 5)"
    )
    command.add_argument("--seed", type=int, default=0, help="classifier, order, views (default: 0)")
    add_out(command, "the folder to write")
    add_data(command)
    add_device(command)
    add_json(command)


def run(args: argparse.Namespace) -> None:
    """Fine-tune, measure, save, and state the measurement in the folder's results.jsonl."""
    from sslprune.data.large import LargeSource
    from sslprune.errors import DatasetError
    from sslprune.evaluate.finetune import Finetune, finetune
    from sslprune.evaluate.rows import finetune_rows
    from sslprune.evaluate.semi import FewLabels
    from sslprune.files import refuse_existing
    from sslprune.zoo.info import info_of
    from sslprune.zoo.load import load
    from sslprune.zoo.save import save
    from sslprune.zoo.write import amend, write_lines

    refuse_existing(args.out, force=args.force)
    use_device(args)
    model = load(args.model, keep=args.keep, device=args.device)
    info = info_of(model)
    source = open_data(args, size=info.preprocessing.size)
    train, test, multi = read(source, "finetune", seed=args.seed, batch=args.batch or Finetune().batch)
    more: dict[str, Any] = {}
    if args.labels is not None and (multi or isinstance(source, LargeSource)):
        raise DatasetError(
            f"--labels does not go with {source.name}.",
            "Leave it out, or give data of one label an image that fits into memory.",
        )
    if args.labels is not None:
        part = FewLabels(args.labels, "finetune", source.name).of(train)
        train, more["few_labels"] = part.data, part.described()
    protocol = _protocol(args, multi)
    shrink = None
    if args.prune_to is not None:
        plan = _plan(args.prune_to, info.keep, args.prune_steps, protocol.epochs)
        shrink = partial(_shrink, plan)
        more["pruned_during"] = {"after_epochs": list(plan), "keeps": list(plan.values())}
    result = finetune(
        model,
        train,
        test,
        protocol=protocol,
        num_classes=len(source.classes),
        classes=source.classes,
        shrink=shrink,
        seed=args.seed,
        device=args.device,
        progress=progress(),
    )
    _rename(model, args)
    manifest = save(model, args.out, force=args.force)
    rows = finetune_rows(result, describe(model, source, args.seed, more), source.classes)
    amend(args.out, {"results.jsonl": partial(write_lines, rows=rows)})
    if args.json:
        folder = str(args.out)
        print_json({"schema": 1, "name": manifest.name, "folder": folder, "keep": manifest.keep, "rows": rows})
        return
    measured = f"{rows[0]['metric']} {rows[0]['value']:.2f} % on {source.name} ({rows[0]['split']})"
    print(f"{manifest.name}: {measured}, keep {rate(manifest.keep)}")
    say(f"Wrote {args.out} ({size(manifest.bytes)}). Next: sslprune.load({str(args.out)!r}) in Python.")


def _protocol(args: argparse.Namespace, multi: bool) -> Finetune:
    from sslprune.evaluate.finetune import CIFAR, VOC07, Finetune

    chosen = args.recipe or ("voc07" if multi else "default")
    protocol = {"default": Finetune(), "cifar": CIFAR, "voc07": VOC07}[chosen]
    if args.epochs is not None:
        protocol = protocol.scaled(args.epochs)
    lr = protocol.lr if args.lr is None else args.lr
    return replace(protocol, lr=lr, batch=args.batch or protocol.batch)


def _plan(keep: float, start: float, steps: int, epochs: int) -> dict[int, float]:
    """Epochs done to the keep rate from there on: in equal factors over the first half of the training."""
    from sslprune.errors import KeepError
    from sslprune.prune.during import iterative

    if not 0 < keep < start or epochs < 2:
        raise KeepError(
            f"cannot prune from {start:.4g} to {keep:.4g} within {epochs} epochs.",
            "Give a smaller keep rate than the model has, and two epochs or more.",
        )
    steps = min(steps, max(1, epochs // 2))
    after = [max(1, epochs * (step + 1) // (2 * steps)) for step in range(steps)]
    return dict(zip(after, (start * share for share in iterative(keep / start, steps)), strict=True))


def _shrink(plan: dict[int, float], epoch: int, weights: dict[str, nn.Parameter], mask: Mask) -> Mask:
    from sslprune.prune.magnitude import prune

    return prune(weights, plan[epoch], within=mask) if epoch in plan else mask


def _rename(model: nn.Module, args: argparse.Namespace) -> None:
    """A name of its own, as a variant: what it was fine-tuned on, and its keep rate if that is another now."""
    from sslprune.zoo.info import info_of
    from sslprune.zoo.names import Name

    info = info_of(model)
    before = Name.parse(info.name)
    kind, _, path = args.data.partition(":")
    on = re.sub(r"[^a-z0-9_.]+", "_", (path.rstrip("/").rpartition("/")[2] or kind).lower()).strip("_.") or kind
    variant = "-".join(part for part in (before.variant, f"ft-{on}") if part)
    name = replace(before, variant=variant, keep=args.prune_to or before.keep)
    manifest = replace(info.manifest, parent=info.name)
    model.sslprune = replace(info, name=str(name), manifest=manifest)  # type: ignore[assignment]
