"""A study of forecasts summed up: several seeds on several folds, against the reference of each fold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from jaxseq.checkpoint import run_seal
from jaxseq.common import csv_tables
from jaxseq.common.text import counted
from jaxseq.forecasting import evaluate, predictions, quantities, verdict
from jaxseq.forecasting.losses import IN_ORDER, Rows
from jaxseq.forecasting.quantities import Quantity
from jaxseq.train import overrides
from jaxseq.train.domains.base import Member
from jaxseq.train.domains.forecast_report import judged_loss
from jaxseq.train.experiments.forecasts import ForecastExperiment

BEST_OF_FOLDS = "the best baseline of each fold"
"""Name of the reference of a study whose folds have different ones."""


def summary(experiment: ForecastExperiment, runs: Sequence[Member], table: pd.DataFrame) -> str:
    """Summarise a study: the model's mean over the seeds on all folds together against the references, its spread."""
    name = f"{overrides.network_name(experiment)}, mean over {counted(table['seed'].nunique(), 'seed')}"
    pooled = _pooled(experiment, runs)
    quantity = quantities.of(experiment.head)
    forecasts = {
        pooled.reference_name: pooled.reference,
        quantity.SIMPLEST: pooled.naive,
        name: pooled.typical,
    }
    comparison = verdict.compare(
        pooled.actual,
        forecasts,
        pooled.reference_name,
        rows=pooled.rows,
        loss=judged_loss(experiment),
        seed=experiment.seed,
    )
    last_value = verdict.compare(
        pooled.actual,
        {quantity.SIMPLEST: pooled.naive, name: forecasts[name]},
        quantity.SIMPLEST,
        rows=pooled.rows,
        loss=comparison.loss,
        seed=experiment.seed,
    )
    deciding = verdict.deciding_comparison(comparison, last_value)
    columns = verdict.headings(experiment.data.unit, pooled.rows.scales is not None, comparison.loss)

    measure = f"{quantity.MEASURE} relative to {verdict.phrase(quantity.SIMPLEST)}"
    by_seed = _relative_loss_by_seed(runs, quantity)
    # A single seed has no standard deviation.
    spread = ""
    if len(by_seed) > 1:
        spread = f" ± {by_seed.std(ddof=1):.4f} (standard deviation over seeds)"
    valid = table.groupby("seed")[["valid_mse", "valid_mse_last_epoch"]].mean()
    best_epoch = _mean_and_spread(valid["valid_mse"])
    last_epoch = _mean_and_spread(valid["valid_mse_last_epoch"])
    return f"""# {experiment.name}: {experiment.data.name}, {overrides.network_name(experiment)}, {len(runs)} runs

{verdict.sentence(deciding.model, deciding.reference.name)}.

{verdict.markdown(comparison.rows, columns)}

{measure} over all folds, by seed: mean {by_seed.mean():.4f}{spread}; {by_seed.min():.4f} to
{by_seed.max():.4f}. {quantity.TYPICAL} {quantity.VALID}: best epoch {best_epoch}; last epoch {last_epoch}.

Folds: {table["fold"].nunique()}, each with a model that was trained, chosen and calibrated on what comes before it, and
with the reference that did best on its own validation part. One row a run: `study.csv`.
"""


def _mean_and_spread(values: pd.Series) -> str:
    if len(values) == 1:
        return f"{values.mean():.5f}"
    return f"{values.mean():.5f} ± {values.std(ddof=1):.5f}"


class _Pooled(NamedTuple):
    """Forecasts of all folds together, in the series' units.

    reference       forecast by the reference of each fold
    reference_name  that of the baseline, if it is the same in all folds
    typical         forecast of the model with the mean loss of the seeds
    rows            times and series of a panel, and the scales of its losses
    """

    actual: Float[np.ndarray, "n k"]
    naive: Float[np.ndarray, "n k"]
    reference: Float[np.ndarray, "n k"]
    reference_name: str
    typical: Float[np.ndarray, "n k"]
    rows: Rows


def _pooled(experiment: ForecastExperiment, runs: Sequence[Member]) -> _Pooled:
    """Read the predictions of all runs of a study."""
    first_of_fold = {}
    quantity = quantities.of(experiment.head)
    typical = []
    for fold in sorted({member.fold for member in runs}):
        members = [member for member in runs if member.fold == fold]
        frames = [_predictions(member) for member in members]
        truth = _by_step(frames[0], "actual")
        # The mean loss of the seeds is that of one run; their mean forecast would have a smaller one.
        typical.append(quantity.typical(truth, [_by_step(frame, "forecast") for frame in frames]))

        # The seeds of a fold forecast the same rows, so one of them gives the truth and the simple forecasts.
        first_of_fold[members[0].folder] = frames[0]

    names = {_reference_name(folder) for folder in first_of_fold}
    reference_name = names.pop() if len(names) == 1 else BEST_OF_FOLDS
    frames = list(first_of_fold.values())
    actual, naive, reference = (
        np.concatenate([_by_step(frame, column) for frame in frames]) for column in ("actual", "naive", "reference")
    )
    return _Pooled(
        actual=actual,
        naive=naive,
        reference=reference,
        reference_name=reference_name,
        typical=np.concatenate(typical),
        rows=_places(experiment, frames),
    )


def _places(experiment: ForecastExperiment, frames: Sequence[pd.DataFrame]) -> Rows:
    """Return the times, series and scales of the rows of a panel; a single series needs none, if each window is judged."""
    time_column = str(frames[0].columns[0])
    times = np.concatenate([_by_step(frame, time_column) for frame in frames])
    if "series" not in frames[0]:
        return IN_ORDER._replace(overlap=evaluate.overlapping_windows(times, experiment.test_stride))
    background = experiment.load().background
    names = np.concatenate([_by_step(frame, "series")[:, 0] for frame in frames])
    number = {name: place for place, name in enumerate(background.names)}
    series = np.array([number[str(name)] for name in names])
    scales = None
    # A probability has no unit to be scaled by.
    if quantities.of(experiment.head).IS_VALUE:
        scales, _ = evaluate.series_scales(background)
    return evaluate.locate_rows(times, series, background=background, scales=scales)


def _reference_name(folder: Path) -> str:
    scores = csv_tables.read(folder / run_seal.SCORES)
    return str(scores.loc[scores["role"] == "reference", "forecast"].iloc[0])


def _relative_loss_by_seed(runs: Sequence[Member], quantity: Quantity) -> Float[np.ndarray, "s"]:
    """Return the mean loss relative to that of the simplest forecast, all folds together, for each seed."""
    ratios = []
    for seed in sorted({member.seed for member in runs}):
        frame = pd.concat([_predictions(member) for member in runs if member.seed == seed])
        actual, forecast, naive = (frame[[name]].to_numpy(float) for name in ("actual", "forecast", "naive"))
        model_loss = np.nanmean(quantity.losses(actual, forecast))
        naive_loss = np.nanmean(quantity.losses(actual, naive))
        # A ratio of means, not a mean of ratios, in which a quiet fold would count as much as a volatile one.
        ratios.append(model_loss / naive_loss)
    return np.array(ratios)


def _predictions(member: Member) -> pd.DataFrame:
    return predictions.read(member.folder / run_seal.PREDICTIONS)


def _by_step(frame: pd.DataFrame, column: str) -> np.ndarray:
    """Return a column of predictions as "n k", a row for each window."""
    # A horizon of a single step has no column for it.
    steps = 1
    if "step" in frame:
        steps = int(frame["step"].max())

    values = frame[column].to_numpy()
    return values.reshape(-1, steps)
