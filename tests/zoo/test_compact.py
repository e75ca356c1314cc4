from __future__ import annotations

import pytest
import torch

import sslprune
from sslprune import models
from sslprune.bench.synthetic import pruned
from sslprune.errors import ArchitectureError, IntegrityError, SparseFileError
from sslprune.export import sparse_file
from sslprune.masks import Mask
from sslprune.zoo.channels import CHANNELS, read_channels, write_channels
from sslprune.zoo.manifest import Manifest

NAME = "rotnet-resnet20-keep1%"


@pytest.fixture(scope="module")
def original():
    return sslprune.load(NAME)


@pytest.fixture(scope="module")
def smaller(original):
    return sslprune.compact(original)


@pytest.fixture
def images():
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_a_bundled_model_gets_smaller_and_says_the_same(original, smaller, images):
    done = smaller.compaction
    assert done.reason is None
    assert done.after.parameters == sum(parameter.numel() for parameter in smaller.parameters())
    assert done.after.parameters < 0.8 * done.before.parameters
    assert done.after.macs < done.before.macs
    with torch.no_grad():
        torch.testing.assert_close(smaller(images), original(images), rtol=1e-5, atol=1e-5)


def test_it_still_knows_what_it_is(original, smaller):
    info = smaller.sslprune
    assert info.name == original.sslprune.name
    assert info.preprocessing == original.sslprune.preprocessing
    assert info.mask == Mask.nonzero(models.prunable(smaller))
    assert info.keep == info.mask.keep > original.sslprune.keep


def test_it_saves_and_loads_like_any_other(smaller, images, tmp_path):
    manifest = sslprune.save(smaller, tmp_path / "small")
    again = sslprune.load(tmp_path / "small")
    assert CHANNELS in manifest.files
    assert manifest.prunable == smaller.sslprune.mask.prunable
    assert again.sslprune.mask == smaller.sslprune.mask
    with torch.no_grad():
        assert torch.equal(again(images), smaller(images))
    assert again.sslprune.channels.keys() == smaller.sslprune.channels.keys()
    for layer, kept in smaller.sslprune.channels.items():
        assert torch.equal(again.sslprune.channels[layer].outputs, kept.outputs)
        assert torch.equal(again.sslprune.channels[layer].inputs, kept.inputs)


def test_saved_it_is_smaller_in_memory_and_not_larger_on_disk(original, smaller, tmp_path):
    manifest = sslprune.save(smaller, tmp_path / "small")
    assert manifest.prunable < original.sslprune.manifest.prunable
    assert manifest.bytes < 1.1 * original.sslprune.manifest.bytes


def test_a_second_compaction_is_numbered_as_the_first(smaller):
    pruned_on = sslprune.compact(smaller)
    assert pruned_on.compaction.reason == "no channel can be removed"
    with torch.no_grad():
        for name, weight in models.prunable(smaller).items():
            weight.mul_(torch.rand(weight.shape, generator=torch.Generator().manual_seed(len(name))) < 0.3)
    twice = sslprune.compact(smaller)
    assert twice.compaction.reason is None
    both = smaller.sslprune.channels.keys() & twice.compaction.channels.keys()
    assert both
    for layer in both:
        before, kept = smaller.sslprune.channels[layer].outputs, twice.sslprune.channels[layer].outputs
        assert len(kept) == len(before)
        assert not (kept & ~before).any()
        assert int(kept.sum()) == int(twice.compaction.channels[layer].outputs.sum())


def test_a_published_probe_goes_along(images):
    classifier = sslprune.load(NAME, head="cifar10")
    smaller = sslprune.compact(classifier)
    assert smaller.compaction.reason is None
    assert smaller.classes == classifier.classes
    with torch.no_grad():
        torch.testing.assert_close(smaller(images), classifier(images), rtol=1e-4, atol=1e-4)
    assert all(layer in dict(smaller.backbone.named_modules()) for layer in smaller.sslprune.channels)


def test_a_layer_without_bias_or_batch_norm_gets_one_and_keeps_it(tmp_path, original):
    model = pruned("resnet20_cifar", 0.01, size=32)
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.BatchNorm2d) and name.endswith("bn1"):
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, torch.nn.Identity())
    smaller = sslprune.compact(model, size=32)
    assert smaller.compaction.reason is None
    assert any(key.endswith("conv1.bias") or key.endswith("conv2.bias") for key in smaller.state_dict())


def test_the_size_must_be_known_or_said():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1))
    with pytest.raises(ArchitectureError, match="size"):
        sslprune.compact(net)
    assert sslprune.compact(net, size=8).compaction.reason == "no channel can be removed"


def test_a_changed_list_of_channels_is_noticed(smaller, tmp_path):
    sslprune.save(smaller, tmp_path / "small")
    path = tmp_path / "small" / CHANNELS
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError):
        sslprune.load(tmp_path / "small")
    with pytest.raises(SparseFileError):
        sslprune.load(tmp_path / "small", verify=False)


@pytest.mark.parametrize("fault", ["layer", "length", "side", "axes", "none left"])
def test_a_list_of_channels_that_cannot_be_is_refused(fault, smaller, tmp_path):
    sslprune.save(smaller, tmp_path / "small")
    path = tmp_path / "small" / CHANNELS
    masks = dict(sparse_file.read_mask(path))
    some = next(name for name in masks if name.endswith("conv1.out"))
    if fault == "layer":
        masks |= {"nowhere.in": masks[some], "nowhere.out": masks[some]}
    elif fault == "length":
        masks[some] = masks[some][:-1]
    elif fault == "side":
        del masks[some]
    elif fault == "axes":
        masks[some] = masks[some].reshape(2, -1)
    else:
        masks[some] = masks[some] & False
    sparse_file.write_mask(path, masks, metadata={})
    with pytest.raises(SparseFileError):
        sslprune.load(tmp_path / "small", verify=False)


def test_channels_come_back_as_they_were_written(smaller, tmp_path):
    write_channels(tmp_path / CHANNELS, smaller.sslprune.channels)
    found = read_channels(tmp_path / CHANNELS)
    assert {layer: kept.outputs.tolist() for layer, kept in found.items()} == {
        layer: kept.outputs.tolist() for layer, kept in smaller.sslprune.channels.items()
    }


def test_the_manifest_of_a_compacted_model_is_one(smaller, tmp_path):
    sslprune.save(smaller, tmp_path / "small")
    assert Manifest.load(tmp_path / "small").keep == pytest.approx(smaller.sslprune.mask.keep)
