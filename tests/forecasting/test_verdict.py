"""What the test set allows to be said: sentences and tables, and simulations whose truth is known."""

import io
import math

import numpy as np
import pytest
from forecasts import ACTUAL, FORECAST, LAST, best_forecast
from rich.console import Console

from jaxseq.common.errors import UsageError
from jaxseq.data.aapl import Prices
from jaxseq.data.folds import split_rows
from jaxseq.data.windows import cut
from jaxseq.forecasting import verdict
from jaxseq.forecasting.baselines import NAIVE, drift, least_squares, naive
from jaxseq.forecasting.metrics import mae, relative_mse, rmse
from jaxseq.forecasting.significance import block_bootstrap_interval, diebold_mariano, lag_one_copy
from jaxseq.forecasting.verdict import NO_EVIDENCE, Row, compare, copy_sentence, markdown, number, sentence


def test_on_a_random_walk_a_fitted_forecast_is_almost_never_called_an_improvement():
    said = 0
    for seed in range(100):
        values = np.cumsum(np.random.default_rng(seed).standard_normal(700))
        whole = np.lib.stride_tricks.sliding_window_view(values, 11)
        x, y, last = whole[:, :10] - whole[:, 9:10], whole[:, 10:] - whole[:, 9:10], whole[:, 9:10]
        forecast = last + least_squares(x[:400], y[:400]).predict(x)
        rows = compare(whole[400:, 10:], {NAIVE: last[400:], "least squares": forecast[400:]}, seed)
        said += NO_EVIDENCE in sentence(rows[1])
    assert said >= 90


def test_forecasts_that_move_at_random_are_almost_never_called_an_improvement():
    said = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        last = np.cumsum(rng.standard_normal((300, 1)), axis=0)
        actual, forecast = (last + scale * rng.standard_normal((300, 1)) for scale in (1.0, 0.05))
        said += NO_EVIDENCE in sentence(compare(actual, {NAIVE: last, "model": forecast}, seed)[1])
    assert said >= 90


def test_planted_skill_is_found_and_planted_harm_is_called_worse():
    found = worse = 0
    for seed in range(40):
        actual, forecast, last, _ = best_forecast(0.5, 491, 1, seed)
        found += "improves on the last value: skill" in sentence(compare(actual, {NAIVE: last, "m": forecast})[1])
        away = 2 * last - forecast
        text = sentence(compare(actual, {NAIVE: last, "m": away})[1])
        worse += NO_EVIDENCE in text and "worse" in text
    assert found >= 38
    assert worse >= 38


def row(low, high):
    return Row("GRU", 1.0, 0.5, 0.9, 0.1, low, high)


def test_only_an_interval_wholly_above_zero_is_called_an_improvement():
    assert sentence(row(0.02, 0.18)) == (
        "GRU: improves on the last value: skill +0.1000 (95 % interval +0.0200 to +0.1800)"
    )
    for low, high in [(-0.02, 0.18), (0.0, 0.18), (-0.2, -0.1), (math.nan, math.nan)]:
        assert NO_EVIDENCE in sentence(row(low, high))
        assert "improves" not in sentence(row(low, high))
    assert "worse" in sentence(row(-0.2, -0.1))
    assert "worse" not in sentence(row(-0.2, 0.1))
    assert NO_EVIDENCE == "no evidence of improvement over the last value"


def test_a_comparison_keeps_the_order_and_starts_with_naive_at_skill_zero():
    actual, forecast, last, _ = best_forecast(0.5, 100, 2, seed=0)
    rows = compare(actual, {NAIVE: last, "b": forecast, "a": last}, seed=1)
    assert [found.name for found in rows] == [NAIVE, "b", "a"]
    assert rows[0].skill == 0 and rows[0].relative_mse == 1 and math.isnan(rows[0].low)
    assert (rows[2].low, rows[2].high) == (0, 0) and NO_EVIDENCE in sentence(rows[2])
    assert rows[1].rmse == rmse(actual, forecast) and rows[1].mae == mae(actual, forecast)
    assert rows[1].low < rows[1].skill < rows[1].high


def test_the_seed_of_a_comparison_is_that_of_its_intervals():
    actual, forecast, last, _ = best_forecast(0.5, 100, 1, seed=0)
    found = compare(actual, {NAIVE: last, "model": forecast}, seed=3)[1]
    assert (found.low, found.high) == block_bootstrap_interval(actual, forecast, last, seed=3)
    assert found != compare(actual, {NAIVE: last, "model": forecast}, seed=4)[1]


def test_a_comparison_without_naive_or_with_a_value_that_is_not_finite_is_refused():
    with pytest.raises(UsageError, match=r"first forecast must be 'naive \(last value\)'; given were GRU"):
        compare(ACTUAL, {"GRU": FORECAST, NAIVE: LAST})
    with pytest.raises(UsageError, match="given were none"):
        compare(ACTUAL, {})
    with pytest.raises(UsageError, match="GRU: 1 of 4 values are not finite, the first in row 2"):
        compare(ACTUAL, {NAIVE: LAST, "GRU": np.array([[1.0, 2.0], [np.nan, 0.0]])})


def test_the_table_has_the_unit_and_a_dash_where_there_is_no_interval_or_test():
    rows = [
        Row(NAIVE, 1.2098, 0.8, 1.0, 0.0, math.nan, math.nan),
        row(0.02, 0.18),
        row(0.02, 0.18)._replace(p_value=0.0041),
        row(0.02, 0.18)._replace(p_value=0.00049),
    ]
    lines = markdown(rows, "USD").split("\n")
    assert lines[0] == "| forecast | RMSE, USD | MAE, USD | MSE / naive | skill | 95 % interval | p |"
    assert lines[2] == "| naive (last value) | 1.2098 | 0.8000 | 1.0000 | 0 | \N{EN DASH} | \N{EN DASH} |"
    assert lines[3] == "| GRU | 1.0000 | 0.5000 | 0.9000 | +0.1000 | +0.0200 to +0.1800 | \N{EN DASH} |"
    assert lines[4].endswith("| +0.0200 to +0.1800 | 0.004 |")
    assert lines[5].endswith("| +0.0200 to +0.1800 | <0.001 |")
    assert len({line.count("|") for line in lines}) == 1
    shown = Console(file=io.StringIO(), width=120)
    shown.print(verdict.score_table([*rows, Row("far", 2.6380557e91, 1e90, 1.0, 0.0, -0.1, 0.1)], "USD", "AAPL"))
    on_screen = shown.file.getvalue()
    assert "+0.0200 +0.1800 <0.001" in on_screen and "2.638e+91" in on_screen, "the screen says the same"
    assert "RMSE | MAE |" in markdown([row(0, 0)], "")


def test_no_digit_is_cut_on_a_terminal_of_80_columns():
    names = [NAIVE, "naive (same season), period 252", "exponential smoothing", "lstm (epoch 100)"]
    rows = [Row(name, 1234.5678, 1034.5678, 10.1234, -9.1234, -10.1234, -0.1234, 0.0001) for name in names]
    terminal = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    terminal.print(verdict.score_table(rows, "USD", "AAPL"))
    on_screen = terminal.file.getvalue()
    numbers = "1234.5678 1034.5678  10.1234 -9.1234 -10.1234 -0.1234 <0.001"
    assert sum(" ".join(line.split()).endswith(" ".join(numbers.split())) for line in on_screen.splitlines()) == 3
    assert "…" not in on_screen and all(len(line) <= 80 for line in on_screen.splitlines())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.20984, "1.2098"),
        (0.0, "0.0000"),
        (0.0123456, "0.0123"),
        (0.0051234567, "0.005123"),
        (0.00012345678, "0.0001235"),
        (-3e-9, "-3e-09"),
        (123456.789, "123456.7890"),
        (2.6380557e91, "2.638e+91"),
        (math.nan, "nan"),
        (math.inf, "inf"),
    ],
)
def test_an_error_has_four_decimals_or_where_they_say_nothing_four_digits(value, text):
    assert number(value) == text


def test_small_errors_are_not_nothing_in_the_table():
    assert markdown([Row("model", 1.5e-5, 1.2e-5, 1.0, 0.0, -0.1, 0.1)], "").endswith(
        "| model | 1.5e-05 | 1.2e-05 | 1.0000 | +0.0000 | -0.1000 to +0.1000 | \N{EN DASH} |"
    )


def test_a_comparison_has_the_p_value_of_the_test_against_the_last_value():
    actual, forecast, last, _ = best_forecast(0.5, 100, 2, seed=0)
    rows = compare(actual, {NAIVE: last, "model": forecast})
    assert math.isnan(rows[0].p_value)
    assert rows[1].p_value == diebold_mariano(actual, forecast, last).p_value < 0.05


def test_a_copy_of_the_last_value_is_told_from_a_forecast():
    actual, forecast, last, _ = best_forecast(0.5, 491, 1, seed=0)
    copy = lag_one_copy(actual, last, last[:, 0])
    assert copy.copies and copy.movement == 0 and copy.change_correlation == 0
    good = lag_one_copy(actual, forecast, last[:, 0])
    assert not good.copies and good.change_correlation == pytest.approx(0.5, abs=0.1)
    assert "only copies the last value: it moves 0%" in copy_sentence("naive", copy)
    astray = last + 3 * np.random.default_rng(1).standard_normal(actual.shape)
    far = lag_one_copy(actual, astray, last[:, 0])
    assert not far.copies and "strays from the last value at random" in copy_sentence("far", far)
    assert "does not only copy" in copy_sentence("AR", good)


def apple():
    """Training and test windows of 50 days, and the day that follows."""
    series = Prices().series()
    n = len(series.values)
    valid, test = split_rows(n)
    return cut(series, 50, 1, 0, valid), cut(series, 50, 1, test, n)


@pytest.mark.parametrize(("target", "known"), [("change", 1.1569), ("log-return", 1.0279), ("level", 1.1581)])
def test_on_apple_least_squares_does_not_beat_the_last_value(target, known):
    def seen(values, last):
        paths = np.log([values, np.broadcast_to(last, values.shape)]) if target == "log-return" else (values, last)
        return values if target == "level" else paths[0] - paths[1]

    train, windows = apple()
    (x, y), (test_x, _) = [
        (seen(part.inputs, part.inputs[:, -1:]), seen(part.targets, part.inputs[:, -1:])) for part in (train, windows)
    ]
    last, moved = windows.inputs[:, -1:], least_squares(x, y).predict(test_x)
    forecast = {"change": last + moved, "log-return": last * np.exp(moved), "level": moved}[target]
    rows = compare(windows.targets, {NAIVE: naive(windows), "least squares": forecast})
    assert rows[0].rmse == pytest.approx(1.2098, abs=5e-5)
    assert rows[1].relative_mse == pytest.approx(known, abs=2e-3)
    assert NO_EVIDENCE in sentence(rows[1])
    assert lag_one_copy(windows.targets, forecast, last[:, 0]).copies


def test_on_apple_drift_does_not_differ_from_the_last_value():
    train, windows = apple()
    forecast = drift(windows, train)
    assert relative_mse(windows.targets, forecast, naive(windows)) == pytest.approx(0.9998, abs=5e-5)
    assert NO_EVIDENCE in sentence(compare(windows.targets, {NAIVE: naive(windows), "drift": forecast})[1])


def equals(share, series=30, dates=100, seed=0):
    """Two equally good forecasts of many series, which have this share of their variance in common; and the dates."""
    random = np.random.default_rng(seed)

    def draw():
        own = random.standard_normal((series, dates))
        return np.sqrt(share) * random.standard_normal(dates) + np.sqrt(1 - share) * own

    moves = draw()
    forecast = 0.1 * moves + np.sqrt(0.19) * draw()  # mean squares 0.9² + 0.19 and 1
    return *(v.reshape(-1, 1) for v in (moves, forecast, np.zeros_like(moves))), np.tile(np.arange(dates), series)


def test_series_that_share_their_shocks_are_not_many_proofs_of_one_thing():
    for share in (0.0, 0.5, 1.0):
        by_row, by_date = [], []
        for seed in range(60):
            actual, forecast, last, dates = equals(share, seed=seed)
            row = compare(actual, {NAIVE: last, "model": forecast}, seed, dates)[1]
            by_date.append([row.p_value < 0.05, not row.low <= 0 <= row.high])
            by_row.append(diebold_mariano(actual, forecast, last).p_value < 0.05)
        assert np.all(np.mean(by_date, axis=0) < 0.15)
        assert np.mean(by_row) > 0.3 or not share


def test_skill_in_many_series_is_still_found_date_by_date():
    actual, forecast, last, dates = equals(0.5)
    better = compare(actual, {NAIVE: last, "model": 0.5 * forecast + 0.2 * actual}, 0, dates)[1]
    assert better.low > 0 and better.p_value < 0.001


def test_the_order_of_rows_that_have_times_does_not_count_and_that_of_one_series_changes_nothing():
    actual, forecast, last, dates = equals(0.5)
    mixed = np.random.default_rng(1).permutation(len(dates))
    one, other = (
        compare(actual[rows], {NAIVE: last[rows], "model": forecast[rows]}, 0, dates[rows])[1]
        for rows in (np.arange(len(dates)), mixed)
    )
    assert tuple(one)[1:] == pytest.approx(tuple(other)[1:], rel=1e-9)
    actual, forecast, last, _ = best_forecast(0.5, 80, 2, seed=0)
    plain, dated = (compare(actual, {NAIVE: last, "model": forecast}, 3, t)[1] for t in (None, np.arange(80)))
    assert tuple(plain)[1:] == pytest.approx(tuple(dated)[1:], rel=1e-9)


def test_too_few_dates_are_no_evidence_however_many_the_series():
    actual, forecast, last, dates = equals(0.0, series=200, dates=9)
    row = compare(actual, {NAIVE: last, "model": forecast}, 0, dates)[1]
    assert math.isnan(row.low) and math.isnan(row.p_value)
    assert not math.isnan(compare(actual, {NAIVE: last, "model": forecast}, 0)[1].p_value)


def test_too_few_rows_are_said_to_be_no_evidence():
    actual, forecast, last, _ = best_forecast(0.5, 29, 1, seed=0)
    text = sentence(compare(actual, {NAIVE: last, "model": forecast})[1])
    assert NO_EVIDENCE in text and "too few test rows" in text
