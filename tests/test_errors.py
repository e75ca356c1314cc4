"""Every expected failure says what went wrong and what to do next, and survives a trip between processes."""

from __future__ import annotations

import pickle

import pytest

from sslprune import errors

ALL = sorted(
    (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.SslpruneError)),
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", ALL)
def test_an_error_is_two_lines_and_keeps_both_through_pickle(kind: type[errors.SslpruneError]) -> None:
    error = pickle.loads(pickle.dumps(kind("It broke.", "Mend it.")))
    assert type(error) is kind
    assert str(error) == "It broke.\nMend it."
    assert (error.problem, error.hint) == ("It broke.", "Mend it.")


def test_the_nearest_come_first_then_others_up_to_the_most() -> None:
    assert errors.nearest("rotnte", ["labels", "rotnet", "npid"]) == "rotnet, labels, npid"
    assert errors.nearest("rotnte", ["labels", "rotnet", "npid"], most=1) == "rotnet"
    assert errors.nearest("anything", []) == "(none)"
