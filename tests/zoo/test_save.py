"""A network that was loaded can be saved after training, sparse as it was, and loaded from there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import sslprune
from sslprune.errors import ManifestError, MaskError, OutputExistsError
from sslprune.models import build
from sslprune.zoo.info import info_of
from sslprune.zoo.locate import locate
from sslprune.zoo.manifest import Manifest
from sslprune.zoo.save import save
from sslprune.zoo.verify import verify_model

NAME = "rednet-resnet20-toy-keep5%"
IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def tuned(model: nn.Module, *, masked: bool = True) -> nn.Module:
    """Two steps of training, with momentum and weight decay."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        model(IMAGES).square().mean().backward()
        optimizer.step()
        if masked:
            info_of(model).mask.apply_(model)
    return model.eval()


def same(one: nn.Module, other: nn.Module) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("name", [NAME, "rednet-resnet20-toy-keep100%"])
@pytest.mark.parametrize("num_classes", [0, 7])
def test_a_tuned_network_comes_back_as_it_was(zoo: Any, tmp_path: Path, name: str, num_classes: int) -> None:
    original = sslprune.load(name, num_classes=num_classes)
    before = {key: tensor.clone() for key, tensor in original.state_dict().items()}
    model = tuned(original)
    assert any(not torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    manifest = save(model, tmp_path / "mine")
    again = sslprune.load(tmp_path / "mine")
    assert same(again, model)
    assert again.num_classes == num_classes
    assert torch.equal(again(IMAGES), model(IMAGES))
    assert info_of(again).mask == info_of(model).mask
    assert info_of(again).manifest == manifest
    verify_model(locate(tmp_path / "mine"))


def test_what_the_original_was_measured_at_is_not_carried_over(zoo: Any, tmp_path: Path) -> None:
    model = sslprune.load(NAME)
    original, manifest = info_of(model).manifest, save(model, tmp_path / "mine")
    assert original.metrics
    assert not manifest.metrics
    assert (manifest.recipe_sha256, manifest.seed) == (None, None)
    assert (manifest.name, manifest.parent) == (original.name, original.parent)
    assert (manifest.licence, manifest.data_terms) == (original.licence, original.data_terms)
    assert (manifest.kept, manifest.macs_left) == (original.kept, original.macs_left)
    assert manifest.files["sparse.safetensors"].size > 0
    assert not manifest.heads


def test_a_network_with_a_head_is_saved_without_it(zoo: Any, tmp_path: Path) -> None:
    model = sslprune.load(NAME, head="digits")
    save(model, tmp_path / "mine")
    assert same(sslprune.load(tmp_path / "mine"), sslprune.load(NAME))


def test_a_head_exchanged_for_a_classifier_is_saved_with_it(zoo: Any, tmp_path: Path) -> None:
    model = sslprune.load(NAME, head="digits")
    model.reset_classifier(3)
    save(model, tmp_path / "mine")
    again = sslprune.load(tmp_path / "mine")
    assert torch.equal(again(IMAGES), model(IMAGES))


def test_weights_that_grew_back_are_not_saved(zoo: Any, tmp_path: Path) -> None:
    model = tuned(sslprune.load(NAME), masked=False)
    with pytest.raises(MaskError, match="outside its mask") as caught:
        save(model, tmp_path / "mine")
    assert "mask" in caught.value.hint
    assert not (tmp_path / "mine").exists()


def test_a_folder_is_replaced_only_by_force(zoo: Any, tmp_path: Path) -> None:
    model = sslprune.load(NAME)
    save(model, tmp_path / "mine")
    with pytest.raises(OutputExistsError):
        save(model, tmp_path / "mine")
    with torch.no_grad():
        model.bn1.bias.add_(1)
    save(model, str(tmp_path / "mine"), force=True)
    assert same(sslprune.load(tmp_path / "mine"), model)


def test_a_model_may_be_saved_over_its_own_folder_or_after_it_has_gone(zoo: Any, tmp_path: Path) -> None:
    model = sslprune.load(zoo.copy(NAME, tmp_path / "mine"))
    save(model, tmp_path / "mine", force=True)
    shutil.rmtree(tmp_path / "mine")
    save(model, tmp_path / "mine")
    assert same(sslprune.load(tmp_path / "mine"), model)


def test_saving_twice_is_saving_once(zoo: Any, tmp_path: Path) -> None:
    first = save(sslprune.load(NAME), tmp_path / "one")
    second = save(sslprune.load(tmp_path / "one"), tmp_path / "two")
    assert first == second == Manifest.load(tmp_path / "two")


def test_a_stranger_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="was not loaded by sslprune"):
        save(build("resnet20_cifar"), tmp_path / "mine")
    assert list(tmp_path.iterdir()) == []
