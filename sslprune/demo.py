"""The main job on an embedded data set: pull and evaluate the bundled networks, then the whole chain in small.

Every number is measured in the run that prints it.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sslprune import models, pipeline
from sslprune.config import Recipe
from sslprune.data import sources
from sslprune.evaluate.results import Row
from sslprune.evaluate.transfer import evaluate_backbone
from sslprune.figures import Curve
from sslprune.models.preprocess import CIFAR_MEAN, CIFAR_STD, Preprocessing
from sslprune.run_folder import RunFolder
from sslprune.setting import Options
from sslprune.zoo.index import open_index
from sslprune.zoo.info import info_of
from sslprune.zoo.load import load

RECIPE = "rotnet-resnet20-digits-demo"


@dataclass(frozen=True)
class Measured:
    """One network: top-1 on digits in per cent at its chosen stage, bytes of its file (0: none), ms for one image."""

    name: str
    keep: float
    bytes: int
    linear: float
    knn: float
    stage: str
    milliseconds: float


@dataclass(frozen=True)
class Family:
    """The rungs of one ladder, the untrained network beside them, and the bytes of the dense weights in fp32."""

    title: str
    rungs: list[Measured]
    floor: Measured
    dense_bytes: int

    def as_rows(self) -> list[dict[str, Any]]:
        """The numbers for programs."""
        return [
            {"family": self.title, "dense_bytes": self.dense_bytes, **asdict(rung)}
            for rung in [*self.rungs, self.floor]
        ]

    def curve(self) -> Curve:
        """The numbers for a picture."""
        rungs = self.rungs
        return Curve(
            title=self.title,
            data="digits",
            keeps=[rung.keep for rung in rungs],
            linear=[rung.linear for rung in rungs],
            knn=[rung.knn for rung in rungs],
            bytes=[rung.bytes for rung in rungs],
            floor=(self.floor.linear, self.floor.knn),
            dense_bytes=self.dense_bytes,
        )


def bundled_family(*, say: Callable[[str], None]) -> Family | None:
    """Load every rung of the first bundled family by its name and measure it on digits, beside an untrained network.

    Returns:
        The family; None where no model is bundled.
    """
    names = [entry.name for entry in open_index().entries if entry.status == "bundled"]
    if not names:
        return None
    first = names[0].family
    return _measure_family(f"Bundled: {first}", [str(name) for name in names if name.family == first], say=say)


def own_family(*, say: Callable[[str], None], progress: bool) -> Family:
    """Train without labels, prune, write, load by name and measure, in folders that are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="sslprune-demo-") as temporary, _local_zoo(Path(temporary) / "zoo"):
        recipe = Recipe.load(RECIPE)
        folder = RunFolder.of(recipe, runs=Path(temporary) / "runs")
        manifests = pipeline.run(recipe, folder, Options(progress=progress))
        return _measure_family(
            f"Trained just now: {folder.name(1.0).family}", [manifest.name for manifest in manifests], say=say
        )


def next_step(families: list[Family]) -> str:
    """One line that says what to do next, with a name that works."""
    there = {str(entry.name) for entry in open_index().entries}  # a family that was trained just now is gone already
    names = [rung.name for family in families for rung in family.rungs if rung.keep < 0.1 and rung.name in there]
    return (
        f'Next: python -c "import sslprune; print(sslprune.load({names[0]!r}).sslprune)"'
        if names
        else "Next: sslprune --help"
    )


def _measure_family(title: str, names: list[str], *, say: Callable[[str], None]) -> Family:
    rungs = []
    architecture, preprocessing = "resnet20_cifar", Preprocessing(CIFAR_MEAN, CIFAR_STD, 32)
    for name in names:
        model = load(name)
        info = info_of(model)
        architecture, preprocessing = info.architecture, info.preprocessing
        rungs.append(_measure(model, name, info.keep, info.manifest.bytes, preprocessing))
        say(f"   {name}: linear {rungs[-1].linear:.1f} %, kNN {rungs[-1].knn:.1f} %")
    random = models.build(architecture, seed=1).eval()
    floor = _measure(random, "random network", 1.0, 0, preprocessing)
    dense = sum(tensor.numel() * tensor.element_size() for tensor in random.state_dict().values())
    return Family(title, rungs, floor, dense)


def _measure(model: nn.Module, name: str, keep: float, size: int, preprocessing: Preprocessing) -> Measured:
    digits = sources.open("digits")
    rows = evaluate_backbone(
        model,
        digits.labelled("train"),
        digits.labelled("test"),
        name=name,
        data="digits",
        keep=keep,
        seed=0,
        classes=digits.classes,
        preprocessing=preprocessing,
    ).rows
    linear, knn = (_best(rows, task) for task in ("linear", "knn"))
    milliseconds = _milliseconds(model, preprocessing.size)
    return Measured(name, keep, size, linear["value"], knn["value"], str(linear["layer"]), milliseconds)


def _best(rows: list[Row], task: str) -> Row:
    return next(row for row in rows if row["task"] == task and row["protocol"]["best_stage"])


def _milliseconds(model: nn.Module, size: int, repeats: int = 15) -> float:
    image = torch.zeros(1, 3, size, size)
    taken = []
    with torch.inference_mode():
        for _ in range(repeats):
            start = time.perf_counter()
            model(image)
            taken.append((time.perf_counter() - start) * 1e3)
    return statistics.median(taken)


@contextmanager
def _local_zoo(folder: Path) -> Iterator[None]:
    before = os.environ.get("SSLPRUNE_ZOO")
    os.environ["SSLPRUNE_ZOO"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["SSLPRUNE_ZOO"]
        else:
            os.environ["SSLPRUNE_ZOO"] = before
