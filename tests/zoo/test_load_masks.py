"""A ladder gives every rung's mask, bit for bit; what it does not say for sure is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sslprune
from sslprune import models
from sslprune.errors import IntegrityError, KeepError, ManifestError, SparseFileError, UnknownModelError
from sslprune.export import sparse_file
from sslprune.zoo.index import Entry, open_index, scan
from sslprune.zoo.info import info_of
from sslprune.zoo.load import load
from sslprune.zoo.load_masks import LADDER, load_masks
from sslprune.zoo.manifest import MANIFEST
from sslprune.zoo.write import amend

BUNDLED = "rotnet-resnet20-cifar10"
FAMILY = "rednet-resnet20-toy"
PARENT = f"{FAMILY}-keep100%"
RUNGS = {1.0: 0, 0.2: 3, 0.05: 7, 0.01: 200}
STATED = {"rounds": json.dumps(RUNGS)}


@pytest.fixture
def no_local_zoo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSLPRUNE_ZOO", str(tmp_path))
    monkeypatch.delenv("SSLPRUNE_INDEX", raising=False)


@pytest.fixture
def family(zoo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The tiny zoo's first family alone, in a zoo of its own that may be changed; the path is the zoo's."""
    for name in zoo.masks:
        if name.startswith(FAMILY):
            zoo.copy(name, tmp_path / "zoo" / name.removesuffix("%"))
    monkeypatch.setenv("SSLPRUNE_ZOO", str(tmp_path / "zoo"))
    return Family(tmp_path / "zoo", {keep: zoo.masks[f"{FAMILY}-keep{round(100 * keep)}%"] for keep in RUNGS})


class Family:
    def __init__(self, zoo: Path, masks: dict[float, sslprune.Mask]) -> None:
        self.zoo, self.masks, self.parent = zoo, masks, zoo / PARENT.removesuffix("%")

    def died(self) -> dict[str, np.ndarray]:
        """The round of RUNGS at which each weight died."""
        died = {name: np.zeros(tuple(kept.shape), np.uint8) for name, kept in self.masks[1.0].items()}
        for keep in sorted(RUNGS):
            for name, kept in self.masks[keep].items():
                died[name][~kept.numpy()] = RUNGS[keep]
        return died

    def seal(self, metadata: dict[str, str], died: dict[str, np.ndarray] | None = None) -> None:
        """Write the ladder and state it in the parent's manifest."""
        amend(self.parent, {LADDER: partial(self._write, died or self.died(), metadata)})

    @staticmethod
    def _write(died: dict[str, np.ndarray], metadata: dict[str, str], path: Path) -> None:
        sparse_file.write_ladder(path, died, metadata)


def bundled() -> list[Entry]:
    return [entry for entry in open_index().entries if entry.status == "bundled"]


@pytest.mark.usefixtures("no_local_zoo")
def test_every_bundled_rung_is_the_mask_in_its_own_file() -> None:
    assert {entry.name.family for entry in bundled()} == {BUNDLED}
    assert len(bundled()) == 9
    for entry in bundled():
        mask = load_masks(entry.name.family, keep=entry.name.keep)
        own = info_of(load(str(entry.name))).mask
        assert mask == own
        assert list(mask) == list(own) == list(models.prunable(load(str(entry.name))))
        assert mask.kept == entry.manifest.kept
        assert load_masks(str(entry.name)) == mask
        assert load_masks(entry.folder.parent / entry.name.parent.folder, keep=entry.name.keep) == mask


@pytest.mark.parametrize("stated", [STATED, {}], ids=["rounds in the metadata", "rounds by the rungs' counts"])
def test_every_rung_is_the_mask_in_its_own_file(family: Family, stated: dict[str, str]) -> None:
    family.seal(stated)
    for keep, expected in family.masks.items():
        for mask in (load_masks(FAMILY, keep=keep), load_masks(family.parent, keep=keep)):
            assert mask == expected
            assert list(mask) == list(expected)
            assert all(kept.dtype == torch.bool and kept.device.type == "cpu" for kept in mask.values())


@pytest.mark.parametrize(
    ("name", "keep"),
    [
        (FAMILY, 0.05),
        (FAMILY, 0.045),
        ("rednet", 0.05),
        ("rednet-resnet20", 0.05),
        ("rednet-keep5", None),
        ("rednet-keep5%", 0.05),
        (f"{FAMILY}-keep5%", None),
        (f"{FAMILY}-keep4.5%", None),
    ],
)
def test_any_name_of_the_family_will_do(family: Family, name: str, keep: float | None) -> None:
    family.seal(STATED)
    assert load_masks(name, keep=keep) == family.masks[0.05]


@pytest.mark.usefixtures("no_local_zoo")
def test_an_alias_will_do() -> None:
    assert load_masks("rotnet-resnet20", keep=0.01).kept == 2677


@pytest.mark.parametrize("stated", [STATED, {}])
def test_the_folder_at_hand_will_do(family: Family, stated: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    family.seal(stated)
    monkeypatch.chdir(family.parent)
    assert load_masks(".", keep=0.05) == family.masks[0.05]


def test_the_ladder_alone_is_enough(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    family.seal(STATED)
    for folder in family.zoo.iterdir():
        if folder != family.parent:
            shutil.rmtree(folder)
    monkeypatch.chdir(family.zoo)
    for name in (FAMILY, family.parent, str(family.parent), family.parent.name, f"./{family.parent.name}"):
        assert load_masks(name, keep=0.01) == family.masks[0.01]
    # Without metadata nothing says which of its rounds were published.
    family.seal({})
    with pytest.raises(KeepError) as caught:
        load_masks(FAMILY, keep=0.01)
    assert caught.value.hint == "Its rungs: 100%."


@pytest.mark.parametrize("stated", [STATED, {}])
@pytest.mark.parametrize(
    ("name", "keep", "problem"),
    [
        (FAMILY, 0.1, "no rung near keep 10%"),
        (FAMILY, None, "leaves the keep rate open"),
        ("rednet", None, "leaves the keep rate open"),
        (PARENT, 0.05, "contradict"),
        (FAMILY, 5, "not a fraction"),
        (FAMILY, True, "not a fraction"),
        (FAMILY, 0, "not a fraction"),
        ("rednet-keep0%", None, "not a percentage"),
    ],
)
def test_a_keep_rate_that_is_no_rung_is_refused(
    family: Family, stated: dict[str, str], name: str, keep: Any, problem: str
) -> None:
    family.seal(stated)
    with pytest.raises(KeepError, match=problem) as caught:
        load_masks(name, keep=keep)
    if "rung" in problem or "open" in problem:
        assert "100%, 20%, 5%, 1%" in caught.value.hint


def test_a_folder_does_not_say_which_rung(family: Family) -> None:
    family.seal(STATED)
    with pytest.raises(KeepError, match="leaves the keep rate open"):
        load_masks(family.parent)


def test_an_unknown_family_is_said(family: Family) -> None:
    with pytest.raises(UnknownModelError, match="there is no model 'rednot'"):
        load_masks("rednot", keep=0.05)
    with pytest.raises(ManifestError):
        load_masks(family.zoo / "nowhere", keep=0.05)


def test_a_family_without_a_ladder_is_said_with_what_to_do(family: Family) -> None:
    with pytest.raises(ManifestError, match=rf"{PARENT} has no {LADDER}") as caught:
        load_masks(FAMILY, keep=0.05)
    assert "load(...).sslprune.mask" in caught.value.hint
    family.seal(STATED)
    with pytest.raises(ManifestError, match=rf"keep5% has no {LADDER}") as caught:
        load_masks(family.zoo / f"{FAMILY}-keep5", keep=0.05)
    assert PARENT in caught.value.hint


def test_a_family_without_its_unpruned_network_is_said(family: Family) -> None:
    shutil.rmtree(family.parent)
    with pytest.raises(ManifestError, match=r"the unpruned network of 'rednet' is not at hand"):
        load_masks("rednet", keep=0.05)


def test_a_ladder_that_changed_is_not_read(family: Family) -> None:
    family.seal(STATED)
    path = family.parent / LADDER
    path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))
    for name in (FAMILY, family.parent):
        with pytest.raises(IntegrityError, match="sha256"):
            load_masks(name, keep=0.05)
    with pytest.raises(SparseFileError, match="the bitmask"):  # the flipped bit is a weight too many, or past the end
        load_masks(FAMILY, keep=0.05, verify=False)
    path.unlink()
    with pytest.raises(IntegrityError, match="is missing"):
        load_masks(FAMILY, keep=0.05)


@pytest.mark.usefixtures("no_local_zoo")
def test_a_bundled_manifest_that_changed_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = bundled()[0].folder
    table = json.loads((first.parents[1] / "zoo.json").read_text()) | {"aliases": {}}
    table["models"] = {name.replace("rotnet", "mynet"): item for name, item in table["models"].items()}
    for folder in first.parent.iterdir():
        shutil.copytree(folder, tmp_path / "bundled" / folder.name.replace("rotnet", "mynet"))
    (tmp_path / "zoo.json").write_text(json.dumps(table))
    monkeypatch.setenv("SSLPRUNE_INDEX", str(tmp_path / "zoo.json"))
    assert load_masks("mynet", keep=0.05) == load_masks("rotnet", keep=0.05)
    path = tmp_path / "bundled" / "mynet-resnet20-cifar10-keep100" / MANIFEST
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(IntegrityError, match=r"keep100/manifest\.json has sha256"):
        load_masks("mynet", keep=0.05)


@pytest.mark.parametrize(
    "rounds",
    [
        "",
        "[]",
        "7",
        "{",
        "[" * 100_000,
        '{"0.05": 7.0}',
        '{"0.05": -1}',
        '{"0.05": "7"}',
        '{"0.05": true}',
        '{"0.05": null}',
        '{"0.05": 256}',
        '{"five": 7}',
        '{"nan": 7}',
        '{"0": 7}',
        '{"1.5": 0}',
        '{"0.05": 7, "0.05": 7}',
        '{"0.05": 7, "0.050": 8}',
        '{"0.05": 7, "0.2": 7}',
        '{"0.05": 3, "0.2": 7}',
        '{"0.05": "\\ud800"}',
    ],
)
def test_impossible_rounds_are_refused_with_all_hashes_right(family: Family, rounds: str) -> None:
    family.seal({"rounds": rounds})
    with pytest.raises(SparseFileError, match="does not say which round is which rung") as caught:
        load_masks(FAMILY, keep=0.05)
    assert len(str(caught.value).splitlines()) == 2


def test_a_ladder_of_other_weights_is_refused(family: Family) -> None:
    died = family.died()
    first, *_ = died
    for wrong in (
        {name: rounds for name, rounds in died.items() if name != first},
        died | {"stranger.weight": died[first]},
        died | {first: died[first].reshape(-1)[1:]},
    ):
        family.seal(STATED, wrong)
        with pytest.raises(SparseFileError, match="is not of the weights"):
            load_masks(FAMILY, keep=0.05)


def test_models_that_came_of_another_run_decide_nothing(family: Family, restate: Callable[..., None]) -> None:
    family.seal({})
    restate(family.zoo / f"{FAMILY}-keep5", recipe_sha256="a" * 64)
    with pytest.raises(KeepError) as caught:
        load_masks(FAMILY, keep=0.05)
    assert caught.value.hint == "Its rungs: 100%, 20%, 1%."


def test_counts_that_no_round_left_are_no_rung(family: Family) -> None:
    died = family.died()
    some = next(rounds for rounds in died.values() if (rounds == 7).any())
    some.reshape(-1)[np.flatnonzero(some == 7)[0]] = 200  # one weight more outlives round 7
    family.seal({}, died)
    assert {entry.name.keep for entry in scan(family.zoo)} == set(RUNGS)
    with pytest.raises(KeepError) as caught:
        load_masks(FAMILY, keep=0.05)
    assert caught.value.hint == "Its rungs: 100%, 20%, 1%."


def test_a_ticket_prunes_a_dense_network_of_ones_own(family: Family) -> None:
    family.seal(STATED)
    network = models.build("resnet20_cifar", num_classes=10, seed=3)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    mask = load_masks("rednet", keep=0.2)
    mask.apply_(network)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name] * mask[name] if name in mask else before[name])
