"""A run's folder and the names of its models follow from the recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sslprune.config import Ladder, Recipe, Training
from sslprune.errors import RunBusyError
from sslprune.run_folder import RunFolder
from sslprune.step import Step

RECIPE = Recipe("toy", "rotnet", "resnet20", "digits", Training(Step(1, "ep")), Ladder((0.2, 0.001)))


def test_the_folder_is_named_by_the_recipe_and_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSLPRUNE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SSLPRUNE_ZOO", str(tmp_path / "zoo"))
    folder = RunFolder.of(RECIPE)
    assert folder.path == tmp_path / "runs" / f"toy-{RECIPE.sha256()[:8]}"
    assert folder.zoo == tmp_path / "zoo"
    assert RunFolder.of(RECIPE, runs=tmp_path / "a", zoo=tmp_path / "b").path.parent == tmp_path / "a"
    monkeypatch.delenv("SSLPRUNE_RUNS")
    assert RunFolder.of(RECIPE).path.parent == Path("runs")


def test_every_rung_has_a_name_and_a_folder_the_parent_first(tmp_path: Path) -> None:
    folder = RunFolder(RECIPE, tmp_path / "run", tmp_path / "zoo")
    assert folder.keeps() == (1.0, 0.2, 0.001)
    assert [str(folder.name(keep)) for keep in folder.keeps()] == [
        "rotnet-resnet20-digits-keep100%",
        "rotnet-resnet20-digits-keep20%",
        "rotnet-resnet20-digits-keep0.1%",
    ]
    assert folder.folder_of(0.001) == tmp_path / "zoo" / "rotnet-resnet20-digits-keep0.1"


def test_the_path_of_a_data_folder_is_not_part_of_a_name(tmp_path: Path) -> None:
    recipe = replace(RECIPE, data="folder:photos/My Pets", variant="s1")
    assert str(RunFolder(recipe, tmp_path, tmp_path).name(0.2)) == "rotnet-resnet20-folder-s1-keep20%"


def test_an_empty_place_has_no_models_and_is_not_finished(tmp_path: Path) -> None:
    folder = RunFolder(RECIPE, tmp_path / "run", tmp_path / "zoo")
    assert folder.manifests() == []
    assert folder.finished() is None
    folder.path.mkdir()
    folder.finish()
    assert folder.finished() is None


def test_the_lock_is_held_once_and_given_back(tmp_path: Path) -> None:
    folder = RunFolder(RECIPE, tmp_path / "run", tmp_path / "zoo")
    with folder.locked():
        assert Recipe.load(folder.path / "recipe.toml").sha256() == RECIPE.sha256()
        with pytest.raises(RunBusyError, match="another process"), folder.locked():
            pytest.fail("two hold it")
    with folder.locked():
        pass
