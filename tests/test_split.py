"""Series taken apart: chronological, each by itself, and what is fitted has seen the training rows alone."""

import re

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from jaxseq.data.frequency import describe
from jaxseq.data.split import Panel, check_fold
from jaxseq.data.windows import Series
from jaxseq.errors import UsageError

KINDS = ("change", "log-return", "level")
DAILY = describe("D")


def dated(values):
    values = np.asarray(values, np.float64)
    return Series(np.datetime64("2020-01-01") + np.arange(len(values)), values)


def ramp(*sizes):
    """A panel whose values are row numbers, the second series' from 1000 on, and so forth."""
    series = tuple(dated(1000 * number + np.arange(n)) for number, n in enumerate(sizes))
    return Panel(tuple(f"ramp {n}" for n in range(len(sizes))), series, DAILY)


def walk(n, seed=0):
    steps = np.random.default_rng(seed).standard_normal(n)
    return 100 * np.exp(np.cumsum(0.01 * steps))


sizes = given(n=st.integers(40, 120), window=st.integers(2, 12), horizon=st.integers(1, 6))


@sizes
def test_every_target_belongs_to_exactly_one_part_and_none_is_missing(n, window, horizon):
    parts = ramp(n).windows(window, horizon)
    rows = [set(part.targets.ravel().astype(int)) for part in parts]
    assert sum(map(len, rows)) == len(set.union(*rows))
    assert set.union(*rows) == set(range(window, n))


@sizes
def test_no_window_of_an_earlier_part_contains_a_target_of_a_later_one(n, window, horizon):
    train, valid, test = ramp(n).windows(window, horizon)
    assert max(train.inputs.max(), train.targets.max()) < valid.targets.min() == int(n * 7 / 10 + 1e-9)
    assert max(valid.inputs.max(), valid.targets.max()) < test.targets.min() == int(n * 85 / 100 + 1e-9)


@given(count=st.integers(2, 5), window=st.integers(2, 8), horizon=st.integers(1, 4))
def test_the_folds_of_a_backtest_test_every_row_of_the_end_once_and_learn_from_what_is_before(count, window, horizon):
    panel = ramp(160)
    splits = [panel.windows(window, horizon, count, fold) for fold in range(1, count + 1)]
    tested = np.concatenate([np.unique(parts.test.targets) for parts in splits])
    np.testing.assert_array_equal(tested, np.arange(136, 160))
    for fold, parts in enumerate(splits, 1):
        train, valid, test = (part.targets for part in parts)
        assert train.max() < valid.min() and valid.max() < test.min()
        known = panel.known(window, horizon, count, fold)
        np.testing.assert_array_equal(known.training[0], np.arange(train.max() + 1))


@given(first=st.integers(30, 80), second=st.integers(30, 80), window=st.integers(2, 5), horizon=st.integers(1, 3))
def test_the_series_of_a_panel_are_split_each_by_itself_and_never_mixed(first, second, window, horizon):
    both, alone = ramp(first, second), [ramp(first), ramp(second)]
    for number, single in enumerate(alone):
        for part, own in zip(both.windows(window, horizon), single.windows(window, horizon), strict=True):
            rows = part.series == number
            np.testing.assert_array_equal(part.inputs[rows], own.inputs + 1000 * number)
            np.testing.assert_array_equal(part.targets[rows], own.targets + 1000 * number)
            np.testing.assert_array_equal(part.times[rows], own.times)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("count", "fold", "end"), [(1, 1, 70), (2, 2, 77)])
def test_a_scaling_is_fitted_to_each_series_own_training_rows_and_to_no_other(kind, count, fold, end):
    def panel(one, other):
        return Panel(("one", "other"), (dated(one), dated(other)), DAILY).scaling(kind, 5, 2, count, fold)

    one, other = walk(100), 50 * walk(200, seed=1)
    found = panel(one, other)
    after, inside, replaced = one.copy(), one.copy(), 3 * walk(200, seed=2)
    after[end:] = 1e6 * walk(100 - end, seed=3)
    inside[end - 1] *= 2
    assert panel(after, other) == found
    assert panel(inside, other).scale[0] != found.scale[0] and panel(inside, other).scale[1] == found.scale[1]
    assert panel(one, replaced).scale[0] == found.scale[0] and panel(one, replaced).scale[1] != found.scale[1]


def test_the_scales_of_a_panel_are_those_of_its_first_70_percent():
    one, other = walk(100), 50 * walk(200, seed=1)
    found = Panel(("one", "other"), (dated(one), dated(other)), DAILY).scaling("change", 5, 2)
    assert found.scale == (np.diff(one[:70]).std(), np.diff(other[:140]).std())


def test_covariates_are_scaled_by_the_training_rows_and_cut_with_their_values():
    n, values = 100, walk(100)
    beside = np.stack([np.arange(n), np.arange(n) % 7], axis=1).astype(np.float64)
    panel = Panel(("one",), (dated(values),), DAILY, (beside,))
    scaling = panel.scaling("change", 5, 2)
    np.testing.assert_allclose(scaling.covariate_shift, beside[:70].mean(axis=0))
    np.testing.assert_allclose(scaling.covariate_scale, beside[:70].std(axis=0))
    for part in panel.windows(5, 2):
        np.testing.assert_array_equal(values[part.covariates[..., 0].astype(int)], part.inputs)


def test_what_is_known_are_names_period_training_rows_and_notes():
    panel = Panel(("one", "other"), (dated(walk(100)), dated(walk(60))), DAILY, notes=("a gap",))
    known = panel.known(5, 2)
    assert (known.names, known.period, known.notes) == (("one", "other"), 7, ("a gap",))
    for found, series, end in zip(known.training, panel.series, (70, 42), strict=True):
        np.testing.assert_array_equal(found, series.values[:end])


@pytest.mark.parametrize(
    ("n", "window", "horizon", "message"),
    [
        (
            100,
            70,
            1,
            "ramp 0: the training part of the first fold has 70 rows; window 70 and horizon 1 need at least 71",
        ),
        (
            101,
            10,
            16,
            "ramp 0: the validation part of the first fold has 15 rows; window 10 and horizon 16 need at least 16",
        ),
        (100, 10, 16, "ramp 0: the test part has 15 of 100 rows; 1 folds with horizon 16 need at least 16"),
    ],
)
def test_a_part_too_short_for_one_window_is_refused_with_both_numbers(n, window, horizon, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        ramp(n).windows(window, horizon)


def test_parts_that_just_hold_one_window_give_one():
    assert [len(part.inputs) for part in ramp(5).windows(2, 1)] == [1, 1, 1]
    assert [len(part.inputs) for part in ramp(100).windows(55, 15)] == [1, 1, 1]


@given(short=st.integers(2, 8))
def test_series_that_are_too_short_are_named_five_of_them_at_most(short):
    panel = ramp(*[4] * short, 100, 100)
    with pytest.raises(UsageError) as caught:
        panel.windows(3, 1)
    said = str(caught.value)
    assert said.startswith(f"{short} of {short + 2} series are too short: ramp 0 (4 rows), ramp 1 (4 rows)")
    assert ("…" in said) == (short > 5) and "ramp 5 (4 rows)" not in said
    assert "the training part of the first fold has 2 rows; window 3 and horizon 1 need at least 4" in said


def test_a_single_series_that_is_too_short_is_named_alone():
    with pytest.raises(UsageError, match=r"^ramp 1: the training part .* has 2 rows; .* at least 4$"):
        ramp(100, 4, 100).windows(3, 1)


@pytest.mark.parametrize(
    ("count", "fold", "message"),
    [(0, 1, "it: folds is 0; it must be at least 1"), (2, 0, "it: fold is 0"), (2, 3, "it: fold is 3; there are 2")],
)
def test_a_fold_that_there_is_not_is_refused(count, fold, message):
    check_fold("it", 2, 2)
    with pytest.raises(UsageError, match=f"^{message}"):
        check_fold("it", count, fold)
