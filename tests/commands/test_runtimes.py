"""`--runtime`: the sparse engine by itself where it is faster, said on stderr and in the rows; forced, or forbidden."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sslprune.cli import main
from sslprune.runtime import kernels

NAME = "rotnet-resnet20-cifar10-keep5%"
needs_kernels = pytest.mark.skipif(not kernels.isas(), reason="installed without the compiled kernels")
SAID = f"features by the sparse engine, {(kernels.isas() or ('',))[0]}\n"


@needs_kernels
def test_evaluate_takes_the_engine_and_every_row_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    def rows(*options: str) -> tuple[list[Any], str]:
        assert main(["evaluate", NAME, "--task", "knn", "--data", "digits", "--pool", "1", "--json", *options]) == 0
        printed = capsys.readouterr()
        return json.loads(printed.out)["rows"], printed.err

    plain, silence = rows("--runtime", "torch")
    assert silence == ""
    assert all("runtime" not in row["protocol"] for row in plain)
    found, said = rows()
    assert said == SAID
    for row, same in zip(found, plain, strict=True):
        assert row["protocol"]["runtime"] == "sparse"
        assert row["value"] == pytest.approx(same["value"], abs=0.5)


@needs_kernels
def test_features_takes_the_engine_where_told_or_worth_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features = {}
    for runtime, said in (("auto", SAID), ("torch", ""), ("sparse", SAID)):
        out = tmp_path / f"{runtime}.npz"
        options = ["--split", "test", "--stage", "layer3", "--runtime", runtime]
        assert main(["features", NAME, "--data", "digits", "--out", str(out), "--json", *options]) == 0
        assert capsys.readouterr().err == said
        features[runtime] = np.load(out)["features"]
    scale = np.abs(features["torch"]).max()
    for runtime in ("auto", "sparse"):
        assert np.abs(features[runtime] - features["torch"]).max() <= 1e-5 * scale


def test_predict_says_the_same_in_every_runtime(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)).save(picture)
    found = {}
    for runtime in ("torch", "sparse"):
        assert main(["predict", NAME, "--head", "cifar10", "--runtime", runtime, "--json", str(picture)]) == 0
        found[runtime] = json.loads(capsys.readouterr().out)["predictions"][0]["classes"]
    for mine, torchs in zip(found["sparse"], found["torch"], strict=True):
        assert mine["class"] == torchs["class"]
        assert mine["probability"] == pytest.approx(torchs["probability"], abs=1e-4)


def test_a_network_without_a_classifier_predicts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", NAME, "--runtime", "sparse", str(tmp_path / "picture.png")]) == 1
    assert "no classifier of its own" in capsys.readouterr().err


def test_the_engine_trains_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", NAME, "--task", "finetune", "--data", "digits", "--runtime", "sparse"])
    assert caught.value.code == 2
    assert "cannot train" in capsys.readouterr().err
