"""Forecasts of a restored run beyond the end of its series, or of other series with the same columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeGuard

import numpy as np
from jaxtyping import Float, Shaped

from jaxseq.checkpoint import run_seal
from jaxseq.common import checks
from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted
from jaxseq.data import powers
from jaxseq.data.fitting import fit_scaling
from jaxseq.data.frequency import continue_
from jaxseq.data.panel import Panel
from jaxseq.data.panel_data import PanelData
from jaxseq.data.scaling import Scaling
from jaxseq.data.table import Table
from jaxseq.data.tables.frame import IntoFrame
from jaxseq.data.windows import Series, Windows, called, first_targets, join
from jaxseq.forecasting import predictions, quantities
from jaxseq.forecasting.intervals import Bounds, for_series
from jaxseq.forecasting.predictions import Future
from jaxseq.train import overrides, stateful, trained_series
from jaxseq.train.experiments.base import Experiment
from jaxseq.train.forecaster import Trained
from jaxseq.train.stateful import History
from jaxseq.train.trained_series import TrainedSeries

MAX_STEPS = 100_000
"""Longest horizon."""
ARRIVED = 500
"""Most forecasts of a series that adaptive intervals look back on: five times the memory of their levels."""


class Ends(NamedTuple):
    """Forecasts beyond the end of each series of a panel, in the series' units.

    panel      the series that are forecast
    windows    the window at each end
    forecast   "n k"; of a direction, probabilities
    intervals  of the forecast; empty if the run has none
    times      of each step
    notes      remarks on the data and the forecast, a sentence each
    """

    panel: Panel
    windows: Windows
    forecast: Float[np.ndarray, "n k"]
    intervals: Bounds
    times: Shaped[np.ndarray, "n k"]
    notes: tuple[str, ...]


def forecast(trained: Trained, panel: Panel | None = None, horizon: int | None = None) -> Future:
    """Forecast beyond the end of a run's series, or of those of `panel`, for `horizon` steps or the run's own.

    Dates continue in the frequency of the data. A series that the run was trained on keeps its scaling; for a new one it
    is fitted on all of its rows, which are past. Raises `UsageError` for data that do not fit the run.
    """
    if panel is None:
        panel = series_data(trained.experiment, trained.folder).panel()
    ends = forecast_ends(trained, panel, horizon)
    columns = {trained.quantity.COLUMN: ends.forecast}
    table = predictions.frame(ends.windows, ends.panel.names, columns, ends.intervals, ends.times, keys=ends.panel.keys)
    return Future(table.drop(columns="actual"), ends.notes)


def forecast_ends(trained: Trained, panel: Panel, horizon: int | None = None) -> Ends:
    """Forecast beyond the end of each series of a panel, as `forecast`, as arrays."""
    data = series_data(trained.experiment, trained.folder)
    steps = trained.experiment.horizon if horizon is None else horizon
    checks.count(horizon=steps)
    # The rollout keeps all steps in memory: a mistyped horizon must not fill it.
    if steps > MAX_STEPS:
        raise UsageError("too many steps", where="horizon", got=steps, needed=f"at most {MAX_STEPS:,}")

    panel = usable(trained, panel)
    reach = _reach(trained, steps)
    windows = _as_trained(trained, first_targets(panel.last_windows(data.window, reach), steps))
    fitted = _scaling(trained, panel)
    notes = [*panel.notes, *fitted.notes]
    if trained.weights:
        notes.append(trained.weights)
    if _is_there(trained.folder) and not run_seal.has_seals(trained.folder):
        notes.append(f"the run is of an older format, whose files have no seals; --resume {trained.folder} writes them")

    series = _known_series(panel)
    trained = _with_intervals_of(trained, panel, fitted.new)
    # One for both calls: intervals lie around the forecast that is made beside them.
    forecast_of = partial(
        trained.forecast,
        scaling=fitted.scaling,
        horizon=steps,
        series=series,
        histories=histories(trained, panel),
    )
    centre, intervals = forecast_of(windows)

    arrived = _arrived_windows(trained, panel, steps)
    notes += arrived.notes
    if arrived.windows is not None:
        _, followed = forecast_of(join([arrived.windows, windows]))
        # The last windows come last; the earlier ones only move the levels.
        count = len(windows.inputs)
        intervals = {level: (low[-count:], high[-count:]) for level, (low, high) in followed.items()}

    # A probability has none, and lacks none.
    if not intervals and trained.quantity.IS_VALUE:
        notes.append(_no_intervals(trained))
    times = np.stack([continue_(series.times[-1], panel.frequency, steps) for series in panel.series])
    return Ends(
        panel=panel,
        windows=windows,
        forecast=centre,
        intervals=intervals,
        times=times,
        notes=tuple(notes),
    )


def _reach(trained: Trained, steps: int) -> int:
    """Return how many rows ahead a forecast of so many steps reads covariates.

    Those of its own rows, unless the network reads all of the horizon before the first step.
    """
    experiment = trained.experiment
    model = experiment.model
    # Other networks of the package read what is known of a row when they forecast it.
    reads_all = model.bidirectional or model.skip or "build" in overrides.of(experiment)
    if not experiment.knows_ahead or experiment.task == "iterated" or not reads_all:
        return steps
    return max(steps, experiment.horizon)


def _as_trained(trained: Trained, windows: Windows) -> Windows:
    """Return windows with as many rows ahead as those of the training, the last one repeated.

    Only steps that are not asked for read the rows that are added.
    """
    experiment = trained.experiment
    if not experiment.knows_ahead or experiment.task == "iterated":
        return windows
    lacking = experiment.data.window + experiment.horizon - windows.known.shape[1]
    if lacking <= 0:
        return windows
    return windows._replace(known=np.pad(windows.known, ((0, 0), (0, lacking), (0, 0)), mode="edge"))


def skill(trained: Trained, panel: Panel) -> float:
    """Return the skill of a run's forecasts of all windows of a panel against the last value; 1 is perfect.

    It is 1 - L / L_naive with the mean squared errors L of the horizon's steps, or the absolute ones of a run with that
    loss. Those of each series are scaled by its one-step changes in the panel, as series may have other units. Missing
    targets do not count. Raises `UsageError` for a series without a window, or one that never moves.
    """
    quantities.check_values(trained.experiment.head, "score")
    window = series_data(trained.experiment, trained.folder).window
    horizon = trained.experiment.horizon
    panel = usable(trained, panel)
    parts = []
    for number, series in enumerate(panel.series):
        rows = len(series.values)
        if rows < window + horizon:
            needed = f"at least {window + horizon}, a window and its targets"
            raise UsageError("too few rows to be scored", where=called(panel.names[number]), got=rows, needed=needed)
        # Beyond the last of these origins, targets are unknown.
        parts.append(panel.windows_from(number, window, window, horizon))
    windows = join(parts)

    fitted = _scaling(trained, panel)
    known_series = _known_series(panel)
    own = _with_intervals_of(trained, panel, fitted.new)
    forecasts, _ = own.forecast(windows, fitted.scaling, series=known_series, histories=histories(trained, panel))
    power = 1 if trained.experiment.loss == "mae" else 2
    changes = [_mean_change(series.values, power) for series in known_series]
    if not all(changes):
        name = panel.names[changes.index(0.0)]
        raise UsageError("never moves, so the last value is a perfect forecast", where=called(name))

    is_known = np.isfinite(windows.targets)
    scale = np.asarray(changes)[windows.series, None]
    error = np.abs(windows.targets - forecasts) ** power / scale
    naive_error = np.abs(windows.targets - windows.inputs[:, -1:]) ** power / scale
    return float(1 - error[is_known].mean() / naive_error[is_known].mean())


def _mean_change(values: Float[np.ndarray, " n"], power: int) -> float:
    """Return the mean of the known one-step changes, squared if `power` is 2; 0 if there is none."""
    changes = np.abs(np.diff(values)) ** power
    known_changes = changes[np.isfinite(changes)]
    if not len(known_changes):
        return 0.0
    return float(known_changes.mean())


def _with_intervals_of(trained: Trained, panel: Panel, new: Sequence[str]) -> Trained:
    """Return a forecaster whose intervals are those of the series of a panel, some of which are new to it."""
    if trained.intervals is None:
        return trained
    return trained._replace(
        intervals=for_series(trained.intervals, _trained_names(trained), panel.names, new=new),
    )


def _no_intervals(trained: Trained) -> str:
    """Say why a forecast has no intervals."""
    if trained.intervals is not None:
        return "no intervals: the run has none for this horizon"
    judged = None
    if _is_there(trained.folder):
        judged = run_seal.read_judged(trained.folder)
    if judged is None:
        folder = trained.folder or "RUN"
        return f"no intervals: the run has not been judged; python -m jaxseq.train --resume {folder} judges it"
    return f"no intervals: they were fitted to epoch {judged.epoch}, and epoch {trained.epoch} forecasts"


def _is_there(folder: Path | None) -> TypeGuard[Path]:
    """Return whether the folder of a run is known and has not been removed since the run was restored."""
    return folder is not None and (folder / run_seal.CONFIG).is_file()


def usable(trained: Trained, panel: Panel) -> Panel:
    """Return the panel as the network reads it: texts of covariates encoded, series left out that cannot be forecast.

    Those are series that are shorter than the run's window, or that are new and have no scale, if the data set leaves
    such series out. Raises `UsageError` where no series is left.
    """
    panel = panel.encoded(trained.scaling.categories)
    if not panel.drops:
        return panel
    data = series_data(trained.experiment, trained.folder)
    trained_names = _trained_names(trained)
    failures = {}
    for number, name in enumerate(panel.names):
        try:
            panel.select([number]).last_windows(data.window, 1)
            if trained.scaling.power != powers.NONE:
                series = panel.series[number]
                powers.check_positive(series.values, trained.scaling.power, f"{called(name)}: ", series.times)
            # A series of the training keeps its scale, whatever its last rows are.
            if name not in trained_names:
                _scaling_like(trained, [panel.known_values(number)], [name])
        except UsageError as error:
            failures[name] = error
    return panel.without(failures)


def _scaling_like(trained: Trained, values: Sequence[Float[np.ndarray, "_"]], names: Sequence[str]) -> Scaling:
    """Fit the scaling of new series as that of the training; see `fit_scaling`."""
    scaling = trained.scaling
    return fit_scaling(scaling.kind, values, names, **scaling.options)


READ_BY_MODEL = (
    "window",
    "target",
    "scale",
    "transform",
    "scale_input",
    "covariates",
    "calendar",
    "future",
    "static",
    "stateful",
)
"""Options of the data that decide what the model reads."""


def check_same_inputs(folder: Path, saved: PanelData, new: PanelData) -> None:
    """Raise `UsageError` for a changed option that decides what the model reads; only the rows may change."""
    for name in READ_BY_MODEL:
        # Only tables have covariates.
        trained_with = getattr(saved, name, None)
        value = getattr(new, name, None)
        if value != trained_with:
            raise UsageError(
                f"must be as in the training of {folder}",
                where=f"--data.{name.replace('_', '-')}",
                got=value,
                needed=trained_with,
            )


def series_data(experiment: Experiment, run: Path | None) -> PanelData:
    """Return the data set of a run's experiment. Raises `UsageError` unless it holds series in time."""
    if not isinstance(experiment.data, PanelData):
        place = run or "this"
        raise UsageError(f"{place} is a run of {experiment.name}: its series have no end to forecast beyond")
    return experiment.data


def panel_of(trained: Trained, table: str | Path | IntoFrame) -> Panel:
    """Read a file or a frame as a panel with the columns of the run's own table.

    A run of other series takes the only column of numbers. Raises `UsageError` for a table that cannot be used.
    """
    data = series_data(trained.experiment, trained.folder)
    if not isinstance(data, Table):
        data = Table(window=data.window, target=data.target)
    if isinstance(table, str | Path):
        return dataclasses.replace(data, path=str(table)).panel()
    return data.on(table).panel()


def _trained_names(trained: Trained) -> tuple[str, ...]:
    """Return the names of the series that a run was trained on."""
    # Configs of the first format do not name the series; the data do.
    return trained.names or series_data(trained.experiment, trained.folder).panel().names


def histories(trained: Trained, panel: Panel) -> tuple[History, ...]:
    """Return how a stateful run carries its state through each series; nothing for any other run."""
    carried_from = trained.carried_from
    if carried_from is None:
        return ()
    return tuple(
        stateful.history(rows, series, trained.facts.get(name), carried_from)
        for name, series, rows in zip(panel.names, panel.series, panel.whole_series(), strict=True)
    )


def _known_series(panel: Panel) -> tuple[Series, ...]:
    """Return all rows of each series, NaN where the value was missing."""
    return tuple(Series(series.times, panel.known_values(number)) for number, series in enumerate(panel.series))


class _Arrived(NamedTuple):
    """Windows before the last one whose forecasts move adaptive intervals, or None, and remarks on them."""

    windows: Windows | None
    notes: tuple[str, ...] = ()


def _arrived_windows(trained: Trained, panel: Panel, steps: int) -> _Arrived:
    """Return the windows whose forecasts have been made since the intervals were fitted, and those of new series.

    Targets beyond the end of a series are unknown. There are none where the intervals do not adapt.
    """
    intervals = trained.intervals
    if intervals is None or intervals.kind != "adaptive" or not intervals.levels:
        return _Arrived(None)
    # Beyond the horizon of the training there are no levels to follow.
    if steps > trained.experiment.horizon:
        return _Arrived(None)

    since_training = []
    of_new_series = []
    unplaced = []
    for number, series in enumerate(panel.series):
        until = ""
        if intervals.until:
            until = intervals.until[number]
        if until and trained_series.is_dated(until) != trained_series.has_dates(series):
            unplaced.append(panel.names[number])
            continue

        rows = len(series.values)
        first = max(_first_row_after(series, until), trained.experiment.data.window, rows - ARRIVED)
        if first < rows:
            reach = _reach(trained, steps)
            windows = panel.windows_from(number, first, trained.experiment.data.window, reach)
            windows = _as_trained(trained, first_targets(windows, steps))
            if until:
                since_training.append(windows)
            else:
                of_new_series.append(windows)

    notes = []
    for parts, which in ((since_training, "since training"), (of_new_series, "of series that the run does not know")):
        if parts:
            count = sum(len(part.inputs) for part in parts)
            notes.append(f"intervals follow the coverage of {counted(count, 'forecast')} {which}")
    if unplaced:
        notes.append(
            f"intervals stay as they were fitted for {_listed(unplaced)}: rows and training cannot be compared in time, "
            "as only one of them has dates"
        )
    parts = [*since_training, *of_new_series]
    if not parts:
        return _Arrived(None, tuple(notes))
    return _Arrived(join(parts), tuple(notes))


def _first_row_after(series: Series, until: str) -> int:
    """Return the first row later than a time that a run has written; 0 where it has written none."""
    if not until:
        return 0
    last = np.array(until).astype(series.times.dtype)
    return int(np.searchsorted(series.times, last, side="right"))


def scaling_of(trained: Trained, panel: Panel) -> Scaling:
    """Return the scaling of each series of a panel: the run's, or that of the rows of a new series."""
    return _scaling(trained, panel).scaling


class _Fitted(NamedTuple):
    """Scaling of every series of a panel, in the panel's order, remarks on it, and the series that are new to the run."""

    scaling: Scaling
    notes: tuple[str, ...]
    new: tuple[str, ...]


def _scaling(trained: Trained, panel: Panel) -> _Fitted:
    """Take the run's scaling for the series that it was trained on; fit that of others on all of their rows."""
    trained_names = _trained_names(trained)
    shift = dict(zip(trained_names, trained.scaling.shift, strict=True))
    scale = dict(zip(trained_names, trained.scaling.scale, strict=True))
    has_power = bool(trained.scaling.exponents)
    exponents = dict(zip(trained_names, trained.scaling.exponents, strict=has_power))
    facts = trained.facts

    new_numbers = []
    changed_names = []
    for number, name in enumerate(panel.names):
        if name not in shift:
            new_numbers.append(number)
            continue

        # A column of the same name in another file may be another series, in another unit.
        series = panel.series[number]
        if name in facts and not trained_series.is_same(facts[name], series):
            new_numbers.append(number)
            changed_names.append(name)

    notes = []
    if new_numbers:
        # All rows are past at this point, so a fit on all of them does not look ahead.
        new_names = [panel.names[number] for number in new_numbers]
        new_values = [panel.known_values(number) for number in new_numbers]
        try:
            fitted = _scaling_like(trained, new_values, new_names)
        except UsageError as error:
            raise UsageError(f"{error}{panel.way_out}") from error
        shift.update(zip(new_names, fitted.shift, strict=True))
        scale.update(zip(new_names, fitted.scale, strict=True))
        exponents.update(zip(new_names, fitted.exponents, strict=has_power))

        listed = _listed(new_names)
        notes.append(f"scaled by the rows of {listed} themselves: the run was trained on other data")
    if changed_names:
        notes.append(_difference(changed_names[0], facts, panel))

    scaling = dataclasses.replace(
        trained.scaling,
        shift=tuple(shift[name] for name in panel.names),
        scale=tuple(scale[name] for name in panel.names),
        exponents=tuple(exponents[name] for name in panel.names if has_power),
    )
    return _Fitted(scaling, tuple(notes), new=tuple(panel.names[number] for number in new_numbers))


def _listed(names: Sequence[str]) -> str:
    """Return the first three names."""
    listed = ", ".join(names[:3])
    if len(names) > 3:
        listed += ", …"
    return listed


def _difference(name: str, facts: Mapping[str, TrainedSeries], panel: Panel) -> str:
    """Say how a series differs from the one of the same name in the training."""
    number = panel.names.index(name)
    values = panel.known_values(number)
    mean = np.nanmean(values)
    deviation = np.nanstd(values)

    trained = facts[name]
    period = f"{trained.first} to {trained.last}"
    return (
        f"{called(name)} is not as in the training, {period}: "
        f"mean {mean:.4g} and deviation {deviation:.4g}, "
        f"where they were {trained.mean:.4g} and {trained.deviation:.4g}"
    )
