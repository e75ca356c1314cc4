"""A model's folder is written whole or not at all, and its manifest states what lies there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sslprune import jsonl
from sslprune.errors import (
    IntegrityError,
    ManifestError,
    MaskError,
    OutputExistsError,
    SparseFileError,
    StorageError,
)
from sslprune.export import sparse_file
from sslprune.masks import Mask
from sslprune.models import Preprocessing, build, prunable
from sslprune.models.cost import uses
from sslprune.models.preprocess import CIFAR_MEAN, CIFAR_STD
from sslprune.prune.magnitude import prune
from sslprune.zoo.index import scan
from sslprune.zoo.load import load
from sslprune.zoo.manifest import MANIFEST, Manifest, verify
from sslprune.zoo.names import Name
from sslprune.zoo.write import Evidence, Extra, amend, layer_records, write_model

ContentOf = Callable[[Path], dict[str, bytes]]

NAME = Name("rednet", "resnet20", "toy", "", 0.05)


@pytest.fixture(scope="module")
def pruned() -> tuple[nn.Module, Mask]:
    model = build("resnet20_cifar", seed=3)
    mask = prune(prunable(model), 0.05)
    mask.apply_(model)
    return model, mask


def write(folder: Path, model: nn.Module, mask: Mask, **changes: Any) -> Manifest:
    terms = {"licence": "Apache-2.0", "data_terms": "drawn by chance", "architecture": "resnet20_cifar"}
    preprocessing = Preprocessing(CIFAR_MEAN, CIFAR_STD, 32)
    return write_model(folder, NAME, model, mask, **{"preprocessing": preprocessing, **terms, **changes})


def test_the_manifest_states_what_lies_there(tmp_path: Path, pruned: tuple[nn.Module, Mask]) -> None:
    model, mask = pruned
    evidence = Evidence(
        rows=[{"value": 1.0}],
        metrics={"digits/knn": 88.5},
        recipe="seed = 7\n",
        recipe_sha256="a" * 64,
        seed=7,
        log=[{"event": "start"}, {"event": "end"}],
        versions={"torch": "2.13.0"},
    )
    manifest = write(tmp_path / "model", model, mask, evidence=evidence)
    assert manifest == Manifest.load(tmp_path / "model")
    there = {path.name for path in (tmp_path / "model").iterdir()}
    assert there == {*manifest.files, MANIFEST}
    assert there == {
        "sparse.safetensors",
        "config.json",
        "manifest.json",
        "results.jsonl",
        "train.log.jsonl",
        "recipe.toml",
    }
    verify(tmp_path / "model", manifest.files, manifest.files)
    assert (manifest.kept, manifest.prunable, manifest.keep) == (mask.kept, mask.prunable, mask.keep)
    assert manifest.kept == round(0.05 * mask.prunable)
    assert {layer.name: (layer.kept, layer.prunable) for layer in manifest.layers} == {
        line.name: (line.kept, line.prunable) for line in mask.table()
    }
    assert (manifest.name, manifest.parent) == ("rednet-resnet20-toy-keep5%", "rednet-resnet20-toy-keep100%")
    assert (manifest.metrics, manifest.recipe_sha256, manifest.seed) == ({"digits/knn": 88.5}, "a" * 64, 7)
    assert manifest.bytes == (tmp_path / "model" / "sparse.safetensors").stat().st_size
    assert (tmp_path / "model" / "recipe.toml").read_text() == evidence.recipe
    assert jsonl.read(tmp_path / "model" / "train.log.jsonl") == evidence.log


def test_counts_and_macs_of_layers_are_those_of_the_mask(pruned: tuple[nn.Module, Mask]) -> None:
    model, mask = pruned
    used = uses(model, 32)
    for layer in layer_records(model, mask, 32):
        assert (layer.kept, layer.prunable) == (int(mask[layer.name].sum()), mask[layer.name].numel())
        assert (layer.macs, layer.macs_left) == (layer.prunable * used[layer.name], layer.kept * used[layer.name])


def test_the_sparse_file_says_what_it_is_by_itself(tmp_path: Path, pruned: tuple[nn.Module, Mask]) -> None:
    model, mask = pruned
    write(tmp_path / "model", model, mask, evidence=Evidence(recipe_sha256="b" * 64))
    about = sparse_file.read_metadata(tmp_path / "model" / "sparse.safetensors")
    assert Preprocessing.from_json(json.loads(about.pop("preprocessing"))) == Preprocessing(CIFAR_MEAN, CIFAR_STD, 32)
    assert about == {
        "name": str(NAME),
        "architecture": "resnet20_cifar",
        "keep": repr(mask.keep),
        "recipe_sha256": "b" * 64,
        "licence": "Apache-2.0",
    }


def test_the_config_is_timm_s_with_one_object_of_ours(tmp_path: Path, pruned: tuple[nn.Module, Mask]) -> None:
    write(tmp_path / "model", *pruned)
    table = json.loads((tmp_path / "model" / "config.json").read_text())
    assert table.keys() == {"architecture", "num_classes", "num_features", "pretrained_cfg", "sslprune"}
    assert (table["architecture"], table["num_features"], table["num_classes"]) == ("resnet20_cifar", 64, 0)
    assert table["pretrained_cfg"]["input_size"] == [3, 32, 32]
    assert table["sslprune"]["name"] == str(NAME)
    assert table["sslprune"]["keep"] == 0.05


def test_the_same_model_makes_the_same_bytes(
    tmp_path: Path, pruned: tuple[nn.Module, Mask], content_of: ContentOf
) -> None:
    for which in ("one", "two"):
        write(tmp_path / which, *pruned)
    assert content_of(tmp_path / "one") == content_of(tmp_path / "two")


def test_a_parent_carries_the_state_that_the_ladder_rewinds_to(tmp_path: Path) -> None:
    model = build("resnet20_cifar", seed=3)
    rewound = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    name = replace(NAME, keep=1.0)
    manifest = write_model(
        tmp_path / "model",
        name,
        model,
        Mask.full(prunable(model)),
        architecture="resnet20_cifar",
        preprocessing=Preprocessing(CIFAR_MEAN, CIFAR_STD, 32),
        licence="Apache-2.0",
        data_terms="drawn by chance",
        extra=Extra(rewound=rewound),
    )
    assert manifest.parent is None
    found = sparse_file.read(tmp_path / "model" / "rewind.safetensors").tensors
    assert found.keys() == rewound.keys()
    assert all(torch.equal(torch.from_numpy(found[key]), tensor) for key, tensor in rewound.items())


def test_half_precision_is_the_nearest_half(tmp_path: Path, pruned: tuple[nn.Module, Mask]) -> None:
    model, mask = pruned
    half = write(tmp_path / "half", model, mask, values="fp16")
    whole = write(tmp_path / "whole", model, mask)
    assert half.bytes < whole.bytes
    for name, tensor in load(tmp_path / "half").state_dict().items():
        expected = model.state_dict()[name]
        assert torch.equal(tensor, expected.half().float() if name in mask else expected)


def refused(tmp_path: Path, error: type[Exception], problem: str, model: nn.Module, mask: Mask, **changes: Any) -> None:
    with pytest.raises(error, match=problem):
        write(tmp_path / "model", model, mask, **changes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("lacking", ["licence", "data_terms"])
def test_nothing_is_written_without_licence_and_terms(
    tmp_path: Path, pruned: tuple[nn.Module, Mask], lacking: str
) -> None:
    refused(tmp_path, ManifestError, "states no licence or no data terms", *pruned, **{lacking: ""})


def test_a_weight_outside_of_its_mask_is_not_written(tmp_path: Path) -> None:
    model = build("resnet20_cifar", seed=3)
    refused(tmp_path, MaskError, "outside its mask", model, prune(prunable(model), 0.05))


def test_a_number_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    for name in ("layer1.0.conv1.weight", "bn1.running_var"):
        model = build("resnet20_cifar", seed=3)
        model.state_dict()[name].view(-1)[0] = float("nan")
        refused(tmp_path, SparseFileError, name, model, Mask.full(prunable(model)))


def test_what_the_reader_would_refuse_is_not_written(tmp_path: Path, pruned: tuple[nn.Module, Mask]) -> None:
    model, mask = pruned
    refused(tmp_path, ManifestError, "recipe_sha256", model, mask, evidence=Evidence(recipe_sha256="abc"))
    empty = Mask({name: torch.zeros_like(kept) for name, kept in mask.items()})
    model = build("resnet20_cifar", seed=3)
    empty.apply_(model)
    refused(tmp_path, ManifestError, "keep 0.0", model, empty)


def test_an_existing_folder_is_replaced_only_by_force(
    tmp_path: Path, pruned: tuple[nn.Module, Mask], content_of: ContentOf
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").write_text("mine")
    with pytest.raises(OutputExistsError):
        write(tmp_path / "model", *pruned)
    assert content_of(tmp_path) == {"model/mine": b"mine"}
    write(tmp_path / "model", *pruned, force=True)
    assert "model/mine" not in content_of(tmp_path)
    load(tmp_path / "model")


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_writer_that_fails_leaves_the_old_model(
    tmp_path: Path, pruned: tuple[nn.Module, Mask], content_of: ContentOf, error: BaseException
) -> None:
    write(tmp_path / "model", *pruned)
    before = content_of(tmp_path)

    def fail(path: Path) -> None:
        path.write_text("half")
        raise error

    expected = StorageError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        write(tmp_path / "model", *pruned, force=True, extra=Extra(heads={"digits": fail}))
    assert content_of(tmp_path) == before
    with pytest.raises(expected):
        amend(tmp_path / "model", {"head-digits.safetensors": fail})
    assert content_of(tmp_path) == before
    load(tmp_path / "model")


def test_a_writer_that_is_killed_leaves_the_old_model(
    tmp_path: Path, zoo: Any, content_of: ContentOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = zoo.copy("rednet-resnet20-toy-keep5%", tmp_path / "zoo" / "model")
    before = content_of(folder)
    code = f"""
import os, signal
from pathlib import Path
from sslprune.zoo.write import amend

def die(path):
    path.write_text("half")
    (path.parent / "manifest.json").write_text((Path({str(folder)!r}) / "manifest.json").read_text())
    os.kill(os.getpid(), signal.SIGKILL)

amend(Path({str(folder)!r}), {{"results.jsonl": die}})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert content_of(folder) == before
    # What the dead writer left behind is no model.
    assert len(os.listdir(tmp_path / "zoo")) == 2
    assert [entry.folder for entry in scan(tmp_path / "zoo")] == [folder]
    load(folder)
    amend(folder, {"notes.txt": lambda path: path.write_text("after")})
    load(folder)


def test_amending_adds_replaces_and_restates(tmp_path: Path, zoo: Any, content_of: ContentOf) -> None:
    folder = zoo.copy("rednet-resnet20-toy-keep5%", tmp_path / "model")
    before, manifest = content_of(folder), Manifest.load(folder)
    files = {
        "curve.txt": lambda path: path.write_text("a curve"),
        "results.jsonl": lambda path: path.write_text("{}\n"),
        "nothing.jsonl": lambda path: None,
    }
    amended = amend(folder, files)
    after = content_of(folder)
    assert amended == Manifest.load(folder)
    assert after.pop("curve.txt") == b"a curve"
    assert after.pop("results.jsonl") == b"{}\n"
    changed = {"results.jsonl", MANIFEST}
    assert {name: data for name, data in after.items() if name not in changed} == {
        name: data for name, data in before.items() if name not in changed
    }
    verify(folder, amended.files, amended.files)
    assert amended.files.keys() == manifest.files.keys() | {"curve.txt"}
    assert replace(amended, files=manifest.files) == manifest


def test_amending_does_not_bless_a_file_that_changed(tmp_path: Path, zoo: Any, content_of: ContentOf) -> None:
    folder = zoo.copy("rednet-resnet20-toy-keep5%", tmp_path / "model")
    weights = bytearray((folder / "sparse.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "sparse.safetensors").write_bytes(weights)
    before = content_of(folder)
    with pytest.raises(IntegrityError, match=r"sparse\.safetensors has sha256"):
        amend(folder, {"notes.txt": lambda path: path.write_text("new")})
    assert content_of(folder) == before


def test_amending_takes_no_stranger_along(tmp_path: Path, zoo: Any) -> None:
    folder = zoo.copy("rednet-resnet20-toy-keep5%", tmp_path / "model")
    (folder / "stranger").write_text("")
    assert "stranger" not in amend(folder, {"notes.txt": lambda path: path.write_text("new")}).files
    assert not (folder / "stranger").exists()


def test_what_is_no_model_cannot_be_amended(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="is not a model's folder"):
        amend(tmp_path, {})
