"""`sslprune finetune` and the tasks of `sslprune evaluate`: from a name and a data set to rows and a folder."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sslprune
from sslprune.commands import evaluate, finetune, predict
from sslprune.data.voc07 import CLASSES
from sslprune.errors import (
    ArchitectureError,
    DatasetError,
    KeepError,
    ManifestError,
    OutputExistsError,
    UnknownHeadError,
)
from sslprune.evaluate import results

MODEL = "rednet-resnet20-toy-keep20%"


def run(command, *arguments):
    top = argparse.ArgumentParser()
    command.add(top.add_subparsers())
    args = top.parse_args([command.__name__.rpartition(".")[2], *map(str, arguments)])
    args.run(args)


@pytest.fixture
def colours(tmp_path, monkeypatch):
    """A folder of pictures whose colour is their class, ten a class, with a validation split and none for testing."""
    monkeypatch.setenv("SSLPRUNE_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for split, count in {"train": 10, "val": 4}.items():
        for channel, name in enumerate(("red", "green", "blue")):
            folder = tmp_path / "colours" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                picture = rng.integers(0, 90, (32, 32, 3), np.uint8)
                picture[..., channel] += 120
                Image.fromarray(picture).save(folder / f"{number}.png")
    return f"folder:{tmp_path / 'colours'}"


@pytest.fixture
def voc(tmp_path, monkeypatch):
    """A VOC 2007 of every class, three times in train and in val."""
    monkeypatch.setenv("SSLPRUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SSLPRUNE_DATA", str(tmp_path / "data"))
    root = tmp_path / "data" / "VOCdevkit" / "VOC2007"
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for start, split in enumerate(("train", "val")):
        names = [f"{100 * start + number:06}" for number in range(60)]
        (root / f"ImageSets/Main/{split}.txt").write_text("\n".join(names))
        for number, name in enumerate(names):
            Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).save(root / f"JPEGImages/{name}.jpg")
            (root / f"Annotations/{name}.xml").write_text(
                f"<annotation><object><name>{CLASSES[number % 20]}</name></object></annotation>"
            )
    return root


def test_a_finetuned_folder_classifies_with_its_own_classifier_by_name(zoo, colours, tmp_path, capsys):
    out = tmp_path / "tuned"
    run(finetune, MODEL, "--data", colours, "--out", out, "--epochs", 20, "--batch", 10, "--lr", 0.05)
    pictures = [tmp_path / "colours" / "val" / name / "0.png" for name in ("red", "green", "blue")]
    capsys.readouterr()
    run(predict, out, *pictures, "--json")
    found = json.loads(capsys.readouterr().out)["predictions"]
    assert [each["classes"][0]["class"] for each in found] == ["red", "green", "blue"]
    with pytest.raises(UnknownHeadError, match="no classifier of its own"):
        run(predict, MODEL, *pictures)
    config = json.loads((out / "config.json").read_text())
    assert config["label_names"] == ["blue", "green", "red"]
    for wrong in (["blue", "green"], "blue", [1, 2, 3]):
        (out / "config.json").write_text(json.dumps({**config, "label_names": wrong}))
        with pytest.raises(ManifestError):
            sslprune.load(out, verify=False)


def test_finetune_writes_a_folder_with_its_measurement(zoo, colours, tmp_path, capsys):
    out = tmp_path / "tuned"
    run(finetune, MODEL, "--data", colours, "--out", out, "--epochs", 2, "--batch", 8, "--json")
    printed = json.loads(capsys.readouterr().out)
    assert printed["name"] == "rednet-resnet20-toy-ft-colours-keep20%"
    model = sslprune.load(out)
    assert model.num_classes == 3
    assert model.sslprune.classes == ("blue", "green", "red")
    assert sslprune.load(out, num_classes=3).sslprune.classes == ()
    assert model.sslprune.keep == printed["keep"] == sslprune.load(MODEL).sslprune.keep
    assert model.sslprune.manifest.parent == MODEL
    rows = results.read(out / "results.jsonl")
    assert rows == printed["rows"]
    assert (rows[0]["split"], rows[0]["task"], rows[0]["protocol"]["batch"]) == ("val", "finetune", 8)
    with pytest.raises(OutputExistsError):
        run(finetune, MODEL, "--data", colours, "--out", out)


def test_finetune_prunes_on_the_way(zoo, colours, tmp_path, capsys):
    out = tmp_path / "tuned"
    run(finetune, MODEL, "--data", colours, "--out", out, "--epochs", 4, "--prune-to", 0.05)
    assert "rednet-resnet20-toy-ft-colours-keep5%" in capsys.readouterr().out
    model = sslprune.load(out)
    assert model.sslprune.keep == pytest.approx(0.05, abs=1e-4)
    assert model.sslprune.mask.is_subset_of(sslprune.load(MODEL).sslprune.mask)
    plan = results.read(out / "results.jsonl")[0]["protocol"]["pruned_during"]
    assert plan["after_epochs"] == [1, 2]
    assert plan["keeps"][-1] == pytest.approx(0.05)


@pytest.mark.parametrize(("keep", "epochs"), [("0.5", 4), ("0.05", 1), ("0", 4)])
def test_an_impossible_pruning_on_the_way_is_refused(zoo, colours, tmp_path, keep, epochs):
    with pytest.raises(KeepError, match=r"cannot prune from 0\.2"):
        run(finetune, MODEL, "--data", colours, "--out", tmp_path / "x", "--epochs", epochs, "--prune-to", keep)
    assert not (tmp_path / "x").exists()


def test_few_labels_are_stated(zoo, colours, capsys):
    run(evaluate, MODEL, "--task", "knn", "--data", colours, "--labels", 0.5, "--json")
    row = json.loads(capsys.readouterr().out)["rows"][0]
    assert row["counts"]["n_train"] == 15
    assert row["protocol"]["few_labels"]["images"] == 15
    assert row["split"] == "val"


def test_sgd_and_finetune_are_tasks(zoo, colours, capsys):
    run(evaluate, MODEL, "--task", "sgd", "--data", colours, "--steps", 3, "--stage", "all", "--json")
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["layer"] for row in rows] == ["layer1", "layer2", "layer3"]
    assert rows[0]["protocol"]["iterations"] == 3
    run(evaluate, MODEL, "--task", "finetune", "--data", colours, "--epochs", 1)
    assert "finetune, 30 + 12 images (train, val)" in capsys.readouterr().out


def test_svm_on_voc(zoo, voc, tmp_path, capsys):
    out = tmp_path / "rows.jsonl"
    run(evaluate, MODEL, "--task", "svm", "--data", "voc07", "--out", out)
    assert "aeroplane" in capsys.readouterr().out
    row = results.read(out)[0]
    assert (row["metric"], row["layer"], row["split"]) == ("map", "pooled", "val")
    assert (row["protocol"]["train_split"], row["data"]) == ("train", "voc07-train60-val60")
    assert row["protocol"]["ap"].keys() == row["protocol"]["cost"].keys() == set(CLASSES)
    assert row["value"] == pytest.approx(np.mean(list(row["protocol"]["ap"].values())), abs=1e-3)


def test_finetune_on_voc_is_the_papers_recipe_in_short(zoo, voc, tmp_path, capsys):
    run(finetune, MODEL, "--data", "voc07", "--out", tmp_path / "x", "--epochs", 1, "--json")
    row = json.loads(capsys.readouterr().out)["rows"][0]
    assert (row["metric"], row["protocol"]["loss"]) == ("map", "binary cross entropy")
    assert sslprune.load(tmp_path / "x").num_classes == 20


@pytest.mark.parametrize("task", ["linear", "knn", "sgd"])
def test_tasks_of_one_label_refuse_voc(zoo, voc, task):
    with pytest.raises(DatasetError, match="have several labels"):
        run(evaluate, MODEL, "--task", task, "--data", "voc07")


def test_what_does_not_go_together_is_refused(zoo, voc, colours):
    with pytest.raises(DatasetError, match="have one label"):
        run(evaluate, MODEL, "--task", "svm", "--data", colours)
    with pytest.raises(DatasetError, match="--labels does not go with"):
        run(evaluate, MODEL, "--task", "svm", "--data", "voc07", "--labels", 0.1)
    with pytest.raises(DatasetError, match="--labels does not go with"):
        run(finetune, MODEL, "--data", "voc07", "--labels", 0.1, "--out", Path("never"))
    with pytest.raises(ArchitectureError, match="layer9"):
        run(evaluate, MODEL, "--task", "sgd", "--data", colours, "--stage", "layer9")


@pytest.mark.parametrize("task", ["linear", "knn", "sgd", "finetune"])
def test_data_too_large_for_memory_is_read_image_by_image(zoo, colours, capsys, task, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    source = colours.replace("folder:", "large:")
    more = {"sgd": ["--steps", 6], "finetune": ["--epochs", 2]}.get(task, [])
    run(evaluate, MODEL, "--data", source, "--task", task, "--json", *more)
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["split"] for row in rows} == {"val"}
    seen = 6 * 30 if task == "sgd" else 30  # with repeats
    assert {(row["counts"]["n_train"], row["counts"]["n_test"]) for row in rows} == {(seen, 12)}
    run(evaluate, MODEL, "--data", source, "--task", task, "--json", *more)
    assert json.loads(capsys.readouterr().out)["rows"] == rows
    with pytest.raises(DatasetError, match="--labels does not go with"):
        run(evaluate, MODEL, "--data", source, "--task", task, "--labels", 0.5)
