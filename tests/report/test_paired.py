"""Pairs by seed, and what may be said of a claim: it holds, it does not, or it is not decided."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from jaxseq.report.paired import DOES_NOT_HOLD, HOLDS, NOT_DECIDED, Paired, alike, interval, less, paired, together

A = np.array([0.28, 0.31, 0.25, 0.30, 0.27, 0.29])
B = np.array([0.33, 0.30, 0.31, 0.34, 0.30, 0.33])


def found(low, high, n=5):
    return Paired(n, (low + high) / 2, low, high, 1.0, 0.5)


def normal_pairs(shift, spread, n, seed):
    source = np.random.default_rng(seed)
    level = source.normal(1.0, 0.2, n)
    return level + shift + spread * source.normal(size=n), level


def test_mean_interval_and_chance_are_those_of_scipy():
    ours, theirs = paired(A, B), stats.ttest_rel(A, B)
    low, high = theirs.confidence_interval(0.95)
    assert ours.n == 6
    assert (ours.mean, ours.low, ours.high) == pytest.approx((np.mean(A - B), low, high), rel=1e-12)
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-12)
    assert ours.effect == pytest.approx(theirs.statistic / math.sqrt(6), rel=1e-12)


def test_the_comparison_is_what_was_worked_by_hand():
    pairs = paired(np.array([1.3, 0.9, 2.0, 1.6, 1.1]), np.array([1.0, 1.0, 1.2, 0.7, 0.9]))  # 0.3, -0.1, 0.8, 0.9, 0.2
    deviation = math.sqrt((0.12**2 + 0.52**2 + 0.38**2 + 0.48**2 + 0.22**2) / 4)
    half_width = 2.776445 * deviation / math.sqrt(5)  # 97.5 % of Student's t with 4 degrees of freedom, from a table
    assert (pairs.n, pairs.mean, pairs.effect) == pytest.approx((5, 0.42, 0.42 / deviation))
    assert (pairs.low, pairs.high) == pytest.approx((0.42 - half_width, 0.42 + half_width), rel=1e-6)


def test_the_order_of_the_rows_turns_only_the_sign():
    one, other = paired(A, B), paired(B, A)
    assert (other.mean, other.low, other.high, other.effect) == (-one.mean, -one.high, -one.low, -one.effect)
    assert other.p == one.p


def test_another_level_is_the_interval_that_scipy_gives_for_it():
    for level in (0.5, 0.9, 0.99):
        theirs = stats.ttest_rel(A, B).confidence_interval(level)
        assert interval(paired(A, B), level) == pytest.approx((theirs.low, theirs.high), rel=1e-12)


def test_pairs_that_differ_by_the_same_are_known_exactly():
    same, shifted = paired(A, A), paired(A - 0.1, A)
    assert same[:4] == (6, 0, 0, 0) and same.p == 1 and math.isnan(same.effect)
    assert shifted.low == shifted.high == shifted.mean == pytest.approx(-0.1) and shifted.p == 0
    assert (less(same), less(shifted), alike(same, 1e-9)) == (DOES_NOT_HOLD, HOLDS, HOLDS)
    assert (alike(shifted, 0.11), alike(shifted, 0.09)) == (HOLDS, DOES_NOT_HOLD)


def test_a_single_seed_decides_nothing():
    single = paired(A[:1], B[:1])
    assert single.n == 1 and single.mean == pytest.approx(-0.05)
    assert all(map(math.isnan, (single.low, single.high, single.effect, single.p, *interval(single, 0.9))))
    assert less(single) == alike(single, 1.0) == NOT_DECIDED


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-2, -1, HOLDS), (-2, 0, NOT_DECIDED), (-1, 1, NOT_DECIDED), (0, 1, DOES_NOT_HOLD), (1, 2, DOES_NOT_HOLD)],
)
def test_less_is_decided_by_where_zero_lies(low, high, verdict):
    assert less(found(low, high)) == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.5, 0.5, HOLDS),
        (-1.05, 0.2, HOLDS),  # its 90 % interval ends at -0.905: the wider one may leave the margin
        (-1.2, 0.2, NOT_DECIDED),
        (-3, 3, NOT_DECIDED),
        (0.9, 3, NOT_DECIDED),
        (1, 3, DOES_NOT_HOLD),
        (-3, -1, DOES_NOT_HOLD),
    ],
)
def test_alike_is_decided_by_the_margin_on_both_sides(low, high, verdict):
    assert alike(found(low, high), 1.0) == verdict


def test_alike_holds_where_the_two_one_sided_tests_of_statsmodels_reject():
    verdicts = []
    for seed in range(60):
        pairs = normal_pairs(0.02, 0.05, 8, seed)
        verdicts.append(alike(paired(*pairs), 0.05) == HOLDS)
        assert verdicts[-1] == (ttost_paired(*pairs, -0.05, 0.05)[0] < 0.05)
    assert 5 < sum(verdicts) < 55


def test_a_margin_that_is_none_is_refused():
    for margin in (0.0, -0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"margin is .*; it must be a finite number above 0"):
            alike(paired(A, B), margin)


def test_what_is_no_pair_is_refused():
    with pytest.raises(ValueError, match=r"\(6,\) and \(5,\) must be pairs, one of each for every seed"):
        paired(A, B[:5])
    with pytest.raises(ValueError, match=r"\(0,\) and \(0,\) must be pairs"):
        paired(A[:0], B[:0])
    with pytest.raises(ValueError, match=r"pair 2 of 2 is 1\.0 and nan; expected finite numbers"):
        paired(np.ones(2), np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match=r"pair 1 of 1 is inf and inf"):
        paired(np.array([np.inf]), np.array([np.inf]))


def test_a_claim_holds_if_all_its_parts_do_and_fails_if_any_does():
    assert together([HOLDS]) == together([HOLDS, HOLDS]) == HOLDS
    assert together([HOLDS, NOT_DECIDED]) == together([NOT_DECIDED]) == NOT_DECIDED
    assert together([HOLDS, NOT_DECIDED, DOES_NOT_HOLD]) == DOES_NOT_HOLD
    with pytest.raises(ValueError, match="0 verdicts"):
        together([])


def test_a_false_claim_of_two_parts_is_taken_as_true_at_most_once_in_forty_times():
    """The worst case: one part is just false, the other so true that it always passes."""
    taken = 0
    for seed in range(400):
        just_false, true = (less(paired(*normal_pairs(shift, 0.1, 6, seed))) for shift in (0.0, -5.0))
        taken += together([just_false, true]) == HOLDS
    assert 2 <= taken <= 20  # 10 are expected, with a standard error of 3.1
