"""`sslprune export`: take a model away as a file, or as a folder for plain timm."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sslprune.commands.shared import Subparsers, add_command, add_json, add_out, print_json, rate, say, size


def add(commands: Subparsers) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "export",
        run,
        "Write a model as a sparse file, its mask alone, or a dense folder that plain timm opens.",
        example="sslprune export rotnet-resnet20-keep5% --format safetensors --half --out small.safetensors",
    )
    command.add_argument("model", help="a model's name or folder")
    command.add_argument(
        "--format", choices=tuple(_WRITERS), required=True, help="safetensors (sparse), mask, or dense (a folder)"
    )
    command.add_argument("--keep", type=float, metavar="FRACTION", help="the keep rate, where the name leaves it out")
    command.add_argument(
        "--half", action="store_true", help="store weights as fp16 (rounded; the largest error is printed)"
    )
    add_out(command, "the file, or for dense the folder")
    add_json(command)


def run(args: argparse.Namespace) -> None:
    """Write it and say how large it is."""
    from sslprune.files import refuse_existing
    from sslprune.zoo.load import load

    refuse_existing(args.out, force=args.force)
    model = load(args.model, keep=args.keep)
    info = _info(model)
    _WRITERS[args.format](model, args.out, args)
    files = [path for path in args.out.rglob("*") if path.is_file()] if args.out.is_dir() else [args.out]
    total = sum(path.stat().st_size for path in files)
    error = _largest_rounding(model, args.format) if args.half else 0.0
    if args.json:
        document = {"schema": 1, "name": info.name, "format": args.format, "out": str(args.out)}
        print_json({**document, "bytes": total, "max_rounding_error": error})
        return
    say(f"{info.name} ({rate(info.keep)}) as {args.format}: {size(total)} -> {args.out}")
    if args.half:
        say(f"fp16 changes no weight by more than {error:.3g}.")


def _info(model: Any) -> Any:
    from sslprune.zoo.info import info_of

    return info_of(model)


def _sparse(model: Any, out: Path, args: argparse.Namespace) -> None:
    from sslprune.export import sparse_file

    # The format rounds only what has a mask; one of ones costs a bit a weight and saves sixteen.
    masks = _info(model).mask.items()
    pruned = {name: kept.numpy() for name, kept in masks if args.half or not bool(kept.all())}
    arrays = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    sparse_file.write(out, arrays, pruned, metadata=_facts(model), values="fp16" if args.half else "fp32")


def _mask(model: Any, out: Path, args: argparse.Namespace) -> None:
    from sslprune.export import sparse_file

    sparse_file.write_mask(
        out, {name: kept.numpy() for name, kept in _info(model).mask.items()}, metadata=_facts(model)
    )


def _dense(model: Any, out: Path, args: argparse.Namespace) -> None:
    """timm's layout: `timm.create_model("local-dir:OUT", pretrained=True)` opens it.

    Raises:
        SparseFileError: A number is too large for fp16.
    """
    import json

    import torch
    from safetensors.torch import save_file

    from sslprune.errors import SparseFileError
    from sslprune.files import new_folder
    from sslprune.zoo.names import Name
    from sslprune.zoo.write import config

    info = _info(model)
    state = {
        name: (tensor.half() if args.half and tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise SparseFileError(f"{name} has a number that is too large for fp16.", "Export without --half.")
    with new_folder(out, force=args.force) as draft:
        save_file(state, draft / "model.safetensors", metadata={"format": "pt"})
        table = config(Name.parse(info.name), model, info.architecture, info.preprocessing)
        (draft / "config.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def _facts(model: Any) -> dict[str, str]:
    from sslprune.zoo.names import Name
    from sslprune.zoo.write import facts

    info = _info(model)
    return facts(
        Name.parse(info.name),
        architecture=info.architecture,
        keep=info.keep,
        preprocessing=info.preprocessing,
        recipe_sha256=info.manifest.recipe_sha256,
        licence=info.manifest.licence,
    )


def _largest_rounding(model: Any, form: str) -> float:
    rounded = {"safetensors": set(_info(model).mask), "mask": set(), "dense": model.state_dict().keys()}[form]
    return max(
        (
            float((tensor - tensor.half().float()).abs().max())
            for name, tensor in model.state_dict().items()
            if name in rounded and tensor.is_floating_point()
        ),
        default=0.0,
    )


_WRITERS = {"safetensors": _sparse, "mask": _mask, "dense": _dense}
