"""`sslprune predict`: classify pictures with a published probe, or with a fine-tuned network's own classifier."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from sslprune.commands.shared import (
    Subparsers,
    add_command,
    add_json,
    add_runtime,
    at_least_one,
    print_json,
    say,
    table,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sslprune.zoo.info import Identity, ModelInfo


def add(commands: Subparsers) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "predict",
        run,
        "Classify pictures with a model's published linear probe, or with its own classifier where it was fine-tuned.",
        example="sslprune predict rotnet-resnet20-keep5% --head cifar10 cat.jpg",
    )
    command.add_argument("model", help="a model's name or folder")
    command.add_argument(
        "--head", metavar="TASK", help="which published probe, such as cifar10 (default: the model's own classifier)"
    )
    command.add_argument("--keep", type=float, metavar="FRACTION", help="the keep rate, where the name leaves it out")
    command.add_argument(
        "--top", type=at_least_one, default=3, metavar="N", help="how many classes to name (default: 3)"
    )
    add_runtime(command, "torch", "sparse", "onnx")
    command.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="picture files")
    add_json(command)


def run(args: argparse.Namespace) -> None:
    """Classify and print the likeliest classes of each picture."""
    import numpy as np

    from sslprune.data.decode import square

    identity, classes, logits = _LOADERS[args.runtime](args)
    predictions: list[dict[str, Any]] = []
    for path in args.images:
        found = logits(square(path, size=identity.preprocessing.size)[None])[0].astype(np.float64)
        chances = np.exp(found - found.max())
        chances /= chances.sum()
        top = np.argsort(-chances, kind="stable")[: args.top]
        predictions.append(
            {
                "image": str(path),
                "classes": [{"class": classes[index], "probability": round(float(chances[index]), 6)} for index in top],
            }
        )
    if args.json:
        print_json({"schema": 1, "name": identity.name, "head": args.head, "predictions": predictions})
        return
    lines = [
        [item["image"], *(f"{guess['class']} {guess['probability']:.1%}" for guess in item["classes"])]
        for item in predictions
    ]
    print(table(["image", *(f"#{rank + 1}" for rank in range(len(lines[0]) - 1))], lines))


_Loaded: TypeAlias = "tuple[Identity, Sequence[str], Callable[[NDArray[np.uint8]], NDArray[np.float32]]]"
"""Which model it is, its classes, and pictures [1,H,W,3] to logits [1,C]."""


def _with_torch(args: argparse.Namespace) -> _Loaded:
    from sslprune.zoo.load import load

    model = load(args.model, keep=args.keep, head=args.head)  # names torch where it is missing

    import torch

    from sslprune.models.head import HeadedBackbone
    from sslprune.zoo.info import info_of

    info = info_of(model)
    classes = model.classes if isinstance(model, HeadedBackbone) else own_classes(info, int(model.num_classes))  # type: ignore[arg-type]

    def logits(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            found: NDArray[np.float32] = model(info.preprocessing(picture)).numpy()
        return found

    return info, classes, logits


def _with_engine(args: argparse.Namespace) -> _Loaded:
    from sslprune.zoo.load import load

    model = load(args.model, keep=args.keep, head=args.head, runtime="sparse")
    if model.reason:
        say(f"dense, in torch: {model.reason}")
    classes = model.classes if args.head else own_classes(model.sslprune, int(model.network.num_classes))  # type: ignore[arg-type]
    return model.sslprune, classes, model


def own_classes(info: ModelInfo, outputs: int) -> Sequence[str]:
    """The classes of a network's own classifier, or their numbers where they have no names.

    Raises:
        UnknownHeadError: It has none.
    """
    from sslprune.errors import UnknownHeadError

    if not outputs:
        probes = ", ".join(info.manifest.heads) or "none"
        raise UnknownHeadError(
            f"{info.name} has no classifier of its own.", f"Give one of its published probes as --head: {probes}."
        )
    return info.classes or [str(number) for number in range(outputs)]


def _with_onnx(args: argparse.Namespace) -> _Loaded:
    from sslprune.errors import UnknownHeadError
    from sslprune.zoo.load import load

    if args.head is None:
        raise UnknownHeadError("--runtime onnx runs published probes only.", "Give --head, or --runtime torch.")
    model = load(args.model, keep=args.keep, head=args.head, runtime="onnx")
    assert model.sslprune is not None
    return model.sslprune, model.classes, model


_LOADERS = {"torch": _with_torch, "sparse": _with_engine, "onnx": _with_onnx}
