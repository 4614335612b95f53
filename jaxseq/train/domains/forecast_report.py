"""The judgement of forecasts in words: on the console, in Markdown, and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
from rich.console import Console

from jaxseq.checkpoint import run_seal
from jaxseq.common import html_page
from jaxseq.common.markdown import escaped
from jaxseq.data.dataset import Dataset
from jaxseq.forecasting import chart, chart_errors, coverage, quantities, verdict
from jaxseq.forecasting.beside_classical import Beside
from jaxseq.forecasting.bootstrap import MIN_SERIES
from jaxseq.forecasting.confidence import MIN_BLOCKS
from jaxseq.forecasting.evaluate import Judgement
from jaxseq.forecasting.losses import Loss
from jaxseq.train import explain, feed, overrides, run_folder
from jaxseq.train.experiments.forecasts import ForecastExperiment
from jaxseq.train.job import Job

ForecastJob: TypeAlias = Job[ForecastExperiment, Dataset]
"""A forecast with its data: windows in the series' own units, their scaling and background."""


def print_judgement(
    job: ForecastJob, judgement: Judgement, folder: Path, console: Console, written: Sequence[str]
) -> None:
    """Print the table, the verdict, and the names of the files that were written."""
    data = job.experiment.data
    comparison = judgement.comparison
    title = f"{data.name}, test part; reference: {verdict.phrase(comparison.reference.name)}"
    if data.unit and comparison.has_unit:
        title = f"{title}; errors in {data.unit}"
    columns = verdict.headings("", comparison.scaled, comparison.loss)
    console.print(verdict.score_table(verdict.shown(comparison).rows, columns, title))
    for text in _omission_words(comparison):
        console.print(text, highlight=False, markup=False)
    console.print(judgement.verdict, style="bold", highlight=False, markup=False)
    for text in (*judgement.remarks, *_coverage_words(judgement), *judgement.notes):
        console.print(text, highlight=False, markup=False)

    console.print(f"{folder}: {', '.join(written)}", highlight=False)


def print_beside(beside: Beside, console: Console) -> None:
    """Print the table of classical forecasts and the sentence on them."""
    comparison = beside.comparison
    title = f"on a sample of windows; reference: {verdict.phrase(comparison.reference.name)}"
    columns = verdict.headings("", comparison.scaled, comparison.loss)
    console.print(verdict.score_table(verdict.shown(comparison).rows, columns, title))
    console.print(beside.verdict, highlight=False, markup=False)


def judged_loss(experiment: ForecastExperiment) -> Loss:
    """Return the loss of the verdict."""
    return quantities.of(experiment.head).loss(experiment.loss)


def shown_scores(judgement: Judgement) -> pd.DataFrame:
    """Return the scores of the forecasts that tables and figures show."""
    names = [row.name for row in verdict.shown(judgement.comparison).rows]
    return judgement.scores[judgement.scores["forecast"].isin(names)]


def _omission_words(comparison: verdict.Comparison) -> list[str]:
    """Return a line on the baselines that tables do not show; no line if they show all."""
    words = verdict.omission_sentence(comparison, run_seal.SCORES)
    if words is None:
        return []
    return [words]


def _coverage_words(judgement: Judgement) -> list[str]:
    """Return the measured coverage of the intervals as a line; no line if there are no intervals."""
    words = coverage.sentence(judgement.coverage, judgement.spread)
    if not words:
        return []
    return [words]


def report(
    job: ForecastJob,
    judgement: Judgement,
    best_epoch: int,
    metrics: list[run_folder.Row],
    sections: str = "",
) -> str:
    """Write the run's report in Markdown; `sections` follow those of every report."""
    chosen = f"epoch {best_epoch} of {len(metrics)}\n{quantities.of(job.experiment.head).CHOSEN}"
    return report_of(job, judgement, chosen, f"\n![Loss by epoch]({run_seal.LOSS_PLOT})\n", sections)


def report_of(job: ForecastJob, judgement: Judgement, chosen: str, picture: str = "", sections: str = "") -> str:
    """Write a report in Markdown.

    chosen    says what the validation part chose
    picture   follows the others
    sections  on classical forecasts and on the explanation, where they were asked for
    """
    experiment = job.experiment
    data = experiment.data
    rows = {
        "train": feed.feed_of(job.batches.train).rows,
        "valid": feed.judged_rows(job.batches.valid),
        "test": feed.judged_rows(job.batches.test),
    }
    parts = ", ".join(f"{count} {name}" for name, count in rows.items())
    times = job.material.windows.test.times
    first = _time_words(times.min())
    last = _time_words(times.max())
    comparison = judgement.comparison
    columns = verdict.headings(data.unit, comparison.scaled, comparison.loss)
    measure = verdict.mean_loss(comparison.scaled, comparison.loss)
    omission = "".join(f"\n{text}.\n" for text in _omission_words(comparison))
    # Notes quote names of series and columns.
    remark_lines = "\n".join(f"{escaped(text)}.\n" for text in judgement.remarks)
    notes = (*_coverage_words(judgement), *judgement.notes, *job.notes)
    note_lines = "\n".join(f"{escaped(text)}.\n" for text in notes)
    quantity = quantities.of(experiment.head)
    own_section = quantity.section(judgement, shown_scores(judgement), data.unit)
    forecast_caption, errors_caption = quantity.PICTURES
    return f"""# {experiment.name}: {escaped(data.name)}, {overrides.network_words(experiment)}, {experiment.task}

{escaped(judgement.verdict)}.

{remark_lines}
## Errors on the test part

{verdict.markdown(verdict.shown(comparison).rows, columns)}
{omission}
{own_section}
## How it was judged

{note_lines}
Test part: {len(times)} forecasts, {first} to {last}. Skill is 1 - {measure} / {measure} of the reference, the baseline
that did best on the validation part. Its 95 % interval resamples blocks of time (and series, from {MIN_SERIES} on); with
fewer than {MIN_BLOCKS} blocks it compares their means by Student's t, and with a single block those of the series. p is
that of the Diebold-Mariano test against the reference; those of the baselines are adjusted for their number (Holm).
{_scaled_words(judgement)}The baselines and the scaling saw the training part alone; {chosen} on the validation part; \
the test part was used once, for these tables. {quantity.HOW}Every step of the horizon by itself: `{run_seal.SCORES}`.

{sections}
## Pictures

![{forecast_caption}]({run_seal.FORECAST_PLOT})

![{errors_caption}]({run_seal.ERRORS_PLOT})
{picture}

## Recipe

Windows: {parts}, of {data.window} values each, horizon {experiment.horizon}. The experiment is in `{run_seal.CONFIG}`,
the versions are in `{run_seal.ENVIRONMENT}`. See the weights with `python -m jaxseq.checkpoint show RUN`.
"""


def page(
    job: ForecastJob,
    judgement: Judgement,
    text: str,
    folder: Path,
    pictures: Mapping[str, bytes] = html_page.NO_FILES,
) -> str:
    """Return the report as one HTML file with its pictures, a chart of any series and window, and its errors in groups.

    pictures  content of those that are not in the folder yet, by name
    """
    # A chart has forecasts beside the series, in its unit.
    if not quantities.of(job.experiment.head).IS_VALUE:
        return html_page.html(text, folder, files=pictures)
    reference = verdict.phrase(judgement.comparison.reference.name)
    windows = job.material.windows.test
    unit = job.experiment.data.unit
    forecasts = chart.section(judgement.predictions, windows, reference, unit)
    shown_series = chart.shown_series(judgement.predictions, windows)
    errors = chart_errors.section(explain.residuals_of(job, judgement), shown_series, reference, unit)
    return html_page.html(text, folder, after_lead=f"{forecasts}{errors}", files=pictures)


def _time_words(time: np.datetime64 | np.number) -> str:
    """Return a day, or the number of a time step if the series has no dates."""
    if isinstance(time, np.datetime64):
        return np.datetime_as_string(time, "D")
    return f"{time}"


def _scaled_words(judgement: Judgement) -> str:
    """Say how the errors of a panel are scaled; nothing for those of a single series."""
    if not judgement.comparison.scaled:
        return ""
    return "Errors are scaled by each series' own seasonal change in training. "
