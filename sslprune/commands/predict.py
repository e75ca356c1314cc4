"""`sslprune predict`: classify pictures with a published probe."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sslprune.commands.shared import Subparsers, add_command, add_json, at_least_one, print_json, table


def add(commands: Subparsers) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "predict",
        run,
        "Classify pictures with a model's published linear probe.",
        example="sslprune predict rotnet-resnet20-keep5% --head cifar10 cat.jpg",
    )
    command.add_argument("model", help="a model's name or folder")
    command.add_argument("--head", required=True, metavar="TASK", help="which published probe, such as cifar10")
    command.add_argument("--keep", type=float, metavar="FRACTION", help="the keep rate, where the name leaves it out")
    command.add_argument(
        "--top", type=at_least_one, default=3, metavar="N", help="how many classes to name (default: 3)"
    )
    command.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="picture files")
    add_json(command)


def run(args: argparse.Namespace) -> None:
    """Classify and print the likeliest classes of each picture."""
    import torch

    from sslprune.data.decode import square
    from sslprune.models.head import HeadedBackbone
    from sslprune.zoo.info import info_of
    from sslprune.zoo.load import load

    model = load(args.model, keep=args.keep, head=args.head)
    assert isinstance(model, HeadedBackbone)
    info = info_of(model)
    size = info.preprocessing.size
    classes = tuple(model.classes)
    predictions: list[dict[str, Any]] = []
    for path in args.images:
        image = info.preprocessing(square(path, size=size)[None])
        with torch.inference_mode():
            chances = model(image).softmax(1)[0]
        top = chances.topk(min(args.top, len(chances)))
        predictions.append(
            {
                "image": str(path),
                "classes": [
                    {"class": classes[index], "probability": round(float(chance), 6)}
                    for chance, index in zip(top.values, top.indices.tolist(), strict=True)
                ],
            }
        )
    if args.json:
        print_json({"schema": 1, "name": info.name, "head": args.head, "predictions": predictions})
        return
    lines = [
        [item["image"], *(f"{guess['class']} {guess['probability']:.1%}" for guess in item["classes"])]
        for item in predictions
    ]
    print(table(["image", *(f"#{rank + 1}" for rank in range(len(lines[0]) - 1))], lines))
