"""Forecasts of other libraries beside ours, on a panel whose later rows are known.

    python -m jaxseq.benchmark.panel_peers m4-hourly-train.csv m4-hourly-test.csv --seeds 5

Both files have the columns id, hour and y, as M4's hourly series in docs/results.md. Every method sees the rows of the
first file alone, and forecasts all of the second by one forecast from the end of each series. Each runs in a process of
its own, on one core and with the seed that it is given; the time is all CPU time of that process, its imports and
compilation included. Errors are those of the M4 competition (`jaxseq.forecasting.m4`), of every method by the same code.

The libraries are not among the extras: install neuralforecast, u8darts[torch] and statsforecast into an environment of
their own, beside jaxseq. A method whose library is not installed is left out by name.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
import tyro
from jaxtyping import Float

from jaxseq.common import command_line, csv_tables
from jaxseq.common.console import say
from jaxseq.common.errors import UsageError
from jaxseq.common.files import write_json
from jaxseq.forecasting import m4, metrics
from jaxseq.forecasting.losses import Scales

if TYPE_CHECKING:
    import pandas as pd

PROGRAM = "python -m jaxseq.benchmark.panel_peers"
PERIOD = 24
"""Time steps of a day, the season of M4's hourly series."""
WEEK = 168
"""Time steps of a week: the second season, and the window of every network."""
RECIPE = (
    "--data.window 168 --data.target season --data.test-rows 48 --data.valid-rows 48 --task direct --model.skip "
    "--start random --loss mae --lr 3e-3 --schedule cosine --clip 1 --batch 128 --epochs 6 --refit"
)
"""Options of our run, chosen by its validation part (docs/results.md)."""


class Problem(NamedTuple):
    """A panel to forecast.

    file     with the columns id, hour and y
    values   of each series, by its name
    horizon  time steps to forecast
    seed     of every random draw
    """

    file: Path
    values: Mapping[str, Float[np.ndarray, " t"]]
    horizon: int
    seed: int


class Measured(NamedTuple):
    """Errors of a method with a seed by M4's measures, and its CPU seconds."""

    method: str
    seed: int
    mase: float
    smape: float
    cpu_seconds: float


Forecasts = dict[str, Float[np.ndarray, " k"]]
"""The forecast of each series, by its name."""


class Method(NamedTuple):
    """A forecast of a library.

    package  that has to be installed
    seeded   whether the seed plays a part
    """

    forecast: Callable[[Problem], Forecasts]
    package: str
    seeded: bool


# Methods ---------------------------------------------------------------------------------------------------------------


def ours(problem: Problem) -> Forecasts:
    """Our GRU of 50 units, by the command line, trained again on all rows."""
    from jaxseq.train import __main__ as train
    from jaxseq.train import ensemble, future

    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        data = f"--data.path {problem.file} --data.column y --data.series id --data.time hour --data.period {PERIOD}"
        words = (
            f"table {data} {RECIPE} --horizon {problem.horizon} --seed {problem.seed} --no-compile-cache --out {run}"
        )
        if train.main(words.split()):
            raise RuntimeError("the training of our run failed")
        table = future.forecast(ensemble.restore(run)).table
    return {str(name): rows["forecast"].to_numpy() for name, rows in table.groupby("series")}


def seasonal_naive(problem: Problem) -> Forecasts:
    """The last day, again and again."""
    repeats = -(-problem.horizon // PERIOD)
    return {name: np.tile(y[-PERIOD:], repeats)[: problem.horizon] for name, y in problem.values.items()}


def long_frame(problem: Problem) -> pd.DataFrame:
    """Return the panel as Nixtla's libraries take it."""
    return _rows(problem.file).rename(columns={"id": "unique_id", "hour": "ds"})


def by_name(frame: pd.DataFrame, column: str) -> Forecasts:
    """Return the forecasts in a column of a frame of Nixtla's libraries."""
    return {str(name): rows[column].to_numpy() for name, rows in frame.groupby("unique_id")}


def neuralforecast(kind: str) -> Callable[[Problem], Forecasts]:
    """Return a network of neuralforecast with its own defaults, on each window scaled by itself."""

    def forecast(problem: Problem) -> Forecasts:
        import neuralforecast
        from neuralforecast import models

        quiet = {"enable_progress_bar": False, "logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
        network = getattr(models, kind)(
            h=problem.horizon, input_size=WEEK, scaler_type="robust", random_seed=problem.seed, **quiet
        )
        trained = neuralforecast.NeuralForecast(models=[network], freq=1)
        trained.fit(long_frame(problem))
        return by_name(trained.predict().reset_index(), kind)

    return forecast


def statsforecast(kind: str) -> Callable[[Problem], Forecasts]:
    """Return a method of statsforecast, fitted to each series."""

    def forecast(problem: Problem) -> Forecasts:
        import statsforecast
        from statsforecast import models

        season = [PERIOD, WEEK] if kind == "MSTL" else PERIOD
        method = getattr(models, kind)(season_length=season)
        fitted = statsforecast.StatsForecast(models=[method], freq=1, n_jobs=1)
        return by_name(fitted.forecast(df=long_frame(problem), h=problem.horizon).reset_index(), kind)

    return forecast


def darts(problem: Problem) -> Forecasts:
    """A GRU of darts that forecasts the whole horizon at once, on series that are scaled one by one."""
    import darts
    from darts.dataprocessing.transformers import Scaler
    from darts.models import BlockRNNModel

    series = [darts.TimeSeries.from_values(values.astype(np.float32)) for values in problem.values.values()]
    scaler = Scaler()
    scaled = scaler.fit_transform(series)
    network = BlockRNNModel(
        model="GRU",
        hidden_dim=50,
        input_chunk_length=WEEK,
        output_chunk_length=problem.horizon,
        n_epochs=6,
        batch_size=128,
        random_state=problem.seed,
        pl_trainer_kwargs={"accelerator": "cpu", "enable_progress_bar": False, "logger": False},
    )
    network.fit(scaled, verbose=False)
    forecasts = scaler.inverse_transform(network.predict(problem.horizon, series=scaled, verbose=False))
    return {
        name: forecast.values()[:, 0].astype(float) for name, forecast in zip(problem.values, forecasts, strict=True)
    }


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "jaxseq GRU": Method(ours, "jaxseq", seeded=True),
        "seasonal naive": Method(seasonal_naive, "jaxseq", seeded=False),
        "neuralforecast GRU": Method(neuralforecast("GRU"), "neuralforecast", seeded=True),
        "neuralforecast LSTM": Method(neuralforecast("LSTM"), "neuralforecast", seeded=True),
        "neuralforecast NHITS": Method(neuralforecast("NHITS"), "neuralforecast", seeded=True),
        "darts GRU": Method(darts, "darts", seeded=True),
        "statsforecast MSTL": Method(statsforecast("MSTL"), "statsforecast", seeded=False),
        "statsforecast AutoARIMA": Method(statsforecast("AutoARIMA"), "statsforecast", seeded=False),
    }
)


# The command -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    """Forecast a panel by other libraries and by ours, and judge all of them on later rows."""

    train: Annotated[Path, tyro.conf.Positional]
    """CSV file with the columns id, hour and y."""
    test: Annotated[Path, tyro.conf.Positional]
    """CSV file of the same columns with the rows after those, as many for each series."""
    only: str = ""
    """Take only the methods whose name contains this text, in any case."""
    seeds: int = 1
    """Seeds of the methods that draw, from 0 on."""
    out: Path | None = None
    """JSON file for the errors and times of each method and seed."""
    one: str | None = None
    """Forecast by this method alone, into --out: the process that the command starts for each."""
    seed: int = 0
    """Seed of --one."""


def values_of(file: Path) -> dict[str, Float[np.ndarray, " t"]]:
    """Return the values of each series in a file, in order of time. Raises `UsageError` for a file without the columns."""
    rows = _rows(file).groupby("id", sort=False)
    return {str(name): of_series["y"].to_numpy(np.float64) for name, of_series in rows}


def _rows(file: Path) -> pd.DataFrame:
    """Return the rows of a file, series by series in order of time."""
    try:
        table = csv_tables.read(file)
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: {error}") from error
    missing = {"id", "hour", "y"} - set(table)
    if missing:
        raise UsageError(f"{file}: no column {', '.join(sorted(missing))}; it needs id, hour and y")
    return table.sort_values(["id", "hour"])


def problem_of(options: Options, seed: int) -> tuple[Problem, Float[np.ndarray, "n k"]]:
    """Return the problem, and the values that came.

    Raises `UsageError` for series that differ between the files, or of different lengths in the second one.
    """
    before, after = values_of(options.train), values_of(options.test)
    if set(before) != set(after):
        raise UsageError(f"{options.test}: other series than those of {options.train}: {len(after)} and {len(before)}")
    lengths = {len(values) for values in after.values()}
    if len(lengths) != 1:
        raise UsageError(f"{options.test}: series of {min(lengths)} to {max(lengths)} rows; all need as many")
    return Problem(options.train, before, lengths.pop(), seed), np.stack([after[name] for name in before])


def measured(name: str, options: Options, seed: int) -> Measured:
    """Forecast by a method in a process of its own, and return its errors and its CPU seconds."""
    problem, actual = problem_of(options, seed)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "forecasts.json")
        words = [
            str(options.train.absolute()),
            str(options.test.absolute()),
            "--one",
            name,
            "--seed",
            str(seed),
            "--out",
            str(out),
        ]
        log = Path(folder, "log.txt")
        with log.open("w") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "jaxseq.benchmark.panel_peers", *words],
                stdout=stream,
                stderr=stream,
                env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
                cwd=folder,
            )
            # What the process has used is told to whoever waits for it alone.
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise UsageError(f"{name} failed: {log.read_text().strip().splitlines()[-1:]}")
        forecasts = json.loads(out.read_text())

    scales = Scales(
        absolute=np.array([metrics.seasonal_scale(values, PERIOD) for values in problem.values.values()]),
        squared=np.array([metrics.seasonal_scale(values, PERIOD, squared=True) for values in problem.values.values()]),
    )
    errors = m4.errors(actual, np.array([forecasts[series] for series in problem.values]), scales)
    seconds = usage.ru_utime + usage.ru_stime
    return Measured(name, seed, mase=errors.mase, smape=errors.smape, cpu_seconds=seconds)


def table(rows: Sequence[Measured]) -> str:
    """Return mean and standard deviation over the seeds of each method, as a table in Markdown."""
    lines = ["| method | seeds | MASE | sMAPE | CPU s |", "|---|---:|---:|---:|---:|"]
    for name in dict.fromkeys(row.method for row in rows):
        of_method = [row for row in rows if row.method == name]
        cells = [name, str(len(of_method))]
        for field, digits in (("mase", 3), ("smape", 2), ("cpu_seconds", 0)):
            values = [getattr(row, field) for row in of_method]
            text = f"{np.mean(values):.{digits}f}"
            if len(values) > 1:
                text += f" ± {np.std(values, ddof=1):.{digits}f}"
            cells.append(text)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def run(options: Options) -> None:
    """Forecast by every method that is asked for and installed; print the table, and write it after each."""
    if options.one is not None:
        if options.out is None:
            raise UsageError("--one needs --out")
        problem, _ = problem_of(options, options.seed)
        forecasts = METHODS[options.one].forecast(problem)
        write_json(options.out, {name: values.tolist() for name, values in forecasts.items()})
        return

    chosen = {name: method for name, method in METHODS.items() if options.only.lower() in name.lower()}
    if not chosen:
        raise UsageError(f"--only {options.only!r} is part of no method; they are {', '.join(METHODS)}")
    rows = []
    for name, method in chosen.items():
        if importlib.util.find_spec(method.package) is None:
            say(f"{name}: {method.package} is not installed")
            continue
        for seed in range(options.seeds if method.seeded else 1):
            rows.append(measured(name, options, seed))
            say(f"{name}, seed {seed}: MASE {rows[-1].mase:.3f}, {rows[-1].cpu_seconds:.0f} CPU s")
            if options.out is not None:
                write_json(options.out, {"rows": [row._asdict() for row in rows]})
    if rows:
        say(table(rows))


def main(words: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    stopped = "stopped; what was measured stands in --out"
    return command_line.run_parsed(PROGRAM, Options, run, words, smaller="file", stopped=stopped)


if __name__ == "__main__":
    sys.exit(main())
