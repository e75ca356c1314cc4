"""Linear classifiers by SGD: they learn, at every stage at once, by a schedule that scales."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from sslprune.errors import ArchitectureError, DatasetError
from sslprune.evaluate.rows import About, sgd_rows
from sslprune.evaluate.sgd_probe import SgdLinear, sgd_eval
from sslprune.models import Preprocessing, build, stages

PREPROCESSING = Preprocessing((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 8)
SHORT = SgdLinear(batch=16, lr=0.1).scaled(30)


def pictures(count, seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = rng.integers(0, 90, (count, 8, 8, 3))
    images[np.arange(count), :, :, labels] += 120
    return images.astype(np.uint8), labels


TRAIN, TEST = pictures(48, 0), pictures(30, 1)
probe = partial(sgd_eval, num_classes=3, protocol=SHORT, preprocessing=PREPROCESSING)


@pytest.fixture(scope="module")
def net():
    return build("resnet20_cifar", seed=0)


def test_every_stage_learns_in_one_pass(net):
    result = probe(net, TRAIN, TEST, stage="all")
    assert tuple(result.accuracy) == stages(net)
    assert result.dims == {"layer1": 16 * 8 * 8, "layer2": 32 * 4 * 4, "layer3": 64 * 2 * 2}
    assert max(result.accuracy.values()) > 80
    assert result.counts == {"n_train": 480, "n_test": 30}
    assert result.augmented
    rows = sgd_rows(result, net, About("n", 1.0, "toy", "train", "val", 0, None, 8))
    assert [row["layer"] for row in rows] == list(stages(net))
    assert rows[0]["protocol"]["drop_every"] == SHORT.drop_every == 9


def test_a_stage_alone_is_the_same_as_among_all(net):
    together = probe(net, TRAIN, TEST, stage="all")
    alone = probe(net, TRAIN, TEST, stage="layer2")
    assert alone.accuracy == {"layer2": together.accuracy["layer2"]}
    assert alone.losses["layer2"] == together.losses["layer2"]
    assert probe(net, TRAIN, TEST).dims == {"pooled": 64}


def test_equal_seeds_give_equal_numbers_and_leave_no_trace(net):
    before = torch.get_rng_state()
    one = probe(net, TRAIN, TEST, seed=3)
    assert one == probe(net, TRAIN, TEST, seed=3)
    assert torch.equal(before, torch.get_rng_state())
    assert one.losses != probe(net, TRAIN, TEST, seed=4).losses


def test_a_loader_gives_its_own_batches(net):
    images, labels = torch.from_numpy(TRAIN[0]), torch.from_numpy(TRAIN[1])
    loader = DataLoader(TensorDataset(images, labels), batch_size=47)  # its second batch, of one image, is passed over
    result = probe(net, loader, loader)
    assert result.counts == {"n_train": 30 * 47, "n_test": 48}


def test_the_schedule_is_goyals_and_scales():
    protocol = SgdLinear()
    assert (protocol.iterations, protocol.drop_every, protocol.batch, protocol.momentum) == (140_000, 40_000, 256, 0.9)
    short = protocol.scaled(1400)
    assert short.drop_every == 400
    assert [short.rate(step) for step in (0, 399, 400, 1200)] == pytest.approx([0.01, 0.01, 1e-3, 1e-5])


def test_what_does_not_fit_is_refused(net):
    with pytest.raises(DatasetError, match="a train label is 2"):
        probe(net, TRAIN, TEST, num_classes=2)
    with pytest.raises(ArchitectureError):
        probe(net, TRAIN, TEST, stage="layer9")
    one = DataLoader(TensorDataset(torch.from_numpy(TRAIN[0]), torch.from_numpy(TRAIN[1])), batch_size=1)
    with pytest.raises(DatasetError, match="no batch of two"):
        probe(net, one, TEST)
