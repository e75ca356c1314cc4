"""The command line: what it prints where, how it ends, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sslprune import __version__
from sslprune.cli import COMMANDS, main, parser
from sslprune.zoo.manifest import MANIFEST

NAME = "rednet-resnet20-toy-keep5%"

FIELDS = (
    "name",
    "pretext",
    "arch",
    "data",
    "keep",
    "kept",
    "prunable",
    "bytes",
    "macs",
    "metrics",
    "status",
    "licence",
)
NAMES = (
    "list",
    "show",
    "demo",
    "evaluate",
    "finetune",
    "predict",
    "features",
    "train",
    "sweep",
    "prune",
    "report",
    "bench",
    "export",
    "verify",
    "doctor",
)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """`run("list", "--json")`: the one JSON document that the command prints, which must end well."""

    def call(*arguments: object) -> Any:
        code = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        assert code == 0, printed.err
        return json.loads(printed.out)

    return call


@pytest.fixture
def fail(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """`fail("load", "x")`: the two lines that the command prints on stderr as it ends with 1."""

    def call(*arguments: object, printed: str = "") -> list[str]:
        code = main([str(argument) for argument in arguments])
        found = capsys.readouterr()
        assert code == 1
        assert found.out == printed
        lines = found.err.splitlines()
        assert len(lines) == 2
        assert lines[0].startswith("sslprune: ")
        return lines

    return call


@pytest.fixture
def refuse(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`refuse("list", "--colour")`: what the command prints on stderr as it ends with 2."""

    def call(*arguments: object) -> str:
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        found = capsys.readouterr()
        assert caught.value.code == 2
        assert found.out == ""
        return found.err

    return call


def shell(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sslprune", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


# The whole


def test_there_are_these_commands() -> None:
    assert len(COMMANDS) == len(NAMES)
    text = parser().format_help()
    assert all(f"\n    {name} " in text for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_helps_and_gives_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    found = capsys.readouterr()
    assert f"Example: sslprune {name}" in " ".join(found.out.split())
    assert "--json" in found.out
    assert found.err == ""


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_every_command_is_understood(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([name, "--help"])
    example = " ".join(capsys.readouterr().out.split()).partition("Example: sslprune ")[2]
    args = parser().parse_args(example.split())
    assert callable(args.run)


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"sslprune {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["unknown"],
        ["list", "--colour"],
        ["list", "--keep", "five"],
        ["show"],
        ["prune", NAME, "--out", "x"],
        ["export", NAME, "--format", "pickle", "--out", "x"],
        ["evaluate", NAME, "--data", "digits", "--task", "dance"],
        ["evaluate", NAME, "--data", "digits", "--pool", "0"],
        ["evaluate", NAME, "--data", "digits", "--threads", "0"],
        ["evaluate", NAME, "--data", "digits", "--threads", "two"],
        ["predict", NAME, "--head", "digits", "--top", "-1", "x.png"],
        ["predict", NAME, "--head", "digits"],
        ["verify"],
    ],
    ids=" ".join,
)
def test_a_wrong_use_ends_with_2(refuse: Callable[..., str], arguments: list[str]) -> None:
    assert "usage: sslprune" in refuse(*arguments)


def test_in_a_process_of_its_own(zoo: Any) -> None:
    done = shell("show", "rednet", "--keep", "0.05", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["name"] == NAME
    done = shell("show", "rednte")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[0] == "sslprune: there is no model 'rednte'."
    assert len(done.stderr.splitlines()) == 2
    done = shell("list", "--colour")
    assert (done.returncode, done.stdout) == (2, "")


def test_a_reader_that_goes_away_is_no_error(zoo: Any) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "sslprune", "list"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


# list, show


def test_the_list_is_spelled_as_promised(zoo: Any, run: Callable[..., Any]) -> None:
    document = run("list", "rednet", "--json")
    assert list(document) == ["schema", "models"]
    assert document["schema"] == 1
    assert [model["name"] for model in document["models"]] == [
        f"rednet-resnet20-toy-keep{percent}%" for percent in (100, 20, 5, 1)
    ]
    for model in document["models"]:
        assert tuple(model) == FIELDS
        assert (model["pretext"], model["arch"], model["data"]) == ("rednet", "resnet20", "toy")
        assert model["keep"] == model["kept"] / model["prunable"]
        assert model["bytes"] == (zoo.folder(model["name"]) / "sparse.safetensors").stat().st_size
        assert (model["status"], model["licence"]) == ("local", "Apache-2.0")


def test_the_list_is_narrowed(zoo: Any, run: Callable[..., Any]) -> None:
    def names(*arguments: str) -> list[str]:
        return [model["name"] for model in run("list", *arguments, "--json")["models"]]

    assert names("rednet", "--keep", "0.05") == names("rednet-*-keep5") == [NAME]
    assert len(names("--arch", "resnet20", "--data", "toy")) == 6
    assert names("--data", "nowhere") == []


def test_the_list_for_people(zoo: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "rednet"]) == 0
    found = capsys.readouterr()
    assert found.err == ""
    header, _rule, *lines = found.out.splitlines()
    assert header.split() == ["name", "keep", "weights", "file", "MACs", "digits/linear", "status"]
    assert [line.split()[0] for line in lines] == [f"rednet-resnet20-toy-keep{percent}%" for percent in (100, 20, 5, 1)]
    assert main(["list", "nothing-like-it"]) == 0
    found = capsys.readouterr()
    assert (found.out, found.err) == ("", "No model fits 'nothing-like-it'. All of them: sslprune list\n")


def test_a_model_is_shown(zoo: Any, run: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    document = run("show", "rednet-keep5", "--json")
    assert (document["schema"], document["name"], document["heads"]) == (1, NAME, ["digits"])
    assert main(["show", NAME]) == 0
    text = capsys.readouterr().out
    for word in (NAME, f"{document['kept']:,}", "drawn by chance", "heads: digits", "sparse.safetensors"):
        assert word in text
    assert text.count("conv") == len(document["manifest"]["layers"])


def test_what_cannot_be_shown_is_said_in_two_lines(zoo: Any, fail: Callable[..., list[str]]) -> None:
    assert fail("show", "rednet-keep50")[1] == "Its rungs: 100%, 20%, 5%, 1%."
    assert "leaves the keep rate open" in fail("show", "rednet")[0]
    assert "is not a fraction" in fail("show", "rednet", "--keep", "5")[0]
    assert "is not a fraction" in fail("show", "rednet", "--keep", "nan")[0]


# verify


def test_sound_models_pass(zoo: Any, run: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    document = run("verify", NAME, zoo.folder("bluenet-resnet20-toy-keep5%"), "--json")
    assert [(item["name"], item["ok"], item["problem"]) for item in document["models"]] == [
        (NAME, True, None),
        ("bluenet-resnet20-toy-keep5%", True, None),
    ]
    assert main(["verify", NAME]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == [NAME, "ok"]


def test_a_model_that_was_tampered_with_is_named_and_the_others_are_checked(
    zoo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("rednet-resnet20-toy-keep1%", NAME, "rednet-resnet20-toy-keep20%"):
        zoo.copy(name, tmp_path / "zoo" / name)
    monkeypatch.setenv("SSLPRUNE_ZOO", str(tmp_path / "zoo"))
    weights = tmp_path / "zoo" / NAME / "sparse.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    (tmp_path / "zoo" / "rednet-resnet20-toy-keep20%" / MANIFEST).write_text("{}")

    torn = str(tmp_path / "zoo" / "rednet-resnet20-toy-keep20%")
    for arguments in (["--all"], [torn, NAME, "rednet-keep1", "greennet-keep5"]):
        assert main(["verify", *arguments, "--json"]) == 1
        found = capsys.readouterr()
        models = {item["name"]: item for item in json.loads(found.out)["models"]}
        assert models["rednet-resnet20-toy-keep1%"]["ok"]
        assert not models[NAME]["ok"]
        assert "has sha256" in models[NAME]["problem"]
        assert not models[torn]["ok"]
        assert "is not a manifest" in models[torn]["problem"]
        lines = found.err.splitlines()
        assert len(lines) == 2
        assert NAME in lines[0]
        assert torn in lines[0]
        assert main(["verify", *arguments]) == 1
        table = capsys.readouterr().out
        assert "has sha256" in table
        assert "ok" in table


# export


def test_a_sparse_file_holds_the_model(zoo: Any, tmp_path: Path, run: Callable[..., Any]) -> None:
    from sslprune.export import sparse_file

    out = tmp_path / "deep" / "small.safetensors"
    document = run("export", NAME, "--format", "safetensors", "--out", out, "--json")
    assert document == {
        "schema": 1,
        "name": NAME,
        "format": "safetensors",
        "out": str(out),
        "bytes": out.stat().st_size,
        "max_rounding_error": 0.0,
    }
    found, written = sparse_file.read(out), sparse_file.read(zoo.folder(NAME) / "sparse.safetensors")
    assert out.read_bytes() == (zoo.folder(NAME) / "sparse.safetensors").read_bytes()
    assert found.metadata == written.metadata


@pytest.mark.parametrize("keep", [1, 0.05])
def test_half_precision_halves_the_values(zoo: Any, tmp_path: Path, run: Callable[..., Any], keep: float) -> None:
    from sslprune.export import sparse_file

    options = ("export", "rednet", "--keep", keep, "--format", "safetensors", "--json", "--out")
    whole, half = run(*options, tmp_path / "whole"), run(*options, tmp_path / "half", "--half")
    name = half["name"]
    kept, prunable = zoo.masks[name].kept, zoo.masks[name].prunable
    saved = whole["bytes"] - half["bytes"]
    assert saved > 2 * kept - prunable / 8 - 5000
    found = sparse_file.read(tmp_path / "half")
    largest = 0.0
    for key, tensor in zoo.states[name].items():
        array = tensor.numpy()
        expected = array.astype(np.float16).astype(np.float32) if key in zoo.masks[name] else array
        assert np.array_equal(found.tensors[key], expected)
        largest = max(largest, float(np.abs(expected - array).max()))
    assert half["max_rounding_error"] == largest > 0
    assert whole["max_rounding_error"] == 0


def test_a_mask_comes_back(zoo: Any, tmp_path: Path, run: Callable[..., Any]) -> None:
    from sslprune.export import sparse_file

    for name in (NAME, "rednet-resnet20-toy-keep100%"):
        run("export", name, "--format", "mask", "--out", tmp_path / name, "--json")
        masks = sparse_file.read_mask(tmp_path / name)
        assert masks.keys() == zoo.masks[name].keys()
        assert all(np.array_equal(masks[key], kept.numpy()) for key, kept in zoo.masks[name].items())
        assert sparse_file.read_metadata(tmp_path / name)["name"] == name


def test_a_dense_folder_opens_in_plain_timm(zoo: Any, tmp_path: Path, run: Callable[..., Any]) -> None:
    import torch

    from sslprune.models import backbones
    from sslprune.models.timm_api import create_model

    assert "resnet20_cifar" in backbones.OURS
    for half in ((), ("--half",)):
        out = tmp_path / f"dense{len(half)}"
        run("export", NAME, "--format", "dense", "--out", out, "--json", *half)
        assert {path.name for path in out.iterdir()} == {"model.safetensors", "config.json"}
        model = create_model(f"local-dir:{out}", pretrained=True)
        for key, tensor in model.state_dict().items():
            expected = zoo.states[NAME][key]
            floating = half and expected.is_floating_point()
            assert torch.equal(tensor, expected.half().float() if floating else expected)
        assert tuple(model.pretrained_cfg["mean"]) == (0.4914, 0.4822, 0.4465)


def test_a_dense_folder_keeps_a_trained_classifier(zoo: Any, tmp_path: Path, run: Callable[..., Any]) -> None:
    import torch

    import sslprune
    from sslprune.models.timm_api import create_model

    model = sslprune.load(NAME, num_classes=7)
    sslprune.save(model, tmp_path / "mine")
    run("export", tmp_path / "mine", "--format", "dense", "--out", tmp_path / "dense", "--json")
    again = create_model(f"local-dir:{tmp_path / 'dense'}", pretrained=True).eval()
    image = torch.ones(1, 3, 32, 32)
    assert torch.equal(again(image), model(image))


def test_a_number_too_large_for_half_precision_is_refused(
    zoo: Any, tmp_path: Path, fail: Callable[..., list[str]]
) -> None:
    import torch

    import sslprune

    model = sslprune.load(NAME)
    with torch.no_grad():
        model.bn1.running_var.fill_(1e5)
    sslprune.save(model, tmp_path / "mine")
    lines = fail("export", tmp_path / "mine", "--format", "dense", "--half", "--out", tmp_path / "dense")
    assert "bn1.running_var" in lines[0]
    assert not (tmp_path / "dense").exists()


def test_a_compacted_export_is_a_smaller_model(tmp_path: Path, run: Callable[..., Any]) -> None:
    name = "rotnet-resnet20-keep1%"
    found = run("export", name, "--format", "compact", "--out", tmp_path / "small", "--json")
    assert found["parameters"][1] < found["parameters"][0]
    assert found["max_rel_err"] < 1e-5
    again = run("export", tmp_path / "small", "--format", "onnx", "--out", tmp_path / "small.onnx", "--json")
    assert 0 < again["bytes"] < again["dense_bytes"]
    assert run("verify", tmp_path / "small", "--json")


def test_what_cannot_be_compacted_or_opened_by_timm_is_refused(
    tmp_path: Path, run: Callable[..., Any], fail: Callable[..., list[str]]
) -> None:
    said = fail("export", "rotnet-resnet20-keep100%", "--format", "compact", "--out", tmp_path / "no")
    assert "no channel can be removed" in said[0]
    run("export", "rotnet-resnet20-keep1%", "--format", "compact", "--out", tmp_path / "small", "--json")
    assert "was compacted" in fail("export", tmp_path / "small", "--format", "dense", "--out", tmp_path / "no")[0]
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("form", ["safetensors", "mask", "dense"])
def test_an_export_replaces_only_by_force(
    zoo: Any, tmp_path: Path, run: Callable[..., Any], fail: Callable[..., list[str]], form: str
) -> None:
    out = tmp_path / "out"
    out.write_text("mine")
    arguments = ("export", NAME, "--format", form, "--out", out)
    assert "--force" in fail(*arguments)[1]
    assert out.read_text() == "mine"
    run(*arguments, "--force", "--json")
    assert out.is_dir() == (form == "dense")
    assert "exists already" in fail(*arguments)[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_failed_export_leaves_nothing(zoo: Any, tmp_path: Path, fail: Callable[..., list[str]]) -> None:
    fail("export", "greennet-keep5", "--format", "dense", "--out", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# prune


def test_a_checkpoint_from_outside_is_pruned(tmp_path: Path, run: Callable[..., Any], fail: Callable[..., Any]) -> None:
    import torch

    import sslprune
    from sslprune import models

    state = models.build("resnet20_cifar", num_classes=10, seed=0).state_dict()
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "net.th")
    arguments = ("prune", tmp_path / "net.th", "--arch", "resnet20", "--keep", "0.5", "--out", tmp_path / "mine")
    assert "its licence and the terms of its data are not known" in fail(*arguments)[0]
    more = ("--licence", "MIT", "--data-terms", "none", "--guard", "5", "--scope", "erk", "--json")
    manifest = run(*arguments, *more, "--recalibrate", "digits", "--family", "labels-resnet20-toy")
    assert manifest["name"] == "labels-resnet20-toy-oneshot-keep50%"
    assert manifest["kept"] == round(0.5 * manifest["prunable"])
    model = sslprune.load(tmp_path / "mine")
    assert torch.equal(model.fc.weight, state["fc.weight"])
    assert not torch.equal(model.bn1.running_mean, state["bn1.running_mean"])


def test_whole_channels_go_and_the_name_says_slim(zoo: Any, tmp_path: Path, run: Callable[..., Any]) -> None:
    import sslprune

    out = tmp_path / "mine"
    manifest = run("prune", "rednet-keep100", "--keep", "0.3", "--score", "channels-l2", "--out", out, "--json")
    assert manifest["name"] == "rednet-resnet20-toy-slim-keep30%"
    smaller, model = sslprune.load(out), sslprune.load("rednet-keep100")
    assert 0 < manifest["prunable"] <= round(0.3 * model.sslprune.manifest.prunable)
    assert smaller.num_features == model.num_features


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_a_model_is_pruned_once_more(zoo: Any, tmp_path: Path, run: Callable[..., Any], scope: str) -> None:
    import sslprune
    from sslprune.zoo.info import info_of
    from sslprune.zoo.locate import locate
    from sslprune.zoo.verify import verify_model

    arguments = ("prune", "rednet-keep20", "--keep", "0.1", "--scope", scope, "--out", tmp_path / "mine", "--json")
    if scope == "layer":  # a layer of the global 20 % may have less than 10 % left
        arguments = ("prune", "rednet-keep100", *arguments[2:])
    manifest = run(*arguments)
    assert manifest["name"] == "rednet-resnet20-toy-oneshot-keep10%"
    assert manifest["parent"] == "rednet-resnet20-toy-keep100%"
    prunable = manifest["prunable"]
    if scope == "global":
        assert manifest["kept"] == round(0.1 * prunable)
    else:
        assert all(layer["kept"] == round(0.1 * layer["prunable"]) for layer in manifest["layers"])
    verify_model(locate(tmp_path / "mine"))
    info = info_of(sslprune.load(tmp_path / "mine"))
    before = zoo.masks["rednet-resnet20-toy-keep20%" if scope == "global" else "rednet-resnet20-toy-keep100%"]
    assert info.mask.is_subset_of(before)


def test_what_cannot_be_pruned_is_said(zoo: Any, tmp_path: Path, fail: Callable[..., list[str]]) -> None:
    out = ("--out", tmp_path / "mine")
    assert "not a fraction" in fail("prune", NAME, "--keep", "1.5", *out)[0]
    assert "not a fraction" in fail("prune", NAME, "--keep", "nan", *out)[0]
    assert "only" in fail("prune", NAME, "--keep", "0.2", *out)[0]
    assert "keeps none" in fail("prune", NAME, "--keep", "1e-9", *out)[0]
    (tmp_path / "mine").mkdir()
    assert "--force" in fail("prune", NAME, "--keep", "0.01", *out)[1]
    assert list((tmp_path / "mine").iterdir()) == []


# predict, features, evaluate


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Forty pictures of two classes, of different measures."""
    chance = np.random.default_rng(0)
    for label, base in (("dark", 0), ("light", 150)):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for number in range(20):
            shape = (20 + number, 40, 3)
            picture = Image.fromarray((base + chance.integers(0, 100, shape)).astype(np.uint8))
            picture.save(tmp_path / "pictures" / label / f"{number:02}.png")
    return tmp_path / "pictures"


def test_pictures_are_classified(
    zoo: Any, pictures: Path, run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    import sslprune
    from sslprune.data.decode import square

    files = [pictures / "dark" / "00.png", pictures / "light" / "19.png"]
    document = run("predict", NAME, "--head", "digits", "--top", "10", *files, "--json")
    assert (document["schema"], document["name"], document["head"]) == (1, NAME, "digits")
    model = sslprune.load(NAME, head="digits")
    for path, found in zip(files, document["predictions"], strict=True):
        assert found["image"] == str(path)
        with torch.inference_mode():
            image = model.sslprune.preprocessing(square(path, size=32)[None])
            chances = model(image).softmax(1)[0]
        guesses = {guess["class"]: guess["probability"] for guess in found["classes"]}
        assert guesses.keys() == set(model.classes)
        assert list(guesses.values()) == sorted(guesses.values(), reverse=True)
        assert [guesses[name] for name in model.classes] == pytest.approx(chances.tolist(), abs=1e-6)
    assert main(["predict", NAME, "--head", "digits", *map(str, files)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["image", "#1", "#2", "#3"]
    assert lines[2].startswith(str(files[0]))


def test_what_cannot_be_classified_is_said(
    zoo: Any, pictures: Path, tmp_path: Path, fail: Callable[..., list[str]]
) -> None:
    good, bad = pictures / "dark" / "00.png", tmp_path / "bad.png"
    bad.write_bytes(good.read_bytes()[:100])
    assert "Published: digits." in fail("predict", NAME, "--head", "cifar10", good)[1]
    assert "bad.png" in fail("predict", NAME, "--head", "digits", good, bad)[0]
    assert "nowhere.png" in fail("predict", NAME, "--head", "digits", tmp_path / "nowhere.png")[0]


def test_features_are_written(
    zoo: Any, pictures: Path, tmp_path: Path, run: Callable[..., Any], fail: Callable[..., list[str]]
) -> None:
    import sslprune
    from sslprune.data import sources

    split = sources.open(f"folder:{pictures}").split("train")
    arguments = ("features", NAME, "--data", f"folder:{pictures}", "--out", tmp_path / "out.npz")
    document = run(*arguments, "--json")
    assert document["shape"] == [len(split), 64]
    assert (document["name"], document["split"], document["out"]) == (NAME, "train", str(tmp_path / "out.npz"))
    with np.load(tmp_path / "out.npz", allow_pickle=False) as file:
        assert file["features"].dtype == np.float32
        assert np.array_equal(file["features"], sslprune.features(sslprune.load(NAME), split.images).numpy())
        assert np.array_equal(file["labels"], split.labels)
    assert "--force" in fail(*arguments)[1]
    run(*arguments, "--split", "test", "--stage", "layer1", "--pool", "2", "--force", "--json")
    with np.load(tmp_path / "out.npz") as file:
        assert file["features"].shape == (40 - len(split), 16 * 4)
    again = (*arguments, "--force")
    assert "layer9" in fail(*again, "--stage", "layer9")[0]
    assert "no split 'x'" in fail(*again, "--split", "x")[0]
    assert "no device 'abacus'" in fail(*again, "--device", "abacus")[0]


def test_unlabelled_pictures_have_features_but_no_labels(
    zoo: Any, pictures: Path, tmp_path: Path, run: Callable[..., Any], fail: Callable[..., list[str]]
) -> None:
    data = f"folder:{pictures / 'dark'}"
    run("features", NAME, "--data", data, "--out", tmp_path / "out.npz", "--json")
    with np.load(tmp_path / "out.npz") as file:
        assert list(file) == ["features"]
    assert "has no labels" in fail("evaluate", NAME, "--data", data)[0]


@pytest.mark.parametrize("task", ["knn", "linear"])
def test_a_model_is_evaluated_stage_by_stage(
    zoo: Any, tmp_path: Path, run: Callable[..., Any], capsys: pytest.CaptureFixture[str], task: str
) -> None:
    pytest.importorskip("sklearn")
    from sslprune import jsonl
    from sslprune.evaluate import results

    arguments = ["evaluate", NAME, "--task", task, "--data", "digits", "--pool", "1"]
    rows = run(*arguments, "--out", tmp_path / "rows.jsonl", "--json")["rows"]
    assert [row["layer"] for row in rows] == ["layer1", "layer2", "layer3"]
    assert sum(row["protocol"]["best_stage"] for row in rows) == 1
    for row in rows:
        assert row.keys() == results.Row.__annotations__.keys()
        assert (row["name"], row["task"], row["data"], row["split"]) == (NAME, task, "digits", "test")
        assert row["keep"] == zoo.masks[NAME].keep
        assert row["counts"]["nonzero"] == zoo.masks[NAME].kept
        assert (row["counts"]["n_train"], row["counts"]["n_test"]) == (1297, 500)
        assert 15 < row["value"] < 100
    assert rows[0]["value"] > 50
    assert jsonl.read(tmp_path / "rows.jsonl") == rows
    if task == "knn":
        assert main(arguments) == 0
        text = capsys.readouterr().out
        assert text.startswith(f"{NAME} on digits: knn, 1297 + 500 images, pool 1\n")
        assert text.count("<- best on held-out") == 1


def test_data_that_is_nowhere_is_said(
    zoo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail: Callable[..., list[str]]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSLPRUNE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SSLPRUNE_CACHE", str(tmp_path / "cache"))
    lines = fail("evaluate", NAME, "--data", "cifar10")
    assert str(tmp_path / "data") in " ".join(lines)
    assert "--download" in lines[1]
    assert "no data set 'cifar11'" in fail("evaluate", NAME, "--data", "cifar11")[0]


# train, doctor, demo


def test_an_unknown_recipe_is_said(fail: Callable[..., list[str]], tmp_path: Path) -> None:
    fail("train", "no-such-recipe", "--runs", tmp_path)
    fail("train", tmp_path / "no.toml", "--runs", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_says_what_there_is(zoo: Any, run: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    document = run("doctor", "--json")
    assert list(document) == ["schema", "machine", "packages", "extras", "data", "zoo", "advice"]
    assert document["machine"]["sslprune"] == __version__
    assert document["packages"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert int(document["machine"]["cores"]) >= 1
    assert document["zoo"][f"local models in {zoo.path}"] == "6"
    assert all(isinstance(line, str) for line in document["advice"])
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert all(title in text for title in ("machine", "packages", "extras", "data", "zoo"))


def test_the_demo_refuses_to_replace_a_picture_before_it_works(tmp_path: Path, fail: Callable[..., list[str]]) -> None:
    (tmp_path / "demo.png").write_text("mine")
    assert "--force" in fail("demo", "--out", tmp_path / "demo.png")[1]
    assert (tmp_path / "demo.png").read_text() == "mine"
