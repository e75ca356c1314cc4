"""Two processes learn what one learns, hold the same state, stop together, and go on after one of them was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import together
import torch
from PIL import Image
from torch import nn

from sslprune import jsonl
from sslprune.config import Ladder, Recipe, Training, Transfer
from sslprune.step import Step
from sslprune.train import distributed

DRIVER = Path(together.__file__)
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "SSLPRUNE_ONNX": "0"}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """What each of two processes found, and where."""
    folder = tmp_path_factory.mktemp("two")
    subprocess.run([*TORCHRUN, str(DRIVER), str(folder)], check=True, env=environment(), timeout=250)
    return folder, [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("task", together.TASKS)
def test_two_processes_learn_what_one_does_down_the_ladder(
    two: tuple[Path, list[dict[str, Any]]], task: str, tmp_path: Path
) -> None:
    alone = together.descent(task, tmp_path)
    first, second = (found["descent"][task] for found in two[1])
    worst = 0.0
    for part, tensors in alone.items():
        for name, tensor in tensors.items():
            assert torch.equal(first[part][name], second[part][name])
            worst = max(worst, float((first[part][name].double() - tensor.double()).abs().max()))
    print(task, "differs by at most", worst)
    assert len(alone) == 7
    assert worst < 1e-6


@pytest.mark.slow
def test_measured_by_two_processes_a_network_has_the_same_features_and_figures(
    two: tuple[Path, list[dict[str, Any]]],
) -> None:
    first, second = two[1]
    for name, batch_size in (("features", 16), ("few features", 100)):
        alone, labels = together.features(shared=False, batch_size=batch_size)
        assert first[name][0].keys() == alone.keys()
        assert all(torch.equal(first[name][0][stage], alone[stage]) for stage in alone)
        assert torch.equal(first[name][1], labels)
        assert second[name][0] == {}
    assert first["figures"] == second["figures"] == together.figures(shared=False)
    assert first["collected"]["rows"][:, 0].tolist() == [0, 1, 2]
    assert second["collected"] is None


@pytest.mark.slow
def test_processes_hold_the_same_batch_norm_statistics_and_the_first_alone_writes(
    two: tuple[Path, list[dict[str, Any]]],
) -> None:
    folder, (first, second) = two
    running = [name for name in first["batch norm"] if "running" in name]
    assert running
    assert all(torch.equal(tensor, second["batch norm"][name]) for name, tensor in first["batch norm"].items())
    assert first["chain"] == second["chain"]
    assert [name.rpartition("-")[2] for name in first["chain"][0]] == ["keep100%", "keep50%", "keep30%"]
    assert (folder / "0" / "chain" / "run" / "finished.json").exists()
    assert len(jsonl.read(folder / "0" / "chain" / "run" / "results.jsonl")) > 3
    assert not (folder / "1").exists()


@pytest.mark.slow
def test_what_fails_on_one_process_fails_on_all_by_name(two: tuple[Path, list[dict[str, Any]]]) -> None:
    first, second = (found["refused"] for found in two[1])
    assert first == second
    assert first["nan"] == "DivergedError: the loss is nan at update 6 of round 0."
    assert first["mask"] == "MaskError: the processes found different masks for round 0."
    assert first["batch"] == "DatasetError: a batch of 5 images does not go into 2 equal parts."
    assert first["first"] == "SslpruneError: said by 0."


def norms(learner: nn.Module) -> list[nn.Module]:
    return [module for module in learner.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def test_with_synchronised_batch_norm_the_learner_stays_as_it_is_and_shares_all_that_is_learned() -> None:
    learner = together.network()
    keys = list(learner.state_dict())
    images = torch.randn(2, 3, 32, 32)
    before = learner(images)
    twin = distributed._synchronised(learner)
    assert list(twin.state_dict()) == list(learner.state_dict()) == keys
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms(twin))
    assert not any(isinstance(norm, nn.SyncBatchNorm) for norm in norms(learner))
    assert len(norms(twin)) == len(norms(learner)) > 3
    torch.testing.assert_close(twin(images), before)
    with torch.no_grad():
        for norm in norms(learner):
            norm.running_mean.add_(0.1)
        for parameter in learner.parameters():
            parameter.mul_(1.1)
    assert all(torch.equal(tensor, learner.state_dict()[name]) for name, tensor in twin.state_dict().items())
    torch.testing.assert_close(twin(images), learner(images))


KILLED = """
import os, sys, torch; torch.set_num_threads(1)
from datetime import timedelta
from pathlib import Path
from sslprune import pipeline, ranks
from sslprune.config import Ladder, Recipe, Training, Transfer
from sslprune.run_folder import RunFolder
from sslprune.setting import Options
recipe, out = Recipe.load(sys.argv[1]), Path(sys.argv[2])
ranks.MEETING = timedelta(seconds=20)  # gloo does not always meet again at the first attempt
with ranks.joined():
    (out / f"{os.environ['TORCHELASTIC_RESTART_COUNT']}-{ranks.rank()}.pid").write_text(str(os.getpid()))
    folder = RunFolder(recipe, out / "run", out / "zoo")
    pipeline.run(recipe, folder, Options(progress=False, checkpoint_every=0.0))
"""


@pytest.mark.slow
def test_killed_in_the_middle_it_is_started_again_and_writes_the_same_files(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / "few" / label).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (8, 8), (number * 20, 50, ord(label))).save(tmp_path / "few" / label / f"{number}.png")
    recipe: Recipe = together.recipe(
        "npid",
        "test_byobnet",
        training=Training(Step(20, "it"), batch=6, lr=0.02),
        ladder=Ladder((0.5,), per_round=0.5, rewind=Step(2, "it")),
        transfer=Transfer(data=(f"folder:{tmp_path / 'few'}",), pool=1),
    )
    path, killed = tmp_path / "small.toml", tmp_path / "killed"
    path.write_text(recipe.to_toml())
    killed.mkdir()
    (killed / "driver.py").write_text(KILLED)
    command = [*TORCHRUN, "--max-restarts", "5", str(killed / "driver.py"), str(path), str(killed)]
    training = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)
    unfinished = killed / "run" / "rounds" / "unfinished.pt"
    while not unfinished.exists() and training.poll() is None:
        time.sleep(0.002)
    os.kill(int((killed / "0-1.pid").read_text()), signal.SIGKILL)
    assert training.wait(timeout=200) == 0
    assert [path for path in killed.glob("*-0.pid") if not path.name.startswith("0")]
    log = jsonl.read(killed / "run" / "train.log.jsonl")
    assert [row["event"] for row in log].count("resumed") >= 1
    assert all(row["wait_s"] >= 0 for row in log if row["event"] == "update")

    flags = ["--runs", str(tmp_path / "runs"), "--zoo", str(tmp_path / "zoo"), "--json"]
    whole = subprocess.run(
        [*TORCHRUN, "-m", "sslprune", "train", str(path), *flags],
        check=True,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert whole.stdout.count('"schema": 1,\n "run"') == 1
    written = sorted((tmp_path / "zoo").rglob("*.safetensors"))
    assert len(written) >= 3
    for file in written:
        assert file.read_bytes() == (killed / "zoo" / file.relative_to(tmp_path / "zoo")).read_bytes()
