"""A model beside classical forecasts, on a sample of the windows of the test part.

The reference is the forecast that did best on a sample of the validation part, simple or classical.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from jaxseq.common.markdown import escaped
from jaxseq.data.dataset import Dataset
from jaxseq.data.uncut import PartWindows
from jaxseq.forecasting import baselines, classical, evaluate, predictions, verdict
from jaxseq.forecasting.intervals import Forecast, above_floor
from jaxseq.forecasting.losses import Loss
from jaxseq.forecasting.metrics import Values
from jaxseq.forecasting.verdict import Answer, Comparison

SAMPLE = "the sample"
"""The windows that were drawn, in sentences."""


class Beside(NamedTuple):
    """Comparison of a model with simple and classical forecasts on a sample of windows.

    comparison  of all of them with the reference
    decides     whether the reference is a classical forecast, so that the verdict of the run is this one
    answer      verdict on the model, and the sentence on it
    scores      a row for each forecast and step of the horizon, and for all steps together (step "all")
    notes       how the windows were drawn, and which fits failed
    """

    comparison: Comparison
    decides: bool
    answer: Answer
    verdict: str
    scores: pd.DataFrame
    notes: tuple[str, ...]


def judge(
    name: str,
    dataset: Dataset,
    test: Forecast,
    *,
    seed: int,
    loss: Loss,
    progress: classical.Progress,
) -> Beside:
    """Compare a model's forecasts of the test part, in its own scale, with simple and classical ones.

    `seed` draws the windows and the bootstrap. Raises `UsageError` where statsforecast is not installed.
    """
    background = dataset.background
    sampled = _Sampled(dataset, seed)
    part = sampled.dataset.windows.test
    made = _simple_and_classical(sampled.dataset, progress)
    forecasts = {**made.test, name: _in_units(test.centre, dataset)[sampled.test_rows]}
    forecasts = {label: above_floor(values, background.floor) for label, values in forecasts.items()}

    scales, _ = evaluate.series_scales(background)
    reference = evaluate.choose_reference(sampled.dataset, scales, loss, made.valid)
    times = predictions.target_times(part, background.known_series)
    rows = evaluate.locate_rows(times, part.series, background=sampled.dataset.background, scales=scales)
    compared = evaluate.comparisons(part.targets, forecasts, reference, rows=rows, loss=loss, seed=seed)
    deciding = verdict.deciding_comparison(compared.all, compared.last_value)

    sentence = verdict.sentence(deciding.model, deciding.reference.name, SAMPLE)
    of_test = _counts(len(sampled.test_rows), dataset.windows.test, "test")
    of_valid = _counts(len(sampled.valid_rows), dataset.windows.valid, "validation")
    longest = max(classical.FEWEST_VALUES, classical.SEASONS * background.period)
    drawn = (
        f"classical forecasts: {of_test} and {of_valid}, drawn with seed {seed}, each with fits of its own to at most "
        f"{longest} values before it"
    )
    return Beside(
        comparison=compared.all,
        decides=reference in made.methods,
        answer=verdict.answer(deciding.model),
        verdict=f"{sentence}, on {of_test}",
        scores=evaluate.error_table(part, forecasts, scales, reference),
        notes=(drawn, *made.notes),
    )


class _Sampled:
    """A data set with a sample of the windows of its validation and test part."""

    def __init__(self, dataset: Dataset, seed: int) -> None:
        windows = dataset.windows
        self.valid_rows = classical.sample(len(windows.valid.origins), seed)
        self.test_rows = classical.sample(len(windows.test.origins), seed)
        valid = windows.valid.take(self.valid_rows)
        test = windows.test.take(self.test_rows)

        # Few of the windows that were drawn share targets: those that do are counted, however long the horizon is.
        stride = dataset.background.test_stride
        if len(self.test_rows) < len(windows.test.origins):
            stride = max(2, test.horizon, stride)
        background = dataset.background._replace(test_stride=stride)
        self.dataset = Dataset(windows._replace(valid=valid, test=test), dataset.scaling, background)


class _Made(NamedTuple):
    """Forecasts of both parts by their name, the names of the classical ones, and notes on failed fits."""

    valid: dict[str, Values]
    test: dict[str, Values]
    methods: list[str]
    notes: list[str]


def _simple_and_classical(dataset: Dataset, progress: classical.Progress) -> _Made:
    """Forecast the validation and the test part of a sample by the baselines and by the classical methods."""
    parts = [dataset.windows.valid, dataset.windows.test]
    (valid, test), _ = baselines.distinct(baselines.forecast_parts(dataset, parts))
    fitted_valid = classical.forecast(parts[0], dataset.background, _half(progress, first=True))
    fitted_test = classical.forecast(parts[1], dataset.background, _half(progress, first=False))
    # A method that suits one part alone could not have been chosen.
    methods = [method for method in fitted_test.values if method in fitted_valid.values]
    for method in methods:
        valid[method] = fitted_valid.values[method]
        test[method] = fitted_test.values[method]
    return _Made(valid, test, methods, [*fitted_valid.notes, *fitted_test.notes])


def _half(progress: classical.Progress, first: bool) -> classical.Progress:
    """Return the progress of one of two equal halves of the work."""
    before = 1
    if first:
        before = 0
    return lambda done, total: progress(before * total + done, 2 * total)


def _in_units(values: Values, dataset: Dataset) -> Values:
    """Return a model's forecasts of the test part in the series' units."""
    return dataset.scaling.invert(values, dataset.windows.test)


def _counts(drawn: int, part: PartWindows, name: str) -> str:
    """Return how many windows of a part were drawn, as a sentence has it."""
    count = len(part.origins)
    windows = f"windows of the {name} part"
    if drawn == count:
        return f"all {count:,} {windows}"
    return f"{drawn:,} of {count:,} {windows}"


def markdown(beside: Beside, unit: str) -> str:
    """Return the section of a report on the classical forecasts."""
    comparison = beside.comparison
    columns = verdict.headings(unit, comparison.scaled, comparison.loss)
    notes = "\n".join(f"{escaped(note)}.\n" for note in beside.notes)
    return f"""## Beside classical forecasts

{beside.verdict}.

{verdict.markdown(verdict.shown(comparison).rows, columns)}

{notes}
The reference of this table did best on the windows of the validation part; where it is a classical forecast, the verdict
of the run is that of this table.
"""
