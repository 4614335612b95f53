"""`python -m jaxseq.forecast RUN [--data.path new.csv] [--horizon 30]`: forecast beyond the end of the data."""

from __future__ import annotations

import dataclasses
import io
import sys
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import numpy as np
import pandas as pd
import tyro

from jaxseq.common import command_line, figures, files
from jaxseq.common import console as common_console
from jaxseq.common.command_line import usage_error
from jaxseq.common.errors import UsageError
from jaxseq.data.frequency import continue_
from jaxseq.data.scaling import Scaling, fit_scaling
from jaxseq.data.splits import Panel
from jaxseq.data.windows import Windows, called, join, last_window
from jaxseq.forecasting import evaluate, plots
from jaxseq.train import forecaster, options, run_folder
from jaxseq.train.experiments import EXPERIMENTS
from jaxseq.train.options import DEFAULT, FORECAST, saved_experiment

FILE = "future.csv"  # beside the run's forecast.png, which shows the test part
HISTORY = 3
"""Windows of the past that the picture shows."""
MAX_STEPS = 100_000


def forecast(
    folder: str | Path, panel: Panel | None = None, horizon: int | None = None
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """What a run forecasts beyond the end of its series, or of those of `panel`; and what is to be said of it.

    A row for each series and step: date (or row), series where there are several, step, forecast, and the ends of the
    intervals. Dates go on in the frequency of the data. A series that the run was trained on keeps its scaling; for
    others it is fitted on all of their rows, which are the past. Raises `UsageError` for data that do not fit the run.
    """
    trained = forecaster.restore(folder)
    data = trained.experiment.data
    if not hasattr(data, "panel"):
        raise UsageError(f"{folder} is a run of {trained.experiment.name}: its series have no end to forecast beyond")
    own, steps = data.panel() if panel is None else panel, horizon or trained.experiment.horizon
    if steps > MAX_STEPS:
        raise UsageError(f"{steps} steps were asked for; at most {MAX_STEPS:,} are forecast")
    times = np.concatenate([continue_(series.times[-1], own.frequency, steps) for series in own.series])
    part = _last_windows(own, data.window, steps)
    names = own.names if panel is None else _trained_on(Path(folder), trained)
    scaling, said = _scaling(trained, own, names)
    centre, ends = trained.forecast(part, scaling, steps)
    if not ends:
        said = (*said, "no intervals: the run has none for so many steps")
    found = evaluate.frame(part, own.names, {"forecast": centre}, ends).drop(columns="actual")
    found[found.columns[0]] = times
    return found, (*own.notes, *said)


def _last_windows(panel: Panel, window: int, steps: int) -> Windows:
    beside = panel.covariates or (np.zeros((0, 0)),) * len(panel.series)
    parts = []
    for number, (name, series, known) in enumerate(zip(panel.names, panel.series, beside, strict=True)):
        try:
            part = last_window(series, window, steps)
        except UsageError as error:
            raise UsageError(f"{panel.source or name}: {called(name)}: {error}") from error
        covariates = known[None, -window:] if known.size else part.covariates
        parts.append(part._replace(series=np.full(1, number), covariates=covariates))
    return join(parts)


def _trained_on(folder: Path, trained: forecaster.Trained) -> tuple[str, ...]:
    """The series of a run: in its config, or, in runs before that, in its data."""
    names = run_folder.read_config(folder).get("series")
    return trained.experiment.data.panel().names if names is None else tuple(names)


def _scaling(trained: forecaster.Trained, panel: Panel, names: tuple[str, ...]) -> tuple[Scaling, tuple[str, ...]]:
    """The run's own scaling for each series that it knows; for new ones that of all their rows."""
    old, known = trained.scaling, {name: number for number, name in enumerate(names)}
    new = [number for number, name in enumerate(panel.names) if name not in known]
    pairs = {name: (old.shift[number], old.scale[number]) for name, number in known.items()}
    if new:
        values, unknown = [panel.series[number].values for number in new], [panel.names[number] for number in new]
        fresh = fit_scaling(trained.experiment.data.target, values, unknown)
        pairs |= dict(zip(unknown, zip(fresh.shift, fresh.scale, strict=True), strict=True))
    shift, scale = zip(*(pairs[name] for name in panel.names), strict=True)
    few = ", ".join(panel.names[number] for number in new[:3]) + (", …" if len(new) > 3 else "")
    said = (f"scaled by the rows of {few} themselves: the run was trained on other data",) if new else ()
    return dataclasses.replace(old, shift=shift, scale=scale), said


def _check_same(folder: Path, saved: Any, asked: Any) -> None:
    """Raise `UsageError` for a field of the data that the weights were trained with and that may not change."""
    for name in ("window", "target", "covariates"):
        old, new = getattr(saved, name, None), getattr(asked, name, None)
        if old != new:
            raise UsageError(
                f"{folder} was trained with --data.{name} {old!r}, asked for is {new!r}: only the rows may change"
            )


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status: 0, 2 for a mistake of the user, 130 if interrupted."""
    words = sys.argv[1:] if argv is None else argv
    return command_line.run("jaxseq.forecast", lambda: _forecast(words), "stopped; nothing was written", "--horizon")


def _forecast(words: list[str]) -> None:
    asked = parse_forecast(words)
    console, folder = common_console.terminal(), asked.run
    experiment = options.saved_experiment(folder)
    saved = experiment.data
    if not hasattr(saved, "panel"):
        raise UsageError(f"{folder} is a run of {experiment.name}: its series have no end to forecast beyond")
    _check_same(folder, saved, asked.data)
    panel = asked.data.panel()
    found, said = forecast(folder, None if asked.data == saved else panel, asked.horizon)
    out = folder / FILE if asked.out is None else asked.out
    files.write_table(out, found)
    title = f"{asked.data.name}: forecast beyond {panel.series[0].times[-1]}"
    history = _past(panel, HISTORY * saved.window, found.columns[0])
    figures.save(plots.fan(history, found, saved.unit, title), out.with_suffix(".png"))
    for text in said:
        console.print(text, highlight=False, markup=False)
    console.print(found.head(40).to_string(index=False), highlight=False, markup=False)
    more = f" (the first 40 of {len(found)} rows)" if len(found) > 40 else ""
    console.print(f"{out} and {out.with_suffix('.png').name}{more}", highlight=False)


def _past(panel: Panel, rows: int, time: str) -> pd.DataFrame:
    frames = []
    for name, series in zip(panel.names[:6], panel.series[:6], strict=True):
        names = {"series": name} if len(panel.names) > 1 else {}
        frames.append(pd.DataFrame({time: series.times[-rows:], **names, "actual": series.values[-rows:]}))
    return pd.concat(frames, ignore_index=True)


if __name__ == "__main__":
    sys.exit(main())


D_ = TypeVar("D_")


@dataclass(frozen=True)
class AskedForecast(Generic[D_]):
    """What the user asked for."""

    run: Annotated[Path, tyro.conf.Suppress]
    """The run's folder."""
    data: D_
    horizon: int | None = None
    """Steps to forecast; None for what the run was trained for. More of them need a run with --task iterated."""
    out: Path | None = None
    """The CSV; the picture stands beside it. None for future.csv in the run's folder."""

    def __post_init__(self) -> None:
        if self.horizon is not None and self.horizon < 1:
            raise UsageError(f"horizon must be at least 1; it is {self.horizon}")
        if self.out is not None and self.out.suffix != ".csv":
            raise UsageError(f"--out {self.out} must end in .csv")


def parse_forecast(words: list[str]) -> AskedForecast[Any]:
    """What the words of `python -m jaxseq.forecast` ask for; the run says which fields the data have.

    Raises `UsageError` for a run that is not there, an unknown field or a value that cannot be.
    """
    named_run = bool(words) and not words[0].startswith("-")
    if not named_run and not {"-h", "--help"} & set(words):
        raise UsageError(f"which run? say {FORECAST} runs/aapl-0001")
    folder = Path(words[0] if named_run else "RUN")
    data = saved_experiment(folder).data if named_run else EXPERIMENTS[DEFAULT].data
    asked: Any = AskedForecast
    complaint = io.StringIO()
    try:
        with redirect_stderr(complaint):
            return tyro.cli(
                asked[type(data)],
                args=words[named_run:],
                default=asked(folder, data),
                prog=f"{FORECAST} RUN",
                description="Forecast beyond the end of a run's data, or of data given in their place.",
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise usage_error(stop, complaint.getvalue(), f"{FORECAST} RUN --help") from None
