"""The doctor finds what is there and says how to get what is not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from sslprune import __version__
from sslprune.doctor import CORE, EXTRAS, cores, examine


def test_what_is_there_is_found(zoo: Any) -> None:
    found = examine()
    assert found.keys() == {"machine", "packages", "extras", "data", "zoo", "advice"}
    assert found["machine"]["sslprune"] == __version__
    assert found["machine"]["torch threads"] == str(torch.get_num_threads())
    assert tuple(found["packages"]) == CORE
    assert "missing" not in found["packages"].values()
    assert found["extras"].keys() == EXTRAS.keys()
    assert found["zoo"][f"local models in {zoo.path}"] == "6"
    for table in ("machine", "packages", "extras", "data", "zoo"):
        assert all(isinstance(text, str) and text for text in found[table].values())


def test_an_extra_that_is_missing_comes_with_its_command() -> None:
    for extra, text in examine()["extras"].items():
        assert text in ("installed", f"pip install 'sslprune[{extra}]'")


def test_data_that_is_missing_comes_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSLPRUNE_DATA", str(tmp_path))
    monkeypatch.setenv("SSLPRUNE_CACHE", str(tmp_path / "cache"))
    found = examine()
    assert found["data"]["cifar10"] == found["data"]["cifar100"] == "not found"
    assert sum(line.startswith("cifar10: ") for line in found["advice"]) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores")
def test_only_cores_that_may_be_used_are_counted() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert cores() == len(before)
