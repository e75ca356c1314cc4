"""Set up for every test: no network, no competing threads, slow tests only when asked for."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

# Read once, when huggingface_hub and torch are imported: set before either can be.
os.environ["HF_HUB_OFFLINE"] = "1"
# An ONNX file takes seconds to export: the tests that look at one ask for it. SSLPRUNE_ONNX=1 pytest asks for all.
os.environ.setdefault("SSLPRUNE_ONNX", "0")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["MKL_NUM_THREADS"] = "1"

import hypothesis
import pytest

if TYPE_CHECKING:
    from torch import Tensor

    from sslprune.masks import Mask

# How long an example takes says nothing about right or wrong; on CI the same examples run every time.
hypothesis.settings.register_profile("sslprune", deadline=None, derandomize="CI" in os.environ, print_blob=True)
hypothesis.settings.load_profile("sslprune")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--runslow", action="store_true", help="run the tests marked slow, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--runslow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow: needs --runslow"))


@dataclass
class TinyZoo:
    """A real zoo of small networks, of pretexts that will never be published: bundled models cannot shadow them.

    Attributes:
        path: The local zoo.
        states: Full name -> the state dict that was written.
        masks: Full name -> the mask that was written.
    """

    path: Path
    states: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    masks: dict[str, Mask] = field(default_factory=dict)

    def folder(self, name: str) -> Path:
        return self.path / name.removesuffix("%")

    def copy(self, name: str, to: Path) -> Path:
        """A model's folder to spoil."""
        return Path(shutil.copytree(self.folder(name), to))


@pytest.fixture(scope="session")
def written_zoo(tmp_path_factory: pytest.TempPathFactory) -> TinyZoo:
    import torch

    from sslprune import models
    from sslprune.evaluate.head import write_head
    from sslprune.evaluate.results import row
    from sslprune.models.head import Head, Probe
    from sslprune.models.preprocess import CIFAR_MEAN, CIFAR_STD, Preprocessing
    from sslprune.prune.magnitude import prune
    from sslprune.zoo.names import Name
    from sslprune.zoo.write import Evidence, Extra, write_model

    zoo = TinyZoo(tmp_path_factory.mktemp("zoo"))
    for seed, (pretext, rungs) in enumerate({"rednet": (1.0, 0.2, 0.05, 0.01), "bluenet": (1.0, 0.05)}.items()):
        model = models.build("resnet20_cifar", seed=seed)
        chance = torch.Generator().manual_seed(seed)
        for key, tensor in model.state_dict().items():
            if "bn" in key and tensor.is_floating_point():  # no two alike, and features that do not die of pruning
                tensor.copy_(torch.rand(tensor.shape, generator=chance) / (1 if key.endswith("weight") else 20) + 0.01)
        head = Head(
            "digits",
            "layer3",
            2,
            Probe(
                mean=torch.randn(256, generator=chance),
                std=torch.rand(256, generator=chance) + 0.5,
                weight=torch.randn(10, 256, generator=chance),
                bias=torch.randn(10, generator=chance),
                l2=1e-3,
                classes=tuple("0123456789"),
                held_out=62.5,
                converged=True,
            ),
        )
        mask = None
        for keep in rungs:
            mask = prune(models.prunable(model), keep, within=mask)
            mask.apply_(model)
            name = Name(pretext, "resnet20", "toy", "", keep)
            measured = row(
                name=str(name),
                task="linear",
                data="digits",
                split="test",
                metric="top1",
                value=80 + keep,
                unit="%",
                keep=mask.keep,
                protocol={"best_stage": True},
            )
            write_model(
                zoo.path / name.folder,
                name,
                model,
                mask,
                architecture="resnet20_cifar",
                preprocessing=Preprocessing(CIFAR_MEAN, CIFAR_STD, 32),
                licence="Apache-2.0",
                data_terms="drawn by chance",
                evidence=Evidence(rows=[measured], metrics={"digits/linear": 80 + keep}, seed=seed),
                extra=Extra(heads={"digits": lambda path, head=head: write_head(path, head)}),
            )
            zoo.states[str(name)] = {key: tensor.clone() for key, tensor in model.state_dict().items()}
            zoo.masks[str(name)] = mask
    return zoo


@pytest.fixture
def zoo(written_zoo: TinyZoo, monkeypatch: pytest.MonkeyPatch) -> TinyZoo:
    """The tiny zoo as the local one: rednet-resnet20-toy at 100, 20, 5, 1 %, bluenet-resnet20-toy at 100, 5 %."""
    monkeypatch.setenv("SSLPRUNE_ZOO", str(written_zoo.path))
    monkeypatch.delenv("SSLPRUNE_INDEX", raising=False)
    return written_zoo
