"""Every claim, on rows with its effect planted, absent or reversed: the verdict follows the rows, whatever they say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from result_rows import frozen_rows, retrain_rows, tuned_rows, zero_rows

from sslprune.evaluate.results import Row
from sslprune.report.claims import CLAIMS, Claim, examine
from sslprune.report.tables import tables
from sslprune.report.verdict import Verdict

BY_NAME = {claim.name: claim for claim in CLAIMS}
BASE = 60.0


def seeds(mean: float, jitter: float = 0.05) -> list[float]:
    return [mean - jitter, mean, mean + jitter]


def ladder(effect: float, *, pretext: str, keeps: tuple[float, ...], noise: float) -> list[Row]:
    rows = frozen_rows(pretext, 1.0, seeds(BASE, noise))
    return rows + [row for keep in keeps for row in frozen_rows(pretext, keep, seeds(BASE + effect, noise))]


def two(left: list[Row], right: list[Row]) -> list[Row]:
    return [*left, *right]


def masks(noise: float, *cells: tuple[str, str, str, str, float], keep: float = 0.05) -> list[Row]:
    """Cells (criterion, init, control, subset, mean)."""
    return [
        row
        for criterion, init, control, subset, mean in cells
        for row in retrain_rows(criterion, keep, seeds(mean, noise), init, control=control, subset=subset)
    ]


def convs(noise: float, criterion: str, first: int | None, mean: float) -> list[Row]:
    return retrain_rows(criterion, 0.05, seeds(mean, noise), "ticket", first_convs=first)


@dataclass(frozen=True)
class Case:
    """Rows with an effect of a size, and which sizes fulfil the claim and which contradict it."""

    rows: Callable[[float, float], list[Row]]
    fulfils: float
    contradicts: float


CASES = {
    "1a": Case(lambda d, n: ladder(d, pretext="rotnet", keeps=(0.5, 0.1), noise=n), 0.0, -6.0),
    "1b": Case(lambda d, n: ladder(d, pretext="exemplar", keeps=(0.5, 0.1), noise=n), 2.0, -2.0),
    "1c": Case(lambda d, n: ladder(d, pretext="npid", keeps=(0.5, 0.2), noise=n), 0.5, 6.0),
    "1d": Case(lambda d, n: ladder(-d, pretext="rotnet", keeps=(0.02, 0.01), noise=n), 5.0, 0.0),
    "2": Case(
        lambda d, n: two(
            tuned_rows("rotnet", 0.1, seeds(BASE + d, n), during=False),
            tuned_rows("rotnet", 0.1, seeds(BASE, n), during=True),
        ),
        3.0,
        -3.0,
    ),
    "3a": Case(
        lambda d, n: masks(n, ("labels", "reinit", "", "", BASE), ("rotnet", "reinit", "", "", BASE + d)), 0.0, -6.0
    ),
    "3b": Case(
        lambda d, n: masks(n, ("labels", "reinit", "", "", BASE + d), ("labels", "reinit", "permuted", "", BASE)),
        9.0,
        1.0,
    ),
    "3c": Case(
        lambda d, n: masks(n, ("labels", "ticket", "", "", BASE + d), ("rotnet", "ticket", "", "", BASE)), 3.0, 0.0
    ),
    "3d": Case(
        lambda d, n: masks(n, ("labels", "ticket", "", "", BASE + d), ("labels", "reinit", "", "", BASE)), 3.0, 0.0
    ),
    "3e": Case(
        lambda d, n: masks(n, ("rotnet", "ticket", "", "", BASE + d), ("rotnet", "reinit", "", "", BASE)), 0.5, 5.0
    ),
    "3f": Case(
        lambda d, n: masks(n, ("exemplar", "ticket", "", "", BASE + d), ("rotnet", "reinit", "permuted", "", BASE)),
        9.0,
        1.0,
    ),
    "3g": Case(
        lambda d, n: two(
            masks(n, ("rotnet", "ticket", "", "", BASE + d), ("labels", "reinit", "permuted", "", BASE), keep=0.01),
            masks(n, ("rotnet", "ticket", "", "", BASE + 1), ("labels", "reinit", "permuted", "", BASE), keep=0.5),
        ),
        5.0,
        0.0,
    ),
    "3h": Case(
        lambda d, n: masks(
            n, ("labels", "reinit", "permuted", "", BASE + d), ("labels", "reinit", "", "", BASE), keep=0.25
        ),
        -0.5,
        -6.0,
    ),
    "3i": Case(
        lambda d, n: [
            *convs(n, "labels", 1, BASE + 1),
            *convs(n, "rotnet", 1, BASE),
            *convs(n, "labels", None, BASE + 1 + d),
            *convs(n, "rotnet", None, BASE),
        ],
        4.0,
        0.0,
    ),
    "4a": Case(lambda d, n: zero_rows("adam", seeds(50 + d, n), threshold=1e-8), 30.0, -30.0),
    "4b": Case(lambda d, n: two(zero_rows("adam", seeds(30 + d, n)), zero_rows("sgd", seeds(30, n))), 25.0, 0.0),
    "4c": Case(
        lambda d, n: masks(
            n, ("labels", "reinit", "nonzero", "", BASE + d), ("labels", "reinit", "permuted", "", BASE), keep=0.1
        ),
        4.0,
        -4.0,
    ),
    "5a": Case(
        lambda d, n: masks(
            n, ("s4l", "ticket", "", "images:0.1", BASE + d), ("labels", "ticket", "", "images:0.1", BASE)
        ),
        0.0,
        -6.0,
    ),
    "5b": Case(
        lambda d, n: masks(n, ("labels", "ticket", "", "images:0.1", BASE + d), ("rotnet", "ticket", "", "", BASE)),
        3.0,
        0.0,
    ),
    "5c": Case(
        lambda d, n: masks(
            n, ("labels", "ticket", "", "images:0.1", BASE + d), ("labels", "ticket", "", "classes:0.1", BASE)
        ),
        3.0,
        -3.0,
    ),
    "6": Case(
        lambda d, n: two(
            retrain_rows("labels", 0.05, seeds(BASE + d, n), "ticket", rewind="1ep"),
            retrain_rows("labels", 0.05, seeds(BASE, n), "ticket", rewind="0it"),
        ),
        6.0,
        0.1,
    ),
}

every_claim = pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)


def test_every_claim_has_its_case():
    assert list(BY_NAME) == list(CASES)
    assert {letter for claim in CLAIMS if (letter := claim.letter)} == {f"({letter})" for letter in "abcdefg"}


@every_claim
@settings(max_examples=10)
@given(scale=st.floats(0.8, 3.0), jitter=st.floats(0.0, 0.1))
def test_a_planted_effect_agrees(claim: Claim, scale: float, jitter: float):
    case = CASES[claim.name]
    size = case.fulfils * (scale if abs(case.fulfils) > 1 else 1.0)
    finding = examine(claim, tables(case.rows(min(size, 45.0), jitter)))
    assert finding.verdict is Verdict.AGREES, finding.why


@every_claim
@settings(max_examples=10)
@given(scale=st.floats(0.8, 3.0), jitter=st.floats(0.0, 0.05))
def test_an_effect_that_is_absent_or_reversed_disagrees(claim: Claim, scale: float, jitter: float):
    case = CASES[claim.name]
    size = case.contradicts * (scale if abs(case.contradicts) > 1 else 1.0)
    finding = examine(claim, tables(case.rows(max(size, -45.0), jitter)))
    assert finding.verdict is Verdict.DISAGREES, finding.why


@every_claim
def test_a_drowned_effect_is_within_noise(claim: Claim):
    case = CASES[claim.name]
    finding = examine(claim, tables(case.rows(case.fulfils, 40.0)))
    assert finding.verdict is Verdict.NOT_TESTABLE
    assert "within noise" in finding.why


@every_claim
def test_one_seed_is_not_enough(claim: Claim):
    rows = [row for row in CASES[claim.name].rows(CASES[claim.name].fulfils, 0.05) if row["seed"] == 0]
    finding = examine(claim, tables(rows))
    assert finding.verdict is Verdict.NOT_TESTABLE
    assert "one seed" in finding.why
    assert finding.contrasts


@every_claim
def test_without_rows_it_says_what_it_needs(claim: Claim):
    finding = examine(claim, tables([]))
    assert finding.verdict is Verdict.NOT_TESTABLE
    assert claim.lacking in finding.why
    assert finding.contrasts == ()


def test_the_last_stage_decides_and_the_best_is_beside():
    finding = examine(BY_NAME["1a"], tables(CASES["1a"].rows(0.0, 0.05)))
    decisive = [contrast for contrast in finding.contrasts if contrast.decisive]
    beside = [contrast for contrast in finding.contrasts if not contrast.decisive]
    assert [contrast.terms[0].sample.mean for contrast in decisive] == pytest.approx([BASE] * 2)
    assert [contrast.terms[0].sample.mean for contrast in beside] == pytest.approx([BASE + 5] * 2)


def test_neighbours_are_drawn_but_no_claim_of_the_papers():
    rows = [row for keep in (1.0, 0.1) for row in frozen_rows("rotnet", keep, seeds(90 - keep), task="knn")]
    assert examine(BY_NAME["1a"], tables(rows)).contrasts == ()


def test_only_the_longest_training_decides_how_much_converges_to_zero():
    rows = zero_rows("adam", seeds(10.0), threshold=1e-8, updates=100)
    assert examine(BY_NAME["4a"], tables(rows)).verdict is Verdict.DISAGREES
    longer = [{**row, "name": row["name"].replace("-adam-", "-long-")} for row in rows]
    rows += [{**row, "value": 80.0, "protocol": {**row["protocol"], "updates": 900}} for row in longer]
    assert examine(BY_NAME["4a"], tables(rows)).verdict is Verdict.AGREES


def test_other_networks_are_never_compared():
    rows = frozen_rows("rotnet", 1.0, seeds(90.0)) + frozen_rows("rotnet", 0.1, seeds(50.0), arch="resnet20")
    assert examine(BY_NAME["1a"], tables(rows)).contrasts == ()


def test_a_claim_of_ours_is_never_called_the_papers():
    for claim in CLAIMS:
        said = claim.statement.lower()
        assert (claim.by == "ours") == ("our reading" in said or "our conjecture" in said)
