"""`sslprune prune`: prune a model once, without training."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace

from sslprune.commands.shared import Subparsers, add_command, add_json, add_out, print_json, rate, say, size


def add(commands: Subparsers) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "prune",
        run,
        "Prune a model once by magnitude, without retraining, and write it as a new model's folder.",
        example="sslprune prune rotnet-resnet20-keep100% --keep 0.3 --out my-model",
    )
    command.add_argument("source", help="a model's name or folder")
    command.add_argument(
        "--keep", type=float, required=True, metavar="FRACTION", help="fraction of prunable weights to keep"
    )
    command.add_argument(
        "--scope", choices=("global", "layer"), default="global", help="rank all weights together, or each layer's"
    )
    add_out(command, "the new model's folder")
    add_json(command)


def run(args: argparse.Namespace) -> None:
    """Prune and write."""
    from sslprune import models
    from sslprune.errors import KeepError
    from sslprune.files import refuse_existing
    from sslprune.prune.magnitude import prune
    from sslprune.zoo.info import info_of
    from sslprune.zoo.load import load
    from sslprune.zoo.names import Name
    from sslprune.zoo.write import Evidence, write_model

    refuse_existing(args.out, force=args.force)
    model = load(args.source)
    info = info_of(model)
    weights = models.prunable(model)
    mask = prune(weights, args.keep, within=info.mask, scope=args.scope)
    if mask.kept == 0:
        raise KeepError(f"--keep {args.keep:g} keeps none of {mask.prunable} weights.", "Give a larger one.")
    mask.apply_(model)
    source = Name.parse(info.name)
    manifest = write_model(
        args.out,
        replace(source, keep=args.keep, variant="-".join(part for part in (source.variant, "oneshot") if part)),
        model,
        mask,
        architecture=info.architecture,
        preprocessing=info.preprocessing,
        licence=info.manifest.licence,
        data_terms=info.manifest.data_terms,
        evidence=Evidence(versions=info.manifest.versions, parent=info.manifest.parent or info.name),
        force=args.force,
    )
    if args.json:
        print_json(asdict(manifest))
        return
    print(
        f"{manifest.name}: {manifest.kept:,} of {manifest.prunable:,} weights "
        f"({rate(manifest.keep)}), {size(manifest.bytes)}"
    )
    say(f"Not retrained. Next: sslprune evaluate {args.out} --task linear --data SOURCE")
