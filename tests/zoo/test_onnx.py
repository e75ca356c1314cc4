"""Models of the zoo as ONNX: what the folders carry, what the command writes, and when it is left out."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

import sslprune
from sslprune.cli import main
from sslprune.errors import UnknownHeadError
from sslprune.export import parity
from sslprune.models.head import POOLED, read_head
from sslprune.zoo.index import Entry, open_index
from sslprune.zoo.manifest import Manifest, verify
from sslprune.zoo.onnx import FILE, SWITCH, export_loaded, folder_outputs, loaded_outputs
from sslprune.zoo.write import amend

NAME = "rotnet-resnet20-cifar10-keep5%"
BUNDLED = [entry for entry in open_index().entries if entry.status == "bundled"]


def said(path: Path) -> dict[str, str]:
    return {each.key.removeprefix("sslprune."): each.value for each in onnx.load(path).metadata_props}


def outputs_of(path: Path) -> list[str]:
    return [output.name for output in onnx.load(path).graph.output]


@pytest.fixture
def with_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders are written with their ONNX file, as they are outside of the tests."""
    monkeypatch.delenv(SWITCH, raising=False)


@pytest.mark.parametrize("entry", BUNDLED, ids=lambda entry: str(entry.name))
def test_every_bundled_model_carries_the_same_network_as_onnx(entry: Entry) -> None:
    verify(entry.folder, entry.manifest.files, [FILE])
    model = sslprune.load(str(entry.name))
    outputs = folder_outputs(entry.folder, entry.manifest.heads, model)
    stages = [read_head(entry.folder / f"head-{task}.safetensors").stage for task in entry.manifest.heads]
    assert outputs_of(entry.folder / FILE) == list(outputs) == ["features", *(s for s in stages if s != POOLED)]
    assert parity.parity(model, entry.folder / FILE, size=32, outputs=outputs) <= 1e-5
    assert said(entry.folder / FILE) == {
        "version": "1",
        "name": str(entry.name),
        "architecture": "resnet20_cifar",
        "keep": repr(entry.manifest.keep),
        "preprocessing": json.dumps(model.sslprune.preprocessing.to_json()),
        "output": "features",
        "values": "fp32",
        "licence": entry.manifest.licence,
        "data_terms": entry.manifest.data_terms,
        "source_sha256": entry.manifest.files["sparse.safetensors"].sha256,
    }


def test_onnx_files_shrink_with_the_keep_rate() -> None:
    sizes = {entry.name.keep: entry.manifest.files[FILE].size for entry in BUNDLED}
    assert [sizes[keep] for keep in sorted(sizes)] == sorted(sizes.values())
    for entry in BUNDLED:
        assert sizes[entry.name.keep] <= 1.05 * entry.manifest.bytes + 400_000


def test_a_folder_is_written_with_onnx_and_the_same_way_every_time(
    zoo: Any, tmp_path: Path, with_onnx: None, content_of: Any
) -> None:
    model = sslprune.load("rednet-resnet20-toy-keep5%")
    for name in ("one", "two"):
        manifest = sslprune.save(model, tmp_path / name)
    assert content_of(tmp_path / "one") == content_of(tmp_path / "two")
    assert list(manifest.files) == sorted(manifest.files)
    assert {path.name for path in (tmp_path / "one").iterdir()} == {*manifest.files, "manifest.json"}
    assert FILE in manifest.files
    verify(tmp_path / "one", manifest.files, manifest.files)
    assert outputs_of(tmp_path / "one" / FILE) == ["features"]
    assert said(tmp_path / "one" / FILE)["source_sha256"] == manifest.files["sparse.safetensors"].sha256
    assert parity.parity(model, tmp_path / "one" / FILE, size=32) <= 1e-5


@pytest.mark.slow
def test_a_folder_with_a_classifier_of_its_own_gives_logits(zoo: Any, tmp_path: Path, with_onnx: None) -> None:
    model = sslprune.load("rednet-resnet20-toy-keep5%", num_classes=7)
    sslprune.save(model, tmp_path / "mine")
    path = tmp_path / "mine" / FILE
    assert outputs_of(path) == ["logits"]
    assert (said(path)["output"], said(path)["classes"]) == ("logits", "[]")
    assert parity.parity(model, path, size=32, outputs=loaded_outputs(model, "logits")) <= 1e-5
    export_loaded(model, tmp_path / "features.onnx", output="features")
    features = loaded_outputs(model, "features")
    assert parity.parity(model, tmp_path / "features.onnx", size=32, outputs=features) <= 1e-5
    with torch.inference_mode():
        x = torch.randn(2, 3, 32, 32)
        assert torch.equal(features["features"](model, x), sslprune.load("rednet-resnet20-toy-keep5%")(x))


@pytest.mark.slow
def test_onnx_is_added_to_a_finished_folder_with_the_stages_of_its_heads(zoo: Any, tmp_path: Path) -> None:
    folder = zoo.copy("rednet-resnet20-toy-keep20%", tmp_path / "model")
    before = Manifest.load(folder)
    assert FILE not in before.files
    tool = Path(__file__).resolve().parents[2] / "tools" / "add_onnx.py"
    for _ in range(2):
        subprocess.run([sys.executable, str(tool), str(folder)], check=True, capture_output=True)
        manifest = Manifest.load(folder)
        assert manifest.files.keys() == before.files.keys() | {FILE}
        written = (folder / FILE).stat().st_mtime_ns
    assert (folder / FILE).stat().st_mtime_ns == written  # made once, the second run passed it over
    model = sslprune.load(folder)
    assert outputs_of(folder / FILE) == ["features", "layer3"]
    outputs = folder_outputs(folder, manifest.heads, model)
    assert parity.parity(model, folder / FILE, size=32, outputs=outputs) <= 1e-5


def test_a_switch_leaves_it_out(
    zoo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(SWITCH, "0")
    with caplog.at_level(logging.INFO, "sslprune"):
        manifest = sslprune.save(sslprune.load("rednet-resnet20-toy-keep5%"), tmp_path / "model")
    assert FILE not in manifest.files
    assert [record.getMessage() for record in caplog.records if "model.onnx" in record.getMessage()] == [
        "rednet-resnet20-toy-keep5% is written without model.onnx: SSLPRUNE_ONNX is 0."
    ]


@pytest.mark.slow
def test_without_the_extra_a_folder_is_whole_and_the_command_names_it(zoo: Any, tmp_path: Path) -> None:
    program = f"""
import logging, sys
sys.modules["onnxscript"] = None
logging.basicConfig(level=logging.INFO, format="%(message)s")
import sslprune
from sslprune.cli import main
from sslprune.zoo.verify import verify_model
sslprune.save(sslprune.load("rednet-resnet20-toy-keep5%"), {str(tmp_path / "model")!r})
sslprune.load({str(tmp_path / "model")!r})
sys.exit(main(["export", "rednet-resnet20-toy-keep5%", "--format", "onnx", "--out", {str(tmp_path / "x")!r}]))
"""
    environment = {key: value for key, value in os.environ.items() if key != SWITCH}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    why = "pip install 'sslprune[onnx]' brings what it needs."
    assert f"rednet-resnet20-toy-keep5% is written without model.onnx: {why}" in lines
    assert lines[-2].startswith("sslprune: writing ONNX needs onnxscript, which cannot be imported")
    assert lines[-1] == "Run: pip install 'sslprune[onnx]'"
    assert not (tmp_path / "x").exists()
    assert FILE not in Manifest.load(tmp_path / "model").files


def export(capsys: pytest.CaptureFixture[str], out: Path, *options: str) -> dict[str, Any]:
    code = main(["export", NAME, "--format", "onnx", "--out", str(out), "--json", *options])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return dict(json.loads(printed.out))


def test_the_command_writes_features(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = export(capsys, tmp_path / "x.onnx")
    assert document == {
        "schema": 1,
        "name": NAME,
        "format": "onnx",
        "out": str(tmp_path / "x.onnx"),
        "bytes": (tmp_path / "x.onnx").stat().st_size,
        "output": "features",
        "dense_bytes": document["dense_bytes"],
    }
    assert document["bytes"] < document["dense_bytes"] / 10
    assert parity.parity(sslprune.load(NAME), tmp_path / "x.onnx", size=32) <= 1e-5


def test_the_command_writes_logits_of_a_published_head_as_halves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = export(capsys, tmp_path / "x.onnx", "--head", "cifar10", "--half")
    model = sslprune.load(NAME, head="cifar10")
    outputs = loaded_outputs(model, None)
    assert list(outputs) == outputs_of(tmp_path / "x.onnx") == ["logits"]
    error = parity.parity(model, tmp_path / "x.onnx", size=32, outputs=outputs, batch=8)
    assert 1e-5 < document["max_output_error"] == error < 5e-3
    about = said(tmp_path / "x.onnx")
    assert (about["values"], about["output"]) == ("fp16", "logits")
    assert json.loads(about["classes"]) == list(model.classes)


@pytest.mark.slow
def test_features_of_a_network_with_a_probe_are_its_backbones(tmp_path: Path) -> None:
    model = sslprune.load(NAME, head="cifar10")
    export_loaded(model, tmp_path / "x.onnx", output="features")
    assert parity.parity(sslprune.load(NAME), tmp_path / "x.onnx", size=32) <= 1e-5


def test_logits_are_not_made_up(tmp_path: Path) -> None:
    with pytest.raises(UnknownHeadError, match=r"no classifier that could give logits\.\n.*cifar10"):
        export_loaded(sslprune.load(NAME), tmp_path / "x.onnx", output="logits")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", [["--head", "cifar10"], ["--output", "features"]])
def test_what_only_onnx_has_is_refused_elsewhere(
    option: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["export", NAME, "--format", "mask", "--out", str(tmp_path / "x"), *option])
    assert "belong to --format onnx" in capsys.readouterr().err


def test_an_amended_folder_keeps_its_onnx(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(BUNDLED[-1].folder, folder)
    manifest = amend(folder, {"notes.txt": lambda path: path.write_text("new")})
    assert FILE in manifest.files
    verify(folder, manifest.files, manifest.files)
