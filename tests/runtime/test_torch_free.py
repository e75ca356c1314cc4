"""The path for small machines: numpy, pillow and onnxruntime are enough."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sslprune
from sslprune.evaluate.features import extract

ROOT = Path(__file__).parents[2]
NAME = "rotnet-resnet20-cifar10-keep5%"
SHORT = "rotnet-resnet20-keep5%"
ENOUGH = ("numpy", "pillow", "onnxruntime")

WITHOUT = """
import sys

HEAVY = {"torch", "torchvision", "timm", "safetensors", "huggingface_hub", "onnx", "onnxscript", "tqdm", "sklearn"}

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HEAVY:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""

EMBED = """
import sys
import numpy as np
import sslprune
from PIL import Image

picture = np.asarray(Image.open(sys.argv[1]).convert("RGB"))[None]
model = sslprune.load("rotnet-resnet20-keep5%", runtime="onnx")
np.save(sys.argv[2], model(picture))
print(model.sslprune.name, model.num_features)
assert "torch" not in sys.modules
"""


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture file of the network's own size, which no runtime has to resize."""
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save(path)
    return path


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=500,
        env=os.environ | environment,
        check=False,
    )


def without_torch(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own in which nothing of torch can be imported."""
    return run(sys.executable, "-c", WITHOUT + code, *arguments)


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in such a process."""
    return without_torch("from sslprune.cli import main; raise SystemExit(main())", *arguments)


def by_torch(picture: Path, head: str | None = None) -> np.ndarray:
    model = sslprune.load(NAME, head=head)
    with torch.inference_mode():
        found: np.ndarray = model(model.sslprune.preprocessing(np.asarray(Image.open(picture))[None])).numpy()
    return found


def check_embedding(done: subprocess.CompletedProcess[str], picture: Path, features: Path) -> None:
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [NAME, "64"]
    expected = by_torch(picture)
    assert np.abs(np.load(features) - expected).max() <= 1e-5 * np.abs(expected).max()


def test_the_cage_holds() -> None:
    assert "No module named 'torch'" in without_torch("import torch").stderr


def test_a_picture_is_embedded(picture: Path, tmp_path: Path) -> None:
    done = without_torch(EMBED, picture, tmp_path / "features.npy")
    check_embedding(done, picture, tmp_path / "features.npy")


def test_a_picture_is_classified_as_by_torch(picture: Path) -> None:
    done = command("predict", SHORT, "--head", "cifar10", "--json", "--runtime", "onnx", "--top", 10, picture)
    assert (done.returncode, done.stderr) == (0, "")
    (found,) = json.loads(done.stdout)["predictions"]
    chances = torch.from_numpy(by_torch(picture, "cifar10")[0]).softmax(0)
    classes = sslprune.load(NAME, head="cifar10").classes
    assert [guess["class"] for guess in found["classes"]] == [classes[i] for i in chances.argsort(descending=True)]
    for guess in found["classes"]:
        assert guess["probability"] == pytest.approx(float(chances[classes.index(guess["class"])]), abs=1e-5)


def test_features_of_a_folder_are_written(picture: Path, tmp_path: Path) -> None:
    arguments = ["features", SHORT, "--data", f"folder:{picture.parent}", "--stage", "layer3", "--pool", "3"]
    done = command(*arguments, "--runtime", "onnx", "--out", tmp_path / "found.npz")
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "found.npz")["features"]
    expected = extract(sslprune.load(NAME), np.asarray(Image.open(picture))[None], stage="layer3", pool=3).numpy()
    assert found.shape == expected.shape == (1, 576)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_threads_are_set_elsewhere(picture: Path, tmp_path: Path) -> None:
    arguments = ("features", SHORT, "--data", f"folder:{picture.parent}", "--out", tmp_path / "x", "--threads", 1)
    done = command(*arguments, "--runtime", "onnx")
    assert (done.returncode, "OMP_NUM_THREADS" in done.stderr) == (2, True)


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["list", "--json"], ["show", SHORT], ["--version"]])
def test_words_need_no_torch(arguments: list[str]) -> None:
    done = command(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_asking_for_torch_where_there_is_none_is_a_named_error(picture: Path) -> None:
    done = command("predict", SHORT, "--head", "cifar10", picture)
    assert done.returncode == 1
    problem, hint = done.stderr.splitlines()
    assert problem == "sslprune: the runtime 'torch' needs torch, which is not installed."
    assert "runtime='onnx'" in hint


def test_asking_for_onnx_without_onnxruntime_is_a_named_error() -> None:
    code = """
HEAVY.add("onnxruntime")
import sslprune
try:
    sslprune.load("rotnet-resnet20-keep5%", runtime="onnx")
except sslprune.errors.MissingExtraError as error:
    print(error)
"""
    problem, hint = without_torch(code).stdout.splitlines()
    assert problem.startswith("the runtime 'onnx' needs onnxruntime")
    assert hint == "Run: pip install 'sslprune[onnx]'"


@pytest.mark.slow
def test_a_real_environment_without_torch(picture: Path, tmp_path: Path) -> None:
    wheels, home = tmp_path / "wheels", tmp_path / "venv"
    pip = (sys.executable, "-m", "pip")
    built = run(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, ROOT)
    assert built.returncode == 0, built.stderr
    assert run(sys.executable, "-m", "venv", "--without-pip", home).returncode == 0
    python = home / "bin" / "python"
    (wheel,) = wheels.glob("*.whl")
    for what in (["--no-deps", wheel], ["-c", ROOT / "constraints.txt", *ENOUGH]):
        installed = run(*pip, "--python", python, "install", "--quiet", *what)
        assert installed.returncode == 0, installed.stderr
    packages = {item["name"] for item in json.loads(run(*pip, "--python", python, "list", "--format=json").stdout)}
    assert packages >= {"sslprune", *ENOUGH}
    assert not packages & {"torch", "torchvision", "timm", "safetensors", "huggingface-hub", "onnx"}

    done = run(python, "-c", EMBED, picture, tmp_path / "features.npy")
    check_embedding(done, picture, tmp_path / "features.npy")
    told = run(python, "-m", "sslprune", "predict", SHORT, "--head", "cifar10", "--runtime", "onnx", picture)
    assert (told.returncode, told.stderr) == (0, "")
    assert str(picture) in told.stdout
    listed = run(home / "bin" / "sslprune", "list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert NAME in listed.stdout
