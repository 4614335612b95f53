"""Verdicts on series whose truth is known: where nothing can be gained, hardly any is "improves"; where it can, most are.

Each control is judged at least twenty times, on series of their own seed. The quick tests train a small network with a
fixed random layer, whose size is chosen on the validation part; the slow ones train the GRU of the command itself:

    python -m pytest -m slow tests/forecasting/test_controls.py
"""

import dataclasses
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from forecasts import autoregression
from scipy.signal import lfilter

from jaxseq.data.aapl import Prices
from jaxseq.data.dataset import Dataset
from jaxseq.data.frequency import describe
from jaxseq.data.laid_out import batch
from jaxseq.data.panel import Panel
from jaxseq.data.panel_data import PanelData
from jaxseq.data.waves import Waves
from jaxseq.data.windows import Series
from jaxseq.forecasting import baselines
from jaxseq.forecasting.evaluate import Entry, Judgement, calibrate, choose_reference, judge, locate_rows, series_scales
from jaxseq.forecasting.intervals import Forecast
from jaxseq.forecasting.verdict import Answer, answer, compare, deciding_comparison
from jaxseq.train import epoch, forecaster
from jaxseq.train.domains import forecasts
from jaxseq.train.experiments import named
from jaxseq.train.experiments.forecasts import ForecastExperiment, Model
from jaxseq.train.job import initial_state

DRAWS = 20
LENGTH = 800
WINDOW = 10


def dated(values, missing=None) -> Panel:
    """A daily series."""
    return panel_of([values], missing)


def panel_of(paths, missing=None) -> Panel:
    dates = np.datetime64("2015-01-01") + np.arange(len(paths[0]))
    names = tuple(f"s{number}" for number in range(len(paths)))
    series = tuple(Series(dates, np.asarray(path, np.float64)) for path in paths)
    masks = () if missing is None else tuple(mask[:, None] for mask in missing)
    return Panel(names, series, describe("D"), missing=masks)


def white_noise(random):
    return dated(random.standard_normal(LENGTH))


def random_walk(random):
    return dated(100 + random.standard_normal(LENGTH).cumsum())


def random_walk_with_drift(random):
    return dated(100 + (0.2 + random.standard_normal(LENGTH)).cumsum())


def autoregression_of_order_one(random):
    """Its best forecast is 0.7 times the last value, which least squares on the levels comes near."""
    return dated(autoregression(0.7, LENGTH, int(random.integers(2**31))))


def apple_returns(random):
    """Log-returns of a stretch of AAPL, in an order of their own where stretches would overlap."""
    returns = np.diff(np.log(Prices().series().values))
    start = int(random.integers(len(returns) - LENGTH))
    return dated(100 * returns[start : start + LENGTH])


def shuffled(random):
    """Waves whose values are in random order."""
    values = np.sin(np.arange(LENGTH) / 3) + 0.1 * random.standard_normal(LENGTH)
    return dated(random.permutation(values))


def counts(random):
    return dated(random.poisson(0.7, LENGTH).astype(np.float64))


def walk_with_missing_values(random):
    """A random walk of which 30 % are missing and filled with the last known value."""
    values = 100 + random.standard_normal(LENGTH).cumsum()
    missing = random.uniform(size=LENGTH) < 0.3
    missing[0] = False
    last_known = np.maximum.accumulate(np.where(missing, 0, np.arange(LENGTH)))
    return dated(values[last_known], missing=[missing])


def seasonal_noise(random):
    """Weekly noise about a fixed course: the mean of each weekday is its best forecast, the last week is not."""
    course = 3 * np.sin(2 * np.pi * np.arange(LENGTH) / 7)
    return dated(np.round(course) + random.standard_normal(LENGTH))


def common_factor(random):
    """Random walks that share half the variance of their steps."""
    shared = random.standard_normal(300)
    return panel_of([100 + (shared + random.standard_normal(300)).cumsum() for _ in range(12)])


CONTROLS = (
    white_noise,
    random_walk,
    random_walk_with_drift,
    autoregression_of_order_one,
    apple_returns,
    shuffled,
    counts,
    walk_with_missing_values,
    seasonal_noise,
    common_factor,
)
QUICK_CONTROLS = (autoregression_of_order_one, common_factor)
"""The others are slow."""


def sawtooth(random):
    """A logistic map seen through noise: no linear forecast sees what comes, a network does."""
    values = np.empty(LENGTH)
    values[0] = random.uniform(0.2, 0.8)
    for time in range(1, LENGTH):
        values[time] = 3.9 * values[time - 1] * (1 - values[time - 1])
    return dated(values + 0.01 * random.standard_normal(LENGTH))


def seasonal_with_a_learnable_residual(random):
    """A weekly course of whole numbers, and beside it the logistic map."""
    course = np.tile([0.0, 1.0, 0.0, 2.0, 1.0, 1.0, 0.0], LENGTH // 7 + 1)[:LENGTH]
    return dated(course + 12 * sawtooth(random).series[0].values)


def autoregression_of_order_two(random):
    """y_t = 1.2 y_{t-1} - 0.6 y_{t-2} + e_t: far better forecast than by its last value, and best by least squares."""
    noise = random.standard_normal(LENGTH + 50)
    return dated(lfilter([1.0], [1.0, -1.2, 0.6], noise)[50:])


class RandomLayer(NamedTuple):
    """A network with a fixed random layer: ridge regression on its units, with a penalty chosen on validation."""

    units: int = 60

    def forecasts(self, dataset: Dataset, seed: int) -> tuple[Forecast, Forecast]:
        """Forecasts of the validation and the test part."""
        random = np.random.default_rng(seed)
        x, y = (np.asarray(array, np.float64) for array in batch(dataset.windows.train, dataset.scaling))
        flat = x.reshape(len(x), -1)
        weights = random.standard_normal((flat.shape[1], self.units)) / np.sqrt(flat.shape[1])
        biases = random.uniform(-1, 1, self.units)

        def features(part):
            rows = dataset.scaling.inputs(part).reshape(len(part.inputs), -1)
            return np.column_stack([np.tanh(2 * rows @ weights + biases), rows, np.ones(len(rows))])

        train = features(dataset.windows.train)
        best = None
        for penalty in (1.0, 10.0, 100.0, 1000.0):
            solution = np.linalg.solve(train.T @ train + penalty * np.eye(train.shape[1]), train.T @ y)
            valid = features(dataset.windows.valid) @ solution
            loss = np.nanmean((valid - dataset.scaling.targets(dataset.windows.valid)) ** 2)
            if best is None or loss < best[0]:
                best = (loss, Forecast(valid), Forecast(features(dataset.windows.test) @ solution))
        assert best is not None
        return best[1], best[2]


def judgement_of(panel: Panel, seed: int, units: int = 60) -> Judgement:
    dataset = panel.load("change", WINDOW, 1)
    valid, test = RandomLayer(units).forecasts(dataset, seed)
    return judge("m", dataset, Entry(test, calibrate(dataset, valid, "split")), seed=seed)


def against_the_optimum(found: Judgement, dataset: Dataset) -> Answer:
    """The verdict on a forecast of an autoregression of order one against its best forecast."""
    test = dataset.windows.test
    model = found.predictions["forecast"].to_numpy()[:, None]
    forecasts_by_name = {"optimum": 0.7 * test.inputs[:, -1:], "m": model}
    return answer(compare(test.targets, forecasts_by_name, "optimum").model)


def verdict_of(panel: Panel, seed: int, units: int = 60) -> Answer:
    """The answer alone, without the tables and scores of a judgement."""
    dataset = panel.load("change", WINDOW, 1)
    _, forecast = RandomLayer(units).forecasts(dataset, seed)
    scales, _ = series_scales(dataset.background)
    test = dataset.windows.test
    rows = locate_rows(test.times[:, None], test.series, background=dataset.background, scales=scales)
    simple = baselines.forecast_all(dataset, test)
    model = dataset.scaling.invert(forecast.centre, test)

    def against(reference):
        pair = {reference: simple[reference], "m": model}
        return compare(test.targets, pair, reference, rows=rows, seed=seed)

    chosen = against(choose_reference(dataset, scales))
    return answer(deciding_comparison(chosen, against(baselines.NAIVE)).model)


def test_the_answer_alone_is_that_of_the_whole_judgement():
    for control in (common_factor, sawtooth):
        panel = control(np.random.default_rng(0))
        assert verdict_of(panel, 0, units=300) == judgement_of(panel, 0, units=300).answer


@pytest.mark.parametrize(
    "control",
    [pytest.param(control, marks=() if control in QUICK_CONTROLS else pytest.mark.slow) for control in CONTROLS],
    ids=[control.__name__ for control in CONTROLS],
)
def test_where_nothing_can_be_gained_hardly_any_verdict_is_an_improvement(control):
    verdicts = [verdict_of(control(np.random.default_rng(seed)), seed) for seed in range(DRAWS)]
    assert verdicts.count("improves") <= 0.05 * DRAWS, verdicts
    assert "not decided" not in verdicts


@pytest.mark.slow
def test_an_autoregression_is_not_forecast_better_than_by_its_optimum():
    verdicts = []
    for seed in range(DRAWS):
        panel = autoregression_of_order_one(np.random.default_rng(seed))
        verdicts.append(against_the_optimum(judgement_of(panel, seed), panel.load("change", WINDOW, 1)))
    assert verdicts.count("improves") <= 0.05 * DRAWS, verdicts


@pytest.mark.parametrize(
    "learnable",
    [pytest.param(sawtooth, marks=pytest.mark.slow), seasonal_with_a_learnable_residual],
    ids=lambda make: make.__name__,
)
def test_where_something_can_be_learnt_most_verdicts_are_an_improvement(learnable):
    verdicts = [verdict_of(learnable(np.random.default_rng(seed)), seed, units=300) for seed in range(DRAWS)]
    assert verdicts.count("improves") >= 0.8 * DRAWS, verdicts


def test_an_autoregression_is_found_beside_the_last_value_and_no_improvement_over_least_squares():
    found = [judgement_of(autoregression_of_order_two(np.random.default_rng(seed)), seed) for seed in range(DRAWS)]
    beside_last_value = [
        re.search(r"last value its skill is \S+ \((\S+) to", judgement.remarks[0]) for judgement in found
    ]
    assert sum(match is not None and float(match[1]) > 0 for match in beside_last_value) >= 0.8 * DRAWS
    assert [judgement.answer for judgement in found].count("improves") <= 0.05 * DRAWS


@dataclasses.dataclass(frozen=True)
class Made(PanelData):
    """A panel that was made in memory, as a data set of the command."""

    made: Panel | None = None

    @property
    def name(self) -> str:
        """Name for titles."""
        return "made"

    def panel(self) -> Panel:
        """The panel itself."""
        assert self.made is not None
        return self.made


def small_gru(data, seed: int) -> ForecastExperiment:
    """A GRU of 16 units, trained for 8 epochs."""
    return ForecastExperiment(
        name="control",
        about="",
        data=data,
        model=Model(cell="gru", hidden=16),
        epochs=8,
        batch=64,
        lr=5e-3,
        seed=seed,
    )


def gru_judgement(experiment: ForecastExperiment) -> Judgement:
    """The judgement of a network after its best epoch."""
    job = forecasts.prepare(experiment)
    best = None
    for finished in epoch.epochs(
        job.setup,
        initial_state(job),
        train=job.data.train,
        valid=job.data.valid,
        batch=experiment.batch,
        numbers=range(1, experiment.epochs + 1),
    ):
        loss = finished.valid["mse"]
        if best is None or loss < best[0]:
            best = (loss, jax.tree.map(jnp.copy, finished.state))
    assert best is not None

    valid, test = (forecaster.forecast(job, best[1], part) for part in job.material.windows[1:])
    calibrated = calibrate(job.material, valid, "split")
    return judge("gru", job.material, Entry(test, calibrated), seed=experiment.seed)


def gru_verdict(experiment: ForecastExperiment) -> Answer:
    return gru_judgement(experiment).answer


@pytest.mark.slow
@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.__name__)
def test_where_nothing_can_be_gained_hardly_any_gru_is_an_improvement(control):
    data = [Made(window=WINDOW, made=control(np.random.default_rng(seed))) for seed in range(DRAWS)]
    verdicts = [gru_verdict(small_gru(made, seed)) for seed, made in enumerate(data)]
    print(control.__name__, {found: verdicts.count(found) for found in set(verdicts)})
    assert verdicts.count("improves") <= 0.05 * DRAWS, verdicts


@pytest.mark.slow
def test_an_autoregression_is_not_forecast_better_by_the_gru_than_by_its_optimum():
    verdicts = []
    for seed in range(DRAWS):
        data = Made(window=WINDOW, made=autoregression_of_order_one(np.random.default_rng(seed)))
        verdicts.append(against_the_optimum(gru_judgement(small_gru(data, seed)), data.load(1)))
    assert verdicts.count("improves") <= 0.05 * DRAWS, verdicts


@pytest.mark.slow
def test_waves_are_found_by_the_gru():
    verdicts = [gru_verdict(named("waves", data=Waves(seed=seed), seed=seed)) for seed in range(5)]
    assert verdicts.count("improves") >= 4, verdicts
