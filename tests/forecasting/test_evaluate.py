"""The verdict: skill where there is some and none where there is none, and intervals that cover what they promise."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from forecasts import autoregression
from pairwise import slow_except

from jaxseq.common.errors import UsageError
from jaxseq.data.dataset import Background, Dataset
from jaxseq.data.frequency import describe
from jaxseq.data.keys import Keys
from jaxseq.data.laid_out import batch
from jaxseq.data.panel import Panel
from jaxseq.data.scaling import Scaling
from jaxseq.data.uncut import WindowSplits
from jaxseq.data.waves import Waves
from jaxseq.data.windows import Series, lay_out
from jaxseq.forecasting import baselines, evaluate, intervals
from jaxseq.forecasting.baselines import NAIVE, naive
from jaxseq.forecasting.evaluate import naive_loss
from jaxseq.forecasting.intervals import Forecast
from jaxseq.forecasting.least_squares import least_squares
from jaxseq.forecasting.predictions import frame, target_times
from jaxseq.forecasting.verdict import answer

LEVELS = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)


def judge(name, dataset, *, test, valid, seed, choice="split", **settings):
    """The judgement of forecasts of the test part, with intervals that are fitted to those of the validation part."""
    calibrated = evaluate.calibrate(dataset, valid, choice)
    return evaluate.judge(name, dataset, evaluate.Entry(test, calibrated), seed=seed, **settings)


def panel(*values, frequency="B"):
    dates = np.datetime64("2020-01-01") + np.arange(max(map(len, values))).astype("timedelta64[D]")
    names = tuple(f"series {n}" for n in range(len(values)))
    return Panel(names, tuple(Series(dates[: len(v)], np.asarray(v, float)) for v in values), describe(frequency))


def random_walk(n, seed=0):
    return 100 + np.cumsum(np.random.default_rng(seed).standard_normal(n))


def part(inputs, targets, series=None):
    return lay_out(inputs, targets, series=series)


def noise(n, seed=0, k=1, spread=1.0):
    """Rows whose targets are noise about 0, in a scale of their own."""
    random = np.random.default_rng(seed)
    return part(random.normal(size=(n, 4)), spread * random.normal(size=(n, k)))


PLAIN = Scaling("level", (0.0,), (1.0,))
NOBODY = Background(("noise",), period=1)


def noise_data(valid, test, train=None, background=NOBODY):
    """Rows of noise as a data set; training rows, where none are given, are those of the validation part."""
    return Dataset(WindowSplits(valid if train is None else train, valid, test), PLAIN, background)


def of_noise(valid, test, forecast=lambda part: Forecast(np.zeros_like(part.targets))):
    """The judgement of a forecast that is calibrated on some rows of noise and tested on others."""
    return judge("it", noise_data(valid, test), test=forecast(test), valid=forecast(valid), seed=0)


def judged(data, horizon, model, kind="change", window=10, targets=lambda part: part.targets):
    """A panel, judged with a forecast for each part that `model` makes from scaling and windows."""
    dataset = data.load(kind, window, horizon)
    windows = WindowSplits(*(part._replace(targets=targets(part)) for part in dataset.windows))
    forecast = model(dataset.scaling, windows)
    return judge(
        "it", dataset._replace(windows=windows), test=forecast(windows.test), valid=forecast(windows.valid), seed=0
    )


def linear(scaling, windows):
    """A model that learns: least squares on the lags."""
    learnt = least_squares(*batch(windows.train, scaling))
    return lambda part: Forecast(learnt.predict(scaling.inputs(part)))


def shuffled(seed):
    """Changes from the last value that follow some other window."""

    def targets(part):
        last = part.inputs[:, -1:]
        return last + np.random.default_rng(seed).permutation(part.targets - last)

    return targets


def noisy(seed):
    """A model that moves at random."""

    def made(scaling, windows):
        random = np.random.default_rng(seed)
        return lambda part: Forecast(0.1 * random.standard_normal(part.targets.shape))

    return made


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("model", [linear, noisy(7)], ids=["learnt", "noise"])
def test_on_a_random_walk_there_is_no_evidence(model, seed):
    found = judged(panel(random_walk(1500, seed)), 1, model)
    assert answer(found.comparison.model) == "no evidence"
    assert found.verdict.startswith("it: no evidence of improvement over ")


def test_windows_in_time_overlap_by_the_times_of_their_targets_where_they_are_strided():
    times = np.arange(0, 40, 4)[:, None] + np.arange(10)
    assert evaluate.overlapping_windows(times, 1) is None
    assert evaluate.overlapping_windows(times, 4) == 3
    # Those of another series that begins a step later lie between them.
    assert evaluate.overlapping_windows(np.concatenate([times, times + 1]), 4) == 6
    assert evaluate.overlapping_windows(times[:1], 4) == 3, "more windows would overlap so"
    days = np.datetime64("2020-01-01") + times.astype("timedelta64[D]")
    assert evaluate.overlapping_windows(days, 4) == 3


@pytest.mark.parametrize("horizon", [1, 3])
def test_what_can_be_learnt_is_found_and_with_shuffled_targets_there_is_no_evidence(horizon):
    data = panel(autoregression(0.5, 2000, seed=3))
    found = judged(data, horizon, linear)
    assert "it: against the last value its skill is +0." in found.remarks[0]
    rows = {row.name: row for row in found.comparison.rows}
    lags = rows["least squares on the lags"]  # the same, and so the model is no better
    assert found.comparison.model.errors[0] == pytest.approx(lags.errors[0], rel=1e-4)
    assert found.comparison.reference.name == "least squares on the levels"
    assert found.comparison.reference.errors[0] < lags.errors[0] and answer(found.comparison.model) == "no evidence"
    for seed in range(3):
        assert answer(judged(data, horizon, linear, targets=shuffled(seed)).comparison.model) == "no evidence"


def test_the_reference_is_the_best_baseline_of_the_validation_part_and_the_test_part_has_no_say():
    random = np.random.default_rng(0)
    walk = 10 * random_walk(1000)
    dataset = panel(walk, frequency="D").load("change", 10, 1)
    chosen = evaluate.choose_reference(dataset)
    valid = dataset.windows.valid
    losses = {
        name: np.mean((valid.targets - values) ** 2) for name, values in baselines.forecast_all(dataset, valid).items()
    }
    assert chosen == min(losses, key=losses.get) and chosen != "training mean"
    noise_dataset = panel(random.standard_normal(1000), frequency="D").load("change", 10, 1)
    assert evaluate.choose_reference(noise_dataset) in ("training mean", "expanding mean")
    mixed = dataset.windows._replace(test=noise_dataset.windows.test)
    assert evaluate.choose_reference(dataset._replace(windows=mixed)) == chosen


def test_the_reference_of_counts_that_are_mostly_zero_may_differ_by_the_loss():
    random = np.random.default_rng(0)
    counts = random.poisson(5, 1000) * (random.uniform(size=1000) < 0.3)
    dataset = panel(counts.astype(float), frequency="D").load("change", 10, 1)
    assert "mean" in evaluate.choose_reference(dataset, loss="squared")
    found = judge(
        "it",
        dataset,
        test=Forecast(dataset.scaling.targets(dataset.windows.test._replace(targets=np.zeros((150, 1))))),
        valid=Forecast(np.zeros((150, 1))),
        seed=0,
        loss="absolute",
    )
    assert answer(found.comparison.model) == "improves", "the median is 0, and no baseline forecasts it"
    assert found.comparison.loss == "absolute" and "MAE" in found.remarks[0]


def test_on_waves_the_skill_is_found_and_the_forecast_is_no_copy():
    dataset = Waves(count=600).load(1)
    windows = dataset.windows
    forecast = linear(dataset.scaling, windows)
    found = judge("it", dataset, test=forecast(windows.test), valid=forecast(windows.valid), seed=0)
    assert found.comparison.reference.name == "least squares on the lags"
    assert "its skill is +0.8" in found.remarks[0]
    assert "it: does not only copy the last value" in found.remarks[-1]


def test_a_copy_of_the_last_value_is_called_one():
    def still(scaling, windows):
        return lambda part: Forecast(np.full_like(part.targets, 1e-9))

    found = judged(panel(random_walk(400)), 1, still)
    assert "it: only copies the last value" in found.remarks[-1]


def covered(found):
    return {row.level: row.measured for row in found.coverage if row.step is None}


VALID, TEST = 4000, 8000


def tolerance(level):
    """Four standard deviations of the measured share, which both parts add to."""
    return 4 * np.sqrt(level * (1 - level) * (1 / VALID + 1 / TEST))


@pytest.mark.parametrize("spread", slow_except({5.0}, [0.01, 5.0]))
def test_intervals_round_a_point_forecast_cover_what_they_promise(spread):
    found = of_noise(noise(VALID, 0, spread=spread), noise(TEST, 1, spread=spread))
    assert set(covered(found)) == set(intervals.LEVELS)
    for level, measured in covered(found).items():
        assert measured == pytest.approx(level, abs=tolerance(level))


def test_each_step_of_the_horizon_is_covered_by_an_interval_of_its_own_width():
    valid, test = noise(VALID, 0, k=3), noise(TEST, 1, k=3)
    valid, test = (p._replace(targets=p.targets * [1, 5, 20]) for p in (valid, test))
    steps = [row for row in of_noise(valid, test).coverage if row.step is not None]
    for row in steps:
        truth = scipy.stats.norm(0, [1, 5, 20][row.step - 1]).interval(row.level)
        assert row.measured == pytest.approx(row.level, abs=tolerance(row.level))
        assert row.width == pytest.approx(truth[1] - truth[0], rel=0.05)
    assert len(steps) == 9


@pytest.mark.parametrize("claimed", slow_except({0.2}, [0.2, 1.0, 6.0]))
def test_intervals_of_a_distribution_cover_what_they_promise_however_wrong_its_width(claimed):
    quantiles = claimed * scipy.stats.norm.ppf(LEVELS)

    def forecast(part):
        still = np.zeros_like(part.targets)
        return Forecast(still, still[..., None] + quantiles, LEVELS)

    found = of_noise(noise(VALID, 0), noise(TEST, 1), forecast)
    for level, measured in covered(found).items():
        assert measured == pytest.approx(level, abs=tolerance(level))


@pytest.mark.parametrize(("rows", "missing"), [(19, ""), (18, "95%"), (4, "95%"), (3, "80%, 95%"), (1, "80%, 95%")])
def test_levels_that_the_validation_rows_are_too_few_for_are_left_out_and_named(rows, missing):
    found = of_noise(noise(rows), noise(100, 1))
    assert found.notes == ((f"no {missing} intervals: {rows} validation rows are too few for them",) if missing else ())
    kept = [f"{level:.0%}" for level in intervals.LEVELS if f"{level:.0%}" not in missing]
    assert [name for name in found.predictions if name.startswith("low")] == [f"low_{level}" for level in kept]
    assert [f"{row.level:.0%}" for row in found.coverage if row.step is None] == kept


def two_series(horizon=2):
    """Two series of their own height, spread and drift."""
    data = panel(random_walk(200), 5000 + 30 * random_walk(300, 1), frequency="D")
    dataset = data.load("change", 8, horizon)
    windows = dataset.windows
    model = noisy(3)(dataset.scaling, windows)
    found = judge("it", dataset, test=model(windows.test), valid=model(windows.valid), seed=0)
    return data, windows, found


def test_scores_are_of_every_forecast_and_step_the_naive_first_and_the_model_last():
    data, windows, found = two_series()
    scores, actual = found.scores, windows.test.targets
    names = [*baselines.forecast_all(data.load("change", 8, 2), windows.test), "it"]
    assert names[0] == NAIVE and "seasonal naive (7)" in names
    reference = found.comparison.reference.name
    assert [row.name for row in found.comparison.rows] == [reference, *(name for name in names if name != reference)]
    roles = found.scores.drop_duplicates("forecast").set_index("forecast")["role"]
    assert roles[reference] == "reference" and roles["it"] == "model" and (roles == "baseline").sum() == len(names) - 2
    assert scores["forecast"].tolist() == [name for name in names for _ in range(3)]
    assert scores["step"].tolist() == ["all", 1, 2] * len(names)
    error = actual - naive(windows.test)
    np.testing.assert_allclose(scores["mse"][:3], [np.mean(error**2), *np.mean(error**2, axis=0)])
    np.testing.assert_allclose(scores["rmse"], np.sqrt(scores["mse"]))
    np.testing.assert_allclose(scores["mae"][:3], [np.mean(np.abs(error)), *np.mean(np.abs(error), axis=0)])
    ours = actual - found.predictions["forecast"].to_numpy().reshape(-1, 2)
    np.testing.assert_allclose(scores["rmse"].iloc[-3], np.sqrt(np.mean(ours**2)))


def test_scaled_errors_are_by_each_series_own_seasonal_change_in_training():
    data, windows, found = two_series()
    rows = [series.values[: int(0.7 * len(series.values))] for series in data.series]
    absolute = np.array([np.mean(np.abs(v[7:] - v[:-7])) for v in rows])[windows.test.series][:, None]
    squared = np.array([np.mean((v[7:] - v[:-7]) ** 2) for v in rows])[windows.test.series][:, None]
    error = windows.test.targets - naive(windows.test)
    np.testing.assert_allclose(found.scores["mase"][1], np.mean(np.abs(error[:, :1]) / absolute))
    np.testing.assert_allclose(found.scores["rmsse"][2], np.sqrt(np.mean(error[:, 1:] ** 2 / squared)))


def test_without_training_rows_there_are_no_scaled_errors_and_a_constant_series_is_noted():
    assert not {"mase", "rmsse"} & set(of_noise(noise(50), noise(60, 1)).scores)
    valid, test = noise(50), noise(60, 1)
    background = Background(
        ("sound", "flat"),
        period=1,
        series=tuple(Series(np.arange(30), values) for values in (random_walk(30), np.full(30, 0.1))),
        training_rows=(30, 30),
    )
    still = {name: Forecast(np.zeros_like(p.targets)) for name, p in (("test", test), ("valid", valid))}
    found = judge("it", noise_data(valid, test, background=background), **still, seed=0)
    assert not {"mase", "rmsse"} & set(found.scores)
    assert len(found.notes) == 1 and found.notes[0].startswith("no MASE and RMSSE: flat: the 30 training values change")


def test_every_series_has_a_drift_of_its_own():
    steps = np.arange(120.0)
    found = judged(panel(steps, 500 - 2 * steps), 3, linear, kind="level")
    errors = {row.name: row.errors[0] for row in found.comparison.rows}
    assert errors["drift"] < 1e-9 < 0.4 < errors[NAIVE]


def test_a_season_is_forecast_though_it_does_not_fit_into_the_window():
    season = np.array([3.0, 1, 4, 1, 5, 9, 2])
    values = np.tile(season, 30) + 1e-3 * np.random.default_rng(0).standard_normal(210)
    for window in (7, 3):
        found = judged(panel(values, frequency="D"), 2, linear, "level", window)
        assert {row.name: row.errors[0] for row in found.comparison.rows}["seasonal naive (7)"] < 0.01


def test_a_seasonal_series_is_compared_with_its_season():
    """Noise about a day's course: the last value alone would make every forecast look good."""
    hours = np.arange(24 * 60)
    random = np.random.default_rng(0)
    # No sine: five values of one would tell a regression where the day is.
    course = 10 * random.standard_normal(24)
    values = course[hours % 24] + random.standard_normal(len(hours))
    found = judged(panel(values, frequency="h"), 1, linear, window=5)
    assert found.comparison.reference.name.startswith("seasonal naive")


def test_smoothing_that_is_the_last_value_is_no_further_row():
    found = judged(panel(np.exp(0.01 * random_walk(1500, 1)).cumsum()), 1, noisy(7))
    assert "simple exponential smoothing" not in found.scores["forecast"].tolist()
    assert "simple exponential smoothing is left out: it gives the same forecasts as naive (last value)" in found.notes


def test_unknown_targets_count_nowhere():
    windows = panel(random_walk(400)).load("change", 10, 2).windows
    targets = windows.test.targets.copy()
    targets[::3, 1] = np.nan
    targets[5] = np.nan
    part = windows.test._replace(targets=targets)
    known = np.isfinite(targets)

    def judgement_of(fill):
        dataset = panel(random_walk(400)).load("change", 10, 2)
        forecast = np.where(known, 0.01, fill)
        windows = dataset.windows._replace(test=part)
        still = Forecast(np.zeros_like(windows.valid.targets))
        return judge("it", dataset._replace(windows=windows), test=Forecast(forecast), valid=still, seed=0)

    one, other = judgement_of(0.0), judgement_of(5.0)
    assert one.comparison.model == other.comparison.model and one.verdict == other.verdict
    pd.testing.assert_frame_equal(one.scores, other.scores)
    error = (targets - naive(part))[known]
    assert one.scores["rmse"][0] == pytest.approx(np.sqrt(np.mean(error**2)))


def test_a_panel_is_judged_by_scaled_errors_and_says_how_many_series_improve():
    found = two_series()[2]
    assert found.comparison.scaled
    whole = found.scores[found.scores["step"] == "all"].set_index("forecast")
    for row in found.comparison.rows:
        assert row.errors[0] == pytest.approx(whole["rmsse"][row.name]) and row.errors[1] == pytest.approx(
            whole["mase"][row.name]
        )
    assert "of 2 series improve" in found.remarks[1]


def test_predictions_have_no_negative_zero():
    part = panel(random_walk(400)).load("change", 10, 1).windows.test
    zeros = np.full(part.targets.shape, -0.0)
    table = frame(part, ("y",), {"forecast": zeros}, {0.8: (zeros, zeros)}, target_times(part))
    assert not np.signbit(table[["forecast", "low_80%", "high_80%"]].to_numpy()).any()


def test_predictions_have_a_row_for_each_window_and_step_and_hold_what_was_judged():
    _, windows, found = two_series()
    table, test = found.predictions, windows.test
    ends = [f"{end}_{level}" for level in ("50%", "80%", "95%") for end in ("low", "high")]
    assert list(table) == ["date", "series", "step", "actual", "forecast", "naive", "reference", *ends]
    assert len(table) == test.targets.size
    np.testing.assert_array_equal(table["actual"], test.targets.ravel())
    dates = table["date"].to_numpy().reshape(-1, 2)
    np.testing.assert_array_equal(dates[:, 0], test.times)
    np.testing.assert_array_equal(dates[:, 1] - dates[:, 0], np.full(len(dates), np.timedelta64(1, "D")))
    np.testing.assert_array_equal(table["series"], [f"series {n}" for n in test.series for _ in range(2)])
    np.testing.assert_array_equal(table["step"], [1, 2] * len(test.times))
    np.testing.assert_array_equal(table["naive"], np.repeat(test.inputs[:, -1], 2))
    for row in found.coverage:
        rows = table if row.step is None else table[table["step"] == row.step]
        inside = rows["actual"].between(rows[f"low_{row.level:.0%}"], rows[f"high_{row.level:.0%}"])
        assert row.measured == pytest.approx(inside.mean())


def test_one_series_and_one_step_need_no_column_and_integers_are_rows():
    windows = noise(4)
    table = frame(
        windows,
        ("one",),
        {"forecast": windows.targets},
        {0.8: (windows.targets - 1, windows.targets + 1)},
        target_times(windows),
    )
    assert list(table) == ["row", "actual", "forecast", "low_80%", "high_80%"]
    pd.testing.assert_series_equal(table["low_80%"] + 1, table["actual"], check_names=False)


def test_keys_of_several_columns_stand_apart_beside_the_name_of_their_series():
    windows = noise(3)._replace(series=np.array([0, 1, 1]))
    keys = Keys(("store", "step"), (("north", "01"), ("south", "02")))
    columns = {"forecast": windows.targets}
    table = frame(windows, ("north/01", "south/02"), columns, {}, target_times(windows), keys)
    assert list(table) == ["row", "series", "store", "key step", "actual", "forecast"]
    assert table["store"].tolist() == ["north", "south", "south"]
    assert table["key step"].tolist() == ["01", "02", "02"]


@pytest.mark.parametrize("kind", ["change", "log-return", "level"])
def test_the_naive_loss_is_that_of_the_last_value_in_the_models_own_scale(kind):
    data = panel(np.exp(0.01 * random_walk(200)))
    dataset = data.load(kind, 6, 3)
    windows, scaling = dataset.windows.valid, dataset.scaling
    still = scaling.targets(windows._replace(targets=naive(windows)))
    for steps in (1, 3):
        expected = np.mean((still - scaling.targets(windows))[:, :steps] ** 2)
        assert naive_loss(windows, scaling, steps) == pytest.approx(expected)
        if kind != "level":
            assert naive_loss(windows, scaling, steps) == pytest.approx(
                np.mean(batch(windows, scaling).y[:, :steps] ** 2)
            )


def test_a_forecast_that_is_not_finite_is_refused_with_its_row():
    def broken(part):
        centre = np.zeros_like(part.targets)
        # The validation part, of 50 rows, is sound.
        if len(centre) == 60:
            centre[4] = np.nan
        return Forecast(centre)

    with pytest.raises(UsageError, match="it: 1 of 60 values are not finite, the first in row 5"):
        of_noise(noise(50), noise(60, 1), broken)


def test_calibration_that_is_not_finite_is_refused_and_not_called_too_few_rows():
    valid, test = noise(50), noise(60, 1)
    broken = np.zeros_like(valid.targets)
    broken[4] = np.nan
    with pytest.raises(UsageError, match="1 of 50 calibration residuals are not finite, the first in row 5"):
        judge(
            "it",
            noise_data(valid, test),
            test=Forecast(np.zeros_like(test.targets)),
            valid=Forecast(broken),
            seed=0,
        )


def test_every_step_has_a_date_of_its_own_and_every_window_that_is_not_in_time_its_number():
    dates = [np.datetime64("2020-01-01") + np.arange(n) ** 2 for n in (80, 90)]
    names = ("a", "b")
    data = Panel(names, tuple(Series(times, random_walk(len(times), 5)) for times in dates), frequency=describe("D"))
    dataset = data.load("change", 5, 3)
    test = dataset.windows.test
    times = target_times(test, dataset.background.series)
    for number, series in enumerate(data.series):
        rows = test.series == number
        value_at = dict(zip(series.times.tolist(), series.values, strict=True))
        expected = [[value_at[time] for time in row] for row in times[rows].tolist()]
        np.testing.assert_array_equal(expected, test.targets[rows])
    np.testing.assert_array_equal(target_times(noise(3, k=2)), [[0, 0], [1, 1], [2, 2]])


def test_distributions_are_scored_for_the_model_and_the_baselines_alike():
    valid, test = noise(400, 2), noise(500, 3)
    found = of_noise(valid, test, lambda part: Forecast(np.zeros_like(part.targets)))
    table = found.scores[found.scores["step"] == "all"].set_index("forecast")
    ends = found.predictions
    levels = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
    columns = ["low_95%", "low_80%", "low_50%", "forecast", "high_50%", "high_80%", "high_95%"]
    error = ends["actual"].to_numpy()[:, None] - ends[columns].to_numpy()
    loss = np.mean(np.maximum(np.array(levels) * error, (np.array(levels) - 1) * error), axis=0)
    assert table.loc["it", "pinball"] == pytest.approx(loss.mean())
    assert table.loc["it", "coverage_80%"] == pytest.approx(covered(found)[0.8])
    # The zero forecast is the best of white noise; the last value has the root of 2 times its spread.
    assert table.loc["naive (last value)", "crps"] == pytest.approx(np.sqrt(2) * table.loc["it", "crps"], rel=0.1)
    assert table.loc["naive (last value)", "interval_score_80%"] > table.loc["it", "interval_score_80%"]
    assert table["crps"].notna().all()


def test_forecasts_and_intervals_of_counts_do_not_fall_below_their_floor():
    counts = np.random.default_rng(4).poisson(0.7, 600).astype(float)
    dataset = dataclasses.replace(panel(counts), floor=0.0).load("level", 6, 2)
    valid, test = (Forecast(np.full_like(part.targets, -0.5)) for part in (dataset.windows.valid, dataset.windows.test))
    found = judge("it", dataset, test=test, valid=valid, seed=0)
    ends = [name for name in found.predictions if "%" in name]
    assert (found.predictions[["forecast", *ends]] >= 0).all(axis=None)
    assert any("raised to it" in note for note in found.notes)
    unbounded = judge("it", panel(counts).load("level", 6, 2), test=test, valid=valid, seed=0)
    assert (unbounded.predictions["low_95%"] < 0).any()
