"""Options: defaults stay, what is unknown or does not fit is refused with a name near it."""

from __future__ import annotations

from dataclasses import fields

import pytest

from sslprune import pretext
from sslprune.errors import RecipeError
from sslprune.pretext.npid import NPIDOptions
from sslprune.pretext.options import Options, read


def test_given_options_are_set_and_the_others_at_their_default() -> None:
    chosen = read(NPIDOptions, {"temperature": 1, "negatives": 7}, pretext="npid")
    assert chosen == NPIDOptions(temperature=1.0, negatives=7)
    assert isinstance(chosen.temperature, float)
    assert read(Options, {}, pretext="rotnet") == Options()


@pytest.mark.parametrize(
    ("table", "match"),
    [
        ({"temprature": 0.1}, r"'npid' has no option 'temprature'\.\n.*: temperature"),
        ({"temperature": "hot"}, r"task\.temperature = 'hot' is not of type float"),
        ({"negatives": 1.5}, r"task\.negatives = 1\.5 is not of type int"),
        ({"negatives": True}, "is not of type int"),
        ({"temperature": 0}, "temperature is at least"),
        ({"momentum": 1.0}, "momentum is at least 0 and below 1"),
        ({"crop": 0}, "crop is above 0"),
        ({"grey": 1.5}, "grey is a probability"),
    ],
)
def test_what_does_not_fit_is_refused(table: dict, match: str) -> None:
    with pytest.raises(RecipeError, match=match):
        pretext.build("npid", 4, num_images=5, num_classes=0, seed=0, options=table)


def test_a_pretext_without_options_takes_none() -> None:
    with pytest.raises(RecipeError, match=r"'rotnet' has no option 'margin'"):
        pretext.build("rotnet", 4, num_images=5, num_classes=0, seed=0, options={"margin": 1})


@pytest.mark.parametrize("name", sorted(pretext.PRETEXTS))
def test_every_option_has_a_plain_default_and_can_be_given(name: str) -> None:
    kind = pretext.PRETEXTS[name].options_type
    table = {item.name: getattr(kind(), item.name) for item in fields(kind)}
    assert all(type(value) in (int, float, str) for value in table.values())
    assert read(kind, table, pretext=name) == kind()
