"""Values in the unit of their series: points or distributions, judged by their errors, with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure

from jaxseq.data.dataset import Background, Dataset
from jaxseq.data.earlier import Earlier
from jaxseq.data.panel import Panel
from jaxseq.data.scaling import Scaling
from jaxseq.data.transforms import Transform
from jaxseq.data.uncut import PartWindows, WindowSplits
from jaxseq.data.windows import Windows, join
from jaxseq.forecasting import baselines, coverage, diagnostics, distributions, evaluate, plots, predictions, scored
from jaxseq.forecasting.calibration import Calibrated
from jaxseq.forecasting.distributions import Forecasts
from jaxseq.forecasting.evaluate import NO_MEMBERS, Entry, Judgement
from jaxseq.forecasting.intervals import Choice, Forecast
from jaxseq.forecasting.losses import Loss
from jaxseq.forecasting.metrics import Values

IS_VALUE: bool = True
COLUMN: str = "forecast"
SIMPLEST: str = baselines.NAIVE
MEASURE: str = "MSE"
VALID: str = "Validation MSE in the model's own scale"
TYPICAL: str = (
    "In the model's row each error is the root mean square over the seeds: it is a single run's, not that of\n"
    "their mean forecast."
)
CHOSEN: str = "and the intervals were chosen"
HOW: str = (
    "The intervals of a\nbaseline are of the model's kind, fitted to its own errors; scores are those of the quantiles "
    "that the intervals stand\nfor. "
)
PICTURES: tuple[str, str] = ("Forecast, test part", "Errors and intervals, test part")
SCORED: str = (
    "MASE and RMSSE divide by the mean seasonal change of all those rows of a series; MASE, sMAPE and RMSSE are means over "
    "the series, MAE and RMSE are of all values, in the series' unit. OWA is the mean of MASE and sMAPE relative to "
    "Naive2's, as in the M4 competition."
)


def needs(transform: Transform) -> bool:
    """Return True: every target can be inverted to a value."""
    return True


def loss(trained_by: str) -> Loss:
    """Return the loss of the training where it aims at the median, else the squared error."""
    return "absolute" if trained_by == "mae" else "squared"


def in_units(numbers: Float[np.ndarray, "n k"], part: PartWindows, scaling: Scaling) -> Values:
    """Invert the scaling."""
    return scaling.invert(numbers, part)


def in_scale(values: Values, part: PartWindows, scaling: Scaling) -> Float[np.ndarray, "n k"]:
    """Scale values as targets are."""
    return scaling.scaled(values, part)


def calibrate(dataset: Dataset, valid: Forecast, choice: Choice = "auto") -> Calibrated:
    """Fit intervals as `evaluate.calibrate` does."""
    return evaluate.calibrate(dataset, valid, choice)


def judge(
    name: str,
    dataset: Dataset,
    model: Entry,
    *,
    members: Mapping[str, Entry] = NO_MEMBERS,
    seed: int,
    loss: Loss = "squared",
) -> Judgement:
    """Compare values as `evaluate.judge` does."""
    return evaluate.judge(name, dataset, model, members=dict(members), seed=seed, loss=loss)


def typical(actual: Values, forecasts: Sequence[Values]) -> Values:
    """Return the values that are the root mean square error away from the actual ones."""
    squared_errors = [(actual - forecast) ** 2 for forecast in forecasts]
    return actual - np.sqrt(np.mean(squared_errors, axis=0))


def losses(actual: Values, forecast: Values) -> Float[np.ndarray, "n k"]:
    """Return squared errors."""
    return (actual - forecast) ** 2


def run_numbers(model: pd.Series, simplest: pd.Series) -> dict[str, float]:
    """Return the errors of the model, and its mean squared error relative to that of the last value."""
    errors = {name: float(model[name]) for name in ("mse", "rmse", "mae")}
    return {**errors, "relative_mse": float(model["mse"] / simplest["mse"])}


def section(judgement: Judgement, shown: pd.DataFrame, unit: str) -> str:
    """Return coverage of the intervals and scores of the distribution; nothing without intervals."""
    tables = [
        coverage.markdown(judgement.coverage, judgement.spread, unit),
        distributions.markdown(shown, unit, judgement.comparison.scaled),
    ]
    if not any(tables):
        return ""
    return "\n\n".join(["## Intervals", *filter(None, tables), ""])


def figures(
    judgement: Judgement, windows: WindowSplits, shown: pd.DataFrame, unit: str, title: str
) -> Iterator[Figure]:
    """Draw the forecasts beside the actual values, and their errors and intervals."""
    before = predictions.before_test(windows)
    # That of the table, so that picture and verdict compare with the same.
    reference = judgement.comparison.reference.name
    yield plots.forecast(judgement.predictions, unit, title, before, reference)
    yield diagnostics.errors(shown, judgement.predictions, judgement.coverage, unit, title)


future_figure = plots.fan


def simple_ends(ends: Windows, background: Background, panel: Panel, earlier: Earlier) -> Forecasts:
    """Return the forecasts of `scored.simple_forecasts`."""
    one_step = join([panel.windows_from(number, 1, 1, 1) for number in range(len(panel.series))])
    return scored.simple_forecasts(ends, background, one_step, earlier)


score = scored.score
