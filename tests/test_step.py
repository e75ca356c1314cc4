"""A point in training reads as it was written, to the last digit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslprune.errors import StepError
from sslprune.step import Step

epochs = st.floats(0, 1e6).map(lambda count: Step(count, "ep"))
updates = st.integers(0, 10**12).map(lambda count: Step(count, "it"))


@given(st.one_of(epochs, updates))
def test_the_text_of_a_step_is_the_step(step: Step) -> None:
    assert Step.parse(str(step)) == step


@given(st.one_of(epochs, updates), st.one_of(epochs, updates))
def test_different_steps_have_different_texts(one: Step, other: Step) -> None:
    assert (str(one) == str(other)) == (one == other)


@given(st.integers(0, 10**12), st.integers(1, 10**6))
def test_updates_are_updates_whatever_the_epoch(count: int, per_epoch: int) -> None:
    assert Step(count, "it").updates(per_epoch) == count


@given(st.integers(0, 1000), st.integers(1, 10**6))
def test_whole_epochs_are_that_many_times_an_epoch(count: int, per_epoch: int) -> None:
    assert Step(count, "ep").updates(per_epoch) == count * per_epoch


@pytest.mark.parametrize(
    ("text", "expected"), [("0.5ep", 50), ("1.504ep", 150), ("0.009ep", 1), ("0ep", 0), ("7it", 7)]
)
def test_fractions_of_an_epoch_go_to_the_nearest_update(text: str, expected: int) -> None:
    assert Step.parse(text).updates(100) == expected


@pytest.mark.parametrize("text", ["1234567it", "1000001it", "0.00001ep", "160ep", "5.5ep"])
def test_no_digit_is_lost_in_writing(text: str) -> None:
    assert str(Step.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        "ep",
        "-1ep",
        "1.5it",
        "1 ep",
        "1e3it",
        "3epochs",
        "ep3",
        ".5ep",
        "1.ep",
        "infep",
        "nanep",
        "3EP",
        "9" * 400 + "it",
    ],
)
def test_anything_else_is_refused_with_the_text_in_the_message(text: str) -> None:
    with pytest.raises(StepError, match="not a point in training") as caught:
        Step.parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("value", [None, 3, 0.5, ["3ep"]])
def test_what_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(StepError):
        Step.parse(value)  # type: ignore[arg-type]
