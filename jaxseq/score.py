"""`python -m jaxseq.score RUN later.csv`: judge the forecasts of a run by the rows that came after the end of its data."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import pandas as pd
import tyro

from jaxseq.checkpoint import ensemble_seal, run_seal
from jaxseq.common import checks, command_line, console, csv_tables, files
from jaxseq.common.errors import UsageError
from jaxseq.common.new_folder import NewFolder
from jaxseq.data import later
from jaxseq.data.dataset import Background
from jaxseq.data.panel import Panel
from jaxseq.data.panel_data import PanelData
from jaxseq.data.table import Table
from jaxseq.data.tables import frame as frames
from jaxseq.data.tables import read
from jaxseq.data.tables.frame import IntoFrame
from jaxseq.data.tables.rows import part_at_end
from jaxseq.forecasting import coverage, quantities, scored, verdict
from jaxseq.forecasting.distributions import Forecasts
from jaxseq.forecasting.losses import Loss
from jaxseq.forecasting.scored import Score
from jaxseq.train import compiled_programs, ensemble, future
from jaxseq.train.domains.forecast_report import judged_loss
from jaxseq.train.experiments import EXPERIMENTS
from jaxseq.train.forecaster import Trained
from jaxseq.train.options import DEFAULT

PROGRAM = "python -m jaxseq.score"
FOLDER = "score"
"""Name of the numbered folders in that of the run."""
REPORT = "score.md"
ERRORS = "score.csv"
VALUES = "values.csv"
"""Files of a score: the table with the verdict, the errors by forecast and step, and every value with its forecasts."""

Data = TypeVar("Data")


@dataclass(frozen=True)
class Options(Generic[Data]):
    """Options of the command; those of the data are the options that the run's data set has."""

    run: Annotated[Path, tyro.conf.Suppress]
    """The run's folder."""
    later: Annotated[Path, tyro.conf.Suppress]
    """The table with the rows that came."""
    data: Data
    """The rows of the training, beyond whose end is forecast."""
    period: int | None = None
    """Time steps of a season, for MASE, RMSSE, Naive2 and the seasonal naive forecast; None takes those of the run."""
    horizon: int | None = None
    """Steps to forecast; None takes the horizon of the training. A longer one needs a run with --task iterated."""
    epoch: int | None = None
    """Saved epoch to forecast with; None takes the one that was judged, or the best one so far. Intervals belong to the
    epoch that was judged."""
    refit: bool = True
    """Forecast with the weights that were trained again on all rows, where the run has them (--refit of jaxseq.train)."""
    out: Path | None = None
    """Folder to write; None takes the next number in the run's folder, for example RUN/score-0001."""

    def __post_init__(self) -> None:
        if self.period is not None:
            checks.count(**{"--period": self.period})
        if self.horizon is not None:
            checks.count(**{"--horizon": self.horizon})

    @property
    def destination(self) -> NewFolder:
        """The folder of the score."""
        return NewFolder(self.run, FOLDER, self.out)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, 2 for a usage error, 130 if interrupted."""
    words = sys.argv[1:] if argv is None else argv

    # Parsed within `run`, which reports a usage error in one line.
    return command_line.run("jaxseq.score", lambda: _run(parse(words)), "stopped; nothing was written", "--horizon")


def parse(words: Sequence[str]) -> Options[PanelData]:
    """Parse the words of the command line; the run decides which options the data have.

    Raises `UsageError` for a missing run or table, an unknown option or a value that does not fit.
    """
    names = []
    for word in words[:2]:
        if word.startswith("-"):
            break
        names.append(word)
    if len(names) < 2 and not {"-h", "--help"} & set(words):
        raise UsageError(f"name the folder of a run and the table that came later: {PROGRAM} runs/table-0001 later.csv")

    # Without a run, --help shows the options of the default experiment's data.
    folder = Path("RUN")
    table = Path("LATER")
    data = EXPERIMENTS[DEFAULT].data
    if names:
        folder = files.user_path(names[0])
        data = ensemble.saved_experiment(folder).data
    if len(names) == 2:
        table = files.user_path(names[1])

    generic: Any = Options
    return command_line.parse(
        generic[type(data)],
        words[len(names) :],
        program=f"{PROGRAM} RUN LATER",
        default=generic(folder, table, data),
        description="Judge the forecasts of a run from the end of its data by the rows that came since.",
    )


def _run(options: Options[PanelData]) -> None:
    """Judge the forecasts, write the folder, print table and verdict."""
    compiled_programs.keep()
    options.destination.check()
    saved = future.series_data(ensemble.saved_experiment(options.run), options.run)
    # Before the rows are read, which may take a while or a download.
    future.check_same_inputs(options.run, saved, options.data)
    trained = ensemble.restore(options.run, options.epoch, options.refit)
    if options.period is not None:
        quantities.check_values(trained.experiment.head, "--period")
    result = judge(trained, options.later, options.data, period=options.period, horizon=options.horizon)

    reference = verdict.phrase(result.comparison.reference.name)
    title = f"{options.later.name}: {scored.counts_sentence(result.values)}; reference: {reference}"
    with options.destination.unpublished() as draft:
        files.write_text(draft / REPORT, _report(result, title, trained, options))
        csv_tables.write(draft / ERRORS, result.errors)
        csv_tables.write(draft / VALUES, result.values)
        folder = options.destination.publish(draft)

    screen = console.terminal()
    screen.print(scored.terminal_table(result, title))
    screen.print(result.verdict, style="bold", highlight=False, markup=False)
    for text in _sentences(result):
        screen.print(text, highlight=False, markup=False)
    screen.print(f"{folder}: {', '.join((REPORT, ERRORS, VALUES))}", highlight=False)


def _sentences(result: Score) -> list[str]:
    """Return the sentences that follow the verdict."""
    sentences = [*result.remarks]
    covered = coverage.sentence(result.coverage, result.spread)
    if covered:
        sentences.append(covered)
    omitted = verdict.omission_sentence(result.comparison, ERRORS)
    if omitted is not None:
        sentences.append(omitted)
    return [*sentences, *result.notes]


def _report(result: Score, title: str, trained: Trained, options: Options[PanelData]) -> str:
    """Write the score in Markdown."""
    sentences = "\n".join(f"{text}.\n" for text in _sentences(result))
    unit = trained.experiment.data.unit
    measures = quantities.of(trained.experiment.head).SCORED
    return f"""# {options.run.resolve().name}, judged by {options.later.name}

{result.verdict}.

{title}.

{scored.markdown(result)}

{sentences}
{coverage.markdown(result.coverage, result.spread, unit)}

Each forecast is made from the end of the run's data, by all rows until then. {measures} The reference is that of the run,
chosen on its validation part, or else the best simple forecast on its test part; "the later part" are the rows that
came. Errors by step: `{ERRORS}`; every value with its forecasts: `{VALUES}`.
"""


# From Python -----------------------------------------------------------------------------------------------------------


def score(
    folder: str | Path,
    table: str | Path | IntoFrame,
    *,
    period: int | None = None,
    horizon: int | None = None,
    epoch: int | None = None,
    refit: bool = True,
) -> Score:
    """Judge the forecasts of the run in a folder by the rows of a table that came after the end of its data.

    The arguments are those of the command; `table` may be a DataFrame, too.
    """
    trained = ensemble.restore(folder, epoch, refit)
    return judge(trained, table, period=period, horizon=horizon)


def judge(
    trained: Trained,
    table: str | Path | IntoFrame,
    data: PanelData | None = None,
    *,
    period: int | None = None,
    horizon: int | None = None,
) -> Score:
    """Judge the forecasts of a restored run by the rows of a table that came after the end of its data.

    `data` are the rows of the training, where they lie elsewhere by now; None reads those that the run names. Raises
    `UsageError` for rows that do not follow those of the training, and for a run that has not been judged.
    """
    if data is None:
        data = future.series_data(trained.experiment, trained.folder)
    panel = data.panel()
    # Before any forecast is made, which may take a while.
    path, options = _table_as(data, panel, table)
    rows = read.read_rows(path, options)
    if isinstance(data, Table) and data.future:
        # What came is known ahead of nothing, but stands for the plans that there were.
        panel = later.with_plan(panel, read.read_plan(path, data.read_options), may_overlap=True)
        rows = part_at_end(rows).until_end
    quantity = quantities.of(trained.experiment.head)
    ends = future.forecast_ends(trained, panel, horizon)
    left_out = set(panel.names) - set(ends.panel.names)
    missing = "error"
    if isinstance(data, Table):
        missing = data.missing
    came = later.follow(ends.panel, rows, ends.forecast.shape[1], missing, left_out)

    background = _background(ends.panel, period)
    simple = quantity.simple_ends(ends.windows, background, ends.panel, trained.scaling.earlier)
    judged = scored.Ends(
        name=trained.title,
        windows=ends.windows,
        forecast=ends.forecast,
        intervals=ends.intervals,
        simple=simple,
        background=background,
    )
    loss = judged_loss(trained.experiment)
    reference = _reference(trained, simple, loss)
    result = quantity.score(judged, came, reference=reference.name, loss=loss, seed=trained.experiment.seed)
    return result._replace(notes=(*result.notes, *reference.notes, *ends.notes))


def _table_as(data: PanelData, panel: Panel, table: str | Path | IntoFrame) -> tuple[str, read.Options]:
    """Return the path of a table, or its rows in memory, and the columns of the run's own."""
    path = str(table)
    if not isinstance(table, str | Path):
        path = frames.in_memory(table)
    if not isinstance(data, Table):
        return path, read.DEFAULTS
    options = data.read_options
    is_wide = options.series is None and len(panel.names) > 1
    # The columns of a wide table are told from its covariates by these alone.
    if is_wide or (options.series is not None and options.column is None):
        return path, options
    column = options.column
    if column is None:
        # The column that was forecast, whatever other numbers stand beside it here.
        column = panel.names[0]
    # Covariates are not known at the time of a value that is to be forecast; those that are, are read by themselves.
    return path, options._replace(column=column, covariates=(), future=(), static=())


def _background(panel: Panel, period: int | None) -> Background:
    """Return the facts about series all of whose rows are past."""
    return Background(
        names=panel.names,
        period=period or panel.frequency.period,
        series=panel.series,
        training_rows=tuple(len(series.values) for series in panel.series),
        missing=tuple(missing[:, 0] for missing in panel.missing),
        floor=panel.floor,
        keys=panel.keys,
    )


class _Reference(NamedTuple):
    """Name of the forecast that the verdict compares with, and a note where it is not the run's own."""

    name: str
    notes: tuple[str, ...] = ()


def _reference(trained: Trained, simple: Forecasts, loss: Loss) -> _Reference:
    """Return the reference of a run's own judgement, or else the simple forecast that is best on its test part.

    Raises `UsageError` for a run that has not been judged.
    """
    scores = _scores(trained)
    over_all_steps = scores[scores["step"] == "all"].set_index("forecast")
    of_run = str(over_all_steps.index[over_all_steps["role"] == "reference"][0])
    if of_run in simple:
        return _Reference(of_run)

    # Errors of a panel are scaled, so that no series counts for its unit.
    measures = {"squared": ("rmsse", "mse"), "absolute": ("mase", "mae"), "log": ("log_loss",)}[loss]
    measure = next(name for name in measures if name in over_all_steps)
    losses = over_all_steps.loc[[name for name in over_all_steps.index if name in simple], measure]
    best = str(losses.idxmin())
    note = (
        f"the reference of the run, {verdict.phrase(of_run)}, is not made from the end of its data: in its place is the "
        f"best other one of its test part, {verdict.phrase(best)}"
    )
    return _Reference(best, (note,))


def _scores(trained: Trained) -> pd.DataFrame:
    """Return the scores of a run's own judgement. Raises `UsageError` for a run that has not been judged."""
    folder = trained.folder
    if folder is None:
        raise UsageError("the run's folder has gone, and with it the reference of its judgement")
    if trained.combination:
        ensemble_seal.check_file(folder, ensemble_seal.read(folder), run_seal.SCORES)
        return csv_tables.read(folder / run_seal.SCORES)
    record = run_seal.read_judged(folder)
    # Runs of the first formats have no seals.
    if record is not None:
        run_seal.check_output(folder, record, run_seal.SCORES)
    elif run_seal.has_seals(folder) or not (folder / run_seal.SCORES).is_file():
        raise UsageError(
            "the run has not been judged, which chooses its reference",
            where=folder,
            needed=f"python -m jaxseq.train --resume {folder}",
        )
    return csv_tables.read(folder / run_seal.SCORES)


if __name__ == "__main__":
    sys.exit(main())
