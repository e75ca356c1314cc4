"""What names say of a field follows from the field and its value alone."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslprune.config import Recipe, bundled_recipes
from sslprune.sweep.fields import LONGEST, dotted_fields, flatten, get, put, short, token

DEMO = Recipe.load("rotnet-resnet20-digits-demo")
LEAF = st.one_of(st.integers(), st.text(), st.booleans(), st.lists(st.integers()))
KEY = st.text("abc_", min_size=1, max_size=4)


def test_no_two_fields_share_a_word() -> None:
    """Else "adam" alone would not say of which field."""
    words = [hint for hint in dotted_fields().values() if get_origin(hint) is not None]
    found = Counter(word for hint in words for word in get_args(hint) if isinstance(word, str) and word)
    assert found["adam"] == found["ticket"] == 1
    assert max(found.values()) == 1


@pytest.mark.parametrize("name", bundled_recipes())
def test_every_field_of_every_recipe_can_be_got_put_and_named(name: str) -> None:
    recipe, table = Recipe.load(name), {}
    for dotted in dotted_fields():
        if dotted not in ("name", "task"):
            get(recipe, dotted)
            assert re.fullmatch(r"[a-z0-9._-]+", token(recipe, dotted))
    for dotted, value in flatten({"a": {"b": 1, "c": {"d": 2}}}).items():
        put(table, dotted, value)
    assert table == {"a": {"b": 1, "c": {"d": 2}}}


@given(st.dictionaries(KEY, st.one_of(LEAF, st.dictionaries(KEY, LEAF, min_size=1)), max_size=4))
def test_flatten_and_put_are_inverse(table: dict) -> None:
    again: dict = {}
    for dotted, value in flatten(table).items():
        put(again, dotted, value)
    assert again == table


@given(st.lists(st.floats(1e-9, 1e9), min_size=2, max_size=5, unique=True))
def test_numbers_are_told_apart(rates: list[float]) -> None:
    recipes = [replace(DEMO, training=replace(DEMO.training, lr=rate)) for rate in rates]
    assert len({token(recipe, "training.lr") for recipe in recipes}) == len(rates)


@given(st.text(min_size=1))
def test_a_short_name_is_safe_and_not_long(text: str) -> None:
    found = short(text)
    assert re.fullmatch(r"[a-z0-9._-]*", found)
    assert len(found) <= LONGEST


def test_an_option_of_the_task_is_named_with_its_table() -> None:
    recipe = replace(DEMO, task={"margin": 0.5})
    assert token(recipe, "task.margin") == "task-margin0.5"
    assert token(DEMO, "task.margin") == "no-task-margin"
    assert token(replace(DEMO, subset="images:0.1"), "subset") == "images-0.1"
    assert token(replace(DEMO, training=replace(DEMO.training, weight_decay=0.0)), "training.weight_decay").endswith(
        "decay0"
    )
