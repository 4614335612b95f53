"""Coverage that was measured: by level, by step, over series and over time."""

import numpy as np
import pytest

from jaxseq.data.windows import lay_out
from jaxseq.forecasting.coverage import STRETCH, Coverage, Spread, coverage_table, markdown, sentence, spread


def column(*values):
    return np.array(values, np.float64)[:, None]


def test_the_table_has_every_level_over_all_steps_and_at_each():
    actual = np.array([[0.0, 1.0], [2.0, 3.0]])
    narrow = np.array([[0.0, 0.0], [0.0, 0.0]]), np.array([[1.0, 0.5], [3.0, 0.5]])
    wide = actual - 5, actual + 5
    assert coverage_table(actual, {0.5: narrow, 0.9: wide}) == [
        Coverage(0.5, None, measured=2 / 4, width=5 / 4, score=(1 + 3 + 0.5 + 0.5 + 4 * (0.5 + 2.5)) / 4),
        Coverage(0.5, 1, measured=1.0, width=2.0, score=2.0),
        Coverage(0.5, 2, measured=0.0, width=0.5, score=0.5 + 4 * (0.5 + 2.5) / 2),
        Coverage(0.9, None, measured=1.0, width=10.0, score=10.0),
        Coverage(0.9, 1, measured=1.0, width=10.0, score=10.0),
        Coverage(0.9, 2, measured=1.0, width=10.0, score=10.0),
    ]


def test_an_interval_that_has_vanished_covers_nothing_and_has_no_width():
    actual = np.zeros((4, 1))
    low, high = column(1, 1, -1, -1), column(-1, -1, 1, 1)
    row = coverage_table(actual, {0.8: (low, high)})[0]
    assert (row.measured, row.width) == (0.5, 1.0)


def test_an_unknown_value_counts_in_no_row_of_the_table():
    actual = column(0, np.nan, 5)
    row = coverage_table(actual, {0.5: (column(-1, -9, -1), column(1, 9, 1))})[0]
    assert (row.measured, row.width) == (0.5, 2.0)


def hits(*series):
    """Windows of several series whose interval -1 to 1 covers where the list says so."""
    targets = np.concatenate([np.where(values, 0.0, 9.0) for values in series])[:, None]
    numbers = np.repeat(np.arange(len(series)), [len(values) for values in series])
    origins = np.concatenate([np.arange(len(values)) for values in series])
    windows = lay_out(np.zeros((len(targets), 3)), targets, series=numbers, origins=origins)
    return windows, {0.8: (np.full_like(targets, -1), np.full_like(targets, 1))}


def test_the_spread_over_series_is_that_of_their_own_shares():
    shares = np.arange(11) / 10
    windows, ends = hits(*[np.arange(10) < 10 * share for share in shares])
    (row,) = spread(windows, ends, in_time=True)
    assert row.by_series == pytest.approx((0.1, 0.5, 0.9))
    assert row.worst is None, "no series has enough forecasts for a stretch"
    assert spread(*hits([True] * 9), in_time=True)[0].by_series is None


def test_the_worst_stretch_is_the_lowest_rolling_mean_of_one_series():
    random = np.random.default_rng(0)
    first, second = random.random(200) < 0.9, random.random(90) < 0.9
    second[20:40] = False
    expected = min(np.convolve(values, np.ones(STRETCH), "valid").min() / STRETCH for values in (first, second))
    windows, ends = hits(first, second)
    assert spread(windows, ends, in_time=True)[0].worst == pytest.approx(expected)
    # The rows of a series may come in any order.
    order = random.permutation(290)
    mixed = windows._replace(**{name: getattr(windows, name)[order] for name in windows._fields})
    assert spread(mixed, ends, in_time=True)[0].worst == pytest.approx(expected)
    assert spread(windows, ends, in_time=False)[0].worst is None


def test_unknown_values_lengthen_the_stretch_and_count_as_neither():
    windows, ends = hits([False] * 30 + [True] * 59)
    windows.targets[30:45] = np.nan
    (row,) = spread(windows, ends, in_time=True)
    assert row.worst == pytest.approx(30 / STRETCH)


def table(steps):
    return [
        Coverage(level, step, level - 0.01 * (step or 0), width=2.0, score=3.0)
        for level in (0.5, 0.8)
        for step in (None, *range(1, steps + 1))
    ]


def test_one_line_has_the_coverage_of_all_of_the_worst_stretch_and_of_the_badly_covered_series():
    spreads = [Spread(0.5, (0.1, 0.5, 0.9), 0.25), Spread(0.8, (0.4, 0.8, 1.0), 0.6)]
    line = sentence(table(1), spreads)
    assert line.startswith("50/80 % intervals cover 50.0/80.0 % of the test values")
    assert f"25.0/60.0 % in the worst {STRETCH} " in line and "10.0/40.0 % in the series" in line
    alone = sentence(table(1), [Spread(0.5, None, None), Spread(0.8, None, None)])
    assert "worst" not in alone and "series" not in alone
    assert sentence([], []) == markdown([], [], "") == ""


def test_the_tables_have_a_row_for_each_level_and_for_some_steps_of_a_long_horizon():
    spreads = [Spread(0.5, (0.1, 0.5, 0.9), 0.25), Spread(0.8, (0.4, 0.8, 1.0), None)]
    lines = markdown(table(48), spreads, "USD").splitlines()
    assert lines[2] == "| 50% | 50.0% | 10%, 50%, 90% | 25.0% | 2 | 3 |"
    assert lines[3] == "| 80% | 80.0% | 40%, 80%, 100% | \N{EN DASH} | 2 | 3 |"
    by_step = [line.split(" | ")[0].strip("| ") for line in lines[7:]]
    assert (by_step[0], by_step[-1], len(by_step)) == ("1", "48", 12)
    assert lines[7] == "| 1 | 49.0% | 79.0% |"
    single = markdown(table(1), [Spread(0.5, None, 0.25), Spread(0.8, None, 0.5)], "")
    assert len(single.splitlines()) == 4 and "series" not in single
