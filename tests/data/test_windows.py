"""Windows and what follows them, and the checks that a series has to pass."""

import re

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from jaxseq.common.errors import UsageError
from jaxseq.data.windows import Series, check_series, cut, join, last_window


def ramp(n, start=0):
    """A series whose value is its row number: a window shows which rows it was cut from."""
    return Series(
        np.datetime64("2020-01-01") + np.arange(n).astype("timedelta64[D]"), start + np.arange(n, dtype=np.float64)
    )


@given(window=st.integers(1, 12), horizon=st.integers(1, 6), first=st.integers(0, 30), spare=st.integers(0, 20))
def test_a_window_is_followed_by_its_targets_and_dated_by_the_first_of_them(window, horizon, first, spare):
    series = ramp(80)
    last = max(first, window) + horizon + spare
    part = cut(series, window, horizon, first, last)
    rows = np.concatenate([part.inputs, part.targets], axis=1)
    np.testing.assert_array_equal(rows - rows[:, :1], np.tile(np.arange(window + horizon), (len(rows), 1)))
    np.testing.assert_array_equal(part.times, series.times[part.targets[:, 0].astype(int)])
    np.testing.assert_array_equal(part.targets[:, 0], np.arange(max(first, window), last - horizon + 1))


def test_every_window_that_fits_is_cut():
    assert len(cut(ramp(100), 10, 3, 0, 100).inputs) == 100 - 10 - 3 + 1
    assert len(cut(ramp(100), 10, 3, 40, 60).inputs) == 60 - 40 - 3 + 1
    assert cut(ramp(100), 10, 3, 40, 60).inputs.min() == 30  # looks back
    assert len(cut(ramp(13), 10, 3, 0, 13).inputs) == 1


@given(window=st.integers(1, 8), horizon=st.integers(1, 5), first=st.integers(0, 30))
def test_covariates_are_those_of_the_windows_own_steps_and_of_none_later(window, horizon, first):
    values = np.arange(60.0)
    beside = np.stack([10 * values, -values], axis=1)
    part = cut(ramp(60), window, horizon, first, 50, covariates=beside)
    np.testing.assert_array_equal(part.covariates[..., 0], 10 * part.inputs)
    np.testing.assert_array_equal(part.covariates[..., 1], -part.inputs)


def test_without_covariates_there_are_none_of_them_and_the_number_is_that_of_the_series():
    part = cut(ramp(30), 4, 2, 0, 30, number=3)
    assert part.covariates.shape == (25, 4, 0)
    assert part.series.tolist() == [3] * 25


def test_what_is_cut_is_a_view_that_cannot_change_the_series_and_joined_parts_are_copies():
    series, beside = ramp(30), np.ones((30, 1))
    part = cut(series, 4, 2, 0, 30, covariates=beside)
    for array, source in ((part.inputs, series.values), (part.targets, series.values), (part.covariates, beside)):
        assert np.shares_memory(array, source)
        with pytest.raises(ValueError, match="read-only"):
            array[:] = -1
    joined = join([part])
    joined.inputs[:] = -1
    np.testing.assert_array_equal(series.values, np.arange(30))


def test_cutting_where_no_window_fits_is_refused_with_both_numbers():
    with pytest.raises(UsageError, match=r"window 8 \+ horizon 5 needs at least 13 rows; .* 1 to 12 there are 12"):
        cut(ramp(40), 8, 5, 0, 12)


def test_windows_are_joined_one_series_after_the_other():
    starts = (0.0, 50.0)
    parts = [cut(ramp(10, start), 3, 2, 0, 10, n, np.full((10, 1), start)) for n, start in enumerate(starts)]
    whole = join(parts)
    np.testing.assert_array_equal(whole.series, [0] * 6 + [1] * 6)
    for name, array in whole._asdict().items():
        np.testing.assert_array_equal(array, np.concatenate([getattr(part, name) for part in parts]))


def test_the_last_window_ends_where_the_series_does_and_its_targets_are_unknown():
    found = last_window(ramp(20), 5, 3)
    np.testing.assert_array_equal(found.inputs, [[15, 16, 17, 18, 19]])
    assert found.targets.shape == (1, 3) and np.isnan(found.targets).all()
    assert found.series.tolist() == [0] and found.covariates.shape == (1, 5, 0)
    assert len(last_window(ramp(5), 5, 1).inputs) == 1
    with pytest.raises(UsageError, match="window 6 needs at least 6 rows; there are 5"):
        last_window(ramp(5), 6, 1)


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
