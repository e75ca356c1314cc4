"""Torch or the sparse engine: the same features, chosen by a rule that can be told beforehand, and told afterwards."""

from __future__ import annotations

import logging
import sys
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

import sslprune
from sslprune.errors import DeviceError, UnknownRuntimeError
from sslprune.evaluate import evaluate_backbone
from sslprune.evaluate.features import extract
from sslprune.evaluate.reader import FEWEST_IMAGES, MOST_MACS, Reader
from sslprune.evaluate.sgd_probe import SgdLinear, sgd_eval
from sslprune.evaluate.svm import LinearSvm, svm_eval
from sslprune.models import build
from sslprune.models.cost import share_left
from sslprune.runtime import kernels

needs_kernels = pytest.mark.skipif(not kernels.isas(), reason="installed without the compiled kernels")
LABELS = np.arange(FEWEST_IMAGES) % 3
X = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return sslprune.load("rotnet-resnet20-keep1%")


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.uint8]:
    """As many as the engine is worth compiling for."""
    base = (LABELS * 60).astype(np.uint8)[:, None, None, None]
    return base + np.random.default_rng(0).integers(0, 100, (FEWEST_IMAGES, 32, 32, 3), np.uint8)


def chosen(net: nn.Module, x: Tensor = X, stage: str | None = "pooled", **options: Any) -> tuple[str, str]:
    reader = Reader(net, stage, 1, **options)
    with torch.inference_mode():
        reader(x)
    return reader.runtime, reader.reason


@needs_kernels
def test_the_rule(net: nn.Module) -> None:
    assert chosen(net, runtime="auto", expected=FEWEST_IMAGES) == chosen(net, runtime="auto") == ("sparse", "")
    assert chosen(net, runtime="auto", expected=FEWEST_IMAGES - 1)[1] == "255 images are too few to compile for"
    assert chosen(net, runtime="sparse", expected=1) == ("sparse", "")
    assert chosen(net) == chosen(net, runtime="torch", expected=10_000) == ("torch", "")


@needs_kernels
@pytest.mark.parametrize("keep", [1.0, 0.2, 0.1])
def test_a_network_that_has_much_left_runs_dense(keep: float) -> None:
    net = sslprune.load("rotnet-resnet20", keep=keep)
    share = share_left(net, 32)
    runtime, reason = chosen(net, runtime="auto")
    assert runtime == ("sparse" if share <= MOST_MACS else "torch")
    assert reason == ("" if share <= MOST_MACS else f"{100 * share:.3g}% of the MACs are left")
    assert chosen(net, runtime="sparse")[0] == "sparse"


def test_without_kernels_all_is_torch(net: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sslprune.runtime._kernels", None)
    for runtime in ("auto", "sparse"):
        assert "without its compiled kernels" in chosen(net, runtime=runtime)[1]


class _Gated(nn.Module):
    """A network that looks at its images to decide what it computes, or does what the engine does not know."""

    def __init__(self, net: nn.Module, *, unknown: bool = False) -> None:
        super().__init__()
        self.net, self.num_features, self.unknown = net, 64, unknown

    def get_classifier(self) -> nn.Module:
        return nn.Identity()

    def forward_features(self, x: Tensor) -> Tensor:
        if self.unknown:
            return torch.cumsum(self.net.forward_features(x), 2)
        return self.net.forward_features(x if bool(x.abs().max() == 0) else -x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return x.mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


@needs_kernels
def test_a_network_that_a_trace_gets_wrong_or_that_has_unknown_parts_runs_dense(net: nn.Module) -> None:
    for runtime in ("auto", "sparse"):
        assert "away from torch's" in chosen(_Gated(net), runtime=runtime)[1]
        assert "does not know" in chosen(_Gated(net, unknown=True), runtime=runtime)[1]
    assert chosen(build("resnet20_cifar", seed=0).eval().double(), X.double(), runtime="sparse")[0] == "torch"


def test_impossible_wishes_are_refused(net: nn.Module) -> None:
    with pytest.raises(UnknownRuntimeError, match="no runtime 'onnx' for features"):
        sslprune.features(net, X, runtime="onnx")
    with pytest.raises(DeviceError, match="CPU, not on meta"):
        Reader(net, "pooled", 1, runtime="sparse")(X.to("meta"))


@needs_kernels
@pytest.mark.parametrize("stage", ["pooled", "layer2"])
@pytest.mark.parametrize("training", [True, False])
def test_features_are_torchs_and_the_network_stays_bit_for_bit(
    pictures: NDArray[np.uint8], stage: str, training: bool, caplog: pytest.LogCaptureFixture
) -> None:
    net = sslprune.load("rotnet-resnet20-keep0.5%").train(training)
    before = {name: tensor.numpy().tobytes() for name, tensor in net.state_dict().items()}
    caplog.set_level(logging.INFO, logger="sslprune.evaluate.reader")
    found = sslprune.features(net, pictures, stage=stage)
    assert ["sparse engine" in record.getMessage() for record in caplog.records] == [True]
    assert {name: tensor.numpy().tobytes() for name, tensor in net.state_dict().items()} == before
    assert all(module.training == training for module in net.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())
    expected = extract(net, pictures, stage=stage)
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
    (found.requires_grad_() * 2).sum().backward()  # not made for inference only


@needs_kernels
def test_a_loader_whose_length_nobody_knows_counts_as_many(
    net: nn.Module, pictures: NDArray[np.uint8], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="sslprune.evaluate.reader")
    loader = DataLoader([torch.from_numpy(each) for each in pictures[:8]], batch_size=4, drop_last=True)
    found = sslprune.features(net, loader)
    torch.testing.assert_close(found, extract(net, pictures[:8]), rtol=1e-4, atol=1e-5)
    assert ["sparse engine" in record.getMessage() for record in caplog.records] == [True]


@needs_kernels
def test_results_and_rows_say_what_computed_them(net: nn.Module, pictures: NDArray[np.uint8]) -> None:
    data = ((pictures, LABELS), (pictures[:30], LABELS[:30]))
    loaded = sslprune.load("rotnet-resnet20-keep1%", runtime="sparse")
    few = ((pictures[:60], LABELS[:60]), data[1])
    assert sslprune.knn_eval(net, *data).runtime == "sparse"
    assert sslprune.knn_eval(net, *few).runtime == "torch"
    assert sslprune.knn_eval(loaded, *few).runtime == sslprune.linear_eval(net, *few, runtime="sparse").runtime
    assert sslprune.knn_eval(loaded, *few, runtime="torch").runtime == "torch"
    assert sslprune.features(loaded, pictures[:3]).shape == (3, 64)

    about: dict[str, Any] = {"name": "n", "data": "d", "keep": 0.01, "seed": 0, "tasks": ("knn",)}
    plain = evaluate_backbone(net, *data, **about).rows
    assert all("runtime" not in row["protocol"] for row in plain)  # what trainings publish stays as it was
    for row, same in zip(evaluate_backbone(net, *data, **about, runtime="auto").rows, plain, strict=True):
        assert row["protocol"].pop("runtime") == "sparse"
        assert row["value"] == pytest.approx(same["value"], abs=4)
        assert row.keys() == same.keys()


@needs_kernels
def test_the_protocols_say_it_too(net: nn.Module, pictures: NDArray[np.uint8]) -> None:
    pytest.importorskip("sklearn")
    some, labels = pictures[:36], LABELS[:36]
    multi = np.where(np.eye(3)[labels] == 1, 1, -1)
    for runtime in ("torch", "sparse"):
        said = {} if runtime == "torch" else {"runtime": "sparse"}
        svm = svm_eval(net, (some, multi), (some, multi), protocol=LinearSvm(costs=(1.0,)), runtime=runtime)
        protocol = SgdLinear(batch=12).scaled(3)
        sgd = sgd_eval(net, (some, labels), (some, labels), num_classes=3, protocol=protocol, runtime=runtime)
        assert svm.extracted == sgd.extracted == said
        assert said.items() <= svm.described().items()
