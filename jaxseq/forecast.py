"""`python -m jaxseq.forecast RUN [--data.path new.csv] [--horizon 30]`: forecast beyond the end of the data."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import numpy as np
import pandas as pd
import tyro

from jaxseq.checkpoint import records, run_seal
from jaxseq.common import command_line, console, csv_tables, figures, files, written
from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted
from jaxseq.data.frequency import continue_
from jaxseq.data.panel import Panel, PanelData
from jaxseq.data.scaling import Scaling, fit_scaling
from jaxseq.data.windows import Series, Windows, called, join
from jaxseq.forecasting import plots, predictions
from jaxseq.forecasting.intervals import for_series
from jaxseq.train import compiled_programs, forecaster, run_folder, trained_series
from jaxseq.train.experiments import EXPERIMENTS
from jaxseq.train.experiments.base import Experiment
from jaxseq.train.options import DEFAULT
from jaxseq.train.saved_experiment import saved_experiment
from jaxseq.train.trained_series import TrainedSeries

PROGRAM = "python -m jaxseq.forecast"
FILE = "future.csv"
"""Default file in the run's folder, beside `forecast.png`, which shows the test part."""
RUN_FILES = (
    run_seal.PREDICTIONS,
    run_seal.SCORES,
    run_seal.LOSS_PLOT,
    run_seal.FORECAST_PLOT,
    run_seal.ERRORS_PLOT,
)
"""Files of a run that have a suffix of the outputs."""
RECORD = "future.json"
"""Record of the default files: their sha256, the run, its epoch, the horizon and the last time of each series."""
MAX_STEPS = 100_000
"""Longest horizon."""
HISTORY_WINDOWS = 3
"""Windows of the past in the figure."""
ARRIVED = 500
"""Most forecasts of a series that adaptive intervals look back on: five times the memory of their levels."""
PRINTED_ROWS = 40
"""Rows of the forecast that are printed; the file has all of them."""

Data = TypeVar("Data")


@dataclass(frozen=True)
class Options(Generic[Data]):
    """Options of the command; those of the data are the options that the run's data set has."""

    run: Annotated[Path, tyro.conf.Suppress]
    """The run's folder."""
    data: Data
    horizon: int | None = None
    """Steps to forecast; None takes the horizon of the training. A longer one needs a run with --task iterated."""
    epoch: int | None = None
    """Saved epoch to forecast with; None takes the one that was judged, or the best one so far. Intervals belong to the
    epoch that was judged."""
    out: Path | None = None
    """CSV file to write, with a figure of the same name beside it; None writes future.csv into the run's folder."""
    overwrite: bool = False
    """Replace both files if they exist; the data that are read and the run's own files are never replaced."""

    def __post_init__(self) -> None:
        if self.horizon is not None and self.horizon < 1:
            raise UsageError("too few steps", where="--horizon", got=self.horizon, needed="at least 1")
        if self.out is not None and self.out.suffix != ".csv":
            raise UsageError("wrong type of file", where="--out", got=str(self.out), needed="a name that ends in .csv")


class Future(NamedTuple):
    """Forecast beyond the end of the series.

    table  a row for each series and step: date (or row), series where there are several, step where there are several,
           forecast, and low_80%, high_80% for each level of the run's intervals
    notes  remarks on the data and the forecast, a sentence each
    """

    table: pd.DataFrame
    notes: tuple[str, ...]


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, 2 for a usage error, 130 if interrupted."""
    words = sys.argv[1:] if argv is None else argv

    # Parsed within `run`, which reports a usage error in one line.
    return command_line.run("jaxseq.forecast", lambda: _run(parse(words)), "stopped; nothing was written", "--horizon")


def parse(words: Sequence[str]) -> Options[Any]:
    """Parse the words of the command line; the run decides which options the data have.

    Raises `UsageError` for a missing run, an unknown option or a value that does not fit.
    """
    names_run = bool(words) and not words[0].startswith("-")
    if not names_run and not {"-h", "--help"} & set(words):
        raise UsageError(f"name the folder of a run: {PROGRAM} runs/aapl-0001")

    # Without a run, --help shows the options of the default experiment's data.
    folder = Path("RUN")
    data = EXPERIMENTS[DEFAULT].data
    if names_run:
        folder = files.user_path(words[0])
        data = saved_experiment(folder).data

    generic: Any = Options
    return command_line.parse(
        generic[type(data)],
        words[names_run:],
        program=f"{PROGRAM} RUN",
        default=generic(folder, data),
        description="Forecast beyond the end of a run's series, or of other series with the same columns.",
    )


def _run(options: Options[Any]) -> None:
    """Forecast, write the table and the figure, print both."""
    compiled_programs.keep()
    path = options.run / FILE if options.out is None else options.out
    _check_outputs(options, path)
    saved = _series_data(saved_experiment(options.run), options.run)
    # Before the panel is read, which may take a while or a download.
    _check_same_inputs(options.run, saved, options.data)
    panel = usable(options.run, options.data.panel())
    future = forecast(options.run, panel, options.horizon, options.epoch)

    title = f"{options.data.name}: forecast beyond {panel.series[0].times[-1]}"
    time_column = future.table.columns[0]
    history = _history(panel, HISTORY_WINDOWS * saved.window, time_column)
    figure = plots.fan(history, future.table, saved.unit, title)
    table = csv_tables.content(future.table)
    picture = figures.drawn(figure, "png")
    if options.out is None:
        _write_default(options, {FILE: table, path.with_suffix(".png").name: picture}, future, panel)
    else:
        files.write(path, table)
        files.write(path.with_suffix(".png"), picture)

    printed = future.table.head(PRINTED_ROWS)
    rows = len(future.table)
    omitted = ""
    if rows > PRINTED_ROWS:
        omitted = f" (the first {PRINTED_ROWS} of {rows} rows)"
    screen = console.terminal()
    for note in future.notes:
        screen.print(note, highlight=False, markup=False)
    screen.print(printed.to_string(index=False), highlight=False, markup=False)
    screen.print(f"{path} and {path.stem}.png{omitted}", highlight=False)


def _check_outputs(options: Options[Any], path: Path) -> None:
    """Raise `UsageError` for outputs that exist without --overwrite, and for those that would destroy what is read."""
    inputs = [options.run / name for name in RUN_FILES]
    # Only tables are read from a file of the user.
    table = getattr(options.data, "path", None)
    if table:
        inputs.append(files.user_path(table))
    outputs = (path, path.with_suffix(".png"))
    # The default files are the program's own, as long as nobody has edited them.
    is_default = options.out is None
    for output in outputs:
        files.check_output(output, "--out", options.overwrite or is_default, inputs)
    if is_default and not options.overwrite:
        written.check(path.with_name(RECORD), [output.name for output in outputs])


def _write_default(options: Options[Any], contents: Mapping[str, bytes], future: Future, panel: Panel) -> None:
    """Write future.csv and future.png into the run's folder, with the record by which the next call knows them."""
    epoch = options.epoch
    if epoch is None:
        epoch = records.best_epoch(options.run / run_seal.CHECKPOINTS)
    written.write(
        options.run / RECORD,
        contents,
        run=options.run.resolve().name,
        epoch=epoch,
        horizon=len(future.table) // len(panel.series),
        last=[str(series.times[-1]) for series in panel.series],
    )


def _check_same_inputs(folder: Path, saved: PanelData, new: PanelData) -> None:
    """Raise `UsageError` for a changed option that decides what the model reads; only the rows may change."""
    for name in ("window", "target", "covariates"):
        # Only tables have covariates.
        trained_with = getattr(saved, name, None)
        value = getattr(new, name, None)
        if value != trained_with:
            raise UsageError(
                f"must be as in the training of {folder}", where=f"--data.{name}", got=value, needed=trained_with
            )


def _history(panel: Panel, rows: int, time_column: str) -> pd.DataFrame:
    """Return the last rows of the series that the figure shows."""
    frames = []
    for name, series in zip(panel.names, panel.series, strict=True):
        # The figure has no panel for further series.
        if len(frames) == plots.PANELS:
            break
        frame = pd.DataFrame()
        frame[time_column] = series.times[-rows:]
        frame["actual"] = series.values[-rows:]
        if len(panel.names) > 1:
            frame["series"] = name
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def forecast(
    folder: str | Path,
    panel: Panel | None = None,
    horizon: int | None = None,
    epoch: int | None = None,
) -> Future:
    """Forecast beyond the end of a run's series, or of those of `panel`, for `horizon` steps or the run's own.

    The epoch is the one that was judged, or the given one.

    Dates continue in the frequency of the data. A series that the run was trained on keeps its scaling; for a new one it
    is fitted on all of its rows, which are past. Raises `UsageError` for data that do not fit the run.
    """
    folder = files.user_path(folder)
    trained = forecaster.restore(folder, epoch)
    data = _series_data(trained.experiment, folder)
    if panel is None:
        panel = data.panel()
    steps = horizon or trained.experiment.horizon
    # The rollout keeps all steps in memory: a mistyped horizon must not fill it.
    if steps > MAX_STEPS:
        raise UsageError("too many steps", where="horizon", got=steps, needed=f"at most {MAX_STEPS:,}")

    panel = usable(folder, panel)
    windows = panel.last_windows(data.window, steps)
    trained_names = _trained_names(folder, data)
    config = run_folder.read_config(folder)
    fitted = _scaling(trained, panel, trained_names, config)
    notes = [*panel.notes, *fitted.notes]
    if not run_seal.has_seals(folder):
        notes.append(f"the run is of an older format, whose files have no seals; --resume {folder} writes them")

    series = _known_series(panel)
    if trained.intervals is not None:
        own_intervals = for_series(trained.intervals, trained_names, panel.names, new=fitted.new)
        trained = trained._replace(intervals=own_intervals)
    centre, intervals = trained.forecast(windows, fitted.scaling, steps, series)

    arrived = _arrived_windows(trained, panel, steps)
    notes += arrived.notes
    if arrived.windows is not None:
        _, followed = trained.forecast(join([arrived.windows, windows]), fitted.scaling, steps, series)
        # The last windows come last; the earlier ones only move the levels.
        count = len(windows.inputs)
        intervals = {level: (low[-count:], high[-count:]) for level, (low, high) in followed.items()}

    if not intervals:
        notes.append(_no_intervals(Path(folder), trained))
    times = np.stack([continue_(series.times[-1], panel.frequency, steps) for series in panel.series])
    table = predictions.frame(windows, panel.names, {"forecast": centre}, intervals, times)
    return Future(table.drop(columns="actual"), tuple(notes))


def _no_intervals(folder: Path, trained: forecaster.Trained) -> str:
    """Say why a forecast has no intervals."""
    if trained.intervals is not None:
        return "no intervals: the run has none for this horizon"
    judged = run_seal.read_judged(folder)
    if judged is None:
        return f"no intervals: the run has not been judged; python -m jaxseq.train --resume {folder} judges it"
    return f"no intervals: they were fitted to epoch {judged.epoch}, and epoch {trained.epoch} forecasts"


def usable(
    folder: str | Path,
    panel: Panel,
) -> Panel:
    """Return the panel without the series that cannot be forecast, if its data set leaves such series out.

    Those are series that are shorter than the run's window, or that are new and have no scale. Raises `UsageError` where
    no series is left.
    """
    if not panel.drops:
        return panel
    folder = files.user_path(folder)
    data = _series_data(saved_experiment(folder), folder)
    trained_names = _trained_names(folder, data)
    failures = {}
    for number, name in enumerate(panel.names):
        try:
            panel.select([number]).last_windows(data.window, 1)
            # A series of the training keeps its scale, whatever its last rows are.
            if name not in trained_names:
                fit_scaling(data.target, [panel.known_values(number)], [name])
        except UsageError as error:
            failures[name] = error
    return panel.without(failures)


def _known_series(panel: Panel) -> tuple[Series, ...]:
    """Return all rows of each series, NaN where the value was missing."""
    return tuple(Series(series.times, panel.known_values(number)) for number, series in enumerate(panel.series))


class _Arrived(NamedTuple):
    """Windows before the last one whose forecasts move adaptive intervals, or None, and remarks on them."""

    windows: Windows | None
    notes: tuple[str, ...] = ()


def _arrived_windows(trained: forecaster.Trained, panel: Panel, steps: int) -> _Arrived:
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
            windows = panel.windows_from(number, first, trained.experiment.data.window, steps)
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


def _series_data(experiment: Experiment, folder: Path) -> PanelData:
    """Return a run's data set. Raises `UsageError` unless it holds series in time."""
    if not isinstance(experiment.data, PanelData):
        raise UsageError(f"{folder} is a run of {experiment.name}: its series have no end to forecast beyond")
    return experiment.data


def _trained_names(folder: Path, data: PanelData) -> tuple[str, ...]:
    """Return the names of the series that a run was trained on."""
    names = run_folder.read_config(folder).get("series")
    # Configs of the first format do not name the series; the data do.
    if names is None:
        names = data.panel().names
    return tuple(names)


class _Fitted(NamedTuple):
    """Scaling of every series of a panel, in the panel's order, remarks on it, and the series that are new to the run."""

    scaling: Scaling
    notes: tuple[str, ...]
    new: tuple[str, ...]


def _scaling(
    trained: forecaster.Trained,
    panel: Panel,
    trained_names: tuple[str, ...],
    config: Mapping[str, Any],
) -> _Fitted:
    """Take the run's scaling for the series that it was trained on; fit that of others on all of their rows."""
    shift = dict(zip(trained_names, trained.scaling.shift, strict=True))
    scale = dict(zip(trained_names, trained.scaling.scale, strict=True))
    facts = trained_series.read(config, trained_names)

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
            fitted = fit_scaling(trained.scaling.kind, new_values, new_names)
        except UsageError as error:
            raise UsageError(f"{error}{panel.way_out}") from error
        shift.update(zip(new_names, fitted.shift, strict=True))
        scale.update(zip(new_names, fitted.scale, strict=True))

        listed = _listed(new_names)
        notes.append(f"scaled by the rows of {listed} themselves: the run was trained on other data")
    if changed_names:
        notes.append(_difference(changed_names[0], facts, panel))

    scaling = dataclasses.replace(
        trained.scaling,
        shift=tuple(shift[name] for name in panel.names),
        scale=tuple(scale[name] for name in panel.names),
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


if __name__ == "__main__":
    sys.exit(main())
