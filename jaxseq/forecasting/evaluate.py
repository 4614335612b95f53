"""From a model's forecasts of the test part to tables, sentences, and the numbers behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from jaxseq.common.errors import UsageError
from jaxseq.data.dataset import Background, Dataset
from jaxseq.data.scaling import Scaling, batch
from jaxseq.data.windows import Windows, WindowSplits
from jaxseq.forecasting import baselines, classical, conformal, metrics, significance, verdict
from jaxseq.forecasting.coverage import Coverage, coverage_table

INTERVALS = (0.5, 0.8, 0.95)
"""Nominal coverages of the intervals that every forecast comes with."""


class Forecast(NamedTuple):
    """Forecasts in the model's own scale; `quantiles` are None for a point forecast.

    levels     of the quantiles, q of them, the median among them
    """

    centre: Float[np.ndarray, "n k"]
    quantiles: Float[np.ndarray, "n k q"] | None = None
    levels: tuple[float, ...] = ()


class Margins(NamedTuple):
    """Half-widths of the intervals for each level and step, in the model's own scale.

    Round the centre of a point forecast (split conformal), round its own interval for a distribution (conformalised
    quantile regression); fitted on the validation part.
    """

    levels: tuple[float, ...]
    sizes: tuple[tuple[float, ...], ...]


class Judgement(NamedTuple):
    """Evaluation of one model on the test part.

    rows         errors of the naive forecast, the other baselines and the model, in the series' unit
    verdict      one sentence on the model
    copying      one sentence on whether it only copies the last value
    scores       a row for each forecast and step of the horizon, and for all steps together (step "all")
    coverage     of the model's intervals, nominal and measured
    predictions  a row for each test window and step: series, time, step, actual, forecast, naive, intervals
    notes        what was left out, and why
    """

    rows: list[verdict.Row]
    verdict: str
    copying: str
    scores: pd.DataFrame
    coverage: list[Coverage]
    predictions: pd.DataFrame
    notes: tuple[str, ...]


def margins(valid: Forecast, windows: Windows, scaling: Scaling) -> Margins:
    """The margins that the validation part asks for; levels that it has too few rows for are left out."""
    y, found = scaling.targets(windows), {}
    for level in INTERVALS:
        if len(y) < round(level / (1 - level), 9):  # too few rows for this level
            continue
        if (ends := _ends(valid, level)) is None:
            found[level] = conformal.conformal_radius(y - valid.centre, level)
        else:
            found[level] = conformal.conformal_margin(y, *ends, level)
    return Margins(tuple(found), tuple(tuple(map(float, sizes)) for sizes in found.values()))


def bounds(
    forecast: Forecast, added: Margins, windows: Windows, scaling: Scaling
) -> dict[float, tuple[Float[np.ndarray, "n k"], Float[np.ndarray, "n k"]]]:
    """The intervals (low, high) of each level, in the series' units."""
    found = {}
    for level, size in zip(added.levels, added.sizes, strict=True):
        low, high = _ends(forecast, level) or (forecast.centre, forecast.centre)
        ends = np.stack([low - np.asarray(size), high + np.asarray(size)])
        low, high = scaling.invert(np.sort(ends, axis=0), windows)  # where a margin closes an interval, it is a point
        found[level] = (low, high)
    return found


def _ends(forecast: Forecast, level: float) -> tuple[Float[np.ndarray, "n k"], Float[np.ndarray, "n k"]] | None:
    if forecast.quantiles is None:
        return None
    tail = round((1 - level) / 2, 6)
    low, high = (forecast.levels.index(q) for q in (tail, round(1 - tail, 6)))
    return forecast.quantiles[..., low], forecast.quantiles[..., high]


def judge(
    name: str,
    dataset: Dataset,
    *,
    test: Forecast,
    valid: Forecast,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Judgement:
    """Set a model's forecasts of the test part against the baselines, which saw the training part alone.

    The training rows of the background scale MASE and RMSSE; `seed` is that of the block bootstrap. With `progress`,
    exponential smoothing and theta are fitted to every test window, too. Raises `UsageError` if a forecast is not finite.
    """
    windows, scaling, background = dataset
    part, notes = windows.test, []
    forecasts = _baselines(windows, scaling, background.period)
    if progress is not None:
        smoothing = classical.exponential_smoothing(part, background.period, progress)
        theta = classical.theta(part, background.period, progress)
        forecasts[baselines.SMOOTHING] = smoothing.forecast
        forecasts[baselines.THETA] = theta.forecast
    forecasts[name] = scaling.invert(test.centre, part)
    times = part.times if len(background.names) > 1 else None  # series of one time are no independent witnesses
    rows = verdict.compare(part.targets, forecasts, seed, times)
    copied = significance.lag_one_copy(part.targets, forecasts[name], part.inputs[:, -1], times)
    copying = verdict.copy_sentence(name, copied)
    scales = _scales(background, notes)
    added = margins(valid, windows.valid, scaling)
    if len(added.levels) < len(INTERVALS):
        missing = ", ".join(f"{level:.0%}" for level in INTERVALS[len(added.levels) :])
        notes.append(f"no {missing} intervals: {len(windows.valid.inputs)} validation rows are too few for them")
    ends = bounds(test, added, part, scaling)
    return Judgement(
        rows,
        verdict.sentence(rows[-1]),
        copying,
        _scores(part, forecasts, scales),
        coverage_table(part.targets, ends) if ends else [],
        frame(part, background.names, {"forecast": forecasts[name], "naive": forecasts[baselines.NAIVE]}, ends),
        tuple(notes),
    )


def _baselines(windows: WindowSplits, scaling: Scaling, period: int) -> dict[str, Float[np.ndarray, "n k"]]:
    """Return the forecasts of the test part by the baselines that need the training part alone."""
    test = windows.test
    forecasts = {baselines.NAIVE: baselines.naive(test), baselines.DRIFT: _drift(windows)}

    # Without a season, or with one longer than the window, there is no last season to repeat.
    if 1 < period <= test.inputs.shape[1]:
        forecasts[baselines.seasonal_name(period)] = baselines.seasonal_naive(test, period)

    x, y = batch(windows.train, scaling)
    linear = baselines.least_squares(np.asarray(x), np.asarray(y))
    lags = scaling.inputs(test).astype(np.float32)
    forecasts[baselines.LEAST_SQUARES] = scaling.invert(linear.predict(lags), test)
    return forecasts


def _drift(windows: WindowSplits) -> Float[np.ndarray, "n k"]:
    """Return the drift forecasts of the test part, fitted to each series by itself."""
    forecast = np.empty_like(windows.test.targets)
    training_rows = _rows_by_series(windows.train)
    for number, rows in _rows_by_series(windows.test).items():
        train = _take(windows.train, training_rows[number])
        test = _take(windows.test, rows)
        forecast[rows] = baselines.drift(test, train)
    return forecast


def _rows_by_series(part: Windows) -> dict[int, Int[np.ndarray, "_"]]:
    """Return the rows of each series, in their order; one sort, so that many series take no time."""
    order = np.argsort(part.series, kind="stable")
    numbers, starts = np.unique(part.series[order], return_index=True)
    return dict(zip(numbers.tolist(), np.split(order, starts[1:]), strict=True))


def _take(part: Windows, rows: Int[np.ndarray, "_"]) -> Windows:
    return Windows(*(array[rows] for array in part))


def _scales(background: Background, notes: list[str]) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]] | None:
    """The scales of MASE and RMSSE of every series; None, and a note, where there are none."""
    if not background.training:
        return None
    try:
        absolute, squared = (
            np.array([metrics.seasonal_scale(v, background.period, squared=square, source=name) for name, v in each])
            for square in (False, True)
            for each in [list(zip(background.names, background.training, strict=True))]
        )
    except UsageError as error:
        notes.append(f"no MASE and RMSSE: {error}")
        return None
    return absolute, squared


def _scores(
    part: Windows,
    forecasts: Mapping[str, Float[np.ndarray, "n k"]],
    scales: tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]] | None,
) -> pd.DataFrame:
    measures = {"rmse": metrics.rmse, "mae": metrics.mae, "smape": metrics.smape}
    rows = []
    for name, values in forecasts.items():
        for step in ("all", *range(1, values.shape[1] + 1)):
            at = slice(None) if step == "all" else slice(int(step) - 1, int(step))
            pair = part.targets[:, at], values[:, at]
            row = {"forecast": name, "step": step, "mse": metrics.mse(*pair)}
            row |= {measure: function(*pair) for measure, function in measures.items()}
            if scales is not None:
                absolute, squared = (scale[part.series] for scale in scales)
                row |= {"mase": metrics.mase(*pair, absolute), "rmsse": metrics.rmsse(*pair, squared)}
            rows.append(row)
    return pd.DataFrame(rows)


def naive_loss(windows: Windows, scaling: Scaling, steps: int) -> float:
    """Mean squared error of the last value over the first `steps`, in the model's own scale: the line to beat."""
    still = windows._replace(targets=baselines.naive(windows))
    return float(np.mean((scaling.targets(still) - scaling.targets(windows))[:, :steps] ** 2))


def frame(
    part: Windows,
    names: tuple[str, ...],
    columns: Mapping[str, Float[np.ndarray, "n k"]],
    ends: Mapping[float, tuple[Float[np.ndarray, "n k"], Float[np.ndarray, "n k"]]],
) -> pd.DataFrame:
    """A row for each window and step; `series` and `step` where there are several."""
    n, k = part.targets.shape
    time = "date" if np.issubdtype(part.times.dtype, np.datetime64) else "row"
    found = {time: np.repeat(part.times, k)}
    if len(names) > 1:
        found["series"] = np.repeat(np.asarray(names)[part.series], k)
    if k > 1:
        found["step"] = np.tile(np.arange(1, k + 1), n)
    found["actual"] = part.targets.ravel()
    found |= {name: values.ravel() for name, values in columns.items()}
    for level, pair in ends.items():
        found |= {f"{end}_{level:.0%}": v.ravel() for end, v in zip(("low", "high"), pair, strict=True)}
    return pd.DataFrame(found)


def before_test(windows: WindowSplits) -> pd.DataFrame | None:
    """The values that precede the test part in the first series: date, part, actual; None for rows that are not in time.

    A value is the first target of its window, so that rows which no window of a part may forecast are left out.
    """
    if not np.issubdtype(windows.test.times.dtype, np.datetime64):
        return None
    frames = []
    for name, part in (("training", windows.train), ("validation", windows.valid)):
        rows = _take(part, np.flatnonzero(part.series == windows.test.series[0]))
        frames.append(pd.DataFrame({"date": rows.times, "part": name, "actual": rows.targets[:, 0]}))
    return pd.concat(frames, ignore_index=True)
