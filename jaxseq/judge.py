"""From a model's predictions on the test part to a table, a sentence, and the numbers behind them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from jaxseq.arrays import Batch
from jaxseq.data.windows import BatchSplits, Scaling, Windows, WindowSplits
from jaxseq.forecasting import baselines, significance, verdict


class Judgement(NamedTuple):
    """What the test part allows to be said of one model.

    rows         errors of the naive forecast, the other baselines and the model, in the series' unit
    verdict      one sentence on the model
    copying      one sentence on whether it only copies the last value
    predictions  a row for each test window and step: date (or row), step, actual, forecast, naive
    """

    rows: list[verdict.Row]
    verdict: str
    copying: str
    predictions: pd.DataFrame


def judge(
    name: str,
    windows: WindowSplits,
    batches: BatchSplits,
    scaling: Scaling,
    prediction: Float[np.ndarray, "n k"],
    seed: int,
) -> Judgement:
    """Set a model's scaled predictions of the test part against the baselines, which saw the training part alone.

    `seed` is that of the block bootstrap. Raises `UsageError` if a prediction is not finite.
    """
    test = windows.test
    last = test.inputs[:, -1]
    linear = baselines.least_squares(np.asarray(batches.train.x), np.asarray(batches.train.y))
    forecasts = {
        verdict.NAIVE: baselines.naive(test),
        "drift": baselines.drift(test, windows.train),
        "least squares on the lags": scaling.invert(linear.predict(np.asarray(batches.test.x)), last),
        name: scaling.invert(prediction, last),
    }
    rows = verdict.compare(test.targets, forecasts, seed)
    copying = verdict.copy_sentence(name, significance.lag_one_copy(test.targets, forecasts[name], last))
    return Judgement(rows, verdict.sentence(rows[-1]), copying, _frame(test, forecasts[name], forecasts[verdict.NAIVE]))


def naive_loss(valid: Batch, scaling: Scaling, windows: Windows) -> float:
    """Mean squared error of the last value on a part, in the model's own scale: the line to beat in a loss curve."""
    last = windows.inputs[:, -1:]
    return float(np.mean((scaling.targets(last, last[:, 0]) - valid.y) ** 2))


def _frame(test: Windows, forecast: Float[np.ndarray, "n k"], naive: Float[np.ndarray, "n k"]) -> pd.DataFrame:
    n, k = forecast.shape
    time = "date" if np.issubdtype(test.times.dtype, np.datetime64) else "row"
    columns = {"actual": test.targets.ravel(), "forecast": forecast.ravel(), "naive": naive.ravel()}
    steps = {} if k == 1 else {"step": np.tile(np.arange(1, k + 1), n)}
    return pd.DataFrame({time: np.repeat(test.times, k), **steps, **columns})
