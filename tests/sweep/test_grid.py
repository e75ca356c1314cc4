"""A grid file is read whole, and every mistake in it is named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from sslprune.config import Recipe
from sslprune.errors import RecipeError
from sslprune.sweep.grid import Grid

DEMO = "rotnet-resnet20-digits-demo"


def load(tmp_path: Path, text: str) -> Grid:
    (tmp_path / "grid.toml").write_text(text)
    return Grid.load(tmp_path / "grid.toml")


def test_recipes_lie_beside_the_grid_or_are_bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.toml").write_text(Recipe.load(DEMO).to_toml())
    monkeypatch.chdir("/")
    grid = load(
        tmp_path,
        f"""
        [[runs]]
        recipe = "own.toml"
        grid = {{ seed = [0, 1], training.lr = [0.1], "training.batch" = [8, 16] }}
        [[runs]]
        recipe = "labels-test_byobnet-digits"
        masks_of = ["own.toml", "{DEMO}"]
        set = {{ ladder = {{ guard = 1 }} }}
        """,
    )
    assert grid.name == "grid"
    first, second = grid.blocks
    assert first.recipe.name == "own"
    assert first.grid == {"seed": (0, 1), "training.lr": (0.1,), "training.batch": (8, 16)}
    assert second.recipe == Recipe.load("labels-test_byobnet-digits")
    assert [family.name for family in second.masks_of] == ["own", DEMO]
    assert second.set == {"ladder.guard": 1}


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("", "grid grid has no runs", r"Add a \[\[runs\]\]"),
        ("runs = [1]", "has no runs", r"\[\[runs\]\]"),
        ("[[runs", "is not TOML", "Correct"),
        ("[[run]]", "unknown field 'run'", r"\[\[runs\]\]"),
        ("[[runs]]", r"grid\.runs\[0\] names no recipe", "FILE.toml"),
        ("[[runs]]\nrecipe = 'DEMO'\ngird = {}", r"runs\[0\] has an unknown field 'gird'", "Did you mean: grid"),
        ("[[runs]]\nrecipe = 'rotnte-resnet20-digits-demo'", "no recipe", "rotnet-resnet20-digits-demo"),
        ("[[runs]]\nrecipe = 'gone.toml'", "no recipe", "bundled"),
        (
            "[[runs]]\nrecipe='DEMO'\n[[runs]]\nrecipe='DEMO'\ngrid={training.optimiser=['sgd']}",
            r"runs\[1\]\.grid has an unknown field 'training\.optimiser'",
            r"Did you mean: training\.optimizer",
        ),
        ("[[runs]]\nrecipe='DEMO'\nset={lr=1.0}", r"runs\[0\]\.set has an unknown field 'lr'", r"training\.lr"),
        ("[[runs]]\nrecipe='DEMO'\ngrid={name=['a']}", "unknown field 'name'", "Did you mean"),
        ("[[runs]]\nrecipe='DEMO'\ngrid={notes=['a']}", "does not decide a result", "Leave it out"),
        ("[[runs]]\nrecipe='DEMO'\ngrid={seed=1}", "is not a list", r"seed = \[\.\.\.\]"),
        ("[[runs]]\nrecipe='DEMO'\ngrid={seed=[]}", "is not a list of values", "Write"),
        ("[[runs]]\nrecipe='DEMO'\ngrid=[1]", "grid is not a table", "Write"),
        ("[[runs]]\nrecipe='DEMO'\ngrid={seed=[1]}\nset={seed=1}", "seed in its grid and in its set", "one of them"),
        ("[[runs]]\nrecipe='DEMO'\nmasks_of='DEMO'", "masks_of is not a list", "masks_of ="),
        ("[[runs]]\nrecipe='DEMO'\nmasks_of=[]", "masks_of is empty", "once"),
        ("[[runs]]\nrecipe='DEMO'\nmasks_of=['DEMO', 'DEMO']", "twice", "once"),
        ("[[runs]]\nrecipe='DEMO'\nmasks_of=['DEMO']\nset={mask.family='x'}", r"sets mask\.family", "one of them"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, problem: str, hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, text.replace("DEMO", DEMO))
    assert caught.match(problem)
    assert caught.match(hint)


def test_a_grid_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot read the grid"):
        Grid.load(tmp_path / "grid.toml")
    (tmp_path / ".odd name.toml").write_text("")
    with pytest.raises(RecipeError, match="cannot name a sweep's folder"):
        Grid.load(tmp_path / ".odd name.toml")
