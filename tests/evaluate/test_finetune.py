"""Fine-tuning: what was pruned stays exactly 0, equal seeds give equal weights, the result saves with its head."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import sslprune
from sslprune.errors import ArchitectureError, DatasetError, DivergedError, MaskError
from sslprune.evaluate.finetune import CIFAR, VOC07, Finetune, finetune
from sslprune.evaluate.rows import About, finetune_rows
from sslprune.masks import Mask
from sslprune.models import Preprocessing, build, prunable
from sslprune.models.head import HeadedBackbone
from sslprune.prune.magnitude import prune

PREPROCESSING = Preprocessing((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 8)


def pictures(count, seed, classes=3):
    """Pictures whose colour is their class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    images = rng.integers(0, 90, (count, 8, 8, 3))
    images[np.arange(count), :, :, labels] += 120
    return images.astype(np.uint8), labels


TRAIN, TEST = pictures(48, 0), pictures(30, 1)
tune = partial(finetune, preprocessing=PREPROCESSING, batch=16)


@pytest.fixture
def net():
    """A network with a fifth of its weights."""
    model = build("resnet20_cifar", seed=0)
    prune(prunable(model), 0.2).apply_(model)
    return model


def zeros(model):
    return {name: weight == 0 for name, weight in prunable(model).items()}


def test_it_learns_and_what_was_pruned_stays_exactly_zero(net):
    before = Mask.nonzero(prunable(net))
    weights = {name: weight.detach().clone() for name, weight in net.named_parameters()}
    result = tune(net, TRAIN, TEST, epochs=8, lr=0.05)
    assert result.value > 80
    assert result.metric == "top1"
    assert result.losses[-1] < result.losses[0]
    assert len(result.losses) == 8
    assert result.mask == before
    for name, kept in before.items():
        after = prunable(net)[name].detach()
        assert (after[~kept].numpy().tobytes()) == bytes(4 * int((~kept).sum()))  # +0.0, and no -0.0
        assert not torch.equal(after, weights[name])
    assert result.counts["nonzero"] <= before.kept
    assert (result.counts["n_train"], result.counts["n_test"]) == (48, 30)
    assert result.augmented


def test_the_mask_holds_after_every_step(net):
    kept = Mask.nonzero(prunable(net))
    seen = []

    def check(module, inputs):
        if module.training:
            seen.append(all(not bool(weight[~kept[name]].any()) for name, weight in prunable(net).items()))

    net.register_forward_pre_hook(check)
    tune(net, TRAIN, epochs=2)
    assert seen == [True] * 6


def test_equal_seeds_give_equal_weights_and_leave_no_trace(net):
    nets = [copy.deepcopy(net) for _ in range(3)]
    before = torch.get_rng_state()
    found = [tune(each, TRAIN, TEST, epochs=2, seed=seed) for each, seed in zip(nets, (0, 0, 1), strict=True)]
    assert torch.equal(before, torch.get_rng_state())
    states = [each.state_dict() for each in nets]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert found[0].losses == found[1].losses
    assert found[0].value == found[1].value
    assert not all(torch.equal(states[0][key], states[2][key]) for key in states[0])
    assert all(module.training for module in nets[0].modules())


def test_dropout_draws_from_the_seed():
    found = []
    for _ in range(2):
        net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(192, 3))
        with torch.no_grad():
            net[2].weight.zero_()
            net[2].bias.zero_()
        net.num_classes, net.reset_classifier = 3, None
        torch.rand(1)
        mask = Mask({"2.weight": torch.ones(3, 192, dtype=torch.bool)})
        found.append(tune(net, TRAIN, epochs=1, mask=mask).losses)
    assert found[0] == found[1]


def test_a_classifier_that_fits_stays():
    net = build("resnet20_cifar", num_classes=3, seed=0)
    with torch.no_grad():
        net.get_classifier().bias.copy_(torch.tensor([5.0, 0.0, 0.0]))
    tune(net, TRAIN, epochs=1, lr=1e-6)
    assert net.get_classifier().bias[0] > 4
    tune(net, TRAIN, epochs=1, lr=1e-6, num_classes=7)
    assert net.get_classifier().out_features == 7


@pytest.mark.parametrize("form", ["Dataset", "DataLoader", "pre-processed"])
def test_every_form_of_data(net, form):
    images, labels = torch.from_numpy(TRAIN[0]), torch.from_numpy(TRAIN[1])
    data = {
        "Dataset": TensorDataset(images, labels),
        "DataLoader": DataLoader(TensorDataset(images, labels), batch_size=16),
        "pre-processed": (PREPROCESSING(images), labels),
    }[form]
    result = tune(net, data, data, epochs=2)
    assert result.value is not None
    assert result.augmented == (form != "pre-processed")
    assert result.counts["n_train"] == result.counts["n_test"] == 48
    assert net.num_classes == 3


def test_a_dataset_is_its_arrays(net):
    other = copy.deepcopy(net)
    arrays = tune(net, TRAIN, epochs=1)
    dataset = tune(other, TensorDataset(torch.from_numpy(TRAIN[0]), torch.from_numpy(TRAIN[1])), epochs=1)
    assert arrays.losses == dataset.losses


def test_several_labels_an_image(net):
    labels = np.where(np.eye(3)[TRAIN[1]] == 1, 1, -1)
    labels[:6, 0] = 0  # difficult
    truth = np.where(np.eye(3)[TEST[1]] == 1, 1, -1)
    recipe = VOC07.scaled(9)
    assert recipe.milestones == (5, 6, 8)
    result = tune(net, (TRAIN[0], labels), (TEST[0], truth), protocol=recipe, lr=0.05)
    assert result.metric == "map"
    assert result.value == pytest.approx(np.mean(result.per_class))
    assert result.value > 50
    about = About("n", 0.2, "voc07", "train", "val", 0, None, 8)
    row = finetune_rows(result, about, ("a", "b", "c"))[0]
    assert row["protocol"]["ap"].keys() == {"a", "b", "c"}
    assert row["protocol"]["milestones"] == [5, 6, 8]
    assert (row["metric"], row["split"], row["protocol"]["train_split"]) == ("map", "val", "train")


def test_an_ignored_label_moves_nothing():
    from sslprune.evaluate.finetune import _binary

    logits = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.tensor([[1, -1], [0, 1], [-1, 0], [0, 0]])
    _binary(logits, labels).backward()
    assert ((logits.grad == 0) == (labels == 0)).all()
    assert float(_binary(logits.detach(), torch.zeros(4, 2))) == 0


def test_masks_may_get_smaller_on_the_way(net):
    keeps = {1: 0.1, 2: 0.05}
    sizes = []

    def shrink(epoch, weights, mask):
        sizes.append((epoch, round(mask.keep, 3)))
        return prune(weights, keeps[epoch], within=mask)

    before = Mask.nonzero(prunable(net))
    result = tune(net, TRAIN, epochs=3, shrink=shrink)
    assert sizes == [(1, 0.2), (2, 0.1)]
    assert result.mask.keep == pytest.approx(0.05, abs=1e-4)
    assert result.mask.is_subset_of(before)
    assert all(not bool(prunable(net)[name][~kept].any()) for name, kept in result.mask.items())


def test_a_mask_that_grows_is_refused(net):
    with pytest.raises(MaskError, match="brought pruned weights back"):
        tune(net, TRAIN, epochs=2, shrink=lambda epoch, weights, mask: Mask.full(weights))
    with pytest.raises(MaskError, match="no weight 'x'"):
        tune(net, TRAIN, epochs=1, mask=Mask({"x": torch.ones(1, dtype=torch.bool)}))


def test_a_loaded_network_saves_as_a_small_file_with_its_classifier(zoo, tmp_path):
    model = sslprune.load("rednet-resnet20-toy-keep5%")
    mask = model.sslprune.mask
    result = sslprune.finetune(model, TRAIN, TEST, epochs=1)
    assert not model.training
    sslprune.save(model, tmp_path / "tuned")
    again = sslprune.load(tmp_path / "tuned")
    assert again.num_classes == 3
    assert again.sslprune.mask == mask == result.mask
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[key]), key
    x = model.sslprune.preprocessing(TEST[0])
    with torch.no_grad():
        assert torch.equal(model(x), again(x))
        assert float((again(x).argmax(1).numpy() == TEST[1]).mean() * 100) == result.value
    dense = (zoo.folder("rednet-resnet20-toy-keep100%") / "sparse.safetensors").stat().st_size
    assert (tmp_path / "tuned" / "sparse.safetensors").stat().st_size < dense / 5


def test_a_shrunk_network_is_saved_as_small_as_it_is(zoo, tmp_path):
    model = sslprune.load("rednet-resnet20-toy-keep20%")
    sslprune.finetune(model, TRAIN, epochs=2, shrink=lambda epoch, weights, mask: prune(weights, 0.05, within=mask))
    assert model.sslprune.keep == pytest.approx(0.05, abs=1e-4)
    assert sslprune.save(model, tmp_path / "tuned").keep == model.sslprune.keep


def test_a_published_probe_gives_way_to_a_classifier_that_can_be_saved(zoo, tmp_path):
    model = sslprune.load("rednet-resnet20-toy-keep5%", head="digits")
    assert isinstance(model, HeadedBackbone)
    result = sslprune.finetune(model, TRAIN, TEST, epochs=1, num_classes=10)
    assert all(name.startswith("backbone.") for name in result.mask)
    sslprune.save(model, tmp_path / "tuned")
    again = sslprune.load(tmp_path / "tuned")
    x = model.sslprune.preprocessing(TEST[0])
    with torch.no_grad():
        assert torch.equal(model(x), again(x))


def test_schedules():
    assert [CIFAR.rate(step, 10) for step in (0, 909, 910, 1360)] == pytest.approx([0.1, 0.1, 0.01, 0.001])
    assert (VOC07.epochs, VOC07.lr, VOC07.milestones) == (90, 0.01, (50, 65, 80))
    cosine = Finetune(epochs=4, lr=0.2)
    assert [cosine.rate(step, 5) for step in (0, 10, 20)] == pytest.approx([0.2, 0.1, 0.0])


def test_what_cannot_be_is_refused(net):
    with pytest.raises(DatasetError, match="0 epochs"):
        tune(net, TRAIN, epochs=0)
    with pytest.raises(DatasetError, match="does not go with labels"):
        tune(net, TRAIN, protocol=VOC07)
    with pytest.raises(DatasetError, match="48 train images go with labels"):
        tune(net, (TRAIN[0], TRAIN[1][:5]))
    with pytest.raises(DatasetError, match="a train label is 2"):
        tune(net, TRAIN, num_classes=2)
    with pytest.raises(DatasetError, match="no labels"):
        tune(net, list(TRAIN[0]))
    with pytest.raises(ArchitectureError, match="reset_classifier"):
        tune(nn.Conv2d(3, 3, 1), TRAIN)
    with pytest.raises(DivergedError, match="step 0"):
        tune(net, (torch.full((16, 3, 8, 8), float("inf")), [0, 1] * 8))
    assert all(module.training for module in net.modules())
