"""From a model's forecasts of the test part to tables, sentences, and the numbers behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped

from jaxseq.common.errors import UsageError
from jaxseq.data.dataset import Background, Dataset
from jaxseq.data.scaling import Scaling
from jaxseq.data.uncut import PartWindows
from jaxseq.data.windows import LAST_VALUE
from jaxseq.forecasting import (
    baselines,
    calibration,
    distributions,
    intermittent,
    metrics,
    significance,
    verdict,
)
from jaxseq.forecasting.calibration import Calibrated
from jaxseq.forecasting.coverage import Coverage, Spread, coverage_table, spread
from jaxseq.forecasting.distributions import Forecasts
from jaxseq.forecasting.intervals import Bounds, Choice, Forecast, above_floor, bounds
from jaxseq.forecasting.lag_one import lag_one_copy
from jaxseq.forecasting.losses import IN_ORDER, Loss, Rows, Scales, row_losses
from jaxseq.forecasting.metrics import Values
from jaxseq.forecasting.part import Part
from jaxseq.forecasting.predictions import frame, target_times
from jaxseq.forecasting.verdict import Answer, Comparison


class Judgement(NamedTuple):
    """Evaluation of one model on the test part.

    comparison   of the model and every baseline with the reference
    answer       verdict on the model: it improves on the reference and on the last value, or not, or it is not decided
    verdict      sentence on the model against the reference
    remarks      sentences on how it stands to the last value, to the best forecast and in each series, and on copying
    scores       a row for each forecast and step of the horizon, and for all steps together (step "all")
    coverage     of the model's intervals, nominal and measured
    spread       of that coverage over series and time
    predictions  a row for each test window and step: series, time, step, actual, forecast, naive, reference, intervals
    notes        what was left out, and why
    """

    comparison: Comparison
    answer: Answer
    verdict: str
    remarks: tuple[str, ...]
    scores: pd.DataFrame
    coverage: list[Coverage]
    spread: list[Spread]
    predictions: pd.DataFrame
    notes: tuple[str, ...]


class Entry(NamedTuple):
    """A model's forecasts of the test part, and its intervals (`calibrate`)."""

    test: Forecast
    calibrated: Calibrated


NO_MEMBERS: Mapping[str, Entry] = MappingProxyType({})


def judge(
    name: str,
    dataset: Dataset,
    model: Entry,
    *,
    members: Mapping[str, Entry] = NO_MEMBERS,
    seed: int,
    loss: Loss = "squared",
) -> Judgement:
    """Compare a model's forecasts of the test part with those of the baselines, which saw the training part alone.

    The reference is the baseline with the smallest mean `loss` on the validation part. `members` are those of an ensemble,
    by their name, which stand in the tables beside it; `seed` is that of the bootstrap.
    Raises `UsageError` if a forecast is not finite.
    """
    background = dataset.background
    part = dataset.windows.test
    actual = part.targets
    scales, scale_notes = series_scales(background)

    by_baseline = _baseline_forecasts(dataset)
    # The test part has no say in the choice of the reference.
    reference = choose_reference(dataset, scales, loss, by_baseline.valid)
    # Every forecast is raised to the floor, so that none gains by it alone.
    forecasts = {label: above_floor(values, background.floor) for label, values in by_baseline.test.items()}
    # Comparisons are in the units of the series: errors of log-returns would favour low prices.
    models = {**members, name: model}
    forecasts |= {label: _in_units(entry.test.centre, dataset) for label, entry in models.items()}
    series = background.known_series
    times = target_times(part, series)
    rows = locate_rows(times, part.series, background=background, scales=scales)
    compared = comparisons(actual, forecasts, reference, rows=rows, loss=loss, seed=seed)
    deciding = verdict.deciding_comparison(compared.all, compared.last_value)

    ends = _EndsByForecast(models, dataset, by_baseline.valid)
    medians = {**forecasts, **{label: _in_units(entry.test.median, dataset) for label, entry in models.items()}}
    if has_training_distribution(dataset):
        medians[baselines.TRAINING_MEAN] = intermittent.training_quantile(0.5, part, background)
    scores = _scores(part, forecasts, scales, reference, ends_of=ends.of, medians=medians)
    # Members are no baselines: the model is to be compared with those.
    scores.loc[scores["forecast"].isin(list(members)), "role"] = "member"

    columns = {
        "forecast": forecasts[name],
        "naive": forecasts[baselines.NAIVE],
        "reference": forecasts[reference],
    }
    bounds_of_judged = ends.of_judged
    notes = (*by_baseline.notes, *scale_notes, *model.calibrated.notes)
    # Those of the other forecasts would take gigabytes beside the table of a large panel.
    del ends, by_baseline, forecasts, medians
    return Judgement(
        comparison=compared.all,
        answer=verdict.answer(deciding.model),
        verdict=verdict.sentence(deciding.model, deciding.reference.name),
        remarks=_remarks(compared.all, compared.last_value, part, columns["forecast"], rows),
        scores=scores,
        coverage=coverage_table(actual, bounds_of_judged),
        spread=spread(part, bounds_of_judged, in_time=bool(series)),
        predictions=frame(part, background.names, columns, bounds_of_judged, times, keys=background.keys),
        notes=notes,
    )


class _BaselineForecasts(NamedTuple):
    """Forecasts of the baselines by their name, and notes on those that are left out as equal to others."""

    valid: dict[str, Values]
    test: dict[str, Values]
    notes: list[str]


def _baseline_forecasts(dataset: Dataset) -> _BaselineForecasts:
    windows = dataset.windows
    both_parts = baselines.forecast_parts(dataset, [windows.valid, windows.test])
    (valid, test), notes = baselines.distinct(both_parts)
    return _BaselineForecasts(valid, test, notes)


def _in_units(values: Values, dataset: Dataset) -> Values:
    """Return a model's forecasts of the test part in the series' units, raised to the floor."""
    return above_floor(dataset.scaling.invert(values, dataset.windows.test), dataset.background.floor)


class Comparisons(NamedTuple):
    """Comparison of all forecasts with the reference, and of the model with the last value if that is another baseline.

    Of probabilities, the training part's share of rises takes the place of the last value.
    """

    all: Comparison
    last_value: Comparison | None


def comparisons(
    actual: Values,
    forecasts: Forecasts,
    reference: str,
    *,
    rows: Rows,
    loss: Loss,
    seed: int,
    simplest: str = baselines.NAIVE,
) -> Comparisons:
    """Compare the forecasts of a part with the reference, and the model, which is the last one, with the simplest one."""
    compare = partial(verdict.compare, actual, rows=rows, loss=loss, seed=seed)
    with_reference = compare(forecasts, reference)
    # Otherwise the comparison is with the last value already.
    if reference == simplest:
        return Comparisons(with_reference, None)
    # The model is the last forecast.
    *_, name = forecasts
    pair = {simplest: forecasts[simplest], name: forecasts[name]}
    return Comparisons(with_reference, compare(pair, simplest))


class _EndsByForecast:
    """Intervals of each forecast on the test part. Made when asked for: of all at once they would take gigabytes.

    of_judged  those of the judged model
    """

    def __init__(self, models: Mapping[str, Entry], dataset: Dataset, valid_forecasts: Forecasts) -> None:
        """`models` are those with intervals of their own, the judged one last."""
        series = dataset.background.known_series
        self._models = models
        # The kind of the judged model is that of the baselines.
        *_, self._name = models
        self._fitted = models[self._name].calibrated.intervals
        self._valid_forecasts = valid_forecasts
        self._dataset = dataset
        self._valid_part = Part(dataset.windows.valid, dataset.scaling, series)
        self._test_part = Part(dataset.windows.test, dataset.scaling, series)

        self.of_judged = self._own(self._name)

    def _own(self, label: str) -> Bounds:
        """Return the intervals of a model's own distribution or errors."""
        entry = self._models[label]
        return bounds(entry.test, entry.calibrated.intervals, self._test_part)

    def of(self, label: str, forecast: Values) -> Bounds:
        """Return the intervals of the kind of the model's around a forecast."""
        # Those of a model may come from its own distribution, whose median need not be its centre.
        if label == self._name:
            return self.of_judged
        if label in self._models:
            return self._own(label)
        if label == baselines.TRAINING_MEAN and has_training_distribution(self._dataset):
            return intermittent.training_bounds(
                self._fitted.levels, self._dataset.windows.test, self._dataset.background
            )
        return distributions.around(
            valid=self._valid_forecasts[label],
            test=forecast,
            fitted=self._fitted,
            valid_part=self._valid_part,
            test_part=self._test_part,
        )


def has_training_distribution(dataset: Dataset) -> bool:
    """Return whether the training values, as they are, are a forecast to compare with: of targets from 0, in series.

    Equal margins on both sides of their mean are a poor distribution of counts.
    """
    return dataset.scaling.transform.support != "real" and bool(dataset.background.series)


def calibrate(
    dataset: Dataset,
    valid: Forecast,
    choice: Choice = "auto",
) -> Calibrated:
    """Fit the intervals of a model to its forecasts of the validation part; see `calibration.calibrate`."""
    background = dataset.background
    part = Part(dataset.windows.valid, dataset.scaling, background.known_series)
    calibrated = calibration.calibrate(choice, valid, part, background.floor)
    # Nothing is raised where nothing is bounded.
    if background.floor is None or not calibrated.intervals.levels:
        return calibrated
    note = f"forecasts and intervals below {background.floor:g}, the least possible value, are raised to it"
    return calibrated._replace(notes=(*calibrated.notes, note))


def choose_reference(
    dataset: Dataset,
    scales: Scales | None = None,
    loss: Loss = "squared",
    forecasts: Forecasts | None = None,
) -> str:
    """Return the name of the baseline with the smallest mean loss on the validation part.

    scales     of each series' losses, by its number; None compares losses in the series' unit
    forecasts  of the validation part by the baselines; None computes them
    """
    part = dataset.windows.valid
    if forecasts is None:
        forecasts = baselines.forecast_all(dataset, part)
    means = {}
    for name, forecast in forecasts.items():
        losses = row_losses(part.targets, forecast, loss)
        # Otherwise the largest series of a panel would choose for all.
        if scales is not None:
            losses = losses / scales.of(loss)[part.series]
        means[name] = np.nanmean(losses)
    return min(means, key=lambda name: means[name])


def series_scales(background: Background) -> tuple[Scales | None, list[str]]:
    """Return the scales of MASE and RMSSE of every series, by its number, and notes.

    Without series there are none; nor if a series has no scale (`metrics.seasonal_scale`), which a note explains.
    """
    if not background.training_rows:
        return None, []

    absolute = []
    squared = []
    for name, values in zip(background.names, background.training, strict=True):
        period = background.period
        # A series without a whole season is scaled by its one-step changes.
        if len(values) <= period:
            period = 1
        try:
            absolute.append(metrics.seasonal_scale(values, period, source=name))
            squared.append(metrics.seasonal_scale(values, period, squared=True, source=name))
        except UsageError as error:
            return None, [f"no MASE and RMSSE: {error}"]
    return Scales(np.array(absolute), np.array(squared)), []


def locate_rows(
    times: Shaped[np.ndarray, "n k"],
    series: Int[np.ndarray, " n"],
    *,
    background: Background,
    scales: Scales | None,
) -> Rows:
    """Return the places of test rows in time and among the series, and the scales of their losses.

    times          of all targets of each row
    series         of each row
    scales         of each series, by its number; used for a panel alone
    """
    overlap = overlapping_windows(times, background.test_stride)
    # The losses of one series need no common unit.
    if len(background.names) == 1:
        return IN_ORDER._replace(overlap=overlap)
    row_scales = None
    if scales is not None:
        row_scales = Scales(scales.absolute[series], scales.squared[series])
    return Rows(times[:, 0], series, row_scales, overlap)


def overlapping_windows(times: Shaped[np.ndarray, "n k"], stride: int) -> int | None:
    """Return how many windows in time share targets with one of them, itself among them, by the times of all targets.

    None where every window is judged, since they are as many as the steps of the horizon.
    """
    if stride == 1:
        return None
    # Series that begin on different days may have windows between those of others.
    starts = np.unique(times[:, 0])
    first = np.searchsorted(starts, times[:, 0])
    after_last = np.searchsorted(starts, times[:, -1], side="right")
    of_one_series = -(-times.shape[1] // stride)
    return max(of_one_series, int((after_last - first).max()))


def _remarks(
    comparison: Comparison,
    last_value: Comparison | None,
    part: PartWindows,
    forecast: Float[np.ndarray, "n k"],
    rows: Rows,
) -> tuple[str, ...]:
    """Return the remarks that follow the verdict; see `Judgement`."""
    name = comparison.model.name
    remarks = [verdict.ranking_sentence(comparison, last_value)]
    if rows.series is not None:
        tests = significance.series_tests(comparison.losses)
        remarks.append(verdict.series_sentence(name, tests))

    last_inputs = part.values_ago(LAST_VALUE)[:, 0]
    copying = lag_one_copy(part.targets, forecast, last_inputs, rows.times, rows.overlap)
    copy_remark = verdict.copy_sentence(name, copying)
    # A short test part does not decide it.
    if copy_remark is not None:
        remarks.append(copy_remark)
    return tuple(remarks)


def error_table(part: PartWindows, forecasts: Forecasts, scales: Scales | None, reference: str) -> pd.DataFrame:
    """Return the errors of every forecast, the model last, over all steps and by step; unknown targets are left out.

    `scales` are of each series, by its number.
    """
    # Without intervals a forecast has no other scores.
    return _scores(part, forecasts, scales, reference, ends_of=_no_ends, medians=forecasts)


def _no_ends(label: str, forecast: Values) -> Bounds:
    return {}


def _scores(
    part: PartWindows,
    forecasts: Forecasts,
    scales: Scales | None,
    reference: str,
    ends_of: Callable[[str, Values], Bounds],
    medians: Forecasts,
) -> pd.DataFrame:
    """Return the errors and scores of every forecast, over all steps and by step; unknown targets are left out."""
    # The model is the last forecast.
    *_, model = forecasts
    roles = {reference: "reference", model: "model"}
    row_scales = absolute_scales = None
    if scales is not None:
        row_scales = Scales(scales.absolute[part.series], scales.squared[part.series])
        absolute_scales = row_scales.absolute

    table = []
    actual = part.targets
    for name, forecast in forecasts.items():
        # One at a time: those of all forecasts of a long test part would take gigabytes.
        by_step = distributions.scores(actual, medians[name], ends_of(name, forecast), absolute_scales)
        for step, of_distribution in zip(("all", *range(1, forecast.shape[1] + 1)), by_step, strict=True):
            columns = slice(None)
            if step != "all":
                columns = slice(int(step) - 1, int(step))
            errors = _errors(actual[:, columns], forecast[:, columns], row_scales)
            role = roles.get(name, "baseline")
            table.append({"forecast": name, "role": role, "step": step, **errors, **of_distribution})
    return pd.DataFrame(table)


def _errors(
    actual: Float[np.ndarray, "n k"],
    forecast: Float[np.ndarray, "n k"],
    scales: Scales | None,
) -> dict[str, float]:
    """Return the errors of one forecast; `scales` are of each row."""
    errors = {
        "mse": metrics.mse(actual, forecast),
        "rmse": metrics.rmse(actual, forecast),
        "mae": metrics.mae(actual, forecast),
        "smape": metrics.smape(actual, forecast),
    }
    if scales is not None:
        errors["mase"] = metrics.mase(actual, forecast, scales.absolute)
        errors["rmsse"] = metrics.rmsse(actual, forecast, scales.squared)
    return errors


def naive_loss(
    windows: PartWindows,
    scaling: Scaling,
    steps: int,
    loss: Loss = "squared",
) -> float:
    """Return the mean loss of the last value over the first `steps`, in the model's own scale."""
    forecast = scaling.scaled(baselines.naive(windows), windows)[:, :steps]
    actual = scaling.targets(windows)[:, :steps]
    if loss == "squared":
        return metrics.mse(actual, forecast)
    return metrics.mae(actual, forecast)
