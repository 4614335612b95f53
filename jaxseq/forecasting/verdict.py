"""Verdicts on forecasts of a test part: a table with the reference first, and sentences on the model.

The reference is the simple forecast that did best on the validation part. The verdict has three answers: the model
improves on it; there is no evidence that it does; or the test part is too short to decide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from rich.table import Table

from jaxseq.common.errors import UsageError
from jaxseq.common.markdown import escaped
from jaxseq.common.text import counted
from jaxseq.forecasting import metrics, significance
from jaxseq.forecasting.baselines import CROSTON, EXPANDING_MEAN, NAIVE, SEASONAL_NAIVE, TRAINING_MEAN, ZERO
from jaxseq.forecasting.confidence import SkillInterval, separate_windows, skill_intervals
from jaxseq.forecasting.lag_one import LagOne
from jaxseq.forecasting.losses import IN_ORDER, Loss, Losses, Rows, pair_losses, skill
from jaxseq.forecasting.metrics import Values
from jaxseq.forecasting.rises import REPEATED, SHARE
from jaxseq.forecasting.significance import SeriesTests

Answer: TypeAlias = Literal["improves", "no evidence", "not decided"]

DASH = "\N{EN DASH}"
PHRASES = {
    NAIVE: "the last value",
    TRAINING_MEAN: "the training mean",
    ZERO: "the zero forecast",
    CROSTON: "Croston's method",
    EXPANDING_MEAN: "the expanding mean",
    SHARE: "the share of rises",
    REPEATED: "the last direction",
}
"""Names of forecasts within a sentence, where they differ from those of the tables."""
MEASURES = {"squared": "MSE", "absolute": "MAE", "log": "log loss"}
"""Mean loss by loss."""
SCALED_MEASURES = {"squared": "RMSSE", "absolute": "MASE"}
"""Error of a panel by loss, as the columns of its table have it."""
WORST_SHOWN = 10.0
"""Largest mean loss, relative to the reference's, of a baseline that tables show."""
TEST_PART = "the test part"
"""The rows that a run is judged by, in sentences."""


class Row(NamedTuple):
    """Errors of one forecast, and how it compares with the reference.

    errors         RMSE and MAE in the series' unit; of a panel scaled by each series' own seasonal change (RMSSE, MASE);
                   of probabilities the log loss, the Brier score and the accuracy
    relative_loss  mean loss relative to the reference's
    interval       95 % interval of the skill, 1 - relative_loss; None for the reference
    p_value        of the Diebold-Mariano test against the reference; NaN where there is none. Those of baselines are
                   adjusted for their number
    """

    name: str
    errors: tuple[float, ...]
    relative_loss: float
    interval: SkillInterval | None
    p_value: float = math.nan

    @property
    def skill(self) -> float:
        """Return 1 - relative_loss: 0 is as good as the reference, 1 is perfect, below 0 is worse."""
        return 1 - self.relative_loss


class Comparison(NamedTuple):
    """Forecasts of one test part, compared with the reference.

    rows    the reference first, the model last
    losses  of the model and the reference
    loss    that is compared
    scaled  whether errors are scaled by each series' own seasonal change, as those of a panel are
    """

    rows: list[Row]
    losses: Losses
    loss: Loss
    scaled: bool = False

    @property
    def reference(self) -> Row:
        """The row of the reference."""
        return self.rows[0]

    @property
    def has_unit(self) -> bool:
        """Whether errors are in the unit of the series: scaled ones have none, nor have probabilities."""
        return not self.scaled and self.loss != "log"

    @property
    def model(self) -> Row:
        """The row of the model."""
        return self.rows[-1]


def compare(
    actual: Values,
    forecasts: Mapping[str, Values],
    reference: str,
    *,
    rows: Rows = IN_ORDER,
    loss: Loss = "squared",
    seed: int = 0,
) -> Comparison:
    """Compare forecasts "n k" of the same targets with the reference; the model is the last forecast.

    Unknown targets (NaN) are left out; values are in the series' unit. `seed` is that of the bootstrap. Raises
    `UsageError` if the reference is not among the forecasts, or if a forecast is not finite, and `ValueError` with both
    shapes if they differ.
    """
    if reference not in forecasts:
        raise UsageError("not among the forecasts", where="reference", got=reference, needed=", ".join(forecasts))
    _check_finite(forecasts)

    model = list(forecasts)[-1]
    pairs = {name: pair_losses(actual, values, forecasts[reference], rows, loss) for name, values in forecasts.items()}
    compared = [name for name in pairs if name != reference]
    intervals = skill_intervals([pairs[name] for name in compared], seed=seed)
    interval_of = dict(zip(compared, intervals, strict=True))
    table = []
    for name, losses in pairs.items():
        interval = interval_of.get(name)
        p_value = math.nan
        if interval is not None:
            p_value = significance.diebold_mariano(losses).p_value
        row = Row(
            name=name,
            errors=_errors(actual, forecasts[name], rows, loss),
            relative_loss=1 - skill(losses),
            interval=interval,
            p_value=p_value,
        )
        table.append(row)

    # The model's test was planned; those of the baselines are many, and any of them may differ by chance.
    baselines = [row for row in table if row.name != model]
    adjusted = significance.holm([row.p_value for row in baselines])
    baselines = [row._replace(p_value=p_value) for row, p_value in zip(baselines, adjusted, strict=True)]
    # False sorts before true: the reference comes first, the others stay in their order.
    baselines.sort(key=lambda row: row.name != reference)
    return Comparison([*baselines, table[-1]], pairs[model], loss, scaled=rows.scales is not None)


def _check_finite(forecasts: Mapping[str, Values]) -> None:
    for name, values in forecasts.items():
        not_finite = ~np.isfinite(values)
        if np.any(not_finite):
            row = int(np.argmax(not_finite.any(axis=-1))) + 1
            count = np.count_nonzero(not_finite)
            raise UsageError(f"{name}: {count} of {values.size} values are not finite, the first in row {row}")


def _errors(
    actual: Values,
    forecast: Values,
    rows: Rows,
    loss: Loss,
) -> tuple[float, ...]:
    """Return the errors of a row: see `Row`."""
    if loss == "log":
        log_loss = metrics.log_loss(actual, forecast)
        brier = metrics.brier(actual, forecast)
        return log_loss, brier, metrics.accuracy(actual, forecast)
    error = actual - forecast
    squared = error**2
    absolute = np.abs(error)
    # In a panel's own units the series with the largest values would be all that counts.
    if rows.scales is not None:
        squared = squared / rows.scales.squared[:, None]
        absolute = absolute / rows.scales.absolute[:, None]
    root_mean_square = float(np.sqrt(np.nanmean(squared)))
    return root_mean_square, float(np.nanmean(absolute))


def answer(row: Row) -> Answer:
    """Return the verdict on a forecast: an improvement only if the whole interval of its skill is above zero.

    "not decided" is for test rows so few, or so varied, that not even a perfect forecast would have shown.
    """
    if row.interval is None or math.isnan(row.interval.low):
        return "not decided"
    if row.interval.low > 0:
        return "improves"
    # No skill is above 1.
    if row.interval.high >= 0 and detectable_skill(row) >= 1:
        return "not decided"
    return "no evidence"


def deciding_comparison(comparison: Comparison, last_value: Comparison | None) -> Comparison:
    """Return the comparison by which the model is judged: that with the reference, or else with the last value.

    A baseline that did well on the validation part by chance may be a weak reference. So an improvement on it counts
    only for a model that improves on the last value as well.

    last_value  comparison of the model with the last value; None where that is the reference
    """
    if last_value is None or answer(comparison.model) != "improves":
        return comparison
    if answer(last_value.model) == "improves":
        return comparison
    return last_value


def sentence(
    row: Row,
    reference: str,
    part: str = TEST_PART,
) -> str:
    """Return the verdict on a forecast as a sentence that names the reference and the numbers behind it.

    `part` is what the sentence calls the rows that were forecast.
    """
    name = phrase(reference)
    interval = row.interval
    if interval is None:
        return f"{row.name}: the reference"
    if math.isnan(interval.low):
        return f"{row.name}: not decided against {name}: skill {signed(row.skill)}; {_too_few_windows(row, interval, part)}"

    # The reference makes no error at all, so that no skill can be measured.
    if math.isinf(row.skill) or row.skill == interval.low == interval.high == 0:
        return f"{row.name}: no evidence of improvement over {name}, which is as good as a forecast can be on {part}"

    ends = f"{signed(interval.low)} to {signed(interval.high)}"
    # Nothing says how the skill differs from one stretch of time to the next.
    if interval.series:
        name = f"{name} at one stretch of time"
        ends = f"{ends} over {interval.series:,} series"
    measured = f"skill {signed(row.skill)} (95 % interval {ends})"
    if interval.low > 0:
        return f"{row.name}: improves on {name}: {measured}"
    if answer(row) == "not decided":
        return f"{row.name}: not decided against {name}: {measured}; {_too_few_windows(row, interval, part)}"
    opening = f"{row.name}: no evidence of improvement over {name}"
    if interval.high < 0:
        return f"{opening}: it is worse, {measured}"
    return f"{opening}: {measured}; a skill of {signed(detectable_skill(row))} would have shown"


def _too_few_windows(
    row: Row,
    interval: SkillInterval,
    part: str,
) -> str:
    """Say how many windows without overlap, or series, a part has, and about how many would decide."""
    if interval.series:
        return _too_few_series(row, interval, part)
    separate = separate_windows(interval.windows, interval.horizon)
    has = f"{part} has {counted(separate, 'window')} without overlap"
    needed = _deciding_count(row, interval, interval.windows)
    if needed is None:
        return f"{has}, too few for any skill to show"
    return f"{has}, about {separate_windows(needed, interval.horizon):,} would be needed"


def _deciding_count(row: Row, interval: SkillInterval, count: int) -> int | None:
    """Return about how many windows, or series, would decide where `count` do not; None where no number would."""
    if interval.needed:
        return interval.needed
    detectable = detectable_skill(row)
    # One of them made all the error, so that further ones may bring anything.
    if not math.isfinite(detectable):
        return None
    # The width of an interval shrinks with the root of their number.
    return math.ceil(count * detectable**2) + 1


def _too_few_series(
    row: Row,
    interval: SkillInterval,
    part: str,
) -> str:
    """Say how many series a part of one stretch of time has, and about how many would decide."""
    has = f"{part} has {interval.series:,} series at one stretch of time"
    needed = _deciding_count(row, interval, interval.series)
    if needed is None:
        return f"{has}, too few for any skill to show"
    return f"{has}, about {needed:,} would be needed"


def detectable_skill(row: Row) -> float:
    """Return the smallest skill that this test part would have shown: the distance of the skill from its lower end.

    NaN for the reference, which has no interval.
    """
    if row.interval is None:
        return math.nan
    # Losses above the reference's vary more; a better forecast's are taken to vary as much relative to their mean.
    variation = max(1.0, row.relative_loss)
    return (row.skill - row.interval.low) / variation


def ranking_sentence(
    comparison: Comparison,
    last_value: Comparison | None,
    part: str = TEST_PART,
) -> str:
    """Return a sentence that compares the model with the last value and with the best forecast of a part.

    last_value  the comparison of the model with the last value; None where that is the reference
    part        what the sentence calls the rows that were forecast
    """
    parts = []
    # The verdict compares with the reference already.
    if last_value is not None:
        row = last_value.model
        interval = ""
        if row.interval is not None and not math.isnan(row.interval.low):
            interval = f" ({signed(row.interval.low)} to {signed(row.interval.high)})"
        name = phrase(last_value.reference.name)
        parts.append(f"against {name} its skill is {signed(row.skill)}{interval}")

    best = min(comparison.rows, key=lambda row: _ranked_error(row, comparison))
    measure = MEASURES[comparison.loss]
    if comparison.scaled:
        measure = SCALED_MEASURES[comparison.loss]
    if best.name == comparison.model.name:
        parts.append(f"its {measure} is the smallest of all on {part}")
    else:
        ratio = _ranked_error(best, comparison) / _ranked_error(comparison.model, comparison)
        parts.append(f"the smallest {measure} on {part} has {phrase(best.name)}, {format_error(ratio)} of the model's")
    return f"{comparison.model.name}: {'; '.join(parts)}"


def _ranked_error(
    row: Row,
    comparison: Comparison,
) -> float:
    """Return the error that the ranking is by: that of the panel's table, or else the mean loss."""
    if not comparison.scaled:
        return row.relative_loss
    if comparison.loss == "squared":
        return row.errors[0]
    return row.errors[1]


def series_sentence(
    name: str,
    tests: SeriesTests,
) -> str:
    """Return a sentence on the number of a panel's series in which the model improves on the reference."""
    share = tests.improved / tests.series
    p_values = f"sign test p {format_p_value(tests.sign)}, Wilcoxon p {format_p_value(tests.wilcoxon)}"
    return f"{name}: {tests.improved} of {tests.series} series improve ({share:.0%}; taken as independent, {p_values})"


def copy_sentence(
    name: str,
    lag: LagOne,
) -> str | None:
    """Return a sentence on whether the forecast only copies the last value, with the numbers behind it.

    None where the test part is so short that no correlation could pass the bound of chance.
    """
    if lag.chance_correlation >= 1:
        return None
    side = "within"
    if lag.change_correlation > lag.chance_correlation:
        finding = "does not only copy the last value"
        side = "above"
    elif lag.copies:
        finding = "only copies the last value"
    else:
        finding = "strays from the last value at random"
    return (
        f"{name}: {finding}: it moves {lag.movement:.0%} as far as the series, and its moves correlate "
        f"{lag.change_correlation:+z.3f} with the actual ones ({side} chance, {lag.chance_correlation:.3f})"
    )


def phrase(name: str) -> str:
    """Return a forecast's name within a sentence."""
    if name.startswith(SEASONAL_NAIVE):
        return f"the {name}"
    return PHRASES.get(name, name)


def format_error(value: float) -> str:
    """Format an error with four decimals; very small and very large ones with four significant digits."""
    if value == 0 or 0.01 <= abs(value) < 1e6:
        return f"{value:z.4f}"
    return f"{value:z.4g}"


def signed(skill: float) -> str:
    """Format a skill with four decimals, a very large one with four significant digits; there is no -0.0000."""
    # Beside a reference that is exact but for rounding, a skill may have thirty digits.
    if abs(skill) < 1000 or math.isinf(skill):
        return f"{skill:+z.4f}"
    return f"{skill:+z.4g}"


def format_p_value(p: float) -> str:
    """Format a p-value with three decimals; it is never shown as 0."""
    if math.isnan(p):
        return DASH
    if p < 0.0005:
        return "<0.001"
    return f"{p:.3f}"


def row_cells(
    row: Row,
    to: str,
) -> tuple[str, ...]:
    """Return the text of a row's cells; `to` stands between the ends of the interval."""
    skill = signed(row.skill)
    ends = DASH
    if row.interval is None:
        skill = "0"
    elif not math.isnan(row.interval.low):
        ends = f"{signed(row.interval.low)}{to}{signed(row.interval.high)}"
    errors = [format_error(error) for error in (*row.errors, row.relative_loss)]
    return (*errors, skill, ends, format_p_value(row.p_value))


def headings(
    unit: str,
    scaled: bool,
    loss: Loss = "squared",
) -> tuple[str, ...]:
    """Return the names of the columns of errors and of the relative loss.

    scaled  whether errors are scaled by each series' own seasonal change
    """
    suffix = ""
    if unit:
        suffix = f", {unit}"
    if loss == "log":
        return ("log loss", "Brier score", "accuracy", f"{mean_loss(scaled, loss)} / reference")
    # Scaled errors have no unit.
    if scaled:
        return ("RMSSE", "MASE", f"{mean_loss(scaled, loss)} / reference")
    return (f"RMSE{suffix}", f"MAE{suffix}", f"{mean_loss(scaled, loss)} / reference")


def mean_loss(
    scaled: bool,
    loss: Loss,
) -> str:
    """Return the name of the mean loss that the skill is measured by: that of squared scaled errors is RMSSE²."""
    if not scaled:
        return MEASURES[loss]
    if loss == "squared":
        return f"{SCALED_MEASURES[loss]}²"
    return SCALED_MEASURES[loss]


class Shown(NamedTuple):
    """Rows of a comparison that tables show, and the names of the others."""

    rows: list[Row]
    omitted: list[str]


def shown(comparison: Comparison) -> Shown:
    """Leave out the baselines whose mean loss is more than `WORST_SHOWN` times the reference's.

    The reference, the last value and the model stay.
    """
    always = (comparison.reference.name, NAIVE, comparison.model.name)
    rows = []
    omitted = []
    for row in comparison.rows:
        if row.name in always or row.relative_loss <= WORST_SHOWN:
            rows.append(row)
        else:
            omitted.append(row.name)
    return Shown(rows, omitted)


def omission_sentence(
    comparison: Comparison,
    file: str,
) -> str | None:
    """Return a sentence that names the baselines that tables leave out, and the file that has them; None without any."""
    omitted = shown(comparison).omitted
    if not omitted:
        return None
    measure = mean_loss(comparison.scaled, comparison.loss)
    return (
        f"not shown, with more than {WORST_SHOWN:g} times the reference's {measure}: {', '.join(omitted)}; see {file}"
    )


def markdown(
    rows: Sequence[Row],
    columns: Sequence[str],
) -> str:
    """Return the rows as a Markdown table; `columns` are `headings`."""
    lines = [
        f"| forecast | {' | '.join(map(escaped, columns))} | skill | 95 % interval | p |",
        "|---|" + "---:|" * (len(columns) + 3),
    ]
    for row in rows:
        name = escaped(row.name)
        if row.interval is None:
            name = f"{name} (reference)"
        cells = [name, *row_cells(row, " to ")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def score_table(
    rows: Sequence[Row],
    columns: Sequence[str],
    title: str,
) -> Table:
    """Return the forecasts' scores as a table for a terminal of 80 columns; `columns` are `headings` without a unit."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1), collapse_padding=True, pad_edge=False)
    # In a narrow terminal the names wrap, so that no digit is cut.
    table.add_column("forecast", overflow="fold")
    *errors, _ = columns
    for heading in (*errors, "vs ref.", "skill", "95 % interval", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row.name, *row_cells(row, " "))
    return table
