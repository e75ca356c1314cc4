"""`sslprune prune`: prune a model, or a checkpoint from outside, once and without training."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from sslprune.commands.shared import (
    Subparsers,
    add_command,
    add_data,
    add_json,
    add_out,
    print_json,
    rate,
    say,
    size,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sslprune.graph.surgery import Kept
    from sslprune.masks import Mask
    from sslprune.models import Preprocessing
    from sslprune.zoo.names import Name

SCORES = ("magnitude", "lamp", "synflow", "random", "channels-l1", "channels-l2")
BATCHES, BATCH = 40, 128
"""What batch norm is measured on anew."""


def add(commands: Subparsers) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "prune",
        run,
        "Prune a model or a checkpoint once, without retraining, and write it as a new model's folder.",
        example="sslprune prune rotnet-resnet20-keep100% --keep 0.3 --out my-model",
    )
    command.add_argument(
        "source",
        help="a model's name or folder; or a checkpoint (.safetensors, .pth, .th, timm:NAME, torchvision:NAME)",
    )
    command.add_argument(
        "--keep", type=float, required=True, metavar="FRACTION", help="fraction of prunable weights to keep"
    )
    command.add_argument("--score", choices=SCORES, default="magnitude", help="what a weight, or a channel, is worth")
    command.add_argument(
        "--scope",
        choices=("global", "layer", "erk"),
        default="global",
        help="rank all weights together, each layer's, or with Erdos-Renyi-kernel densities",
    )
    command.add_argument("--guard", type=int, default=0, metavar="N", help="keep at least N weights in every layer")
    command.add_argument("--stem-keep", type=float, metavar="FRACTION", help="keep rate of the first convolution")
    command.add_argument("--first-convs", type=int, metavar="N", help="prune only the first N convolutions")
    command.add_argument("--seed", type=int, default=0, help="of the random score")
    command.add_argument(
        "--recalibrate", metavar="DATA", help="measure batch norm's statistics anew on this data set's training images"
    )
    add_out(command, "the new model's folder")
    outside = command.add_argument_group("checkpoints from outside")
    outside.add_argument("--arch", help="the network it is of (resnet20, or a timm name)")
    outside.add_argument("--prefix", default="", help="take only the keys below it")
    outside.add_argument("--rename", action="append", default=[], metavar="OLD=NEW", help="a module spelled otherwise")
    outside.add_argument("--mean", type=_three, metavar="R,G,B", help="means its images were normalised with")
    outside.add_argument("--std", type=_three, metavar="R,G,B", help="deviations, likewise")
    outside.add_argument("--size", type=int, metavar="PIXELS", help="height and width of its images")
    outside.add_argument("--family", metavar="NAME", help="its name, such as labels-resnet20-cifar10")
    outside.add_argument("--licence", help="SPDX identifier of the weights' licence")
    outside.add_argument("--data-terms", help="terms of the data that the weights saw")
    add_data(command)
    add_json(command)


@dataclass(frozen=True)
class _Given:
    """What is pruned, and what is known of it."""

    model: nn.Module
    mask: Mask
    name: Name
    architecture: str
    preprocessing: Preprocessing
    licence: str
    data_terms: str
    parent: str
    versions: dict[str, str]


def run(args: argparse.Namespace) -> None:
    """Prune and write."""
    from sslprune import models
    from sslprune.errors import KeepError
    from sslprune.files import refuse_existing
    from sslprune.masks import Mask
    from sslprune.models.foreign import is_foreign
    from sslprune.prune.criteria import Criterion, find
    from sslprune.prune.recalibrate import recalibrate_
    from sslprune.prune.structured import slim
    from sslprune.zoo.write import Evidence, write_model

    refuse_existing(args.out, force=args.force)
    criterion = Criterion(args.score, args.scope, args.guard, args.stem_keep, args.first_convs, args.seed)
    given = _from_outside(args) if is_foreign(args.source) else _from_zoo(args)
    model, pixels = given.model, given.preprocessing.size
    images = _calibration(args, given.preprocessing) if args.recalibrate else None
    channels: Mapping[str, Kept] = {}
    if criterion.norm is not None:
        model, done = slim(model, args.keep, pixels, within=given.mask, norm=criterion.norm)
        mask, channels = Mask.nonzero(models.prunable(model)), done.channels
    else:
        mask = find(models.prunable(model), args.keep, criterion, within=given.mask, model=model, size=pixels)
        mask.apply_(model)
    if mask.kept == 0:
        raise KeepError(f"--keep {args.keep:g} keeps none of {mask.prunable} weights.", "Give a larger one.")
    if images is not None:
        recalibrate_(model, images)
    variant = "oneshot" if criterion.norm is None else "slim"
    manifest = write_model(
        args.out,
        replace(given.name, keep=args.keep, variant="-".join(part for part in (given.name.variant, variant) if part)),
        model,
        mask,
        architecture=given.architecture,
        preprocessing=given.preprocessing,
        licence=given.licence,
        data_terms=given.data_terms,
        evidence=Evidence(versions=given.versions, parent=given.parent),
        channels=channels,
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


def _from_zoo(args: argparse.Namespace) -> _Given:
    from sslprune.errors import ArchitectureError
    from sslprune.zoo.info import info_of
    from sslprune.zoo.load import load
    from sslprune.zoo.names import Name

    model = load(args.source)
    info = info_of(model)
    if info.channels:
        raise ArchitectureError(f"{info.name} has lost channels already.", "Prune the network that it came from.")
    manifest = info.manifest
    return _Given(
        model,
        info.mask,
        Name.parse(info.name),
        info.architecture,
        info.preprocessing,
        manifest.licence,
        manifest.data_terms,
        manifest.parent or info.name,
        dict(manifest.versions),
    )


def _from_outside(args: argparse.Namespace) -> _Given:
    from sslprune import models
    from sslprune.errors import ManifestError
    from sslprune.evaluate.results import versions
    from sslprune.masks import Mask
    from sslprune.models import Preprocessing
    from sslprune.models.foreign import load_foreign
    from sslprune.zoo.names import Name

    if not args.licence or not args.data_terms:
        raise ManifestError(
            f"{args.source} comes from outside, so its licence and the terms of its data are not known.",
            "Say both: --licence BSD-2-Clause --data-terms 'CIFAR-10, research use with citation'.",
        )
    arch = args.arch and models.registered_name(args.arch, args.size or 32)
    foreign = load_foreign(args.source, arch, prefix=args.prefix, rename=args.rename)
    usual: dict[str, Any] = getattr(foreign.model, "pretrained_cfg", None) or {}
    preprocessing = Preprocessing(
        args.mean or tuple(usual["mean"]), args.std or tuple(usual["std"]), args.size or usual["input_size"][-1]
    )
    if foreign.set_aside:
        say(f"{len(foreign.set_aside)} keys without the prefix {args.prefix!r} were set aside.")
    if args.mean is None or args.std is None:
        say(f"Pre-processing not given in full; taken: mean {preprocessing.mean}, std {preprocessing.std}.")
    name = Name.parse(f"{args.family or f'external-{args.arch or foreign.architecture}-unknown'}-keep100%")
    mask = Mask.nonzero({key: weight.detach() for key, weight in models.prunable(foreign.model).items()})
    return _Given(
        foreign.model,
        mask,
        name,
        foreign.architecture,
        preprocessing,
        args.licence,
        args.data_terms,
        str(name),
        {**versions(), "checkpoint": f"sha256:{foreign.sha256}"},
    )


def _calibration(args: argparse.Namespace, preprocessing: Preprocessing) -> Iterator[Tensor]:
    """Views of training images: crops after padding by an eighth of the side, and flips."""
    from sslprune.data import sources
    from sslprune.data.device_loader import DeviceLoader
    from sslprune.errors import DatasetError

    source = sources.open(args.recalibrate, data_dir=args.data_dir, download=args.download, size=preprocessing.size)
    if source.size != preprocessing.size:
        raise DatasetError(
            f"{source.name} has images of {source.size} pixels, the network takes {preprocessing.size}.",
            "Choose training images of its own size.",
        )
    load = DeviceLoader(
        source.split("train").images,
        None,
        batch=BATCH,
        mean=preprocessing.mean,
        std=preprocessing.std,
        seed=args.seed,
        padding=preprocessing.size // 8,
        flip=True,
    )
    return (load(0, update)[0].images for update in range(BATCHES))


def _three(text: str) -> tuple[float, float, float]:
    red, green, blue = (float(number) for number in text.split(","))
    return red, green, blue


_three.__name__ = "three numbers"  # what argparse calls it where the text is something else
