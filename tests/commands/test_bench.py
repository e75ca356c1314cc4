"""`sslprune bench`: one real race of a small network, and what it refuses before any work."""

from __future__ import annotations

import json
import sys

import pytest

from sslprune.cli import main
from sslprune.runtime import kernels

ROW = {
    "arch",
    "mask",
    "keep",
    "batch",
    "threads",
    "engine",
    "median_ms",
    "min_ms",
    "ratio_to_best_dense",
    "max_rel_err",
}
"""What the interface promises; more is allowed."""


def call(capsys, *arguments):
    code = main(["bench", *(str(each) for each in arguments)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.mark.slow
def test_a_race_of_a_random_network_against_onnx_runtime_and_torch(tmp_path, capsys):
    for module in ("onnxruntime", "onnxscript", "matplotlib"):
        pytest.importorskip(module)
    picture, page = tmp_path / "speed.png", tmp_path / "speed.md"
    network = ["--arch", "resnet20_cifar", "--keep", 0.05, "--mask", "erk", "--batch", "2", "--threads", 2]
    race = [*network, "--against", "ort,torch", "--repeat", 3, "--out", picture, "--markdown", page, "--json"]
    code, out, err = call(capsys, *race)
    assert code == 0
    document = json.loads(out)
    assert document["schema"] == 1
    assert document["command"] == (
        "sslprune bench --arch resnet20_cifar --keep 0.05 --mask erk --batch 2 --threads 2 "
        "--against ort,torch --repeat 3"
    )
    assert {"cpu", "cores", "isa"} <= document["machine"].keys()
    assert {"python", "torch", "onnxruntime"} <= document["versions"].keys()
    assert [row["engine"] for row in document["rows"]] == ["sslprune", "ort", "torch"]
    for row in document["rows"]:
        assert row.keys() >= ROW
        assert (row["arch"], row["mask"], row["keep"], row["batch"], row["threads"]) == (
            "resnet20_cifar",
            "erk",
            0.05,
            2,
            2,
        )
        assert row["failed"] is None
        assert 0 < row["min_ms"] <= row["median_ms"]
        assert row["max_rel_err"] < 1e-5
        assert row["runs"] == 3
    ours, ort, torch = document["rows"]
    assert ort["ratio_to_best_dense"] == 1
    assert ours["ratio_to_best_dense"] == pytest.approx(ort["median_ms"] / ours["median_ms"])
    assert ours["ratio_to_torch"] == pytest.approx(torch["median_ms"] / ours["median_ms"])
    assert ort["variant"] in ("whole batch", "a part a thread")
    assert 0 < ours["macs_left"] < ours["macs"]
    assert bool(ours["paths"]) == bool(kernels.isas())
    if sys.platform == "linux":
        assert ours["peak_mb"] >= 0
        assert ort["peak_mb"] > 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "x dense" in page.read_text(encoding="utf-8")
    assert "keep 0.05" in err


@pytest.mark.slow
def test_a_model_of_the_zoo_runs_at_its_own_size_and_prints_tables(zoo, capsys):
    code, out, _ = call(
        capsys, "rednet-resnet20-toy", "--keep", "0.2,0.05", "--against", "torch", "--repeat", 2, "--batch", 3
    )
    assert code == 0
    assert out.startswith("rednet-resnet20-toy, 32 x 32, 3 images, 1 thread: milliseconds")
    assert [line.split()[0] for line in out.splitlines()[4:6]] == ["20%", "5%"]
    assert "x torch" in out
    assert "x dense" not in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--arch", "resnet21_cifar", "--keep", "0.1"], "resnet21_cifar"),
        (["--arch", "resnet20_cifar", "--keep", "0.1,1.5"], "1.5"),
        (["--arch", "resnet20_cifar", "--keep", "0.1", "--mask", "uniform,fractal"], "fractal"),
        (["--arch", "resnet20_cifar", "--keep", "0.1", "--against", "tflite"], "tflite"),
        (["--arch", "resnet20_cifar", "--keep", "0.1", "--against", "deepsparse"], "deepsparse"),
        (["no-such-model", "--against", "torch"], "no-such-model"),
    ],
)
def test_what_cannot_be_raced_is_a_named_error(arguments, said, capsys):
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (1, "")
    assert said in err
    assert len(err.strip().splitlines()) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["rotnet", "--arch", "resnet50", "--keep", "0.1"],
        ["--arch", "resnet50"],
        ["rotnet", "--size", "64"],
        ["--arch", "resnet50", "--keep", "few"],
        ["--arch", "resnet50", "--keep", "0.1", "--batch", "0"],
        ["rotnet", "--against", "torch", "--out", "speed.png"],
    ],
)
def test_flags_that_do_not_go_together_are_usage_errors(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["bench", *arguments])
    assert "usage: sslprune bench" in capsys.readouterr().err


def test_without_openvino_its_extra_is_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    code, _, err = call(capsys, "rotnet-resnet20-keep5%", "--against", "openvino")
    assert code == 1
    assert "pip install 'sslprune[bench]'" in err


def test_what_stands_at_the_destination_is_kept(tmp_path, capsys):
    (tmp_path / "speed.md").write_text("mine")
    code, _, err = call(capsys, "rotnet-resnet20-keep5%", "--against", "torch", "--markdown", tmp_path / "speed.md")
    assert code == 1
    assert "--force" in err
    assert (tmp_path / "speed.md").read_text() == "mine"
