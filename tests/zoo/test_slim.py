"""A slim network saves and loads like any other, under its own name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import sslprune
from sslprune.errors import ArchitectureError
from sslprune.zoo.info import info_of
from sslprune.zoo.slim import slim


@pytest.mark.parametrize("parent", ["rednet-keep100", "rednet-keep20"])
def test_a_slim_network_comes_back_from_its_folder(zoo: Any, tmp_path: Path, parent: str) -> None:
    model = sslprune.load(parent)
    smaller = slim(model, 0.15)
    manifest = sslprune.save(smaller, tmp_path / "slim")
    assert manifest.name == "rednet-resnet20-toy-slim-keep15%"
    assert manifest.parent == "rednet-resnet20-toy-keep100%"
    again = sslprune.load(tmp_path / "slim")
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(again(images), smaller.eval()(images))
    assert info_of(again).mask == info_of(smaller).mask
    total = sum(p.numel() for p in model.parameters())
    assert sum(p.numel() for p in again.parameters()) < total / 2


def test_a_network_loses_channels_once_and_without_a_probe(zoo: Any) -> None:
    smaller = slim(sslprune.load("rednet-keep100"), 0.5)
    for model in (smaller, sslprune.load("rednet-keep100", head="digits")):
        with pytest.raises(ArchitectureError, match="lost channels before"):
            slim(model, 0.3)
