"""A recipe is its text and its hash: both say everything that decides a run, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslprune.config import Found, Ladder, Recipe, Start, Training, Transfer, bundled_recipes
from sslprune.errors import RecipeError
from sslprune.step import Step

positive = st.floats(0, 1e6, exclude_min=True)
fraction = st.floats(0, 1, exclude_min=True, exclude_max=True)
text = st.text(max_size=12)
steps = st.floats(0, 1e4).map(lambda n: Step(n, "ep")) | st.integers(0, 10**9).map(lambda n: Step(n, "it"))
some_steps = steps.filter(lambda step: step.count > 0)


@st.composite
def trainings(draw: st.DrawFn) -> Training:
    schedule = draw(st.sampled_from(["cosine", "step", "constant"]))
    momentum = draw(st.floats(0, 1, exclude_max=True))
    return Training(
        length=draw(some_steps),
        batch=draw(st.integers(1, 4096)),
        optimizer=draw(st.sampled_from(["sgd", "adam"])),
        lr=draw(positive),
        momentum=momentum,
        nesterov=momentum > 0 and draw(st.booleans()),
        weight_decay=draw(st.floats(0, 1)),
        schedule=schedule,
        milestones=tuple(draw(st.lists(steps, max_size=3))) if schedule == "step" else (),
        gamma=draw(positive),
        warmup=draw(steps),
        padding=draw(st.integers(0, 8)),
        flip=draw(st.booleans()),
        compile=draw(st.booleans()),
    )


@st.composite
def ladders(draw: st.DrawFn) -> Ladder:
    mode = draw(st.sampled_from(["rewind", "warm"]))
    score = draw(st.sampled_from(["magnitude", "lamp", "synflow", "random", "channels-l1", "channels-l2"]))
    single = not score.startswith("channels")
    return Ladder(
        rungs=tuple(sorted(draw(st.sets(fraction, max_size=4)), reverse=True)),
        per_round=draw(fraction),
        score=score,
        scope=draw(st.sampled_from(["global", "layer", "erk"])) if score in ("magnitude", "random") else "global",
        guard=draw(st.integers(0, 9)) if single else 0,
        stem_keep=draw(st.none() | fraction | st.just(1.0)) if single else None,
        first_convs=draw(st.none() | st.integers(2, 9)) if single else None,
        mode=mode,
        rewind=draw(steps),
        retrain=draw(st.none() | some_steps),
        retrain_lr=draw(st.none() | positive) if mode == "warm" else None,
    )


channels = st.tuples(*[st.floats(0, 1, exclude_min=True)] * 3)
starts = st.just(Start()) | st.builds(
    Start,
    source=st.text(min_size=1, max_size=9),
    sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    prefix=text,
    rename=st.lists(text, max_size=2).map(tuple),
    mean=channels,
    std=channels,
)
masks = st.builds(
    Found,
    family=st.text(min_size=1, max_size=9),
    sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    keep=fraction | st.just(1.0),
    control=st.sampled_from(["", "permuted", "permuted-layers", "nonzero"]),
    first_convs=st.none() | st.integers(1, 9),
)
descents = st.builds(
    Recipe,
    start=starts,
    name=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,9}", fullmatch=True),
    pretext=text,
    arch=text,
    data=text,
    training=trainings(),
    ladder=ladders(),
    transfer=st.builds(
        Transfer,
        data=st.lists(text, max_size=2).map(tuple),
        pool=st.integers(1, 8),
        floor_seeds=st.integers(0, 5),
    ),
    task=st.dictionaries(text, st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | text, max_size=3),
    subset=text,
    seed=st.integers(0, 2**31 - 1),
    limit=st.none() | st.integers(1, 10**6),
    variant=st.from_regex(r"[a-z0-9._-]{0,6}", fullmatch=True),
    notes=text,
    gpu_hours=st.none() | positive,
)
recipes = descents | st.builds(
    lambda recipe, mask: replace(recipe, pretext="labels", ladder=Ladder(), start=Start(), mask=mask), descents, masks
)


@given(recipes)
def test_a_recipe_comes_back_from_its_toml_equal_and_with_the_same_hash(recipe: Recipe) -> None:
    again = Recipe.from_toml(recipe.to_toml(), name=recipe.name)
    assert again == recipe
    assert again.sha256() == recipe.sha256()


@given(recipes, recipes)
def test_hashes_are_equal_exactly_where_all_but_name_and_notes_is(one: Recipe, other: Recipe) -> None:
    same = replace(one, name=other.name, notes=other.notes, gpu_hours=other.gpu_hours) == other
    assert (one.sha256() == other.sha256()) == same


@given(recipes, st.from_regex(r"[a-z0-9]{1,9}", fullmatch=True), text)
def test_name_and_notes_are_not_hashed(recipe: Recipe, name: str, notes: str) -> None:
    other = replace(recipe, name=name, notes=notes)
    assert other.sha256() == recipe.sha256()
    assert other.run_name == f"{name}-{recipe.sha256()[:8]}"


START = Start("other.pth", "0" * 64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
BASE = Recipe(
    "toy", "rotnet", "resnet20", "digits", Training(Step(2, "ep"), schedule="step"), Ladder(mode="warm"), start=START
)
MASKED = Recipe("toy", "labels", "resnet20", "digits", BASE.training, mask=Found("f", "0" * 64))
CHANGES: dict[str, dict[str, Any]] = {
    "mask": {
        "family": "g",
        "sha256": "1" * 64,
        "keep": 0.5,
        "init": "ticket",
        "control": "permuted",
        "first_convs": 2,
    },
    "": {
        "pretext": "labels",
        "arch": "resnet18",
        "data": "cifar10",
        "training": replace(BASE.training, batch=3),
        "ladder": replace(BASE.ladder, per_round=0.3),
        "transfer": Transfer(pool=2),
        "start": Start(),
        "mask": Found(),
        "task": {"temperature": 0.1},
        "subset": "images:0.1",
        "seed": 1,
        "limit": 7,
        "variant": "s1",
    },
    "training": {
        "length": Step(2, "it"),
        "batch": 511,
        "optimizer": "adam",
        "lr": 0.2,
        "momentum": 0.8,
        "nesterov": True,
        "weight_decay": 0.0,
        "schedule": "constant",
        "milestones": (Step(1, "ep"),),
        "gamma": 0.2,
        "warmup": Step(1, "it"),
        "padding": 3,
        "flip": False,
        "compile": True,
        "precision": "bf16",
    },
    "ladder": {
        "rungs": (0.5,),
        "per_round": 0.3,
        "score": "random",
        "scope": "layer",
        "guard": 1,
        "stem_keep": 1.0,
        "first_convs": 3,
        "mode": "rewind",
        "rewind": Step(2, "ep"),
        "retrain": Step(1, "ep"),
        "retrain_lr": 0.01,
    },
    "transfer": {"data": ("cifar10",), "pool": 2, "floor_seeds": 1},
    "start": {
        "source": "timm:resnet18",
        "sha256": "1" * 64,
        "prefix": "net.",
        "rename": ("linear=fc",),
        "mean": (0.4, 0.5, 0.6),
        "std": (0.1, 0.5, 0.6),
    },
}


def changed(part: str, field: str) -> Recipe:
    """BASE, or MASKED, with one field set to its value in CHANGES."""
    base, change = base_of(part, field), {field: CHANGES[part][field]}
    return replace(base, **({part: replace(getattr(base, part), **change)} if part else change))


def base_of(part: str, field: str) -> Recipe:
    return MASKED if "mask" in (part, field) else BASE


@pytest.mark.parametrize(("part", "field"), [(part, field) for part in CHANGES for field in CHANGES[part]])
def test_every_field_changes_the_hash_and_goes_through_toml(part: str, field: str) -> None:
    recipe = changed(part, field)
    assert recipe.sha256() != base_of(part, field).sha256()
    assert Recipe.from_toml(recipe.to_toml(), name="toy") == recipe


def test_no_field_was_forgotten_above() -> None:
    tables = {"training": Training, "ladder": Ladder, "transfer": Transfer, "start": Start, "mask": Found}
    for part, kind in {"": Recipe, **tables}.items():
        assert {item.name for item in fields(kind)} - {"name", "notes", "gpu_hours"} == CHANGES[part].keys()


TEXT = """
pretext = "rotnet"
arch = "resnet20"
data = "digits"
[training]
length = "2ep"
"""


def test_the_hash_of_a_published_recipe_stays_for_ever() -> None:
    text = TEXT + 'batch = 32\nlr = 0.05\nwarmup = "1234567it"\n[ladder]\nrungs = [0.2, 0.05]\nrewind = "500it"\n'
    recipe = Recipe.from_toml(text, name="toy")
    assert recipe.canonical() == (
        '{"arch":"resnet20","data":"digits","ladder":{"rewind":"500it","rungs":[0.2,0.05]},"pretext":"rotnet",'
        '"training":{"batch":32,"length":"2ep","lr":0.05,"warmup":"1234567it"}}'
    )
    assert recipe.sha256() == "c54d39ee563ce46a9bdf29b20fd9d1502c3dda0017d0ca534c2d9109dc80b47e"


def test_the_hashes_of_bundled_recipes_stay_for_ever() -> None:
    published = {"rotnet-resnet20-cifar10-laptop": "fceede76", "rotnet-resnet20-digits-demo": "5a3a2dfc"}
    assert {name: Recipe.load(name).sha256()[:8] for name in published} == published


@pytest.mark.parametrize(
    ("table", "match"),
    [
        ("task = 3", "table of numbers and texts"),
        ("[task]\nmargin = [1]", "table of numbers and texts"),
        ("[task]\nmargin = true", "table of numbers and texts"),
        ("[task]\nmargin = nan", "within 2"),
        ("[task]\nmargin = inf", "within 2"),
    ],
)
def test_the_pretexts_table_holds_numbers_and_texts(table: str, match: str) -> None:
    text = f"{table}\n{TEXT}" if table.startswith("task") else f"{TEXT}\n{table}"
    with pytest.raises(RecipeError, match=match):
        Recipe.from_toml(text, name="toy")


def test_defaults_spelled_out_and_whole_numbers_change_nothing() -> None:
    spelled = TEXT + 'batch = 512\nlr = 0.10\nwarmup = "0it"\n[ladder]\nper_round = 0.2\n[transfer]\npool = 4\n'
    plain = Recipe.from_toml(TEXT, name="toy")
    assert Recipe.from_toml(spelled.replace('"0it"', '"0.0ep"'), name="toy").sha256() == plain.sha256()
    one = replace(BASE, training=Training(Step(2, "ep"), lr=1))
    other = replace(BASE, training=Training(Step(2.0, "ep"), lr=1.0))
    assert one == other
    assert one.sha256() == other.sha256()


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("pretext", "pretxt", "pretxt"),
        ('data = "digits"\n', "", "data"),
        ('data = "digits"', "data = 3", "toy.data"),
        ("length", "lenght", "lenght"),
        ('length = "2ep"', "batch = 3", "length"),
        ('"2ep"', '"2 epochs"', "toy.training.length"),
        ('"2ep"', "2", "toy.training.length"),
        ('"2ep"', '"0ep"', "length"),
        ("[training]", "[training]\nbatch = 1.5", "toy.training.batch"),
        ("[training]", "[training]\nbatch = true", "toy.training.batch"),
        ("[training]", "[training]\nbatch = 0", "batch"),
        ("[training]", "[training]\nlr = '0.1'", "toy.training.lr"),
        ("[training]", "[training]\nlr = true", "toy.training.lr"),
        ("[training]", "[training]\nlr = nan", "lr"),
        ("[training]", "[training]\nlr = inf", "lr"),
        ("[training]", "[training]\nlr = -0.1", "lr"),
        ("[training]", "[training]\nflip = 1", "toy.training.flip"),
        ("[training]", "[training]\noptimizer = 'lamb'", "sgd, adam"),
        ("[training]", "[training]\nmilestones = ['1ep']", "milestones"),
        ("[training]", "[training]\nmilestones = '1ep'", "toy.training.milestones"),
        ("[training]", "[training]\nschedule = 'step'\nmilestones = [1]", "toy.training.milestones"),
        ("[training]", "[training]\nmomentum = 1.0", "momentum"),
        ("[training]", "[training]\nmomentum = 0\nnesterov = true", "nesterov"),
        ("[training]", "[training]\nweight_decay = -1e-4", "weight_decay"),
        ("[training]", "[training]\nweight_decay = nan", "weight_decay"),
        ("[training]", "[training]\ngamma = 0", "gamma"),
        ("[training]", "[training]\npadding = -1", "padding"),
        ("[training]", "ladder = 3\n[training]", "toy.ladder"),
        ("[training]", "seed = -1\n[training]", "seed"),
        ("[training]", "seed = 2147483648\n[training]", "seed"),
        ("[training]", "limit = 0\n[training]", "limit"),
        ("[training]", "variant = 'S 1'\n[training]", "variant"),
        ("[training]", "variant = '../x'\n[training]", "variant"),
        ("[training]", "ladder.rungs = [0.2, 0.5]\n[training]", "rungs descend"),
        ("[training]", "ladder.rungs = [0.5, 0.5]\n[training]", "rungs descend"),
        ("[training]", "ladder.rungs = [1.0]\n[training]", "rungs"),
        ("[training]", "ladder.rungs = [0.5, 0.0]\n[training]", "rungs"),
        ("[training]", "ladder.rungs = [nan]\n[training]", "rungs"),
        ("[training]", "ladder.rungs = 0.5\n[training]", "toy.ladder.rungs"),
        ("[training]", "ladder.rungs = ['half']\n[training]", "toy.ladder.rungs"),
        ("[training]", "ladder.per_round = 1\n[training]", "per_round"),
        ("[training]", "ladder.scope = 'local'\n[training]", "global, layer"),
        ("[training]", "ladder.retrain_lr = 0.1\n[training]", "retrain_lr"),
        ("[training]", "ladder.mode = 'warm'\nladder.retrain_lr = 0.0\n[training]", "retrain_lr"),
        ("[training]", "ladder.retrain = '0it'\n[training]", "retrain"),
        ("[training]", "transfer.pool = 0\n[training]", "pool"),
        ("[training]", "transfer.floor_seeds = -1\n[training]", "floor_seeds"),
        ("[training]", "transfer.data = 'cifar10'\n[training]", "toy.transfer.data"),
        ("[training]", "name = 'Not/So'\n[training]", "Not/So"),
        ("=", "", "not TOML"),
    ],
)
def test_a_wrong_field_is_named(old: str, new: str, named: str) -> None:
    assert old in TEXT
    with pytest.raises(RecipeError) as caught:
        Recipe.from_toml(TEXT.replace(old, new, 1), name="toy")
    assert named in str(caught.value)


def test_an_unknown_field_names_its_neighbours() -> None:
    with pytest.raises(RecipeError, match=r"unknown field 'lenght'.*\n.*length"):
        Recipe.from_toml(TEXT.replace("length", "lenght"), name="toy")


def test_the_bundled_recipes_load_by_name_and_are_unlike_each_other() -> None:
    names = bundled_recipes()
    assert "rotnet-resnet20-digits-demo" in names
    loaded = [Recipe.load(name) for name in names]
    assert [recipe.name for recipe in loaded] == list(names)
    assert len({recipe.sha256() for recipe in loaded}) == len(names)


def test_a_recipe_file_is_named_by_its_stem(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TEXT)
    assert Recipe.load(path).name == "mine"
    assert Recipe.load(str(path)) == Recipe.from_toml(TEXT, name="mine")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"pretext ="])
def test_an_unreadable_file_is_a_recipe_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match="mine"):
        Recipe.load(path)


def test_a_missing_recipe_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"no recipe 'rotnet-resnet20-digit'\.\n.*rotnet-resnet20-digits-demo"):
        Recipe.load("rotnet-resnet20-digit")


def test_a_recipe_needs_no_torch() -> None:
    program = (
        "import sys; from sslprune.config import Recipe; Recipe.load('rotnet-resnet20-digits-demo').to_toml();"
        "assert not {'torch', 'numpy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
