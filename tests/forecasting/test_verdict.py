"""What the test set allows to be said: sentences and tables, and simulations whose truth is known."""

import io
import math
import re
from itertools import product

import numpy as np
import pytest
from forecasts import ACTUAL, FORECAST, LAST, best_forecast
from pairwise import slow_except
from rich.console import Console

from jaxseq.common.errors import UsageError
from jaxseq.data.aapl import Prices
from jaxseq.data.folds import split_rows
from jaxseq.data.windows import cut
from jaxseq.forecasting import significance, verdict
from jaxseq.forecasting.baselines import NAIVE, drift, naive
from jaxseq.forecasting.confidence import SkillInterval, skill_interval
from jaxseq.forecasting.lag_one import LagOne, lag_one_copy
from jaxseq.forecasting.least_squares import least_squares
from jaxseq.forecasting.losses import Rows, Scales, pair_losses
from jaxseq.forecasting.metrics import mae, relative_mse, rmse
from jaxseq.forecasting.significance import diebold_mariano
from jaxseq.forecasting.verdict import (
    Row,
    answer,
    copy_sentence,
    detectable_skill,
    format_error,
    headings,
    markdown,
    ranking_sentence,
    series_sentence,
    signed,
)

COLUMNS = headings("USD", scaled=False)


def compare(actual, forecasts, seed=0, times=None, series=None):
    """The rows of a comparison with the last value."""
    return verdict.compare(actual, forecasts, NAIVE, rows=Rows(times, series), seed=seed).rows


def sentence(row):
    return verdict.sentence(row, NAIVE)


def test_on_a_random_walk_a_fitted_forecast_is_almost_never_called_an_improvement():
    said = 0
    for seed in range(100):
        values = np.cumsum(np.random.default_rng(seed).standard_normal(700))
        whole = np.lib.stride_tricks.sliding_window_view(values, 11)
        x, y, last = whole[:, :10] - whole[:, 9:10], whole[:, 10:] - whole[:, 9:10], whole[:, 9:10]
        forecast = last + least_squares(x[:400], y[:400]).predict(x)
        rows = compare(whole[400:, 10:], {NAIVE: last[400:], "least squares": forecast[400:]}, seed)
        said += answer(rows[1]) == "no evidence"
    assert said >= 90


@pytest.mark.slow
def test_forecasts_that_move_at_random_are_almost_never_called_an_improvement():
    said = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        last = np.cumsum(rng.standard_normal((300, 1)), axis=0)
        actual, forecast = (last + scale * rng.standard_normal((300, 1)) for scale in (1.0, 0.05))
        said += answer(compare(actual, {NAIVE: last, "model": forecast}, seed)[1]) == "no evidence"
    assert said >= 90


def test_planted_skill_is_found_and_planted_harm_is_called_worse():
    found = worse = 0
    for seed in range(40):
        actual, forecast, last, _ = best_forecast(0.5, 491, 1, seed)
        found += answer(compare(actual, {NAIVE: last, "m": forecast})[1]) == "improves"
        away = 2 * last - forecast
        text = sentence(compare(actual, {NAIVE: last, "m": away})[1])
        worse += "no evidence of improvement over the last value: it is worse" in text
    assert found >= 38
    assert worse >= 38


def row(low, high):
    return Row("GRU", (1.0, 0.5), 0.9, SkillInterval(low, high, blocks=12))


def test_only_an_interval_wholly_above_zero_is_called_an_improvement():
    assert sentence(row(0.02, 0.18)) == (
        "GRU: improves on the last value: skill +0.1000 (95 % interval +0.0200 to +0.1800)"
    )
    for low, high in [(-0.02, 0.18), (0.0, 0.18), (-0.2, -0.1)]:
        assert answer(row(low, high)) == "no evidence"
        assert "no evidence of improvement over the last value" in sentence(row(low, high))
    assert "worse" in sentence(row(-0.2, -0.1))
    assert "worse" not in sentence(row(-0.2, 0.1))


def test_without_evidence_the_sentence_says_what_would_have_shown():
    assert sentence(row(-0.02, 0.18)).endswith("; a skill of +0.1200 would have shown")
    worse = Row("GRU", (1.0, 0.5), 4.0, SkillInterval(-5.0, 0.5, blocks=12))  # a skill of -3, 2 above its lower end
    assert detectable_skill(worse) == pytest.approx(0.5)


def test_what_could_not_have_shown_is_not_decided():
    few = SkillInterval(math.nan, math.nan, blocks=1, needed=40, windows=25, horizon=12)
    unknown = Row("GRU", (1.0, 0.5), 0.9, few)
    assert answer(unknown) == "not decided"
    # The first of 25 windows and those 12 and 24 later; the first of 40, and 12, 24 and 36 later.
    words = "the test part has 3 windows without overlap, about 4 would be needed"
    assert sentence(unknown) == f"GRU: not decided against the last value: skill +0.1000; {words}"
    wide = row(-1.9, 0.9)._replace(interval=SkillInterval(-1.9, 0.9, blocks=12, windows=30))
    assert answer(wide) == "not decided"
    assert sentence(wide).endswith("the test part has 30 windows without overlap, about 121 would be needed")  # 30 · 2²
    endless = row(-math.inf, 0.9)._replace(interval=SkillInterval(-math.inf, 0.9, blocks=12, windows=30))
    assert sentence(endless).endswith("has 30 windows without overlap, too few for any skill to show")
    assert answer(row(-3.0, -0.9)) == "no evidence", "it is worse, and that did show"


def test_about_as_many_windows_as_a_verdict_asks_for_decide():
    """Errors with heavy tails, as large again as those of the reference."""
    decided = undecided = 0
    for seed in range(20):
        random = np.random.default_rng(seed)

        def at(n, random=random):
            actual, off = random.standard_t(4, (n, 1)), 2 * random.standard_t(4, (n, 1))
            return compare(actual, {NAIVE: np.zeros((n, 1)), "m": off})[1]

        few = at(20)
        needed = re.search(r"about ([\d,]+) would be needed", sentence(few))
        assert (needed is not None) == (answer(few) == "not decided")
        if needed is not None:
            undecided += 1
            decided += answer(at(int(needed[1].replace(",", "")))) != "not decided"
    assert undecided >= 10 and decided >= 0.5 * undecided, (decided, undecided)


@pytest.mark.parametrize("k", [1, 3, 12])
@pytest.mark.parametrize("n", [2, 8, 30, 150, 600])
def test_a_perfect_forecast_never_has_no_evidence(n, k):
    actual, _, last, _ = best_forecast(0.8, n, k, seed=0)
    model = compare(actual, {NAIVE: last, "m": actual})[1]
    assert answer(model) == ("not decided" if math.isnan(model.interval.low) else "improves")
    assert "no evidence" not in sentence(model)


def test_a_reference_that_is_exact_cannot_be_improved_on():
    actual, forecast, last, _ = best_forecast(0.5, 100, 1, seed=0)
    found = verdict.compare(actual, {NAIVE: last, "exact": actual, "m": forecast}, "exact")
    assert answer(found.model) == "no evidence" and found.model.skill == -math.inf
    assert "as good as a forecast can be" in verdict.sentence(found.model, "exact")
    assert "inf" in markdown(found.rows, COLUMNS)


def test_a_reference_that_is_exact_but_for_rounding_leaves_sentences_and_table_readable():
    actual, forecast, last, _ = best_forecast(0.5, 100, 1, seed=0)
    found = verdict.compare(actual, {NAIVE: last, "exact": actual + 1e-14, "m": forecast}, "exact")
    assert found.model.skill < -1e20
    texts = [
        verdict.sentence(found.model, "exact"),
        ranking_sentence(found, verdict.compare(actual, {NAIVE: last, "m": forecast}, NAIVE)),
    ]
    assert all(len(number) < 12 for text in texts for number in re.findall(r"[-+]?[\d.]+(?:e[-+]\d+)?", text))
    assert "0.0000 of the model's" not in texts[1]
    terminal = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    terminal.print(verdict.score_table(found.rows, headings("", scaled=False), "AAPL"))
    assert "…" not in terminal.file.getvalue()


def test_a_comparison_starts_with_the_reference_at_skill_zero_and_ends_with_the_model():
    actual, forecast, last, _ = best_forecast(0.5, 100, 2, seed=0)
    other = 0.5 * (forecast + last)
    found = verdict.compare(actual, {NAIVE: last, "b": other, "a": forecast}, "b", seed=1)
    assert [row.name for row in found.rows] == ["b", NAIVE, "a"]
    assert found.reference.skill == 0 and found.reference.relative_loss == 1 and found.reference.interval is None
    assert found.model.errors[0] == rmse(actual, forecast) and found.model.errors[1] == mae(actual, forecast)
    assert found.model.interval.low < found.model.skill < found.model.interval.high
    assert found.model.relative_loss == pytest.approx(relative_mse(actual, forecast, other))


def test_the_seed_of_a_comparison_is_that_of_its_intervals():
    actual, forecast, last, _ = best_forecast(0.5, 100, 1, seed=0)
    found = compare(actual, {NAIVE: last, "model": forecast}, seed=3)[1]
    assert found.interval == skill_interval(pair_losses(actual, forecast, last), seed=3)
    assert found != compare(actual, {NAIVE: last, "model": forecast}, seed=4)[1]


def test_p_values_of_baselines_are_adjusted_for_their_number_and_that_of_the_model_is_not():
    actual, forecast, last, _ = best_forecast(0.5, 100, 1, seed=0)
    random = np.random.default_rng(0)
    others = {name: forecast + 0.3 * random.standard_normal(actual.shape) for name in "xyz"}
    rows = compare(actual, {NAIVE: last, **others, "model": forecast})
    alone = [compare(actual, {NAIVE: last, name: values})[1].p_value for name, values in others.items()]
    assert min(row.p_value for row in rows[1:4]) == pytest.approx(3 * min(alone))
    assert rows[4].p_value == diebold_mariano(pair_losses(actual, forecast, last)).p_value


def test_beside_the_verdict_stand_the_last_value_and_the_best_of_all():
    actual, forecast, last, _ = best_forecast(0.5, 200, 1, seed=0)
    half = 0.5 * (forecast + last)
    found = verdict.compare(actual, {NAIVE: last, "b": forecast, "m": half}, "b")
    text = ranking_sentence(found, verdict.compare(actual, {NAIVE: last, "m": half}, NAIVE))
    ratio = relative_mse(actual, forecast, half)
    assert f"the smallest MSE on the test part has b, {ratio:.4f} of the model's" in text
    assert f"against the last value its skill is {1 - relative_mse(actual, half, last):+.4f} (" in text
    best = verdict.compare(actual, {NAIVE: last, "m": forecast}, NAIVE, loss="absolute")
    assert ranking_sentence(best, None) == "m: its MAE is the smallest of all on the test part"
    assert best.model.relative_loss == pytest.approx(mae(actual, forecast) / mae(actual, last))


@pytest.mark.parametrize(("loss", "column", "heading"), [("squared", "RMSSE", "RMSSE²"), ("absolute", "MASE", "MASE")])
def test_the_words_on_a_panel_are_those_of_its_columns(loss, column, heading):
    actual, forecast, last, times, series = panel(0.0, series=12, dates=100)
    rows = Rows(times, series, Scales(np.full(len(times), 2.0), np.full(len(times), 4.0)))
    found = verdict.compare(actual, {NAIVE: last, "b": 0.5 * actual, "m": forecast}, NAIVE, rows=rows, loss=loss)
    titles = headings("USD", scaled=True, loss=loss)
    assert column in titles and titles[2] == f"{heading} / reference"
    best, model = (row.errors[0] if loss == "squared" else row.errors[1] for row in found.rows[1:])
    text = ranking_sentence(found, None)
    assert text == f"m: the smallest {column} on the test part has b, {best / model:.4f} of the model's"
    alone = verdict.compare(actual, {NAIVE: last, "m": 0.5 * actual}, NAIVE, rows=rows, loss=loss)
    assert ranking_sentence(alone, None) == f"m: its {column} is the smallest of all on the test part"


def test_a_comparison_without_its_reference_or_with_a_value_that_is_not_finite_is_refused():
    with pytest.raises(UsageError) as error:
        verdict.compare(ACTUAL, {"GRU": FORECAST}, NAIVE)
    assert (error.value.where, error.value.got, error.value.needed) == ("reference", NAIVE, "GRU")
    with pytest.raises(UsageError, match="GRU: 1 of 4 values are not finite, the first in row 2"):
        compare(ACTUAL, {NAIVE: LAST, "GRU": np.array([[1.0, 2.0], [np.nan, 0.0]])})


def test_the_table_has_the_unit_and_a_dash_where_there_is_no_interval_or_test():
    rows = [
        Row(NAIVE, (1.2098, 0.8), 1.0, None),
        row(0.02, 0.18),
        row(0.02, 0.18)._replace(p_value=0.0041),
        row(0.02, 0.18)._replace(p_value=0.00049),
        Row("few", (1.0, 0.5), 0.9, SkillInterval(math.nan, math.nan, 1, 9)),
    ]
    lines = markdown(rows, COLUMNS).split("\n")
    assert lines[0] == "| forecast | RMSE, USD | MAE, USD | MSE / reference | skill | 95 % interval | p |"
    assert lines[2].startswith("| naive (last value) (reference) | 1.2098 | 0.8000 | 1.0000 | 0 | \N{EN DASH} |")
    assert lines[3] == "| GRU | 1.0000 | 0.5000 | 0.9000 | +0.1000 | +0.0200 to +0.1800 | \N{EN DASH} |"
    assert lines[4].endswith("| +0.0200 to +0.1800 | 0.004 |")
    assert lines[5].endswith("| +0.0200 to +0.1800 | <0.001 |")
    assert lines[6].endswith("| +0.1000 | \N{EN DASH} | \N{EN DASH} |")
    assert len({line.count("|") for line in lines}) == 1
    far = Row("far", (2.6380557e91, 1e90), 1.0, SkillInterval(-0.1, 0.1, 12))
    shown = Console(file=io.StringIO(), width=120)
    shown.print(verdict.score_table([*rows, far], headings("", scaled=False), "AAPL"))
    on_screen = shown.file.getvalue()
    assert "+0.0200 +0.1800 <0.001" in on_screen and "2.638e+91" in on_screen, "the screen says the same"
    assert "| !\\[a\\](b) |" in markdown([row(0.0, 0.0)._replace(name="![a](b)")], ("RMSE", "MAE", "MSE"))
    assert "RMSSE | MASE | MASE / reference |" in markdown(
        [row(0.0, 0.0)], headings("USD", scaled=True, loss="absolute")
    )


def test_no_digit_is_cut_on_a_terminal_of_80_columns():
    names = [NAIVE, "naive (same season), period 252", "exponential smoothing", "lstm (epoch 100)"]
    interval = SkillInterval(-10.1234, -0.1234, 12)
    rows = [Row(name, (1234.5678, 1034.5678), 10.1234, interval, 0.0001) for name in names]
    terminal = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    terminal.print(verdict.score_table(rows, headings("", scaled=False), "AAPL"))
    on_screen = terminal.file.getvalue()
    numbers = "1234.5678 1034.5678 10.1234 -9.1234 -10.1234 -0.1234 <0.001"
    assert sum(" ".join(line.split()).endswith(numbers) for line in on_screen.splitlines()) == 4
    assert "…" not in on_screen and all(len(line) <= 80 for line in on_screen.splitlines())


def test_no_zero_is_negative_in_a_table_or_a_sentence():
    tiny = Row("m", (1.0, 0.5), 1 + 1e-6, SkillInterval(-2e-6, -1e-6, 12))
    texts = [
        sentence(tiny),
        sentence(tiny._replace(interval=SkillInterval(-1e-6, 1e-6, 12))),
        markdown([tiny, tiny._replace(errors=(-0.0, 0.5))], COLUMNS),
        copy_sentence("m", LagOne(movement=0.1, change_correlation=-1e-5, chance_correlation=0.1)),
    ]
    assert all("+0.000" in text and "-0.000" not in text for text in texts), texts
    assert signed(-0.00004) == signed(0.0) == "+0.0000" and signed(-0.00006) == "-0.0001"


def test_a_table_leaves_out_baselines_far_worse_than_the_reference_and_says_so():
    actual, forecast, last, _ = best_forecast(0.5, 100, 1, seed=0)
    forecasts = {NAIVE: last, "near": last + 1, "mean": last + 50, "b": forecast, "m": last - 99}
    found = verdict.compare(actual, forecasts, "b")
    rows, omitted = verdict.shown(found)
    assert [row.name for row in rows] == ["b", NAIVE, "near", "m"] and omitted == ["mean"]
    words = "not shown, with more than 10 times the reference's MSE: mean; see scores.csv"
    assert verdict.omission_sentence(found, "scores.csv") == words
    near = verdict.compare(actual, {NAIVE: last, "m": forecast}, NAIVE)
    assert verdict.omission_sentence(near, "scores.csv") is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.20984, "1.2098"),
        (0.0, "0.0000"),
        (-0.0, "0.0000"),
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
    assert format_error(value) == text


def test_small_errors_are_not_nothing_in_the_table():
    assert markdown([Row("model", (1.5e-5, 1.2e-5), 1.0, SkillInterval(-0.1, 0.1, 12))], COLUMNS).endswith(
        "| model | 1.5e-05 | 1.2e-05 | 1.0000 | +0.0000 | -0.1000 to +0.1000 | \N{EN DASH} |"
    )


def test_a_comparison_has_the_p_value_of_the_test_against_the_last_value():
    actual, forecast, last, _ = best_forecast(0.5, 100, 2, seed=0)
    rows = compare(actual, {NAIVE: last, "model": forecast})
    assert math.isnan(rows[0].p_value)
    assert rows[1].p_value == diebold_mariano(pair_losses(actual, forecast, last)).p_value < 0.05


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
    assert rows[0].errors[0] == pytest.approx(1.2098, abs=5e-5)
    assert rows[1].relative_loss == pytest.approx(known, abs=2e-3)
    assert answer(rows[1]) == "no evidence"
    assert lag_one_copy(windows.targets, forecast, last[:, 0]).copies


def test_on_apple_drift_does_not_differ_from_the_last_value():
    train, windows = apple()
    forecast = drift(windows, train)
    assert relative_mse(windows.targets, forecast, naive(windows)) == pytest.approx(0.9998, abs=5e-5)
    assert answer(compare(windows.targets, {NAIVE: naive(windows), "drift": forecast})[1]) == "no evidence"


def test_nothing_is_said_of_copies_where_no_correlation_could_pass_chance():
    actual, forecast, last, _ = best_forecast(0.5, 40, 12, seed=0)
    assert copy_sentence("m", lag_one_copy(actual, forecast, last[:, 0])) is None
    actual, forecast, last, _ = best_forecast(0.5, 60, 12, seed=0)
    assert copy_sentence("m", lag_one_copy(actual, forecast, last[:, 0])) is not None


def panel(share, series=30, dates=100, seed=0):
    """Two equally good forecasts of many series, which have this share of their variance in common; and the places."""
    random = np.random.default_rng(seed)

    def draw():
        own = random.standard_normal((series, dates))
        return np.sqrt(share) * random.standard_normal(dates) + np.sqrt(1 - share) * own

    moves = draw()
    forecast = 0.1 * moves + np.sqrt(0.19) * draw()  # mean squares 0.9² + 0.19 and 1
    arrays = (values.reshape(-1, 1) for values in (moves, forecast, np.zeros_like(moves)))
    return *arrays, np.tile(np.arange(dates), series), np.repeat(np.arange(series), dates)


@pytest.mark.parametrize(
    ("dates", "share"), slow_except({(6, 0.5), (6, 1.0), (100, 1.0)}, list(product((6, 100), (0.0, 0.5, 1.0))))
)
def test_series_that_share_their_shocks_are_not_many_proofs_of_one_thing(share, dates):
    by_row, by_date = [], []
    for seed in range(60):
        actual, forecast, last, times, series = panel(share, dates=dates, seed=seed)
        row = compare(actual, {NAIVE: last, "model": forecast}, seed, times, series)[1]
        by_date.append(row.interval.low > 0)
        by_row.append(diebold_mariano(pair_losses(actual, forecast, last)).p_value < 0.05)
    assert np.mean(by_date) <= 0.05
    assert np.mean(by_row) > 0.3 or share < 1


def test_skill_in_many_series_is_still_found():
    actual, forecast, last, times, series = panel(0.5)
    better = compare(actual, {NAIVE: last, "model": 0.5 * forecast + 0.2 * actual}, 0, times, series)[1]
    assert answer(better) == "improves" and better.p_value < 0.001


def test_skill_in_all_of_many_series_is_found_in_few_dates():
    actual, _, last, times, series = panel(0.0, series=100, dates=8)
    better = compare(actual, {NAIVE: last, "model": 0.7 * actual}, 0, times, series)[1]
    assert answer(better) == "improves" and better.interval.blocks < 10


def test_one_date_is_decided_for_its_many_series_alone_and_the_sentence_says_so():
    actual, _, last, times, series = panel(0.0, series=200, dates=1)
    row = compare(actual, {NAIVE: last, "model": 0.5 * actual}, 0, times, series)[1]
    assert answer(row) == "improves" and (row.interval.series, row.interval.blocks) == (200, 1)
    assert sentence(row).startswith(
        "model: improves on the last value at one stretch of time: skill +0.7500 (95 % interval "
    )
    assert sentence(row).endswith(" over 200 series)")


def test_one_date_of_few_series_or_of_very_different_ones_is_not_decided():
    actual, _, last, times, series = panel(0.0, series=9, dates=1)
    few = compare(actual, {NAIVE: last, "model": 0.5 * actual}, 0, times, series)[1]
    assert answer(few) == "not decided" and few.interval.needed > 1
    actual, _, last, times, series = panel(0.0, series=12, dates=1)
    actual[3] *= 100
    uneven = compare(actual, {NAIVE: last, "model": 0.5 * actual}, 0, times, series)[1]
    assert answer(uneven) == "not decided"
    assert "the test part has 12 series at one stretch of time, about 44 would be needed" in sentence(uneven)


def test_series_add_to_the_spread():
    """Half of the series are forecast well and half are not: which ones there are decides the skill."""
    actual, _, last, times, series = panel(0.0, series=20, dates=200)
    forecast = np.where(series[:, None] % 2, 0.9 * actual, -0.8 * actual)
    whole = compare(actual, {NAIVE: last, "model": forecast}, 0, times, series)[1].interval
    fixed = compare(actual, {NAIVE: last, "model": forecast}, 0, times * 20 + series)[1].interval
    assert whole.high - whole.low > 5 * (fixed.high - fixed.low)


def test_a_series_in_a_large_unit_does_not_outweigh_the_others():
    actual, _, last, times, series = panel(0.0, series=12, dates=100)
    unit = np.where(series == 0, 1e6, 1.0)[:, None]
    forecast = np.where(series[:, None] == 0, 0.9, -0.5) * actual  # only the series in a large unit is forecast well
    scale = unit[:, 0]
    rows = Rows(times, series, Scales(scale, scale**2))
    arrays = (unit * actual, {NAIVE: last, "m": unit * forecast}, NAIVE)
    scaled = verdict.compare(*arrays, rows=rows).model
    raw = verdict.compare(*arrays, rows=Rows(times, series)).model
    assert verdict.compare(*arrays, rows=rows).scaled and not verdict.compare(*arrays, rows=Rows(times, series)).scaled
    assert raw.skill > 0.9 and scaled.skill < 0
    assert scaled.errors[0] == pytest.approx(rmse(actual, forecast)) and scaled.errors[1] == pytest.approx(
        mae(actual, forecast)
    )


def test_the_order_of_rows_that_have_times_does_not_count_and_that_of_one_series_changes_nothing():
    actual, forecast, last, times, series = panel(0.5)
    mixed = np.random.default_rng(1).permutation(len(times))
    one, other = (
        compare(actual[rows], {NAIVE: last[rows], "model": forecast[rows]}, 0, times[rows], series[rows])[1]
        for rows in (np.arange(len(times)), mixed)
    )
    assert one.interval == pytest.approx(other.interval, rel=1e-9)
    actual, forecast, last, _ = best_forecast(0.5, 80, 2, seed=0)
    plain, dated = (compare(actual, {NAIVE: last, "model": forecast}, 3, t)[1] for t in (None, np.arange(80)))
    assert plain.interval == pytest.approx(dated.interval, rel=1e-9) and plain.p_value == pytest.approx(dated.p_value)


def test_the_series_that_improve_are_counted():
    actual, _, last, times, series = panel(0.0, series=10, dates=50)
    forecast = np.where(series[:, None] < 8, 0.5 * actual, -actual)
    found = verdict.compare(actual, {NAIVE: last, "m": forecast}, NAIVE, rows=Rows(times, series))
    tests = significance.series_tests(found.losses)
    assert "m: 8 of 10 series improve (80%;" in series_sentence("m", tests)


def test_an_improvement_on_a_weak_reference_does_not_count_where_the_last_value_is_as_good():
    """The reference is far off, the model is the last value with noise."""
    random = np.random.default_rng(0)
    last = random.standard_normal((400, 1)).cumsum(axis=0)
    actual = last + random.standard_normal((400, 1))
    model = last + 0.2 * random.standard_normal((400, 1))
    found = verdict.compare(actual, {NAIVE: last, "weak": last + 5, "m": model}, "weak")
    beside = verdict.compare(actual, {NAIVE: last, "m": model}, NAIVE)
    assert answer(found.model) == "improves"
    assert verdict.deciding_comparison(found, beside) is beside
    assert verdict.deciding_comparison(found, None) is found
    good = verdict.compare(actual, {NAIVE: last, "m": 0.5 * (actual + last)}, NAIVE)
    assert verdict.deciding_comparison(found, good) is found
