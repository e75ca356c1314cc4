"""Verdicts: an effect that is there is seen, one that is not is not, and noise is called noise."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslprune.report.sample import Contrast, Sample, Term, difference, pooled
from sslprune.report.verdict import Outcome, Verdict, judge, more, not_less, not_more, same

RULES = {"more": more, "same": same, "not less": not_less, "not more": not_more}
points = st.floats(-40, 40).map(lambda value: round(value, 3))
margins = st.floats(0, 5).map(lambda value: round(value, 3))


def measured(gap: float, spread: float, *, seeds: int = 3) -> Contrast:
    """A difference of exactly `gap` between two samples, each with its seeds `spread` apart."""
    values = tuple((number - (seeds - 1) / 2) * spread for number in range(seeds))
    left, right = Sample(tuple(value + gap for value in values)), Sample(values)
    return difference("left minus right", ("left", left), ("right", right), [left, right])


@given(gap=points, spread=st.floats(0.001, 20), margin=margins)
def test_exact_measurements_decide_every_expectation(gap, spread, margin):
    exact, noisy = measured(gap, 1e-9), measured(gap, spread)
    for name, rule in RULES.items():
        close = abs(abs(gap) - margin) < 1e-3 or abs(gap) < 1e-3
        if not close:
            truth = {
                "more": gap > 0 and gap >= margin,
                "same": abs(gap) <= margin,
                "not less": gap >= -margin,
                "not more": gap <= margin,
            }[name]
            if margin > 1e-3 or name == "more":
                assert rule(margin).outcome(exact) is (Outcome.YES if truth else Outcome.NO)
        # With noise the same truth is found or nothing is.
        if rule(margin).outcome(noisy) is Outcome.YES:
            assert {"more": gap >= margin, "same": abs(gap) <= margin + 1e-9}.get(name, True)


@given(gap=points, spread=st.floats(0.01, 5), margin=margins)
def test_reversing_the_order_reverses_one_sided_rules(gap, spread, margin):
    forth, back = measured(gap, spread), measured(-gap, spread)
    assert same(margin).outcome(forth) is same(margin).outcome(back)
    assert not_less(margin).outcome(forth) is not_more(margin).outcome(back)
    assert not (more(margin).outcome(forth) is Outcome.YES and more(margin).outcome(back) is Outcome.YES)


@given(gap=st.floats(0.5, 30), margin=st.floats(0, 5))
def test_noise_far_above_the_difference_decides_nothing(gap, margin):
    drowned = measured(gap, 20 * (gap + margin))
    for rule in RULES.values():
        assert rule(margin).outcome(drowned) is Outcome.NOISE


def test_noise_is_that_of_the_textbook():
    # Two samples of three, one apart: pooled deviation 1, standard error sqrt(2/3), t of 4 degrees of freedom 2.78.
    assert measured(5.0, 1.0).noise == pytest.approx(2.78 * (2 / 3) ** 0.5)


def test_likes_lend_their_degrees_of_freedom():
    pair = [Sample((1.0, 2.0)), Sample((5.0, 6.0))]
    alone = difference("", ("", pair[0]), ("", pair[1]), pair)
    helped = difference("", ("", pair[0]), ("", pair[1]), [*pair, *pair, *pair])
    assert alone.noise is not None
    assert helped.noise is not None
    assert helped.noise < alone.noise
    assert pooled([Sample((1.0,))]) == (None, 0)


def test_a_single_seed_decides_nothing():
    single = difference("", ("", Sample((70.0,))), ("", Sample((10.0, 11.0))), [Sample((10.0, 11.0))])
    for rule in RULES.values():
        assert rule(1.0).outcome(single) is Outcome.ONE_SEED
    verdict, why = judge(more(1.0), [single])
    assert verdict is Verdict.NOT_TESTABLE
    assert "one seed" in why


@given(st.lists(st.sampled_from([5.0, 0.0, -5.0]), max_size=6))
def test_a_no_outweighs_and_noise_does_not(gaps):
    contrasts = [measured(gap, 0.001) if gap else measured(2.0, 100.0) for gap in gaps]
    verdict, why = judge(more(1.0), contrasts)
    if -5.0 in gaps:
        assert verdict is Verdict.DISAGREES
        assert ("in part" in why) == (5.0 in gaps)
    elif 5.0 in gaps:
        assert verdict is Verdict.AGREES
    else:
        assert verdict is Verdict.NOT_TESTABLE
        assert ("within noise" in why) == bool(gaps)


def test_what_is_beside_decides_nothing():
    beside = Contrast("", (Term(1.0, "", Sample((5.0, 5.1))),), 0.1, 1, decisive=False)
    assert judge(more(1.0), [beside]) == (Verdict.NOT_TESTABLE, "no rows")
    for gap in (5.0, -5.0):
        verdict, _ = judge(more(1.0), [beside, measured(gap, 0.001)])
        assert verdict is (Verdict.AGREES if gap > 0 else Verdict.DISAGREES)


def test_expectations_say_their_margin():
    for rule, margin in itertools.product(RULES.values(), (0.5, 2.0)):
        assert f"{margin:g}" in str(rule(margin))
