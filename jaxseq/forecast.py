"""`python -m jaxseq.forecast RUN [--data.path new.csv] [--horizon 30]`: forecast beyond the end of the data."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import pandas as pd
import tyro

from jaxseq.checkpoint import run_seal
from jaxseq.common import checks, command_line, console, csv_tables, figures, files, written
from jaxseq.common.errors import UsageError
from jaxseq.data import later
from jaxseq.data.panel import Panel
from jaxseq.data.panel_data import PanelData
from jaxseq.data.table import Table
from jaxseq.data.tables import read
from jaxseq.forecasting import plots, predictions
from jaxseq.forecasting.predictions import Future
from jaxseq.train import compiled_programs, ensemble, future, sample_paths, study
from jaxseq.train.experiments import EXPERIMENTS
from jaxseq.train.forecaster import Trained
from jaxseq.train.options import DEFAULT

PROGRAM = "python -m jaxseq.forecast"
FILE = "future.csv"
"""Default file in the run's folder, beside `forecast.png`, which shows the test part."""
RUN_FILES = (
    run_seal.PREDICTIONS,
    run_seal.LARGE_PREDICTIONS,
    run_seal.SCORES,
    run_seal.LOSS_PLOT,
    run_seal.FORECAST_PLOT,
    run_seal.ERRORS_PLOT,
    study.MEMBERS,
)
"""Files of a run, or of a study, that have a suffix of the outputs."""
RECORD = "future.json"
"""Record of the default files: their sha256, the run, its epoch or those of an ensemble's members, the horizon and the last
time of each series."""
HISTORY_WINDOWS = 3
"""Windows of the past in the figure."""
PRINTED_ROWS = 40
"""Rows of the forecast that are printed; the file has all of them."""

Data = TypeVar("Data")


@dataclass(frozen=True)
class Options(Generic[Data]):
    """Options of the command; those of the data are the options that the run's data set has."""

    run: Annotated[Path, tyro.conf.Suppress]
    """The folder of a run, or of a study with an ensemble."""
    plan: Annotated[Path | None, tyro.conf.Suppress]
    """Table with the covariates that are known ahead, in rows after the end of the data; None if these have them."""
    data: Data
    horizon: int | None = None
    """Steps to forecast; None takes the horizon of the training. A longer one needs a run with --task iterated."""
    epoch: int | None = None
    """Saved epoch to forecast with; None takes the one that was judged, or the best one so far. Intervals belong to the
    epoch that was judged."""
    refit: bool = True
    """Forecast with the weights that were trained again on all rows, where the run has them (--refit of jaxseq.train)."""
    paths: int | None = None
    """Also write so many sample paths, beside the forecast: future-paths.csv, or .parquet above a million rows."""
    paths_seed: int | None = None
    """Seed of the paths; None takes that of the run."""
    out: Path | None = None
    """CSV file to write, with a figure of the same name beside it; None writes future.csv into the run's folder."""
    overwrite: bool = False
    """Replace both files if they exist; the data that are read and the run's own files are never replaced."""

    def __post_init__(self) -> None:
        if self.horizon is not None and self.horizon < 1:
            raise UsageError("too few steps", where="--horizon", got=self.horizon, needed="at least 1")
        if self.paths is not None:
            checks.count(1, **{"--paths": self.paths})
        if self.paths_seed is not None:
            checks.count(0, **{"--paths-seed": self.paths_seed})
        if self.out is not None and self.out.suffix != ".csv":
            raise UsageError("wrong type of file", where="--out", got=str(self.out), needed="a name that ends in .csv")


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, 2 for a usage error, 130 if interrupted."""
    words = sys.argv[1:] if argv is None else argv

    # Parsed within `run`, which reports a usage error in one line.
    return command_line.run("jaxseq.forecast", lambda: _run(parse(words)), "stopped; nothing was written", "--horizon")


def parse(words: Sequence[str]) -> Options[PanelData]:
    """Parse the words of the command line; the run decides which options the data have.

    Raises `UsageError` for a missing run, an unknown option or a value that does not fit.
    """
    # The run, and perhaps a table of plans; everything after them are options.
    names = []
    for word in words[:2]:
        if word.startswith("-"):
            break
        names.append(word)
    if not names and not {"-h", "--help"} & set(words):
        raise UsageError(f"name the folder of a run: {PROGRAM} runs/aapl-0001")

    # Without a run, --help shows the options of the default experiment's data.
    folder = Path("RUN")
    data = EXPERIMENTS[DEFAULT].data
    plan = None
    if names:
        folder = files.user_path(names[0])
        data = ensemble.saved_experiment(folder).data
    if len(names) == 2:
        plan = files.user_path(names[1])

    generic: Any = Options
    return command_line.parse(
        generic[type(data)],
        words[len(names) :],
        program=f"{PROGRAM} RUN",
        default=generic(folder, plan, data),
        description="Forecast beyond the end of a run's series, or of other series with the same columns. A FILE after RUN "
        "has the rows after that end, with the covariates that are known ahead (--data.future).",
    )


def _run(options: Options[PanelData]) -> None:
    """Forecast, write the table and the figure, print both."""
    compiled_programs.keep()
    path = options.run / FILE if options.out is None else options.out
    _check_outputs(options, path)
    saved = future.series_data(ensemble.saved_experiment(options.run), options.run)
    # Before the panel is read, which may take a while or a download.
    future.check_same_inputs(options.run, saved, options.data)
    panel = options.data.panel()
    if options.plan is not None:
        # Other data have no columns, which is an error of its own.
        columns = read.DEFAULTS
        if isinstance(options.data, Table):
            columns = options.data.read_options
        panel = later.with_plan(panel, read.read_plan(options.plan, columns))
    trained = ensemble.restore(options.run, options.epoch, options.refit)
    panel = future.usable(trained, panel)
    forecasts = future.forecast(trained, panel, options.horizon)

    title = f"{options.data.name}: forecast beyond {panel.series[0].times[-1]}"
    time_column = forecasts.table.columns[0]
    history = _history(panel, HISTORY_WINDOWS * saved.window, time_column)
    paths = _path_file(options, trained, panel, path)
    figure = trained.quantity.future_figure(history, forecasts.table, saved.unit, title)
    table = csv_tables.content(forecasts.table)
    picture = figures.drawn(figure, "png")
    if options.out is None:
        contents = {FILE: table, path.with_suffix(".png").name: picture, **paths}
        _write_default(options, trained, contents, forecasts, panel)
    else:
        files.write(path, table)
        files.write(path.with_suffix(".png"), picture)
        for name, content in paths.items():
            files.write(path.with_name(name), content)

    printed = forecasts.table.head(PRINTED_ROWS)
    rows = len(forecasts.table)
    omitted = ""
    if rows > PRINTED_ROWS:
        omitted = f" (the first {PRINTED_ROWS} of {rows} rows)"
    screen = console.terminal()
    for note in forecasts.notes:
        screen.print(note, highlight=False, markup=False)
    screen.print(printed.to_string(index=False), highlight=False, markup=False)
    names = ", ".join([f"{path.stem}.png", *paths])
    screen.print(f"{path} and {names}{omitted}", highlight=False)


def _path_file(options: Options[PanelData], trained: Trained, panel: Panel, path: Path) -> dict[str, bytes]:
    """Return the file of the sample paths by its name; none if they are not asked for."""
    if options.paths is None:
        return {}
    table = sample_paths.sample(trained, panel, options.paths, horizon=options.horizon, seed=options.paths_seed)
    content = predictions.content(table)
    return {f"{path.stem}-paths{content.suffix}": content.data}


def _check_outputs(options: Options[PanelData], path: Path) -> None:
    """Raise `UsageError` for outputs that exist without --overwrite, and for those that would destroy what is read."""
    inputs = [options.run / name for name in RUN_FILES]
    # Only tables are read from a file of the user.
    table = getattr(options.data, "path", None)
    if table:
        inputs.append(files.user_path(table))
    if options.plan is not None:
        inputs.append(options.plan)
    outputs = [path, path.with_suffix(".png")]
    if options.paths is not None:
        outputs += [path.with_name(f"{path.stem}-paths{suffix}") for suffix in (".csv", ".parquet")]
    # The default files are the program's own, as long as nobody has edited them.
    is_default = options.out is None
    for output in outputs:
        files.check_output(output, "--out", options.overwrite or is_default, inputs)
    if is_default and not options.overwrite:
        written.check(path.with_name(RECORD), [output.name for output in outputs])


def _write_default(
    options: Options[PanelData], trained: Trained, contents: Mapping[str, bytes], forecasts: Future, panel: Panel
) -> None:
    """Write future.csv and future.png into the run's folder, with the record by which the next call knows them."""
    epoch: int | list[int] = trained.epoch
    if trained.combination:
        epoch = [member.epoch for member in (trained, *trained.others)]
    written.write(
        options.run / RECORD,
        contents,
        run=options.run.resolve().name,
        epoch=epoch,
        horizon=len(forecasts.table) // len(panel.series),
        last=[str(series.times[-1]) for series in panel.series],
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
    refit: bool = True,
) -> Future:
    """Forecast with a run in a folder, as `jaxseq.train.future.forecast` does with one that is restored.

    The epoch is the one that was judged, or the given one; with `refit`, the weights are those that were trained again on
    all rows, where the run has them.
    """
    return future.forecast(ensemble.restore(folder, epoch, refit), panel, horizon)


if __name__ == "__main__":
    sys.exit(main())
