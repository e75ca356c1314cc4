"""Write a model's folder: all of its files, then the manifest that states them; all or nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from sslprune.errors import ManifestError
from sslprune.export import sparse_file
from sslprune.files import new_folder
from sslprune.graph.surgery import Kept
from sslprune.masks import Mask
from sslprune.models import Preprocessing
from sslprune.models.cost import uses
from sslprune.zoo.channels import CHANNELS, write_channels
from sslprune.zoo.manifest import MANIFEST, FileRecord, LayerRecord, Manifest, verify
from sslprune.zoo.names import Name
from sslprune.zoo.onnx import add_to_folder


@dataclass(frozen=True)
class Evidence:
    """How a model came to be and what it was measured at.

    Args:
        rows: Result rows; one JSON object a line of `results.jsonl`.
        metrics: The headline figures, "data/task" -> per cent.
        recipe: The recipe's TOML text; empty for a model pruned by hand.
        recipe_sha256: Its identity.
        seed: Its seed.
        parent: The unpruned network that it came from; None: that of its own family.
        log: Rows of the training log that belong to this model.
        versions: Of the packages at work.
    """

    rows: Sequence[Mapping[str, Any]] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    recipe: str = ""
    recipe_sha256: str | None = None
    seed: int | None = None
    parent: str | None = None
    log: Sequence[Mapping[str, Any]] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Extra:
    """Further files of a folder.

    Args:
        heads: Task -> a function that writes the head's file at a path.
        rewound: Parents only: the state that the ladder rewinds to.
    """

    heads: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)
    rewound: Mapping[str, Tensor] | None = None


def write_model(
    folder: Path,
    name: Name,
    model: nn.Module,
    mask: Mask,
    *,
    architecture: str,
    preprocessing: Preprocessing,
    licence: str,
    data_terms: str,
    evidence: Evidence = Evidence(),
    extra: Extra = Extra(),
    channels: Mapping[str, Kept] = MappingProxyType({}),
    classes: Sequence[str] = (),
    values: Literal["fp32", "fp16"] = "fp32",
    force: bool = False,
) -> Manifest:
    """Write a model's folder atomically; with `model.onnx` where the extra `onnx` is installed (see `zoo.onnx`).

    Args:
        folder: The destination.
        name: The model's name; its keep is nominal, the manifest states the real one.
        model: A timm-API network, with or without a classifier, whose pruned weights are 0.
        mask: Which weights are kept.
        architecture: The timm name that `models.build` makes the network from.
        preprocessing: Of the training.
        licence: SPDX identifier of the weights' licence.
        data_terms: Terms of the data that the weights saw.
        evidence: Results, recipe, log.
        extra: Heads and, for parents, the rewound weights.
        channels: Of a compacted network: by layer, which of the architecture's channels it still has.
        classes: Names of the classes of the network's own classifier, one for each of its outputs; none to state none.
        values: Precision of the kept weights; "fp32" is bit-exact.
        force: Replace an existing folder.

    Returns:
        The manifest that was written.

    Raises:
        OutputExistsError: The folder exists and `force` is not set.
        MaskError: A pruned weight is not 0.
        SparseFileError: A value is not finite, or overflows fp16.
        StorageError: The disk is full or not writable.
    """
    if not licence or not data_terms:
        raise ManifestError(
            f"{name} states no licence or no data terms.", "Give both; a model is never written without."
        )
    with new_folder(folder, force=force) as draft:
        state = {key: tensor.detach().cpu() for key, tensor in model.state_dict().items()}
        pruned = {key: kept for key, kept in mask.items() if not bool(kept.all())}
        about = facts(
            name,
            architecture=architecture,
            keep=mask.keep,
            preprocessing=preprocessing,
            recipe_sha256=evidence.recipe_sha256,
            licence=licence,
        )
        sparse_file.write(draft / "sparse.safetensors", _arrays(state), _arrays(pruned), metadata=about, values=values)
        _write_json(draft / "config.json", config(name, model, architecture, preprocessing, classes))
        if channels:
            write_channels(draft / CHANNELS, channels)
        for task, write_head in extra.heads.items():
            write_head(draft / f"head-{task}.safetensors")
        if extra.rewound is not None:
            sparse_file.write(draft / "rewind.safetensors", _arrays(extra.rewound), {}, metadata=about)
        write_lines(draft / "results.jsonl", evidence.rows)
        write_lines(draft / "train.log.jsonl", evidence.log)
        if evidence.recipe:
            (draft / "recipe.toml").write_text(evidence.recipe, encoding="utf-8")
        manifest = _manifest(draft, name, model, mask, preprocessing, licence, data_terms, evidence)
        add_to_folder(draft, manifest, model, architecture, preprocessing)
        manifest = replace(manifest, files=_records(draft))
        text = manifest.to_json()
        Manifest.from_json(text, where=folder / MANIFEST)  # what the reader would refuse is never written
        (draft / MANIFEST).write_text(text, encoding="utf-8")
    return manifest


def amend(folder: Path, files: Mapping[str, Callable[[Path], None]]) -> Manifest:
    """Add or replace files of a model's folder, and restate them in its manifest; atomic, as a whole.

    Args:
        folder: The model's folder.
        files: Name -> a function that writes the file at a path.

    Raises:
        ManifestError: The folder is not a model's.
        IntegrityError: One of the files that stay is not what the manifest says.
        StorageError: The disk is full or not writable; the folder is as it was.
    """
    manifest = Manifest.load(folder)
    staying = {name: record for name, record in manifest.files.items() if name not in files}
    # A file that changed behind the manifest's back must not get its blessing.
    verify(folder, staying, staying)
    with new_folder(folder, force=True) as draft:
        for name in staying:
            shutil.copyfile(folder / name, draft / name)
        for name, write in files.items():
            write(draft / name)
        fresh = {name: FileRecord.of(draft / name) for name in files if (draft / name).exists()}
        amended = replace(manifest, files=dict(sorted((staying | fresh).items())))
        (draft / MANIFEST).write_text(amended.to_json(), encoding="utf-8")
    return amended


def config(
    name: Name, model: nn.Module, architecture: str, preprocessing: Preprocessing, classes: Sequence[str] = ()
) -> dict[str, Any]:
    """`config.json`: timm's keys, and ours in one object that timm ignores."""
    size = preprocessing.size
    return {
        "architecture": architecture,
        "num_classes": getattr(model, "num_classes", 0),
        "num_features": model.num_features,
        **({"label_names": list(classes)} if classes else {}),
        "pretrained_cfg": {
            "input_size": [3, size, size],
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "interpolation": preprocessing.interpolation,
            "num_classes": 0,
        },
        "sslprune": {
            "schema": 1,
            "name": str(name),
            "pretext": name.pretext,
            "arch": name.arch,
            "data": name.data,
            "variant": name.variant,
            "keep": name.keep,
            "preprocessing": preprocessing.to_json(),
        },
    }


def facts(
    name: Name,
    *,
    architecture: str,
    keep: float,
    preprocessing: Preprocessing,
    recipe_sha256: str | None,
    licence: str,
) -> dict[str, str]:
    """What a sparse file says of its network in its metadata."""
    return {
        "name": str(name),
        "architecture": architecture,
        "keep": repr(keep),
        "preprocessing": json.dumps(preprocessing.to_json()),
        "recipe_sha256": recipe_sha256 or "",
        "licence": licence,
    }


def layer_records(model: nn.Module, mask: Mask, size: int) -> tuple[LayerRecord, ...]:
    """Counts and MACs of every prunable tensor, for images of `size` x `size`."""
    used = uses(model, size)
    return tuple(
        LayerRecord(line.name, line.kept, line.prunable, line.prunable * used[line.name], line.kept * used[line.name])
        for line in mask.table()
    )


def _manifest(
    draft: Path,
    name: Name,
    model: nn.Module,
    mask: Mask,
    preprocessing: Preprocessing,
    licence: str,
    data_terms: str,
    evidence: Evidence,
) -> Manifest:
    layers = layer_records(model, mask, preprocessing.size)
    return Manifest(
        name=str(name),
        keep=mask.keep,
        kept=mask.kept,
        prunable=mask.prunable,
        macs=sum(layer.macs for layer in layers),
        macs_left=sum(layer.macs_left for layer in layers),
        layers=layers,
        files=_records(draft),
        metrics=dict(evidence.metrics),
        recipe_sha256=evidence.recipe_sha256,
        seed=evidence.seed,
        versions=dict(evidence.versions),
        licence=licence,
        data_terms=data_terms,
        parent=None if name.keep == 1 else evidence.parent or str(name.parent),
    )


def _records(draft: Path) -> dict[str, FileRecord]:
    return {path.name: FileRecord.of(path) for path in sorted(draft.iterdir())}


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in tensors.items()}


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as JSON lines; no file where there are none."""
    if rows:
        path.write_text("".join(json.dumps(row, allow_nan=False) + "\n" for row in rows), encoding="utf-8")
