"""Windows, parts and scalings: nothing sees its future."""

import dataclasses
import json
import re

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from jaxseq.data.windows import Scaling, Series, batch, check_series, cut, fit_scaling, split_rows, split_windows
from jaxseq.errors import UsageError

KINDS = ("change", "log-return", "level")


def ramp(n):
    """A series whose value is its row number: a window shows which rows it was cut from."""
    return Series(np.datetime64("2020-01-01") + np.arange(n), np.arange(n, dtype=np.float64))


def walk(n, seed=0):
    steps = np.random.default_rng(seed).standard_normal(n)
    return 100 * np.exp(np.cumsum(0.01 * steps))


@given(n=st.integers(40, 120), window=st.integers(2, 12), horizon=st.integers(1, 6))
def test_a_window_is_followed_by_its_targets_and_dated_by_the_first_of_them(n, window, horizon):
    series = ramp(n)
    for part in split_windows(series, window, horizon, "ramp"):
        rows = np.concatenate([part.inputs, part.targets], axis=1)
        np.testing.assert_array_equal(rows - rows[:, :1], np.tile(np.arange(window + horizon), (len(rows), 1)))
        np.testing.assert_array_equal(part.times, series.times[part.targets[:, 0].astype(int)])


@given(n=st.integers(40, 120), window=st.integers(2, 12), horizon=st.integers(1, 6))
def test_every_target_belongs_to_exactly_one_part_and_none_is_missing(n, window, horizon):
    parts = split_windows(ramp(n), window, horizon, "ramp")
    rows = [set(part.targets.ravel().astype(int)) for part in parts]
    assert sum(map(len, rows)) == len(set.union(*rows))
    assert set.union(*rows) == set(range(window, n))


@given(n=st.integers(40, 120), window=st.integers(2, 12), horizon=st.integers(1, 6))
def test_no_window_of_an_earlier_part_contains_a_target_of_a_later_one(n, window, horizon):
    train, valid, test = split_windows(ramp(n), window, horizon, "ramp")
    assert max(train.inputs.max(), train.targets.max()) < valid.targets.min() == int(n * 7 / 10 + 1e-9)
    assert max(valid.inputs.max(), valid.targets.max()) < test.targets.min() == int(n * 85 / 100 + 1e-9)


def test_every_window_that_fits_is_cut():
    assert len(cut(ramp(100), 10, 3, 0, 100).inputs) == 100 - 10 - 3 + 1
    assert len(cut(ramp(100), 10, 3, 40, 60).inputs) == 60 - 40 - 3 + 1
    assert cut(ramp(100), 10, 3, 40, 60).inputs.min() == 30  # looks back
    assert len(cut(ramp(13), 10, 3, 0, 13).inputs) == 1


def test_shares_are_decimals_and_not_their_nearest_binary_number():
    assert split_rows(3270) == (2289, 2779)
    assert split_rows(10, (0.7, 0.1)) == (7, 8)  # 0.7 + 0.1 is 0.7999… in binary, and 10 times it is below 8
    assert split_rows(10_000, (0.70, 0.20)) == (7000, 9000)


@pytest.mark.parametrize("fractions", [(0.9, 0.1), (0.0, 0.5), (0.5, -0.1), (0.7, 0.4)])
def test_shares_that_leave_nothing_for_a_part_are_refused(fractions):
    with pytest.raises(UsageError, match=re.escape(str(fractions))):
        split_rows(100, fractions)


@pytest.mark.parametrize(
    ("window", "horizon", "message"),
    [
        (70, 1, "window 70 + horizon 1 needs at least 71 rows; ramp's training part has 70"),
        (10, 16, "horizon 16 needs at least 16 rows; ramp's validation part has 15"),
    ],
)
def test_a_part_too_short_for_one_window_is_refused_with_both_numbers(window, horizon, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        split_windows(ramp(100), window, horizon, "ramp")


def test_parts_that_just_hold_one_window_give_one():
    assert [len(part.inputs) for part in split_windows(ramp(5), 2, 1, "ramp")] == [1, 1, 1]
    assert [len(part.inputs) for part in split_windows(ramp(100), 55, 15, "ramp")] == [1, 1, 1]


def test_cutting_where_no_window_fits_is_refused_with_both_numbers():
    with pytest.raises(UsageError, match=r"window 8 \+ horizon 5 needs at least 13 rows; .* 1 to 12 there are 12"):
        cut(ramp(40), 8, 5, 0, 12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_scaling_has_not_seen_validation_or_test(kind):
    values = walk(300)
    other = values.copy()
    other[210:] = 1e6 * walk(90, seed=1)
    rows = split_rows(300)[0]
    assert fit_scaling(kind, values[:rows]) == fit_scaling(kind, other[:rows])
    assert fit_scaling(kind, values[:rows]) != fit_scaling(kind, values[: rows + 60])


def test_scales_are_what_they_are_defined_as():
    values = np.array([2.0, 4.0, 3.0, 6.0])
    assert fit_scaling("level", values) == Scaling("level", 2.0, 4.0)
    changes = np.array([2.0, -1.0, 3.0])
    assert fit_scaling("change", values).scale == pytest.approx(np.sqrt(np.mean((changes - 4 / 3) ** 2)), rel=1e-14)
    logs = np.log([2.0, 0.75, 2.0])
    assert fit_scaling("log-return", values).scale == pytest.approx(np.sqrt(np.mean((logs - logs.mean()) ** 2)))


def test_each_kind_scales_as_its_formula_says():
    values, last = np.array([[2.0, 4.0]]), np.array([4.0])
    goal = np.array([[6.0]])
    for scaling, x, y in [
        (Scaling("change", 0.0, 0.5), [-4.0, 0.0], 4.0),
        (Scaling("log-return", 0.0, 0.1), [-10 * np.log(2), 0.0], 10 * np.log(1.5)),
        (Scaling("level", 1.0, 5.0), [0.2, 0.6], 1.0),
    ]:
        np.testing.assert_allclose(scaling.inputs(values)[0, :, 0], x, rtol=1e-14)
        np.testing.assert_allclose(scaling.targets(goal, last), [[y]], rtol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_inverting_a_target_gives_it_back(kind, data):
    price = st.floats(0.01, 1e4)
    row = st.lists(price, min_size=3, max_size=3)
    values = np.array(data.draw(st.lists(row, min_size=1, max_size=5)))
    last = np.array(data.draw(st.lists(price, min_size=len(values), max_size=len(values))))
    scaling = Scaling(kind, 3.0 if kind == "level" else 0.0, data.draw(st.floats(1e-3, 1e3)))
    np.testing.assert_allclose(scaling.invert(scaling.targets(values, last), last), values, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["change", "log-return"])
def test_a_prediction_of_zero_is_the_naive_forecast_and_height_does_not_matter(kind):
    values = walk(60)
    scaling = fit_scaling(kind, values)
    last = values[10:13]
    np.testing.assert_array_equal(scaling.invert(np.zeros((3, 2)), last), np.stack([last, last], axis=1))
    window = values[None, :20]
    other = window + 500 if kind == "change" else window * 7
    np.testing.assert_allclose(scaling.inputs(other), scaling.inputs(window), atol=1e-8)


def test_a_scaling_survives_json():
    scaling = fit_scaling("log-return", walk(50))
    assert Scaling(**json.loads(json.dumps(dataclasses.asdict(scaling)))) == scaling


def test_a_batch_is_float32_and_its_target_is_relative_to_the_last_input():
    windows = cut(ramp(30), 4, 2, 0, 30)
    x, y = batch(windows, Scaling("change", 0.0, 2.0))
    assert x.dtype == y.dtype == np.float32
    np.testing.assert_array_equal(x[3, :, 0], [-1.5, -1.0, -0.5, 0.0])
    np.testing.assert_array_equal(y[3], [0.5, 1.0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_series_is_refused(kind):
    with pytest.raises(UsageError, match=r"20 training rows are constant \(0\.1\)"):
        fit_scaling(kind, np.full(20, 0.1))


@pytest.mark.parametrize(("kind", "values"), [("change", 0.1 * np.arange(50.0)), ("log-return", 1.1 ** np.arange(50))])
def test_constant_growth_has_no_scale_whatever_the_rounding(kind, values):
    with pytest.raises(UsageError, match=r"49 one-step changes .* are constant \([0-9.]+\): .* use target .level"):
        fit_scaling(kind, values)


def test_a_log_return_of_a_value_that_is_not_positive_is_refused_with_its_row():
    with pytest.raises(UsageError, match=r"2 of 4 are not, the first in row 2 \(-1\); use target"):
        fit_scaling("log-return", np.array([3.0, -1.0, 0.0, 2.0]))
    with pytest.raises(UsageError, match=r"1 of 4 are not, the first in row 2 \(0\)"):
        Scaling("log-return", 0.0, 1.0).inputs(np.array([[1.0, 2.0], [0.0, 1.0]]))


def test_two_rows_are_too_few_for_a_scaling():
    with pytest.raises(UsageError, match="at least 3 training rows; there are 2"):
        fit_scaling("change", np.array([1.0, 2.0]))


DATES = np.array(["2020-01-01", "2020-01-02", "2020-01-03"], "datetime64[D]")


@pytest.mark.parametrize(
    ("times", "values", "message"),
    [
        (DATES[:0], [], "prices.csv: the series is empty: 0 rows, at least 1 is needed"),
        (DATES, [1, np.nan, np.inf], "prices.csv: 2 of 3 values are not finite, the first in row 2 (2020-01-02): nan"),
        (DATES, [1, 2, -np.inf], "prices.csv: 1 of 3 values are not finite, the first in row 3 (2020-01-03): -inf"),
        (DATES[[0, 2, 1]], [1, 2, 3], "prices.csv: row 3 (2020-01-02) follows row 2 (2020-01-03): times must increase"),
        (DATES[[0, 0, 1]], [1, 2, 3], "prices.csv: row 2 (2020-01-01) follows row 1 (2020-01-01): the same time twice"),
        (np.array([*DATES[:2], "NaT"], "datetime64[D]"), [1, 2, 3], "prices.csv: row 3 has no time (1 rows in all)"),
    ],
)
def test_a_series_that_is_none_is_refused_in_one_line_with_its_row(times, values, message):
    with pytest.raises(UsageError, match="^" + re.escape(message)) as caught:
        check_series(times, np.array(values, np.float64), "prices.csv")
    assert "\n" not in str(caught.value)


def test_a_sound_series_comes_back_in_float64():
    series = check_series(np.arange(3), np.array([1, 2, 3], np.int32), "counts")
    assert series.values.dtype == np.float64
    np.testing.assert_array_equal(series.values, [1, 2, 3])
