"""Kinds of intervals compared on the validation part, and the chosen one fitted to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from jaxseq.common.text import counted
from jaxseq.data.powers import NONE
from jaxseq.data.uncut import PartWindows
from jaxseq.data.windows import rows_by_series
from jaxseq.forecasting import intervals, metrics
from jaxseq.forecasting.intervals import SIZES, Choice, Forecast, Intervals, Kind
from jaxseq.forecasting.part import Part
from jaxseq.forecasting.sizes import Size


class Calibrated(NamedTuple):
    """Intervals fitted on the validation part, and remarks on how they were chosen, a sentence each."""

    intervals: Intervals
    notes: tuple[str, ...]


def calibrate(
    choice: Choice,
    forecast: Forecast,
    part: Part,
    floor: float | None = None,
) -> Calibrated:
    """Fit the intervals of a choice on the validation part; "auto" takes those with the best interval score there.

    Kinds are compared on the later half of the rows, with margins fitted to the earlier half; the margins of the result
    are fitted to all rows. `floor` is the smallest possible value.
    """
    intervals.check_finite(forecast)
    notes = []
    # Sizes that the data do not have are not compared.
    candidates = available(part)
    if choice == "adaptive" and not part.series:
        notes.append("adaptive intervals need rows in time: split instead")
        choice = "split"
    # A run that has been trained is judged, whatever its option.
    if choice in SIZES and choice not in candidates:
        notes.append(f"{choice} intervals do not fit these series, see docs/forecasting.md: split instead")
        choice = "split"

    scores = {}
    if choice in ("auto", "adaptive"):
        scores = compare(candidates, forecast, part)
    kind, size = _chosen(choice, scores)
    if choice == "auto" and scores:
        listed = ", ".join(f"{name} {score:.4g}" for name, score in sorted(scores.items(), key=lambda pair: pair[1]))
        title = f"{kind} intervals"
        if kind == "adaptive":
            title = f"adaptive intervals of {size} scores"
        notes.append(f"{title}, by their interval score on the later half of validation ({listed})")
    elif choice == "auto":
        rows = len(part.windows.origins)
        reason = f"{counted(rows, 'validation row')} are too few to choose by"
        if rows > 1 and len(np.unique(part.windows.series)) == rows:
            reason = f"with one validation window in each of {rows} series there is no later half to choose by"
        notes.append(f"split intervals: {reason}")

    # All rows: the halves were for the choice alone.
    fitted = intervals.fit(kind, forecast, part, size)
    missing = [f"{level:.0%}" for level in forecast.coverages if level not in fitted.levels]
    if missing:
        rows = len(part.windows.origins)
        notes.append(f"no {', '.join(missing)} intervals: {rows} validation rows are too few for them")
    return Calibrated(fitted._replace(until=_until(part), floor=floor), tuple(notes))


def available(part: Part) -> list[Size]:
    """Return the sizes that the rows of a part have, the simplest first."""
    names: list[Size] = ["split"]
    several_series = len(part.scaling.scale) > 1
    is_relative = part.scaling.transform.relative or part.scaling.power != NONE
    if several_series or (not is_relative and _are_positive(part.windows)):
        names.append("scaled")
    # A series at rest for most of the time has no volatility to divide by.
    if np.nanmedian(part.volatility) > 0:
        names.append("volatility")
    return names


def _are_positive(windows: PartWindows) -> bool:
    return all(bool(np.all(piece.inputs > 0)) for piece in windows.pieces(intervals.READ_AT_ONCE))


def compare(
    candidates: Sequence[Size],
    forecast: Forecast,
    part: Part,
) -> dict[Kind, float]:
    """Return the mean interval score, over levels, rows and steps, of each kind on the later half of the rows.

    In the model's own scale, in which the series of a panel are alike. Adaptive intervals take the best of the
    `candidates` as size. Empty where the earlier half has too few rows for any level.
    """
    earlier, later = (_Half(_rows(forecast, rows), part.choose(rows)) for rows in halves(part.windows))
    scores: dict[Kind, float] = {}
    for size in candidates:
        scores[size] = _score_later(size, size, earlier=earlier, later=later)
    if not any(np.isfinite(score) for score in scores.values()):
        return {}

    # Without time there is nothing that intervals could follow.
    if not part.series:
        return scores
    best: Size = min(candidates, key=lambda size: scores[size])
    scores["adaptive"] = _score_later("adaptive", best, earlier=earlier, later=later)
    return scores


class _Half(NamedTuple):
    """Forecast of half of the rows."""

    forecast: Forecast
    part: Part


def _score_later(kind: Kind, size: Size, *, earlier: _Half, later: _Half) -> float:
    """Return the mean interval score on the later rows of intervals that were fitted to the earlier ones."""
    fitted = intervals.fit(kind, earlier.forecast, earlier.part, size)
    y = later.part.targets
    ends = intervals.scaled_bounds(later.forecast, fitted, later.part)
    scores = [metrics.interval_score(y, low, high, level) for level, (low, high) in ends.items()]
    if not scores:
        return float("nan")
    return float(np.mean(scores))


def halves(windows: PartWindows) -> tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Return the rows of the earlier and the later half of each series; rows with targets in both are in neither."""
    earlier = np.zeros(len(windows.origins), bool)
    later = np.zeros(len(windows.origins), bool)
    horizon = windows.horizon
    for rows in rows_by_series(windows.series).values():
        origins = windows.origins[rows]
        middle = np.median(origins)
        # Rows that are not in time all have one origin; they are independent, and their order decides.
        if origins.min() == origins.max():
            half = len(rows) // 2
            earlier[rows[:half]] = True
            later[rows[half:]] = True
            continue
        # The last target of an earlier row comes before the first origin of a later one.
        earlier[rows] = origins + horizon <= middle
        later[rows] = origins >= middle
    return earlier, later


def _rows(
    forecast: Forecast,
    rows: Bool[np.ndarray, " n"],
) -> Forecast:
    quantiles_of_rows = forecast.quantiles
    if quantiles_of_rows is not None:
        quantiles_of_rows = quantiles_of_rows[rows]
    return Forecast(forecast.centre[rows], quantiles_of_rows, forecast.levels)


def _chosen(
    choice: Choice,
    scores: dict[Kind, float],
) -> tuple[Kind, Size]:
    """Return the kind of a choice, and the size of its scores."""
    if choice not in ("auto", "adaptive"):
        return choice, choice
    if not scores:
        # Too few rows to compare on.
        return ("adaptive", "split") if choice == "adaptive" else ("split", "split")

    sizes_only = [size for size in SIZES if size in scores]
    size = min(sizes_only, key=lambda name: scores[name])
    if choice == "adaptive" or scores.get("adaptive", np.inf) < scores[size]:
        return "adaptive", size
    return size, size


def _until(part: Part) -> tuple[str, ...]:
    """Return the last time of each series whose value was used; empty where the rows are not in time."""
    times = []
    for number, rows in rows_by_series(part.windows.series).items():
        if not part.series:
            return ()
        last = int(part.windows.origins[rows].max()) + part.windows.horizon - 1
        series_times = part.series[number].times
        times.append(str(series_times[min(last, len(series_times) - 1)]))
    return tuple(times)
