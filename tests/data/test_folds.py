"""Folds: no target in two parts, nothing of the test region left out, and a past that only grows."""

from itertools import pairwise

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given

from jaxseq.common.errors import UsageError
from jaxseq.data.folds import Fold, folds, split_rows
from jaxseq.data.windows import Series, cut


def ramp(n):
    """A series whose value is its row: a target shows which row it is."""
    return Series(np.arange(n), np.arange(n, dtype=np.float64))


@st.composite
def layouts(draw):
    """n, count, window and horizon that leave something for every part."""
    n, window, horizon = draw(st.integers(60, 200)), draw(st.integers(1, 12)), draw(st.integers(1, 6))
    count = draw(st.integers(1, 5))
    assume(n - int(0.85 * n) - 1 >= count * horizon)
    assume(int(0.7 * n) >= window + horizon)
    return n, count, window, horizon


def targets(series, part, window, horizon):
    return cut(series, window, horizon, *part).targets.astype(int)


@given(layout=layouts())
def test_no_row_is_a_target_in_two_parts_of_a_fold(layout):
    n, count, window, horizon = layout
    for fold in folds(n, count, window, horizon):
        rows = [set(targets(ramp(n), part, window, horizon).ravel()) for part in fold]
        assert all(rows)
        assert len(set.union(*rows)) == sum(map(len, rows))


@given(layout=layouts())
def test_every_target_of_a_part_is_known_when_the_next_part_makes_its_first_forecast(layout):
    n, count, window, horizon = layout
    for fold in folds(n, count, window, horizon):
        parts = [targets(ramp(n), part, window, horizon) for part in fold]
        for early, late in pairwise(parts):
            assert late.min() - early.max() == 1


@given(layout=layouts())
def test_the_test_blocks_tile_the_test_region_and_differ_by_a_row_at_most(layout):
    n, count, window, horizon = layout
    blocks = [fold.test for fold in folds(n, count, window, horizon)]
    assert len(blocks) == count and blocks[-1][1] == n
    assert all(one[1] == following[0] for one, following in pairwise(blocks))
    sizes = [last - first for first, last in blocks]
    assert max(sizes) - min(sizes) <= 1
    seen = {row for fold in blocks for row in targets(ramp(n), fold, window, horizon).ravel()}
    assert seen == set(range(blocks[0][0], n))


@given(layout=layouts())
def test_training_only_grows_and_takes_all_rows_before_validation(layout):
    n, count, window, horizon = layout
    found = folds(n, count, window, horizon)
    for fold in found:
        assert fold.train == (0, fold.valid[0])
        assert fold.valid[1] == fold.test[0]
        assert fold.valid[1] - fold.valid[0] == found[0].valid[1] - found[0].valid[0]
    assert all(one.train[1] < following.train[1] for one, following in pairwise(found))


@given(n=st.integers(40, 2000))
def test_one_fold_is_the_split_into_three_parts(n):
    valid, test = split_rows(n)
    assert folds(n, 1, 5, 1) == (Fold((0, valid), (valid, test), (test, n)),)


def test_folds_are_what_was_worked_by_hand():
    assert folds(100, 3, 10, 2) == (
        Fold((0, 70), (70, 85), (85, 90)),
        Fold((0, 75), (75, 90), (90, 95)),
        Fold((0, 80), (80, 95), (95, 100)),
    )
    assert folds(100, 2, 10, 2, fractions=(0.5, 0.1)) == (
        Fold((0, 50), (50, 60), (60, 80)),
        Fold((0, 70), (70, 80), (80, 100)),
    )
    assert folds(100, 1, 2, 1, fractions=(0.57, 0.01)) == (Fold((0, 57), (57, 58), (58, 100)),)  # 56.99 in binary


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (
            (100, 3, 69, 2),
            "the training part of the first fold has 70 of 100 rows; .* need at least 71: take a smaller w",
        ),
        (
            (100, 1, 9, 15, {"fractions": (0.7, 0.1)}),
            "the validation part has 10 of 100 rows; horizon 15 needs at least 15: take a s",
        ),
        (
            (100, 8, 10, 2),
            "the test part has 15 of 100 rows; 8 folds with horizon 2 need at least 16: take fewer folds, a",
        ),
        ((100, 1000000000, 10, 1), "1000000000 folds with horizon 1 need at least 1000000000"),
        ((0, 1, 10, 1), "the test part has 0 of 0 rows; horizon 1 needs at least 1: take a shorter"),
        ((100, 0, 10, 1), "count: too small; got 0, needed at least 1"),
        ((100, 1, 0, 1), "window: too small; got 0, needed at least 1"),
        ((100, 1, 10, 0), "horizon: too small; got 0, needed at least 1"),
    ],
)
def test_a_layout_without_a_window_in_every_part_is_refused_with_both_numbers(layout, message):
    *numbers, options = layout if isinstance(layout[-1], dict) else (*layout, {})
    with pytest.raises(UsageError, match=f"^sales: .*{message}") as caught:
        folds(*numbers, source="sales", **options)
    assert "\n" not in str(caught.value)


def test_parts_that_just_hold_one_window_are_taken():
    assert folds(100, 7, 68, 2)[0].train == (0, 70)
    assert folds(100, 15, 10, 1)[-1].test == (99, 100)
    assert folds(100, 1, 9, 10, fractions=(0.7, 0.1))[0].valid == (70, 80)


def test_shares_are_decimals_and_not_their_nearest_binary_number():
    assert split_rows(3270) == (2289, 2779)
    assert split_rows(10, (0.7, 0.1)) == (7, 8)  # 0.7 + 0.1 is 0.7999… in binary, and 10 times it is below 8
    assert split_rows(10_000, (0.70, 0.20)) == (7000, 9000)


@pytest.mark.parametrize("fractions", [(0.9, 0.1), (0.0, 0.5), (0.5, -0.1), (0.7, 0.4)])
def test_shares_that_leave_nothing_for_a_part_are_refused(fractions):
    with pytest.raises(UsageError, match="must be positive and add up to less than 1"):
        folds(100, 1, 5, 1, fractions=fractions)
