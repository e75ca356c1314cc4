"""`sslprune features`: write a data set's features to a file."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

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
    say,
    use_device,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sslprune.zoo.info import Identity


def add(commands: Subparsers) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "features",
        run,
        "Write a data set's features (and labels, where it has any) to an .npz file.",
        example="sslprune features rotnet-resnet20-keep5% --data folder:pictures --out features.npz",
    )
    command.add_argument("model", help="a model's name or folder")
    command.add_argument("--data", required=True, metavar="SOURCE", help="digits, cifar10, cifar100, folder:PATH")
    command.add_argument("--split", default="train", help="which part of the data (default: train)")
    command.add_argument("--keep", type=float, metavar="FRACTION", help="the keep rate, where the name leaves it out")
    command.add_argument("--stage", default="pooled", help="a stage's name, or 'pooled' (default)")
    command.add_argument(
        "--pool", type=at_least_one, default=1, metavar="N", help="pool the stage's map to N x N (default: 1)"
    )
    add_out(command, "the .npz file: `features` float32 [N, D], `labels` int64 [N]")
    add_data(command)
    add_device(command)
    add_runtime(command, "auto", "torch", "sparse", "onnx")
    command.set_defaults(refuse=command.error)
    add_json(command)


def run(args: argparse.Namespace) -> None:
    """Extract and write."""
    import numpy as np

    from sslprune.data import sources
    from sslprune.files import refuse_existing, write_atomic

    refuse_existing(args.out, force=args.force)
    identity, extract = (_with_onnx if args.runtime == "onnx" else _with_torch)(args)
    source = sources.open(args.data, data_dir=args.data_dir, download=args.download, size=identity.preprocessing.size)
    split = source.split(args.split)
    with heard("sslprune.evaluate.reader"):
        features = extract(split.images)
    labels = {} if split.labels is None else {"labels": split.labels}

    def write(path: Path) -> None:
        with open(path, "wb") as file:
            np.savez(file, allow_pickle=False, features=features, **labels)

    write_atomic(args.out, write)
    if args.json:
        print_json(
            {
                "schema": 1,
                "name": identity.name,
                "data": source.name,
                "split": args.split,
                "shape": features.shape,
                "out": str(args.out),
            }
        )
        return
    say(f"{features.shape[0]} x {features.shape[1]} features of {identity.name} -> {args.out}")


_Loaded: TypeAlias = "tuple[Identity, Callable[[NDArray[np.uint8]], NDArray[np.float32]]]"
"""Which model it is, and pictures [N,H,W,3] to features [N,D]."""


def _with_torch(args: argparse.Namespace) -> _Loaded:
    from functools import partial

    from sslprune.evaluate.features import extract
    from sslprune.zoo.info import info_of
    from sslprune.zoo.load import load

    use_device(args)
    model = load(args.model, keep=args.keep, device=args.device)
    options = {"stage": args.stage, "pool": args.pool, "device": args.device, "runtime": args.runtime}
    features = partial(extract, model, **options, progress=progress())
    return info_of(model), lambda images: features(images=images).numpy()


def _with_onnx(args: argparse.Namespace) -> _Loaded:
    from sslprune.zoo.load import load

    if args.threads:
        args.refuse("--threads is torch's; the runtime onnx takes OMP_NUM_THREADS from the environment")
    model = load(args.model, keep=args.keep, runtime="onnx", device=args.device)
    assert model.sslprune is not None
    return model.sslprune, lambda images: model.features(images, stage=args.stage, pool=args.pool)
