"""A protocol prints all of its constants; frozen means that not one byte of the backbone changes."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest
import torch

import sslprune
from sslprune.evaluate import evaluate_backbone
from sslprune.evaluate.finetune import CIFAR, VOC07, Finetune
from sslprune.evaluate.semi import FewLabels, semi_eval
from sslprune.evaluate.sgd_probe import SgdLinear, sgd_eval
from sslprune.evaluate.svm import LinearSvm, svm_eval
from sslprune.models import Preprocessing, build

PROTOCOLS = [LinearSvm(), SgdLinear(), Finetune(), VOC07, CIFAR, FewLabels(0.1)]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: type(protocol).__name__)
def test_every_constant_is_printed(protocol):
    printed = json.loads(json.dumps(protocol.constants()))
    assert printed.pop("protocol") == type(protocol).__name__
    for field in fields(protocol):
        value = getattr(protocol, field.name)
        assert printed.pop(field.name) == (list(value) if isinstance(value, tuple) else value)
    assert not printed
    with pytest.raises(FrozenInstanceError):
        protocol.lr = 1


IMAGES = np.random.default_rng(0).integers(0, 256, (36, 8, 8, 3), np.uint8)
LABELS = np.arange(36) % 3
MULTI = np.where(np.eye(3)[LABELS] == 1, 1, -1)
DATA = (IMAGES, LABELS), (IMAGES, LABELS)
PREPARED = {"preprocessing": Preprocessing((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 8)}
FROZEN = {
    "features": lambda net: sslprune.features(net, IMAGES, **PREPARED),
    "linear_eval": lambda net: sslprune.linear_eval(net, *DATA, **PREPARED),
    "knn_eval": lambda net: sslprune.knn_eval(net, *DATA, k=2, **PREPARED),
    "evaluate_backbone": lambda net: evaluate_backbone(net, *DATA, name="n", data="d", keep=1.0, seed=0, **PREPARED),
    "svm_eval": lambda net: svm_eval(
        net, (IMAGES, MULTI), (IMAGES, MULTI), protocol=LinearSvm(costs=(1.0,)), **PREPARED
    ),
    "sgd_eval": lambda net: sgd_eval(
        net, *DATA, num_classes=3, stage="all", protocol=SgdLinear(batch=12).scaled(4), **PREPARED
    ),
    "semi_eval": lambda net: semi_eval(net, *DATA, FewLabels(0.5), **PREPARED),
}


@pytest.mark.parametrize("evaluation", FROZEN)
@pytest.mark.parametrize("training", [True, False])
def test_frozen_means_bit_identical(evaluation, training):
    net = build("resnet20_cifar", seed=0).train(training)
    with torch.no_grad():
        next(net.parameters()).view(-1)[0] = -0.0  # a bit that == would not see
    flags = [parameter.requires_grad for parameter in net.parameters()]
    before = {name: tensor.numpy().tobytes() for name, tensor in net.state_dict().items()}
    assert any("running_var" in name for name in before)
    FROZEN[evaluation](net)
    assert {name: tensor.numpy().tobytes() for name, tensor in net.state_dict().items()} == before
    assert all(module.training == training for module in net.modules())
    assert [parameter.requires_grad for parameter in net.parameters()] == flags
    assert all(parameter.grad is None for parameter in net.parameters())
