"""Classical forecasts: the windows and methods that are tried, fits that go wrong, and the package's own numbers."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jaxseq.common.errors import UsageError
from jaxseq.data.dataset import Background, Dataset
from jaxseq.data.frequency import describe
from jaxseq.data.panel import Panel
from jaxseq.data.windows import Series
from jaxseq.forecasting import beside_classical, classical, evaluate, predictions
from jaxseq.forecasting.classical import Fit, Task
from jaxseq.forecasting.intervals import Forecast

SEASON = np.array([3.0, -1.0, 4.0, -6.0])
NOISE = np.random.default_rng(0).normal(size=400)


def told(done: int, total: int) -> None:
    assert 1 <= done <= total


def seasonal_data(horizon: int = 3, level: float = 20.0) -> Dataset:
    """A series with a season of four steps and a little noise."""
    values = level + np.resize(SEASON, 400) + 0.3 * NOISE
    days = pd.date_range("2020-01-01", periods=400).to_numpy()
    frequency = describe("D")._replace(period=4)
    return Panel(("a",), (Series(days, values),), frequency=frequency).load("change", 8, horizon)


def test_a_sample_is_drawn_once_and_in_order_and_is_all_of_few_windows() -> None:
    rows = classical.sample(1000, seed=3)
    assert len(set(rows.tolist())) == classical.MOST_WINDOWS and rows.tolist() == sorted(rows.tolist())
    assert rows.tolist() == classical.sample(1000, seed=3).tolist() != classical.sample(1000, seed=4).tolist()
    assert classical.sample(7, seed=0).tolist() == list(range(7))


def test_a_fit_takes_the_values_before_its_forecast_and_no_later_one() -> None:
    dataset = seasonal_data()
    part = dataset.windows.test
    pasts = classical._pasts(part, dataset.background)
    values = dataset.background.series[0].values
    for past, origin in zip(pasts, part.origins.tolist(), strict=True):
        np.testing.assert_array_equal(past, values[origin - classical.FEWEST_VALUES : origin])
    alone = classical._pasts(part, Background(names=("a",), period=4))
    np.testing.assert_array_equal(np.stack(alone), part.inputs)


@pytest.mark.parametrize(
    ("length", "period", "expected"),
    [(400, 24, (24, 168)), (300, 24, (24,)), (47, 24, (1,)), (400, 1, (1,)), (20, 4, (4,))],
)
def test_the_seasons_are_those_that_fit_twice_into_the_past(
    length: int, period: int, expected: tuple[int, ...]
) -> None:
    assert classical._periods(np.zeros(length), period) == expected


def test_methods_are_those_that_suit_the_series() -> None:
    around_zero, counts = np.array([-1.0, 2.0] * 6), np.array([0.0, 0.0, 3.0] * 6)
    assert classical._methods([around_zero], 1) == ["AutoARIMA", "AutoETS", "AutoTheta"]
    assert classical._methods([around_zero, counts], 4) == ["AutoARIMA", "AutoETS", "AutoTheta", "MSTL"]
    assert classical._methods([counts], 1) == ["AutoARIMA", "AutoETS", "AutoTheta", "CrostonOptimized"]


def test_a_fit_that_fails_is_counted_with_its_reason_and_the_last_season_stands_in() -> None:
    past = np.arange(8.0)
    tasks = [Task(method, past + row, (4,), 6) for method in ("AutoETS", "MSTL") for row in range(2)]
    fits = [Fit(np.ones(6)), Fit(None, "ValueError: singular"), Fit(np.ones(6)), Fit(np.zeros(6))]
    gathered = classical._gathered(["AutoETS", "MSTL"], tasks, fits)
    np.testing.assert_array_equal(gathered.values["AutoETS"], [np.ones(6), [5, 6, 7, 8, 5, 6]])
    np.testing.assert_array_equal(gathered.values["MSTL"], [np.ones(6), np.zeros(6)])
    (note,) = gathered.notes
    assert note.startswith("AutoETS: 1 of 2 fits failed") and "singular" in note


def test_a_constant_past_is_repeated_and_a_mistake_of_the_program_is_no_failed_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = Task("AutoETS", np.full(30, 0.1), (1,), 3)
    fit = classical.fit_one(task)
    assert fit.path is not None and fit.path.tolist() == [0.1] * 3

    moving = task._replace(past=NOISE[:30])
    for error, is_raised in ((TypeError("no such thing"), True), (Exception("no model able to be fitted"), False)):

        def broken(task: Task, error: Exception = error) -> np.ndarray:
            raise error

        monkeypatch.setattr(classical, "_fitted", broken)
        if is_raised:
            with pytest.raises(TypeError):
                classical.fit_one(moving)
        else:
            assert classical.fit_one(moving) == Fit(None, "Exception: no model able to be fitted")
    monkeypatch.setattr(classical, "_fitted", lambda task: np.array([1.0, np.inf, 1.0]))
    assert classical.fit_one(moving).reason == "the forecast is not finite"


def test_without_statsforecast_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "statsforecast", None)
    dataset = seasonal_data()
    with pytest.raises(UsageError) as refusal:
        classical.forecast(dataset.windows.test, dataset.background, told)
    assert refusal.value.needed == 'pip install "jaxseq[classical]"'


def test_statsforecast_is_imported_where_it_is_needed_and_nowhere_else() -> None:
    package = Path(classical.__file__).parent.parent
    importing = {path.name for path in package.rglob("*.py") if "from statsforecast" in path.read_text()}
    assert importing == {"classical.py", "panel_peers.py"}


def test_workers_start_with_one_thread_and_the_environment_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    started_with = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, workers: int, **options: object) -> None:
            super().__init__(workers)

        def map(self, function, tasks):
            started_with.append({name: os.environ.get(name) for name in classical.THREADS})
            return map(function, tasks)

    monkeypatch.setattr(classical, "ProcessPoolExecutor", Pool)
    fits = classical._in_parallel([Task("AutoETS", np.full(30, 0.1), (1,), 3)])
    assert [fit.reason for fit in fits] == [""]
    assert started_with == [dict.fromkeys(classical.THREADS, "1")]
    assert {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"} < set(classical.THREADS)
    assert os.environ["OMP_NUM_THREADS"] == "7" and "MKL_NUM_THREADS" not in os.environ


# Beside a model --------------------------------------------------------------------------------------------------------


def planted(monkeypatch: pytest.MonkeyPatch, error: float) -> None:
    """Let one classical method forecast with an error of so many times the noise."""

    def forecast(part, background, progress):
        draw = np.random.default_rng(1)
        values = part.targets + error * draw.normal(size=part.targets.shape)
        progress(1, 1)
        return classical.Forecasts({"MSTL": values}, ["a note"])

    monkeypatch.setattr(classical, "forecast", forecast)


@pytest.mark.parametrize(("error", "decides"), [(0.1, True), (50.0, False)])
def test_the_reference_is_a_classical_forecast_only_if_it_is_best_on_validation(
    error: float, decides: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(monkeypatch, error)
    dataset = seasonal_data()
    test = Forecast(np.zeros_like(dataset.windows.test.targets))
    beside = beside_classical.judge("it", dataset, test, seed=0, loss="squared", progress=told)

    assert beside.decides is decides
    assert (beside.comparison.reference.name == "MSTL") is decides
    assert {"MSTL", "it"} < {row.name for row in beside.comparison.rows}
    assert beside.comparison.model.name == "it" and beside.scores["forecast"].iloc[-1] == "it"
    count = len(dataset.windows.test.origins)
    assert f"50 of {count} windows of the test part" in beside.verdict and "seed 0" in beside.notes[0]
    assert beside.notes[1:] == ("a note", "a note")
    assert "## Beside classical forecasts" in beside_classical.markdown(beside, "MWh")


def test_windows_of_a_sample_overlap_as_often_as_they_share_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classical, "MOST_WINDOWS", 4)
    sampled = beside_classical._Sampled(seasonal_data(horizon=12), seed=0).dataset
    part = sampled.windows.test
    times = predictions.target_times(part, sampled.background.known_series)
    rows = evaluate.locate_rows(times, part.series, background=sampled.background, scales=None)
    shared = [np.count_nonzero((times[:, 0] >= row[0]) & (times[:, 0] <= row[-1])) for row in times]
    assert rows.overlap == max(shared) < 6


# By the package --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("method", [classical.ETS, classical.THETA, classical.MSTL, classical.ARIMA])
def test_a_method_goes_on_with_a_season(method: str) -> None:
    pytest.importorskip("statsforecast")
    values = 50 + np.resize(SEASON, 120) + 0.05 * NOISE[:120]
    for scale in (1.0, 2.0**-40, 2.0**40):
        fit = classical.fit_one(Task(method, scale * values, (4,), 6))
        assert fit.path is not None, fit.reason
        np.testing.assert_allclose(fit.path / scale, 50 + np.resize(SEASON, 6), atol=0.3)


@pytest.mark.slow
def test_every_window_is_forecast_in_its_own_row_by_worker_processes() -> None:
    models = pytest.importorskip("statsforecast.models")
    dataset = seasonal_data()
    part = dataset.windows.test.take(np.arange(3))
    done = []
    fits = classical.forecast(part, dataset.background, lambda *counts: done.append(counts))
    assert list(fits.values) == ["AutoARIMA", "AutoETS", "AutoTheta", "MSTL"] and fits.notes == []
    assert done == [(number, 12) for number in range(1, 13)]
    for row, past in enumerate(classical._pasts(part, dataset.background)):
        alone = models.AutoTheta(season_length=4).forecast(y=past, h=3)["mean"]
        np.testing.assert_allclose(fits.values["AutoTheta"][row], alone, rtol=1e-4)
