"""What is stated about models, as data."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import sslprune
from sslprune import jsonl
from sslprune.errors import KeepError, ResultsError, UnknownModelError
from sslprune.zoo.manifest import Manifest

NAME = "rednet-resnet20-toy-keep5%"


def test_models_are_listed_family_by_family_unpruned_first(zoo: Any) -> None:
    names = [name for name in sslprune.list_models() if "-toy-" in name]
    assert names == [
        *(f"bluenet-resnet20-toy-keep{percent}%" for percent in (100, 5)),
        *(f"rednet-resnet20-toy-keep{percent}%" for percent in (100, 20, 5, 1)),
    ]
    assert sslprune.list_models("rednet", keep=0.05) == [NAME]
    assert sslprune.list_models("*-toy-keep5%") == ["bluenet-resnet20-toy-keep5%", NAME]
    assert sslprune.list_models(pretext="bluenet", status="local") == names[:2]
    with pytest.raises(UnknownModelError, match="no field"):
        sslprune.list_models(colour="red")


def test_every_listed_model_can_be_described(zoo: Any) -> None:
    for name in sslprune.list_models():
        assert sslprune.describe(name)["name"] == name


def test_a_model_is_described_in_full(zoo: Any) -> None:
    found = sslprune.describe("rednet", keep=0.05)
    manifest = Manifest.load(zoo.folder(NAME))
    assert found["name"] == NAME
    assert found["heads"] == ["digits"]
    assert found["folder"] == str(zoo.folder(NAME))
    assert found["manifest"] == asdict(manifest)
    assert found["results"] == jsonl.read(zoo.folder(NAME) / "results.jsonl")
    assert found["results"][0]["value"] == 80.05
    assert (found["keep"], found["bytes"], found["macs"]) == (manifest.keep, manifest.bytes, manifest.macs_left)


def test_what_is_not_there_is_not_described(zoo: Any) -> None:
    with pytest.raises(UnknownModelError):
        sslprune.describe("greennet-keep5%")
    with pytest.raises(KeepError):
        sslprune.describe("rednet")


def test_damaged_results_are_named(zoo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = zoo.copy(NAME, tmp_path / "zoo" / "model")
    (folder / "results.jsonl").write_bytes(b"{}\n\xff\n")
    monkeypatch.setenv("SSLPRUNE_ZOO", str(tmp_path / "zoo"))
    with pytest.raises(ResultsError, match=r"results\.jsonl is not JSON lines"):
        sslprune.describe(NAME)
    assert NAME in sslprune.list_models()
