"""The whole chain in seconds: killed and resumed equals never killed, and what lies in the zoo is what was trained."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sslprune import jsonl, models, pipeline
from sslprune.config import Ladder, Recipe, Start, Training, Transfer
from sslprune.errors import (
    DatasetError,
    DatasetMissingError,
    DivergedError,
    OutputExistsError,
    RecipeError,
    RunBusyError,
    StepError,
)
from sslprune.export import sparse_file
from sslprune.files import sha256
from sslprune.prune import analysis
from sslprune.run_folder import RunFolder
from sslprune.setting import Options
from sslprune.step import Step
from sslprune.zoo.load import load
from sslprune.zoo.load_masks import load_masks
from sslprune.zoo.manifest import MANIFEST, Manifest, verify
from sslprune.zoo.names import Name

QUIET = Options(progress=False, checkpoint_every=0.0)
TRAINING = Training(Step(2, "ep"), batch=8, nesterov=True, weight_decay=5e-4, warmup=Step(2, "it"))
LADDER = Ladder((0.5, 0.2), per_round=0.4, rewind=Step(1, "ep"))
NAMES = [f"rotnet-resnet20-digits-keep{percent}" for percent in (100, 50, 20)]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in another order are other sums: a comparison bit for bit fixes the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with twenty labelled pictures to be measured on, and a cache of its own."""
    root = tmp_path_factory.mktemp("pipeline")
    noise = np.random.default_rng(0)
    for name, base in (("dark", 0), ("light", 120)):
        (root / "exam" / name).mkdir(parents=True)
        for number in range(10):
            picture = (base + noise.integers(0, 128, (32, 32, 3))).astype(np.uint8)
            Image.fromarray(picture).save(root / "exam" / name / f"{number}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSLPRUNE_CACHE", str(root / "cache"))
        yield root


@dataclass
class Finished:
    """A run that nothing interrupted."""

    recipe: Recipe
    folder: RunFolder
    manifests: list[Manifest]


@pytest.fixture(scope="module")
def whole(place: Path) -> Finished:
    transfer = Transfer(data=(f"folder:{place / 'exam'}",), pool=1, floor_seeds=1)
    recipe = Recipe("toy", "rotnet", "resnet20", "digits", TRAINING, LADDER, transfer, limit=24)
    folder = RunFolder(recipe, place / "whole" / "run", place / "whole" / "zoo")
    return Finished(recipe, folder, pipeline.run(recipe, folder, QUIET))


def small(place: Path, **fields) -> Recipe:
    """The shortest run there is: two updates, no pruning, measured on the twenty pictures."""
    base = Recipe(
        "small",
        "rotnet",
        "resnet20",
        "digits",
        Training(Step(2, "it"), batch=8, schedule="constant"),
        Ladder((), rewind=Step(1, "it")),
        Transfer(data=(f"folder:{place / 'exam'}",), pool=1),
        limit=8,
    )
    return replace(base, **fields)


def content(folder: Path) -> dict[str, bytes]:
    """All files below a folder, except those that hold the time of day, or hashes of them."""
    timed = (MANIFEST, "train.log.jsonl", ".lock")
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in timed]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def timeless(manifest: Manifest) -> Manifest:
    return replace(manifest, files={name: rec for name, rec in manifest.files.items() if name != "train.log.jsonl"})


def test_the_family_is_in_the_zoo_with_exact_counts_and_true_hashes(whole: Finished) -> None:
    assert [manifest.name for manifest in whole.manifests] == [f"{name}%" for name in NAMES]
    assert sorted(path.name for path in whole.folder.zoo.iterdir()) == sorted(NAMES)
    for manifest, keep in zip(whole.manifests, (1.0, 0.5, 0.2), strict=True):
        folder = whole.folder.folder_of(keep)
        verify(folder, manifest.files, manifest.files)
        assert manifest.kept == round(keep * manifest.prunable)
        written = sparse_file.read(folder / "sparse.safetensors")
        counts = {layer.name: layer.kept for layer in manifest.layers}
        assert {name: int(np.count_nonzero(written.tensors[name])) for name in counts} == counts
        assert "head-folder-exam.safetensors" in manifest.files
        assert manifest.recipe_sha256 == whole.recipe.sha256()
        assert Recipe.load(folder / "recipe.toml").sha256() == whole.recipe.sha256()


def test_the_rounds_at_which_weights_died_are_the_masks_of_the_rungs(whole: Finished) -> None:
    ladder = whole.folder.folder_of(1.0) / "ladder.safetensors"
    rungs = json.loads(sparse_file.read_metadata(ladder)["rounds"])
    assert rungs == {"1.0": 0, "0.5": 2, "0.2": 4}  # rounds: 1, 0.6, 0.5, 0.3, 0.2
    died = sparse_file.read_ladder(ladder)
    for keep, number in ((0.5, 2), (0.2, 4)):
        masks = sparse_file.read(whole.folder.folder_of(keep) / "sparse.safetensors").masks
        assert masks.keys() <= died.keys()
        for name, kept in masks.items():
            assert np.array_equal(kept, (died[name] == 0) | (died[name] > number))
        assert load_masks(ladder.parent, keep=keep) == load(whole.folder.folder_of(keep)).sslprune.mask
    assert not sparse_file.read(whole.folder.folder_of(1.0) / "sparse.safetensors").masks


def test_results_are_the_rows_of_the_rungs_and_of_the_random_floor(whole: Finished) -> None:
    rows = jsonl.read(whole.folder.path / "results.jsonl")
    names = [f"{name}%" for name in NAMES]
    assert list(dict.fromkeys(row["name"] for row in rows)) == [*names, "random-resnet20"]
    assert {row["task"] for row in rows} == {"linear", "knn", "zeros"}
    zeros = [row for row in rows if row["task"] == "zeros"]
    assert {row["name"] for row in zeros} == {names[0]}
    assert [row["protocol"]["threshold"] for row in zeros] == list(analysis.THRESHOLDS)
    prunable = models.prunable(load(whole.folder.folder_of(1.0)))
    assert zeros[0]["counts"]["zeros"] == sum(int((weight == 0).sum()) for weight in prunable.values())
    assert {row["recipe_sha256"] for row in rows} == {whole.recipe.sha256()}
    assert next(row["keep"] for row in rows if row["name"] == names[1]) == whole.manifests[1].keep
    assert {row["seed"] for row in rows if row["name"] == "random-resnet20"} == {1}


def test_the_log_of_a_model_is_that_of_its_round(whole: Finished) -> None:
    for number, keep in ((0, 1.0), (2, 0.5), (4, 0.2)):
        rows = jsonl.read(whole.folder.folder_of(keep) / "train.log.jsonl")
        assert [(row["event"], row["round"], row["update"]) for row in rows] == [("update", number, 6)]


LIVES = """
import os, random, signal, sys, time, traceback
from pathlib import Path
import torch
torch.set_num_threads(1)
from sslprune import models, pipeline
from sslprune.config import Recipe
from sslprune.data import sources
from sslprune.run_folder import RunFolder
from sslprune.setting import Options

recipe = Recipe.load(sys.argv[1])
folder = RunFolder(recipe, Path(sys.argv[2]), Path(sys.argv[3]))
models.build("resnet20_cifar", seed=0), sources.open("digits").split("train")  # imports once for all lives

def changed():
    paths = [path for path in folder.path.glob("rounds/*.pt")]
    return {path.name: path.stat().st_mtime_ns for path in paths if path.exists()}

def ended(pid):
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

def life(wait):
    before, pid = changed(), os.fork()
    if pid == 0:
        try:
            pipeline.run(recipe, folder, Options(progress=False, checkpoint_every=0.0))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if wait is not None:
        while changed() == before and not ended(pid):
            time.sleep(0.002)
        time.sleep(wait)
        os.kill(pid, signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)

moments = random.Random(int(sys.argv[4]))
for wait in [0.0, *(moments.uniform(0, 0.4) for _ in range(5)), None]:
    life(wait)
"""


def test_killed_in_the_middle_of_rounds_and_resumed_gives_the_files_of_a_run_never_killed(
    whole: Finished, place: Path
) -> None:
    recipe, run, zoo = place / "killed" / "toy.toml", place / "killed" / "run", place / "killed" / "zoo"
    recipe.parent.mkdir()
    recipe.write_text(whole.recipe.to_toml())
    done = subprocess.run(
        [sys.executable, "-c", LIVES, str(recipe), str(run), str(zoo), "0"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    codes = [int(code) for code in done.stdout.split()]
    assert set(codes) <= {-signal.SIGKILL, 0}, done.stderr
    assert codes.count(-signal.SIGKILL) >= 3
    assert codes[-1] == 0
    log = jsonl.read(run / "train.log.jsonl")
    assert any(row["event"] == "resumed" and row["update"] < 6 for row in log)

    assert sorted(path.name for path in zoo.iterdir()) == sorted(NAMES)
    for name in NAMES:
        assert content(zoo / name) == content(whole.folder.zoo / name)
        assert timeless(Manifest.load(zoo / name)) == timeless(Manifest.load(whole.folder.zoo / name))
    assert content(run) == content(whole.folder.path)  # checkpoints, results and recipe, and no temporary file


def test_a_finished_run_returns_at_once_without_its_data(whole: Finished, place: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.folder.path.rglob("*")}
    (place / "exam").rename(place / "gone")
    try:
        assert pipeline.run(whole.recipe, whole.folder, QUIET) == whole.manifests
        assert {path: path.stat().st_mtime_ns for path in whole.folder.path.rglob("*")} == before
        elsewhere = RunFolder(whole.recipe, place / "elsewhere", place / "elsewhere-zoo")
        with pytest.raises(DatasetMissingError):
            pipeline.run(whole.recipe, elsewhere, QUIET)
    finally:
        (place / "gone").rename(place / "exam")


def test_a_lost_model_is_written_again_and_is_the_same(whole: Finished, place: Path) -> None:
    run, zoo = place / "lost" / "run", place / "lost" / "zoo"
    shutil.copytree(whole.folder.path, run)
    shutil.copytree(whole.folder.zoo, zoo)
    shutil.rmtree(zoo / NAMES[1])
    pipeline.run(whole.recipe, RunFolder(whole.recipe, run, zoo), QUIET)
    assert content(zoo) == content(whole.folder.zoo)
    assert content(run) == content(whole.folder.path)


def test_the_rewound_weights_are_those_of_a_shorter_run(place: Path) -> None:
    for length in (1, 2):
        training = Training(Step(length, "it"), batch=8, schedule="constant")
        recipe = small(place, name=f"long{length}", training=training)
        pipeline.run(recipe, RunFolder(recipe, place / recipe.name, place / f"{recipe.name}-zoo"), QUIET)
    kept = sparse_file.read(place / "long2-zoo" / NAMES[0] / "rewind.safetensors").tensors
    stopped = sparse_file.read(place / "long1-zoo" / NAMES[0] / "sparse.safetensors").tensors
    longer = sparse_file.read(place / "long2-zoo" / NAMES[0] / "sparse.safetensors").tensors
    assert kept.keys() == stopped.keys()
    assert all(kept[name].tobytes() == stopped[name].tobytes() for name in kept)
    assert any(kept[name].tobytes() != longer[name].tobytes() for name in kept)


def test_the_supervised_control_and_warm_rounds_run(place: Path) -> None:
    ladder = Ladder((0.3,), per_round=0.7, scope="layer", mode="warm", rewind=Step(1, "it"), retrain=Step(1, "it"))
    recipe = small(place, name="labels", pretext="labels", ladder=ladder, variant="warm")
    parent, rung = pipeline.run(recipe, RunFolder(recipe, place / "labels", place / "labels-zoo"), QUIET)
    assert (parent.name, rung.name) == ("labels-resnet20-digits-warm-keep100%", "labels-resnet20-digits-warm-keep30%")
    assert all(layer.kept == round(0.3 * layer.prunable) for layer in rung.layers)


@pytest.mark.parametrize(
    "options",
    [
        {"score": "random", "scope": "erk", "guard": 4, "stem_keep": 1.0},
        {"score": "lamp", "mode": "pretrained"},
        {"score": "channels-l1"},
    ],
)
def test_every_criterion_and_a_given_start_go_down_the_ladder(place: Path, tmp_path: Path, options: dict) -> None:
    checkpoint = tmp_path / "other.pth"
    state = models.build("resnet20_cifar", num_classes=10, seed=9).state_dict()
    torch.save(state, checkpoint)
    start = Start(str(checkpoint), sha256(checkpoint)) if "mode" in options else Start()
    ladder = replace(Ladder((0.3,), per_round=0.7, rewind=Step(1, "it"), retrain=Step(1, "it")), **options)
    if "mode" in options:
        ladder = replace(ladder, rewind=Step(1, "ep"))
    recipe = small(place, ladder=ladder, start=start, transfer=Transfer(data=(f"folder:{place / 'exam'}",), pool=1))
    zoo = tmp_path / "zoo"
    parent, rung = pipeline.run(recipe, RunFolder(recipe, tmp_path / "run", zoo), QUIET)
    wanted = round(0.3 * parent.prunable)
    assert rung.kept <= wanted if "channels" in ladder.score else rung.kept == wanted
    assert rung.kept > 0.25 * parent.prunable
    assert load_masks(zoo / Name.parse(parent.name).folder, keep=0.3).kept == rung.kept
    if ladder.stem_keep:
        assert rung.layers[0].kept == rung.layers[0].prunable
    if start.source:
        kept = sparse_file.read(zoo / NAMES[0] / "rewind.safetensors").tensors
        assert all(kept[name].tobytes() == state[name].numpy().tobytes() for name in kept)


def test_unlabelled_pictures_train_without_labels_and_are_not_measured(place: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "My Pictures"
    pictures.mkdir()
    for path in sorted((place / "exam" / "dark").iterdir()):
        shutil.copy(path, pictures)
    recipe = small(place, data=f"folder:{pictures}", transfer=Transfer())
    (parent,) = pipeline.run(recipe, RunFolder(recipe, tmp_path / "run", tmp_path / "zoo"), QUIET)
    assert parent.name == "rotnet-resnet20-folder-keep100%"
    assert parent.metrics == {}
    assert {row["task"] for row in jsonl.read(tmp_path / "run" / "results.jsonl")} == {"zeros"}
    recipe = replace(recipe, pretext="labels")
    with pytest.raises(DatasetError, match="needs labels"):
        pipeline.run(recipe, RunFolder(recipe, tmp_path / "run2", tmp_path / "zoo"), QUIET)


def test_a_run_that_another_process_holds_is_busy_until_that_dies(place: Path, tmp_path: Path) -> None:
    recipe = small(place)
    folder = RunFolder(recipe, tmp_path / "run", tmp_path / "zoo")
    folder.path.mkdir()
    hold = (
        "import fcntl, sys, time; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX);"
        "print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", hold, str(folder.path / ".lock")], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    with holder.stdout:
        try:
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(RunBusyError, match="another process"):
                pipeline.run(recipe, folder, QUIET)
        finally:
            holder.kill()
            holder.wait()
    assert not (folder.path / "rounds").exists()
    assert len(pipeline.run(recipe, folder, QUIET)) == 1


def test_what_a_killed_process_left_half_written_is_swept_away(place: Path, tmp_path: Path) -> None:
    folder = RunFolder(small(place), tmp_path / "run", tmp_path / "zoo")
    half = folder.path / "rounds" / ".unfinished.pt.a1_b2c3d.tmp"
    drafts = [folder.zoo / f".{NAMES[0]}{end}" for end in (".a1_b2c3d.tmp", ".e5f6g7h_.old")]
    others = [folder.zoo / name for name in (f".{NAMES[0]}.5.a1_b2c3d.tmp", f".{NAMES[1]}.a1_b2c3d.tmp", NAMES[0])]
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    for path in (*drafts, *others):
        (path / "content").mkdir(parents=True)
    with folder.locked():
        assert list(half.parent.iterdir()) == []
        assert sorted(folder.zoo.iterdir()) == sorted(others)


def test_a_diverged_run_is_not_finished_and_publishes_nothing(place: Path, tmp_path: Path) -> None:
    recipe = small(place, training=Training(Step(4, "it"), batch=8, lr=1e30))
    folder = RunFolder(recipe, tmp_path / "run", tmp_path / "zoo")
    with pytest.raises(DivergedError, match="round 0"):
        pipeline.run(recipe, folder, QUIET)
    assert not (folder.path / "rounds" / "00.pt").exists()
    assert not (folder.path / "finished.json").exists()
    assert not folder.zoo.exists()


def test_models_of_another_recipe_are_left_alone_unless_forced(place: Path, tmp_path: Path) -> None:
    first, second = small(place), small(place, seed=1)
    zoo = tmp_path / "zoo"
    pipeline.run(first, RunFolder(first, tmp_path / "first", zoo), QUIET)
    before = content(zoo)
    with pytest.raises(OutputExistsError, match=r"not of this recipe\.\n.*--force"):
        pipeline.run(second, RunFolder(second, tmp_path / "second", zoo), QUIET)
    assert content(zoo) == before
    assert not (tmp_path / "second").exists()
    (forced,) = pipeline.run(second, RunFolder(second, tmp_path / "second", zoo, force=True), QUIET)
    assert forced.recipe_sha256 == second.sha256() != first.sha256()


@pytest.mark.parametrize("manifest", [None, b"{}", json.dumps({"schema": 2}).encode()])
def test_a_folder_that_cannot_be_read_is_left_alone(place: Path, tmp_path: Path, manifest: bytes | None) -> None:
    recipe = small(place)
    folder = RunFolder(recipe, tmp_path / "run", tmp_path / "zoo")
    stranger = folder.folder_of(1.0)
    stranger.mkdir(parents=True)
    (stranger / "precious").write_bytes(b"work of years")
    if manifest is not None:
        (stranger / MANIFEST).write_bytes(manifest)
    with pytest.raises(OutputExistsError, match="not of this recipe"):
        pipeline.run(recipe, folder, QUIET)
    assert (stranger / "precious").read_bytes() == b"work of years"


@pytest.mark.parametrize(
    ("ladder", "error"),
    [
        (Ladder((0.5,), rewind=Step(3, "it")), StepError),
        (Ladder((0.5,), rewind=Step(2, "it")), StepError),  # round 0 could train, round 1 could not
        (Ladder((0.5,), rewind=Step(1, "it"), mode="warm", retrain=Step(0.001, "ep")), StepError),
        (Ladder((0.5,), rewind=Step(1, "it"), per_round=0.001), RecipeError),
    ],
)
def test_a_ladder_that_cannot_be_is_refused_before_anything_trains(
    place: Path, tmp_path: Path, ladder: Ladder, error: type[Exception]
) -> None:
    recipe = small(place, ladder=ladder)
    folder = RunFolder(recipe, tmp_path / "run", tmp_path / "zoo")
    with pytest.raises(error):
        pipeline.run(recipe, folder, QUIET)
    assert not (folder.path / "rounds").exists()


def test_a_ladder_of_whole_channels_publishes_smaller_networks(place: Path, tmp_path: Path) -> None:
    recipe = small(place, ladder=Ladder((0.5,), score="channels-l2", rewind=Step(1, "it")))
    folder = RunFolder(recipe, tmp_path / "run", tmp_path / "zoo")
    parent, rung = pipeline.run(recipe, folder, QUIET)
    assert (parent.name, rung.name) == (
        "rotnet-resnet20-digits-slim-keep100%",
        "rotnet-resnet20-digits-slim-keep50%",
    )
    assert rung.prunable <= parent.prunable / 2
    smaller = load(folder.folder_of(0.5))
    assert sum(weight.numel() for weight in models.prunable(smaller).values()) == rung.prunable == rung.kept
    learned = torch.load(
        tmp_path / "run" / "rounds" / f"{len(list((tmp_path / 'run' / 'rounds').iterdir())) - 1:02}.pt"
    )
    masked = models.build("resnet20_cifar", seed=0)
    state = {name: value for name, value in learned["learner"].items() if name.startswith("backbone.")}
    masked.load_state_dict({name.removeprefix("backbone."): value for name, value in state.items()})
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(smaller(images), masked.eval()(images), rtol=1e-4, atol=1e-5)
    assert load_masks(folder.folder_of(1.0), keep=0.5).kept == rung.kept
    assert load(folder.folder_of(0.5), head=rung.heads[0])(images).shape == (3, 2)
