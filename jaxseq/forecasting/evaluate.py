"""From a model's forecasts of the test part to tables, sentences, and the numbers behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped

from jaxseq.common.errors import UsageError
from jaxseq.data.dataset import Background, Dataset
from jaxseq.data.scaling import Scaling
from jaxseq.data.windows import Windows, WindowSplits
from jaxseq.forecasting import baselines, classical, conformal, metrics, significance, verdict
from jaxseq.forecasting.coverage import Coverage, coverage_table
from jaxseq.forecasting.significance import Loss, Rows, Scales
from jaxseq.forecasting.verdict import Comparison

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

    comparison   of the model and every baseline with the reference
    scaled       whether its errors are scaled by each series' own seasonal change, as those of a panel are
    verdict      sentence on the model against the reference
    remarks      sentences on how it stands to the last value, to the best forecast and in each series, and on copying
    scores       a row for each forecast and step of the horizon, and for all steps together (step "all")
    coverage     of the model's intervals, nominal and measured
    predictions  a row for each test window and step: series, time, step, actual, forecast, naive, reference, intervals
    notes        what was left out, and why
    """

    comparison: Comparison
    scaled: bool
    verdict: str
    remarks: tuple[str, ...]
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
    loss: Loss = "squared",
    progress: Callable[[int, int], None] | None = None,
) -> Judgement:
    """Compare a model's forecasts of the test part with those of the baselines, which saw the training part alone.

    The reference is the baseline with the smallest mean `loss` on the validation part. `seed` is that of the bootstrap.
    With `progress`, exponential smoothing and theta are fitted to every test window, too. Raises `UsageError` if a
    forecast is not finite.
    """
    windows, scaling, background = dataset
    part = windows.test
    notes = _season_notes(background)
    scales = series_scales(background, notes)
    reference = choose_reference(dataset, scales, loss)

    forecasts = baselines.forecast_all(dataset, part)
    if progress is not None:
        forecasts |= _classical_forecasts(part, background.period, progress)
    forecasts[name] = scaling.invert(test.centre, part)

    rows = places(part.times, part.series, background, scales)
    comparison = verdict.compare(part.targets, forecasts, reference, rows=rows, loss=loss, seed=seed)

    added = margins(valid, windows.valid, scaling)
    if len(added.levels) < len(INTERVALS):
        missing = ", ".join(f"{level:.0%}" for level in INTERVALS[len(added.levels) :])
        notes.append(f"no {missing} intervals: {len(windows.valid.inputs)} validation rows are too few for them")
    ends = bounds(test, added, part, scaling)
    columns = {
        "forecast": forecasts[name],
        "naive": forecasts[baselines.NAIVE],
        "reference": forecasts[reference],
    }
    return Judgement(
        comparison=comparison,
        scaled=rows.scales is not None,
        verdict=verdict.sentence(comparison.model, reference),
        remarks=_remarks(comparison, part, forecasts, rows, seed),
        scores=_scores(part, forecasts, scales, reference),
        coverage=coverage_table(part.targets, ends) if ends else [],
        predictions=frame(part, background.names, columns, ends),
        notes=tuple(notes),
    )


def choose_reference(dataset: Dataset, scales: Scales | None = None, loss: Loss = "squared") -> str:
    """Return the name of the baseline with the smallest mean loss on the validation part.

    scales  of each series' losses; None compares losses in the series' unit
    """
    part = dataset.windows.valid
    means = {}
    for name, forecast in baselines.forecast_all(dataset, part).items():
        losses = significance.row_losses(part.targets, forecast, loss)
        if scales is not None:
            losses = losses / getattr(scales, loss)[part.series]
        means[name] = np.nanmean(losses)
    return min(means, key=lambda name: means[name])


def _classical_forecasts(
    part: Windows, period: int, progress: Callable[[int, int], None]
) -> dict[str, Float[np.ndarray, "n k"]]:
    smoothing = classical.exponential_smoothing(part, period, progress)
    theta = classical.theta(part, period, progress)
    return {baselines.SMOOTHING: smoothing.forecast, baselines.THETA: theta.forecast}


def _season_notes(background: Background) -> list[str]:
    """Say that the training part is too short for the season of the dates."""
    if background.period > 1 and background.training_rows:
        shortest = min(background.training_rows)
        if 2 * background.period > shortest:
            return [
                f"no seasonal naive forecast: the season of {background.period} time steps does not fit twice into "
                f"{shortest} training rows"
            ]
    return []


def series_scales(background: Background, notes: list[str] | None = None) -> Scales | None:
    """Return the scales of MASE and RMSSE of every series; None, and a note, where there are none."""
    if not background.training_rows:
        return None
    absolute = []
    squared = []
    for name, values in zip(background.names, background.training, strict=True):
        try:
            period = background.period
            if len(values) <= period:
                period = 1
            absolute.append(metrics.seasonal_scale(values, period, source=name))
            squared.append(metrics.seasonal_scale(values, period, squared=True, source=name))
        except UsageError as error:
            if notes is not None:
                notes.append(f"no MASE and RMSSE: {error}")
            return None
    return Scales(np.array(absolute), np.array(squared))


def places(
    times: Shaped[np.ndarray, " n"],
    series: Int[np.ndarray, " n"],
    background: Background,
    scales: Scales | None,
) -> Rows:
    """Return the places of test rows; the losses of a panel are scaled, those of a single series are not."""
    if len(background.names) == 1:
        return significance.IN_ORDER
    by_row = None
    if scales is not None:
        by_row = Scales(scales.absolute[series], scales.squared[series])
    return Rows(times, series, by_row)


def _remarks(
    comparison: Comparison, part: Windows, forecasts: Mapping[str, Float[np.ndarray, "n k"]], rows: Rows, seed: int
) -> tuple[str, ...]:
    """Return the sentences that stand beside the verdict."""
    name = comparison.model.name
    last_value = None
    if comparison.reference.name != baselines.NAIVE:
        pair = {baselines.NAIVE: forecasts[baselines.NAIVE], name: forecasts[name]}
        last_value = verdict.compare(part.targets, pair, baselines.NAIVE, rows=rows, loss=comparison.loss, seed=seed)

    remarks = [verdict.beside(comparison, last_value)]
    if rows.series is not None:
        remarks.append(verdict.series_sentence(name, significance.series_tests(comparison.losses)))
    copied = significance.lag_one_copy(part.targets, forecasts[name], part.inputs[:, -1], rows.times)
    copying = verdict.copy_sentence(name, copied)
    if copying is not None:
        remarks.append(copying)
    return tuple(remarks)


def _scores(
    part: Windows,
    forecasts: Mapping[str, Float[np.ndarray, "n k"]],
    scales: Scales | None,
    reference: str,
) -> pd.DataFrame:
    """Return the errors of every forecast, over all steps and by step; unknown targets are left out."""
    measures = {"mse": metrics.mse, "rmse": metrics.rmse, "mae": metrics.mae, "smape": metrics.smape}
    *_, model = forecasts
    roles = {reference: "reference", model: "model"}
    rows = []
    for name, values in forecasts.items():
        for step in ("all", *range(1, values.shape[1] + 1)):
            columns = slice(None) if step == "all" else slice(int(step) - 1, int(step))
            known = np.isfinite(part.targets[:, columns])
            actual = part.targets[:, columns][known][:, None]
            forecast = values[:, columns][known][:, None]
            row = {"forecast": name, "role": roles.get(name, "baseline"), "step": step}
            row |= {measure: function(actual, forecast) for measure, function in measures.items()}
            if scales is not None:
                series = part.series[np.nonzero(known)[0]]
                row["mase"] = metrics.mase(actual, forecast, scales.absolute[series])
                row["rmsse"] = metrics.rmsse(actual, forecast, scales.squared[series])
            rows.append(row)
    return pd.DataFrame(rows)


def naive_loss(windows: Windows, scaling: Scaling, steps: int) -> float:
    """Mean squared error of the last value over the first `steps`, in the model's own scale: the line to beat."""
    still = windows._replace(targets=baselines.naive(windows))
    return float(np.nanmean((scaling.targets(still) - scaling.targets(windows))[:, :steps] ** 2))


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


def take(part: Windows, rows: Int[np.ndarray, "_"]) -> Windows:
    """Return some rows of a part."""
    return Windows(*(array[rows] for array in part))


def before_test(windows: WindowSplits) -> pd.DataFrame | None:
    """The values that precede the test part in the first series: date, part, actual; None for rows that are not in time.

    A value is the first target of its window, so that rows which no window of a part may forecast are left out.
    """
    if not np.issubdtype(windows.test.times.dtype, np.datetime64):
        return None
    frames = []
    for name, part in (("training", windows.train), ("validation", windows.valid)):
        rows = take(part, np.flatnonzero(part.series == windows.test.series[0]))
        frames.append(pd.DataFrame({"date": rows.times, "part": name, "actual": rows.targets[:, 0]}))
    return pd.concat(frames, ignore_index=True)
