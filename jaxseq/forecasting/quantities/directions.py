"""Directions: the probability that a value is above the last known one, judged by log loss, Brier score and accuracy.

A tie is no rise. The reference and the answer are found as those of values are, by the logarithmic loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure

from jaxseq.common.text import counted
from jaxseq.data.dataset import Background, Dataset
from jaxseq.data.earlier import Earlier
from jaxseq.data.later import Later
from jaxseq.data.panel import Panel
from jaxseq.data.scaling import Scaling
from jaxseq.data.transforms import Transform
from jaxseq.data.uncut import PartWindows, WindowSplits
from jaxseq.data.windows import Windows, join
from jaxseq.forecasting import (
    evaluate,
    metrics,
    probability_plots,
    reliability,
    rises,
    significance,
    verdict,
)
from jaxseq.forecasting.calibration import Calibrated
from jaxseq.forecasting.distributions import Forecasts
from jaxseq.forecasting.evaluate import NO_MEMBERS, Entry, Judgement
from jaxseq.forecasting.intervals import Choice, Forecast, Intervals
from jaxseq.forecasting.losses import Loss, row_losses
from jaxseq.forecasting.metrics import Values
from jaxseq.forecasting.predictions import frame, target_times
from jaxseq.forecasting.scored import LATER_PART, Ends, Score, rows_of_ends

IS_VALUE: bool = False
COLUMN: str = "p_rise"
SIMPLEST: str = rises.SHARE
MEASURE: str = "Log loss"
VALID: str = "Validation Brier score"
TYPICAL: str = (
    "In the model's row each probability has the mean log loss of the seeds: it is a single run's, not that of\n"
    "their mean probability."
)
CHOSEN: str = "was chosen"
HOW: str = (
    "Forecasts are probabilities\nthat a value is above the last known one; a value equal to it is no rise. The log loss "
    "decides. Of the simple forecasts\none is the share of rises in the training part, the other goes on in the last "
    "direction, with the share of the training\npart in which that was right. "
)
PICTURES: tuple[str, str] = ("Probability of a rise, test part", "Reliability, test part")
SCORED: str = (
    "Forecasts are probabilities that a value is above the last known one at the end of the run's data; a value equal to "
    "it is no rise. Accuracy is the share of values on the side that has more than half of the probability."
)
MEASURES = {"log_loss": metrics.log_loss, "brier": metrics.brier, "accuracy": metrics.accuracy}
"""Scores by the name of their column."""
PIECE = 65_536
"""Training windows that are counted at once."""


def needs(transform: Transform) -> bool:
    """Return whether targets are above 0 where the value is above the last known one."""
    return transform.from_last


def loss(trained_by: str) -> Loss:
    """Return the logarithmic loss."""
    return "log"


def in_units(numbers: Float[np.ndarray, "n k"], part: PartWindows, scaling: Scaling) -> Values:
    """Return the probabilities: they have no unit."""
    return numbers


def in_scale(values: Values, part: PartWindows, scaling: Scaling) -> Float[np.ndarray, "n k"]:
    """Return the probabilities."""
    return values


def calibrate(dataset: Dataset, valid: Forecast, choice: Choice = "auto") -> Calibrated:
    """Return no intervals: a probability has none."""
    return Calibrated(Intervals("split", levels=(), sizes=()), ())


def judge(
    name: str,
    dataset: Dataset,
    model: Entry,
    *,
    members: Mapping[str, Entry] = NO_MEMBERS,
    seed: int,
    loss: Loss = "log",
) -> Judgement:
    """Compare probabilities of a rise in the test part with the simple forecasts of `rises`, fitted to the training part.

    The reference is the simple forecast with the smallest mean log loss on the validation part. Raises `UsageError` if a
    probability is not finite.
    """
    background = dataset.background
    train, valid, part = dataset.windows
    shares = rises.fit(train.pieces(PIECE), len(background.names))
    of_valid = rises.forecasts(shares, valid)
    actual = rises.of(part)
    known_valid = rises.of(valid)
    valid_losses = {label: np.nanmean(row_losses(known_valid, values, loss)) for label, values in of_valid.items()}
    reference = min(valid_losses, key=lambda label: valid_losses[label])

    forecasts = rises.forecasts(shares, part)
    models = {**members, name: model}
    forecasts |= {label: entry.test.centre for label, entry in models.items()}
    series = background.known_series
    times = target_times(part, series)
    rows = evaluate.locate_rows(times, part.series, background=background, scales=None)
    compared = evaluate.comparisons(actual, forecasts, reference, rows=rows, loss=loss, seed=seed, simplest=SIMPLEST)
    deciding = verdict.deciding_comparison(compared.all, compared.last_value)
    scores = _scores(actual, forecasts, reference)
    scores.loc[scores["forecast"].isin(list(members)), "role"] = "member"

    remarks = [verdict.ranking_sentence(compared.all, compared.last_value)]
    if rows.series is not None:
        remarks.append(verdict.series_sentence(name, significance.series_tests(compared.all.losses)))
    columns = {
        "actual": actual,
        "forecast": forecasts[name],
        "naive": forecasts[SIMPLEST],
        "reference": forecasts[reference],
    }
    return Judgement(
        comparison=compared.all,
        answer=verdict.answer(deciding.model),
        verdict=verdict.sentence(deciding.model, deciding.reference.name),
        remarks=tuple(remarks),
        scores=scores,
        coverage=[],
        spread=[],
        predictions=frame(part, background.names, columns, {}, times, keys=background.keys),
        notes=(_counts(actual, part), *model.calibrated.notes),
    )


def _counts(actual: Values, part: PartWindows) -> str:
    known = int(np.isfinite(actual).sum())
    share = float(np.nanmean(actual))
    rise_words = f"{share:.1%} of {counted(known, 'target')} are rises"
    return f"{rise_words}; {rises.ties(part):,} equal the last value, which is no rise"


def _scores(actual: Values, forecasts: Forecasts, reference: str) -> pd.DataFrame:
    """Return the scores of every forecast, the model last, over all steps and by step; unknown targets are left out."""
    *_, model = forecasts
    roles = {reference: "reference", model: "model"}
    table = []
    for name, forecast in forecasts.items():
        for step in ("all", *range(1, actual.shape[1] + 1)):
            chosen = slice(None)
            if step != "all":
                chosen = slice(int(step) - 1, int(step))
            came = actual[:, chosen]
            # A step that no series has reached has no scores.
            if not np.isfinite(came).any():
                continue
            probability = forecast[:, chosen]
            scores = {label: measure(came, probability) for label, measure in MEASURES.items()}
            role = roles.get(name, "baseline")
            table.append({"forecast": name, "role": role, "step": step, **scores})
    return pd.DataFrame(table)


def typical(actual: Values, forecasts: Sequence[Values]) -> Values:
    """Return the probabilities whose log loss is the mean one."""
    of_actual = np.exp(-np.mean([losses(actual, forecast) for forecast in forecasts], axis=0))
    # Where nothing came, no probability is judged.
    of_rise = np.where(actual == 1, of_actual, 1 - of_actual)
    return np.where(np.isnan(actual), forecasts[0], of_rise)


losses = metrics.log_losses


def run_numbers(model: pd.Series, simplest: pd.Series) -> dict[str, float]:
    """Return the scores of the model, and its log loss relative to that of the training's share of rises."""
    numbers = {name: float(model[name]) for name in MEASURES}
    return {**numbers, "relative_log_loss": float(model["log_loss"] / simplest["log_loss"])}


def section(judgement: Judgement, shown: pd.DataFrame, unit: str) -> str:
    """Return the table of the reliability."""
    return f"## Reliability\n\n{reliability.markdown(_groups(judgement))}\n"


def _groups(judgement: Judgement) -> list[reliability.Group]:
    came = judgement.predictions["actual"].to_numpy(float)
    probability = judgement.predictions["forecast"].to_numpy(float)
    return reliability.by_deciles(came, probability)


def figures(
    judgement: Judgement, windows: WindowSplits, shown: pd.DataFrame, unit: str, title: str
) -> Iterator[Figure]:
    """Draw the probabilities with the rises that came, and the reliability."""
    yield probability_plots.test_part(judgement.predictions, judgement.comparison.reference.name, title)
    yield probability_plots.reliability(_groups(judgement), title)


def future_figure(history: pd.DataFrame, forecast: pd.DataFrame, unit: str, title: str) -> Figure:
    """Draw the probabilities by step; `history` and `unit` are of values."""
    return probability_plots.future(forecast, COLUMN, title)


def simple_ends(ends: Windows, background: Background, panel: Panel, earlier: Earlier) -> Forecasts:
    """Return the forecasts of `rises`, fitted to all rows of each series."""
    steps = ends.targets.shape[1]
    numbers = range(len(panel.series))
    past = join([panel.windows_from(number, 2, 2, steps) for number in numbers])
    return rises.forecasts(rises.fit([past], len(panel.series)), ends)


def score(ends: Ends, later: Later, *, reference: str, loss: Loss = "log", seed: int = 0) -> Score:
    """Judge probabilities of a rise above the end of each series by the values that came.

    Raises `UsageError` if a probability is not finite.
    """
    background = ends.background
    actual = rises.of(ends.windows._replace(targets=later.actual))
    part = ends.windows._replace(targets=actual)
    forecasts = {**ends.simple, ends.name: ends.forecast}
    rows = rows_of_ends(part.series, scales=None)
    compared = evaluate.comparisons(actual, forecasts, reference, rows=rows, loss=loss, seed=seed, simplest=SIMPLEST)
    deciding = verdict.deciding_comparison(compared.all, compared.last_value)

    values = frame(
        part, background.names, {COLUMN: ends.forecast, **ends.simple}, {}, later.times, keys=background.keys
    )
    remarks = [verdict.ranking_sentence(compared.all, compared.last_value, LATER_PART)]
    if rows.series is not None:
        remarks.append(verdict.series_sentence(ends.name, significance.series_tests(compared.all.losses)))
    return Score(
        errors=_scores(actual, forecasts, reference),
        comparison=compared.all,
        answer=verdict.answer(deciding.model),
        verdict=verdict.sentence(deciding.model, deciding.reference.name, LATER_PART),
        remarks=tuple(remarks),
        coverage=[],
        spread=[],
        values=values[values["actual"].notna()].reset_index(drop=True),
        notes=later.notes,
    )
