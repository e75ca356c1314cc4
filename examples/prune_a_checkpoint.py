"""Take a checkpoint of somebody else's, prune it once, and prune it step by step with a little training in between.

    SSLPRUNE_DATA=DATA python examples/prune_a_checkpoint.py DATA/weights/resnet20-12fca82f.th

Written for the CIFAR-10 ResNet-20 of github.com/akamaster/pytorch_resnet_cifar10, whose classifier is called `linear`
and whose images were normalised with ImageNet's constants.
"""

from __future__ import annotations

import argparse
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from sslprune import models
from sslprune.config import Step, Training
from sslprune.data import sources
from sslprune.data.device_loader import DeviceLoader
from sslprune.masks import Mask
from sslprune.models import Preprocessing
from sslprune.models.foreign import load_foreign
from sslprune.models.preprocess import IMAGENET_MEAN, IMAGENET_STD
from sslprune.prune.lottery import descend
from sslprune.prune.magnitude import prune
from sslprune.prune.recalibrate import recalibrate_
from sslprune.prune.rewind import State, snapshot
from sslprune.prune.schedule import Round, rounds
from sslprune.train import optim

RUNGS = (0.5, 0.2, 0.1)
CALIBRATION = 40
"""Batches of 128 for batch norm's statistics: views as in training, since plain images cost three per cent."""

PREPROCESSING = Preprocessing(IMAGENET_MEAN, IMAGENET_STD, 32)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("checkpoint", type=Path)
    arguments.add_argument("--updates", type=int, default=300, help="training between two rungs (default: 300)")
    arguments.add_argument("--threads", type=int, default=1)
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)

    foreign = load_foreign(given.checkpoint, "resnet20_cifar", rename=["linear=fc"])
    data = sources.open("cifar10")
    images, labels = data.labelled("train")
    test = data.labelled("test")
    views = DeviceLoader(images, labels, batch=128, mean=IMAGENET_MEAN, std=IMAGENET_STD, seed=0, padding=4, flip=True)
    print(f"as given: {top1(foreign.model, *test):.2f} %", flush=True)

    for keep in RUNGS:
        model = deepcopy(foreign.model)
        mask = prune(models.prunable(model), keep)
        mask.apply_(model)
        before = top1(model, *test)
        recalibrate_(model, (views(0, update)[0].images for update in range(CALIBRATION)))
        print(
            f"once to {keep:.0%}: {before:.2f} %, with batch norm measured anew {top1(model, *test):.2f} %", flush=True
        )

    training = Training(Step(given.updates, "it"), batch=128, lr=0.02, nesterov=True, weight_decay=5e-4, padding=4)
    model = foreign.model
    weights = models.prunable(model)

    def train(network: nn.Module, mask: Mask, this: Round) -> State:
        optimizer = optim.build(training, network.parameters())
        network.train()
        for update in range(given.updates if this.number else 0):  # round 0 is what was given
            batch, _ = views(this.number, update)
            for group in optimizer.param_groups:
                group["lr"] = optim.rate(training, update, total=given.updates, per_epoch=views.per_epoch)
            loss = F.cross_entropy(network(batch.images), batch.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            optim.hold(mask, weights, optimizer)
        return snapshot(network)

    for rung in descend(model, weights, rounds(RUNGS, per_round=0.6), train, mode="warm"):
        said = f"{top1(model, *test):.2f} %"
        print(f"step by step to {rung.mask.keep:.0%}, {given.updates} updates each: {said}", flush=True)


@torch.inference_mode()
def top1(model: nn.Module, images: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy in per cent."""
    model.eval()
    right = 0
    for start in range(0, len(images), 500):
        guesses = model(PREPROCESSING(images[start : start + 500])).argmax(1).numpy()
        right += int((guesses == labels[start : start + 500]).sum())
    return 100 * right / len(images)


if __name__ == "__main__":
    main()
