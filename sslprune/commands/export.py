"""`sslprune export`: take a model away as a file, or as a folder for plain timm."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from sslprune.commands.shared import Subparsers, add_command, add_json, add_out, print_json, rate, say, size

_IMAGES = 8
"""On which the error of an fp16 ONNX file is measured."""

_COSTS = ("parameters", "macs", "channels")


def add(commands: Subparsers) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "export",
        run,
        "Write a model as a sparse file, as ONNX, its mask alone, a dense folder for plain timm, or a compacted model.",
        example="sslprune export rotnet-resnet20-keep5% --format safetensors --half --out small.safetensors",
    )
    command.add_argument("model", help="a model's name or folder")
    command.add_argument(
        "--format",
        choices=tuple(_WRITERS),
        required=True,
        help="safetensors (sparse), onnx (small too, and any runtime opens it), mask, dense (a folder), or compact "
        "(a model's folder: same outputs with fewer channels)",
    )
    command.add_argument("--keep", type=float, metavar="FRACTION", help="the keep rate, where the name leaves it out")
    command.add_argument(
        "--half", action="store_true", help="store weights as fp16 (rounded; the largest error is printed)"
    )
    command.add_argument("--output", choices=("features", "logits"), help="onnx: what the file gives")
    command.add_argument("--head", metavar="TASK", help="onnx: classify with the published probe of this task")
    command.set_defaults(usage_error=command.error)
    add_out(command, "the file, or for dense and compact the folder")
    add_json(command)


def run(args: argparse.Namespace) -> None:
    """Write it and say how large it is."""
    from sslprune.files import refuse_existing
    from sslprune.zoo.load import load

    if args.format != "onnx" and (args.output or args.head):
        args.usage_error("--output and --head belong to --format onnx")
    refuse_existing(args.out, force=args.force)
    model = load(args.model, keep=args.keep, head=args.head)
    info = _info(model)
    facts = _WRITERS[args.format](model, args.out, args)
    files = [path for path in args.out.rglob("*") if path.is_file()] if args.out.is_dir() else [args.out]
    total = sum(path.stat().st_size for path in files)
    if args.json:
        document = {"schema": 1, "name": info.name, "format": args.format, "out": str(args.out)}
        print_json({**document, "bytes": total, **facts})
        return
    say(f"{info.name} ({rate(info.keep)}) as {args.format}: {size(total)} -> {args.out}")
    if dense := facts.get("dense_bytes"):
        say(f"With its weights dense in fp32 the same file takes {size(dense)}. It gives {facts['output']}.")
    if "macs" in facts:
        for what in _COSTS:
            before, after = facts[what]
            say(f"{what}: {before:,} -> {after:,} ({after / before:.1%})")
        say(f"Its outputs differ by {facts['max_rel_err']:.1g} of the largest (float64, random images).")
    if args.half and "max_rounding_error" in facts:
        say(f"fp16 changes no weight by more than {facts['max_rounding_error']:.3g}.")
    if args.half and "max_output_error" in facts:
        share = facts["max_output_error"]
        say(f"fp16 changes its outputs on {_IMAGES} random images by up to {share:.2g} of their scale.")


def _info(model: Any) -> Any:
    from sslprune.zoo.info import info_of

    return info_of(model)


def _onnx(model: Any, out: Path, args: argparse.Namespace) -> dict[str, Any]:
    from sslprune.export.parity import parity
    from sslprune.extras import require
    from sslprune.zoo.onnx import export_loaded, loaded_outputs, output_of

    output = output_of(model, args.output)
    if args.half:  # missed before anything is written
        require("onnxruntime", extra="onnx", purpose="measuring the error of fp16")
    values: Literal["fp32", "fp16"] = "fp16" if args.half else "fp32"
    dense = export_loaded(model, out, output=output, values=values, force=args.force)
    facts: dict[str, Any] = {"output": output, "dense_bytes": dense}
    if args.half:
        size = _info(model).preprocessing.size
        facts["max_output_error"] = parity(
            model, out, size=size, outputs=loaded_outputs(model, output), batch=_IMAGES
        )  # fmt: skip
    return facts


def _sparse(model: Any, out: Path, args: argparse.Namespace) -> dict[str, Any]:
    from sslprune.export import sparse_file

    # The format rounds only what has a mask; one of ones costs a bit a weight and saves sixteen.
    masks = _info(model).mask.items()
    pruned = {name: kept.numpy() for name, kept in masks if args.half or not bool(kept.all())}
    arrays = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    sparse_file.write(out, arrays, pruned, metadata=_facts(model), values="fp16" if args.half else "fp32")
    return _rounding(model, pruned.keys(), args)


def _mask(model: Any, out: Path, args: argparse.Namespace) -> dict[str, Any]:
    from sslprune.export import sparse_file

    sparse_file.write_mask(
        out, {name: kept.numpy() for name, kept in _info(model).mask.items()}, metadata=_facts(model)
    )
    return _rounding(model, (), args)


def _dense(model: Any, out: Path, args: argparse.Namespace) -> dict[str, Any]:
    """timm's layout: `timm.create_model("local-dir:OUT", pretrained=True)` opens it.

    Raises:
        SparseFileError: A number is too large for fp16.
        ArchitectureError: The network was compacted; timm cannot build it.
    """
    import json

    import torch
    from safetensors.torch import save_file

    from sslprune.errors import ArchitectureError, SparseFileError
    from sslprune.files import new_folder
    from sslprune.zoo.names import Name
    from sslprune.zoo.write import config

    info = _info(model)
    if info.channels:
        raise ArchitectureError(
            f"{info.name} was compacted, and timm cannot build a {info.architecture} with fewer channels.",
            "Export the model that it was made from, or this one as onnx.",
        )
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
    return _rounding(model, model.state_dict().keys(), args)


def _compact(model: Any, out: Path, args: argparse.Namespace) -> dict[str, Any]:
    """The same outputs with fewer channels, as a model's folder.

    Raises:
        ArchitectureError: No channel can be removed.
    """
    from sslprune.errors import ArchitectureError
    from sslprune.zoo.compact import compact
    from sslprune.zoo.save import save

    smaller = compact(model)
    done: Any = smaller.compaction
    if done.reason is not None:
        raise ArchitectureError(
            f"{_info(model).name} cannot be compacted: {done.reason}.",
            "Export it sparse: --format safetensors or onnx.",
        )
    save(smaller, out, values="fp16" if args.half else "fp32", force=args.force)
    costs = {what: (getattr(done.before, what), getattr(done.after, what)) for what in _COSTS}
    return {**costs, "max_rel_err": done.difference, **_rounding(smaller, _info(smaller).mask.keys(), args)}


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


def _rounding(model: Any, rounded: Collection[str], args: argparse.Namespace) -> dict[str, Any]:
    errors = (
        float((tensor - tensor.half().float()).abs().max())
        for name, tensor in model.state_dict().items()
        if name in rounded and tensor.is_floating_point()
    )
    return {"max_rounding_error": max(errors, default=0.0) if args.half else 0.0}


_WRITERS = {"safetensors": _sparse, "onnx": _onnx, "mask": _mask, "dense": _dense, "compact": _compact}
