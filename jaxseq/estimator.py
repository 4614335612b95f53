"""A forecaster of series with the interface of scikit-learn; the only door to sklearn, which no other module imports.

    forecaster = JaxseqForecaster(horizon=7, epochs=20).fit(sales)
    forecaster.predict(level=0.8)

It is a training of `jaxseq.train` on a table in memory, with its validation part, reference and intervals.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import pandas as pd
from rich.console import Console
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils import Tags  # pyrefly: ignore[missing-module-attribute]
from sklearn.utils.validation import check_is_fitted

from jaxseq.checkpoint import run_seal
from jaxseq.common import csv_tables
from jaxseq.common.console import terminal
from jaxseq.common.errors import Interrupted, UsageError
from jaxseq.data.panel import Panel
from jaxseq.data.powers import PowerName
from jaxseq.data.table import Table
from jaxseq.data.tables.frame import Frame, IntoFrame, in_memory
from jaxseq.data.targets import ScaleChoice, TargetChoice
from jaxseq.forecasting import quantities
from jaxseq.forecasting.intervals import Choice, coverages_of
from jaxseq.nn import networks
from jaxseq.nn.heads import COMPONENTS, POWER, HeadName
from jaxseq.nn.networks import KindName
from jaxseq.train import forecaster, future, run, run_folder
from jaxseq.train.domains import forecasts
from jaxseq.train.domains.base import RunRow
from jaxseq.train.experiments.base import Epochs, NormName
from jaxseq.train.experiments.config import recipe_of
from jaxseq.train.experiments.forecasts import EXPERIMENTS, ForecastExperiment, LossName, Model, Strategy
from jaxseq.train.forecaster import Trained
from jaxseq.train.loop import Run
from jaxseq.train.optimiser import Rule
from jaxseq.train.schedules import Schedule

Rows: TypeAlias = IntoFrame | np.ndarray | Sequence[float]
"""A frame as `Table.from_frame` takes it, or numbers "n" or "n d" without dates."""

TARGET = "y"
"""Name of the values that are given beside other columns."""
SCALED = MappingProxyType({"rmse": "rmsse", "mae": "mase"})
"""Errors scaled by each series' own changes."""
TABLE: ForecastExperiment[Any] = next(experiment for experiment in EXPERIMENTS if experiment.name == "table")
"""Experiment whose fields hold unless a parameter or a recipe says otherwise."""


# Fields in place of a constructor: scikit-learn reads the parameters from its signature, and each has its text here.
@dataclass(eq=False, repr=False, kw_only=True)
class JaxseqForecaster(BaseEstimator):
    """A recurrent network that forecasts one series or many.

    Parameters are stored as they are and checked by `fit`, which raises `UsageError`, a `ValueError`. Those of the network,
    of the data and of the training are fields of `Model`, `Table` and `ForecastExperiment`, with the same meaning.

    After `fit`:

    forecaster_  the trained network, a `jaxseq.train.forecaster.Trained`
    panel_       the series that it was fitted to, beyond whose end `predict` forecasts
    scores_      errors on the test part, of the network and of each simple forecast, a row each
    history_     a row of metrics for each epoch
    notes_       choices that were made in reading the table, one line each
    folder_      folder of the run; None if there is none any more
    """

    cell: str = "gru"
    """Recurrent cell, a name of `jaxseq.cells.CELLS`."""
    hidden: int = 50
    """Units in each recurrent layer."""
    layers: int = 1
    """Number of stacked recurrent layers."""
    kind: KindName = networks.DEFAULT
    """Network around the cells, a name of `jaxseq.nn.networks.KINDS`."""
    norm: NormName = "none"
    """Normalisation within or between layers."""
    dropout: float = 0.0
    """Dropout rate between recurrent layers."""
    skip: bool = False
    """Add a linear map of the whole window to the forecast."""
    head: HeadName = "point"
    """Forecast of each step, a name of `jaxseq.nn.heads.HEADS`."""
    quantiles: str = ""
    """Levels of the head quantile, as 0.05,0.5,0.95; empty takes seven."""
    components: int = COMPONENTS
    """Normal distributions in the head mixture."""
    power: float = POWER
    """Power of the head tweedie, between 1 and 2."""

    horizon: int = 1
    """Time steps to forecast."""
    task: Strategy | None = None
    """One-step, iterated, direct or every-step; None takes one-step for a horizon of 1, else direct."""
    loss: LossName = "mse"
    """Training loss of a point forecast."""
    intervals: Choice = "auto"
    """Kind of the intervals; auto takes the best on the validation part."""

    window: int = 50
    """Time steps of the network's input."""
    target: TargetChoice = "auto"
    """Values that the network sees and forecasts, a name of `jaxseq.data.transforms.TRANSFORMS` or auto."""
    scale: ScaleChoice = "auto"
    """Scale of a series: its training rows (series), or each window by itself (window, window-mean, window-median,
    window-last); auto takes window for season."""
    # `transform` is a method in scikit-learn, whose pipelines would call it.
    value_transform: PowerName = "none"
    """Transform of values above 0 before all else: none, log, or box-cox with an exponent fitted to each series."""
    scale_input: bool = False
    """Let the network read the scale of each window, relative to that of its series."""
    column: str | None = None
    """Column with the values; north,south or * for a series in each of several; None if only one column has numbers."""
    time: str | None = None
    """Column with dates; None finds it, and counts the rows if there is none."""
    series: str | None = None
    """Column that names the series of a row, or several: store,item; None for a single series."""
    covariates: str = ""
    """Further input columns, separated by commas, known up to the present."""
    calendar: str = ""
    """Calendar of each row, also of those that are forecast: hour,weekday,month,season,holidays:US."""
    future: str = ""
    """Columns that are known ahead, in rows beyond the last value, whose cell is empty there."""
    static: str = ""
    """Columns with one value in each series."""
    missing: Literal["error", "drop", "fill"] = "error"
    """Treatment of missing values."""
    period: int | None = None
    """Time steps of a season; None infers them from the dates."""

    epochs: Epochs = "auto"
    """Passes over the training part; auto: by its rows, 20 to 500, with patience."""
    batch: int = 32
    """Training windows in one optimiser step."""
    lr: float = 1e-3
    """Learning rate."""
    optimiser: Rule = "adam"
    """Update rule."""
    schedule: Schedule = "constant"
    """Learning rate over the run."""
    clip: float | None = None
    """Maximum global gradient norm; None disables clipping."""
    patience: int | None = None
    """Epochs without a better validation score before training stops; None disables it."""
    seed: int = 0
    """Seed of every random draw."""

    recipe: ForecastExperiment | None = None
    """Experiment with all other fields, such as ``named("table", decay=0.01)``; None takes those of `table`."""
    out: str | Path | None = None
    """New folder of the run, with its report and pictures; None trains in a temporary folder, which is removed."""
    verbose: bool = False
    """Whether `fit` shows its progress and its judgement."""

    def fit(self, X: Rows | None, y: Rows | None = None) -> JaxseqForecaster:
        """Train on a table, choose the epoch on its validation part, and judge it on its test part.

        X  a DataFrame, a Series, an Arrow table, or an array: values, dates, covariates and names of series as columns
        y  the values, if they are no column of X, which may be None then

        The latest 15 % of the rows are the test part, the 15 % before them choose the epoch and the intervals, unless the
        recipe's data say otherwise (`test_rows`, `test_from`).

        Raises `UsageError` for a parameter or a table that cannot be used, with its row and column.
        """
        frame = _frame(X, y)
        if len(frame.columns) == 1:
            raise UsageError("1 sample is no series", where="X", got=1, needed="rows for three parts")
        experiment = self._experiment(frame, y)
        console = terminal()
        console.quiet = not self.verbose

        if self.out is not None:
            self.folder_ = run.train(experiment, out=self.out, console=console)
            self._keep(experiment, self.folder_)
        else:
            self.folder_ = None
            self._fit_without_folder(experiment, console)

        # As scikit-learn has it, the values y are no feature.
        names = frame.names
        if X is not None and y is not None:
            names = names[:-1]
        self.n_features_in_ = len(names)
        # Arrays have no names.
        if hasattr(X, "columns"):
            self.feature_names_in_ = np.array(names, dtype=object)
        return self

    def predict(
        self,
        horizon: int | None = None,
        X: Rows | None = None,
        y: Rows | None = None,
        level: float | Sequence[float] | None = None,
    ) -> pd.DataFrame:
        """Forecast beyond the end of the series of `fit`, or of those of another table.

        horizon  time steps; None takes those of the training, more of them need the task iterated
        X, y     other rows with the columns of `fit`; None takes those of `fit`
        level    of the intervals, 0.5, 0.8 or 0.95, or several of them, or those of `quantiles`; None returns none

        Returns a row for each series and step: date (or row), series and step where there are several, forecast (or p_rise
        of the head direction), and low_80%, high_80% for each level. Raises `NotFittedError` before `fit`, and
        `UsageError` for rows that do not fit the network, and for a level that it has no interval for.
        """
        check_is_fitted(self)
        if horizon is not None and not isinstance(horizon, int | np.integer):
            needed = "an integer of at least 1; other rows are given as X=rows"
            raise UsageError("not a number of time steps", where="horizon", got=horizon, needed=needed)

        panel = self._panel(X, y)
        forecast = future.forecast(self.forecaster_, panel, horizon).table
        ends = [name for name in forecast.columns if name.startswith(("low_", "high_"))]
        others = [name for name in forecast.columns if name not in ends]

        if level is None:
            return forecast[others]

        quantities.check_values(self.forecaster_.experiment.head, "level")
        chosen_ends = []
        for name in _names_of_levels(level, coverages_of(self.forecaster_.experiment.head.levels)):
            if f"low_{name}" not in ends:
                low_ends = [end for end in ends if end.startswith("low_")]
                names = [end.removeprefix("low_") for end in low_ends]
                raise UsageError(
                    "the network has no interval of this level: its validation part was too short",
                    where="level",
                    got=name,
                    needed=", ".join(names) or "None",
                )
            chosen_ends.append(f"low_{name}")
            chosen_ends.append(f"high_{name}")
        return forecast[[*others, *chosen_ends]]

    def score(self, X: Rows | None = None, y: Rows | None = None) -> float:
        """Return the skill against the last value, 1 - L / L_naive, over all windows of a table.

        1 is perfect, 0 as good as the last value. Without a table it is that of the test part of `fit`. L is the mean
        squared error over the steps of the horizon, or the absolute one with the loss mae; errors of several series are
        scaled by each one's changes.

        Raises `NotFittedError` before `fit`, and `UsageError` for rows that do not fit the network or are too few.
        """
        check_is_fitted(self)
        quantities.check_values(self.forecaster_.experiment.head, "score")
        if X is not None or y is not None:
            return future.skill(self.forecaster_, self._panel(X, y))

        measure = "rmse"
        power = 2
        if self.forecaster_.experiment.loss == "mae":
            measure = "mae"
            power = 1
        # Errors of several series are scaled, as their units may differ.
        if len(self.panel_.names) > 1:
            measure = SCALED[measure]
        # The last value stands first in the table, the network last.
        naive = self.scores_[measure].iloc[0]
        network = self.scores_[measure].iloc[-1]
        return float(1 - (network / naive) ** power)

    def __sklearn_tags__(self) -> Tags:
        """Return what the forecaster takes, for the checks and the display of scikit-learn."""
        tags = super().__sklearn_tags__()  # pyrefly: ignore[missing-attribute]
        tags.target_tags.required = False
        tags.input_tags.string = True
        tags.input_tags.allow_nan = self.missing != "error"
        return tags

    def _experiment(self, frame: Frame, y: Rows | None) -> ForecastExperiment:
        """Return the experiment on a table; parameters take the place of the recipe's fields."""
        recipe: ForecastExperiment[Any] = TABLE
        if self.recipe is not None:
            recipe = self.recipe
        data = recipe.data
        # A recipe of other series says nothing of tables.
        if not isinstance(data, Table):
            data = Table()

        parameters = {name: getattr(self, name) for name in self.get_params(deep=False)}
        parameters["transform"] = parameters.pop("value_transform")
        if self.task is None:
            parameters["task"] = "one-step"
            # One step is all that this one forecasts.
            if self.horizon != 1:
                parameters["task"] = "direct"
        # The values are the last column, after those of X.
        if y is not None and self.column is None:
            parameters["column"] = frame.names[-1]

        data_fields = _fields_of(data, parameters)
        model_fields = _fields_of(recipe.model, parameters)
        return dataclasses.replace(
            recipe,
            **_fields_of(recipe, parameters),
            data=dataclasses.replace(data, path=frame, **data_fields),
            model=dataclasses.replace(recipe.model, **model_fields),
        )

    def _panel(self, X: Rows | None, y: Rows | None) -> Panel:
        """Return the series of a table with the columns of `fit`; those of `fit` without a table."""
        if X is None and y is None:
            return self.panel_
        data = self.forecaster_.experiment.data
        # `fit` trains no other recipe.
        assert isinstance(data, Table)
        return dataclasses.replace(data, path=_frame(X, y)).panel()

    def _fit_without_folder(self, experiment: ForecastExperiment, console: Console) -> None:
        """Train in a temporary folder, and take everything that is used later from it."""
        with tempfile.TemporaryDirectory(prefix="jaxseq-") as parent:
            folder = Path(parent) / "run"
            try:
                _train_in(experiment, folder, console)
            except Interrupted:
                # There is nothing to resume.
                raise KeyboardInterrupt from None
            self._keep(experiment, folder)
        self.forecaster_ = self.forecaster_._replace(folder=None)

    def _keep(self, experiment: ForecastExperiment, folder: Path) -> None:
        """Take everything that is used later from the folder of a run, and the series that it was trained on."""
        self.forecaster_ = _restored(experiment, folder)
        # Read once more from memory: a run keeps the hash of a frame alone.
        self.panel_ = experiment.data.panel()
        self.notes_ = self.panel_.notes
        self.history_ = run_folder.read_metrics(folder)
        scores = csv_tables.read(folder / run_seal.SCORES)
        over_all_steps = scores[scores["step"] == "all"]
        self.scores_ = over_all_steps.drop(columns="step").reset_index(drop=True)


def _restored(experiment: ForecastExperiment, folder: Path) -> Trained:
    """Return the best epoch of a run; a class of the user's has to be given, since no file names code to run."""
    if recipe_of(experiment) is None:
        return forecaster.restore(folder)
    return forecaster.restore(folder, experiment=experiment)


def _train_in(experiment: ForecastExperiment, folder: Path, console: Console) -> None:
    """Train and judge as the command does, without report and pictures, which nobody would see."""

    def judge(trained: Run) -> RunRow:
        forecasts.judge_quietly(trained.job, trained.folder, console)
        return forecasts.row(experiment, trained.folder)

    job = forecasts.prepare(experiment)
    with ExitStack() as locks:
        started = run.begin(job, folder, locks)
        run.fit_and_judge(started, console, (), judge)


def _fields_of(part: ForecastExperiment | Model | Table, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters that are fields of one part of an experiment."""
    names = [field.name for field in dataclasses.fields(part)]
    return {name: parameters[name] for name in names if name in parameters}


def _names_of_levels(level: float | Sequence[float], coverages: Sequence[float]) -> list[str]:
    """Return levels as the columns of a forecast name them. Raises `UsageError` for one that is none of `coverages`."""
    names = []
    shares = np.atleast_1d(np.asarray(level, object))
    for share in shares.ravel().tolist():
        same = []
        if isinstance(share, float | int | np.floating):
            # Numbers of float32 are not those of the head to the last bit.
            same = [known for known in coverages if math.isclose(known, share, rel_tol=1e-6)]
        if not same:
            known_levels = ", ".join(map(str, coverages))
            raise UsageError("no level of an interval", where="level", got=share, needed=f"a share of {known_levels}")
        names.append(f"{same[0]:.0%}")
    return names


def _frame(X: Rows | None, y: Rows | None) -> Frame:
    """Return a table with the columns of X and the values y, the last column."""
    if y is None:
        if X is None:
            raise UsageError("no rows", where="X", got=None, needed="a DataFrame, a Series or an array")
        return _in_memory(X)
    if X is None:
        return _in_memory(y)

    frame = _in_memory(X)
    if TARGET in frame.names:
        raise UsageError(f"the values y stand beside a column {TARGET}", where="X", needed="another name")
    targets = _in_memory(y)
    index_names, values = _parted(targets, y)
    _check_same_rows(X, y)
    if len(values) != len(frame.columns):
        raise UsageError(
            "X and y have different numbers of rows", where="y", got=len(values), needed=len(frame.columns)
        )
    parts = [frame.columns, values]
    names = (*frame.names, TARGET)
    # Dates in the index of y say nothing that those of X do not.
    if index_names and not _has_labels(X):
        dates = targets.columns.iloc[:, :-1]
        parts = [dates, *parts]
        names = (*index_names, *names)
    columns = pd.concat(parts, axis=1)
    return Frame(names, columns.set_axis(list(range(len(names))), axis=1))


def _parted(targets: Frame, y: Rows) -> tuple[tuple[str, ...], pd.Series]:
    """Return the names of the index columns of y, and its values. Raises `UsageError` for several columns of values."""
    own_columns = 1
    if isinstance(y, pd.DataFrame):
        own_columns = y.shape[1]
    elif not isinstance(y, pd.Series):
        own_columns = len(targets.names)
    if own_columns != 1:
        raise UsageError("several columns of values", where="y", got=own_columns, needed="1")
    return targets.names[:-1], targets.columns.iloc[:, -1]


def _has_labels(rows: Rows) -> bool:
    """Return whether pandas' index says more of a row than its number."""
    return isinstance(rows, pd.Series | pd.DataFrame) and not isinstance(rows.index, pd.RangeIndex)


def _check_same_rows(X: Rows, y: Rows) -> None:
    """Raise `UsageError` for indices of pandas that say that X and y are of different rows."""
    if not _has_labels(X) or not _has_labels(y):
        return
    labels = cast("pd.DataFrame", X).index
    target_labels = cast("pd.DataFrame", y).index
    # Another number of rows has words of its own.
    if len(labels) != len(target_labels):
        return
    if labels.equals(target_labels):
        return
    row = int(np.argmax(labels != target_labels))
    raise UsageError(
        f"X and y have different indices, first in row {row}",
        where="y",
        got=target_labels[row],
        needed=labels[row],
    )


def _in_memory(rows: Rows) -> Frame:
    """Return a frame, or an array of numbers with columns x0, x1, ..., as a table."""
    if sparse.issparse(rows):
        raise UsageError("Sparse data not supported", where="X", got=type(rows).__name__, needed="X.toarray()")
    if not isinstance(rows, np.ndarray | list | tuple):
        # Any other sequence is refused there.
        return in_memory(cast("IntoFrame", rows))
    array = np.asarray(rows)
    if np.iscomplexobj(array):
        raise UsageError("Complex data not supported", where="X", got=f"{array.dtype}", needed="real numbers")
    if array.ndim == 1:
        return in_memory(pd.Series(array))
    if array.ndim == 2 and not array.shape[1]:
        # In the words that scikit-learn's checks look for.
        raise UsageError(f"0 feature(s) (shape={array.shape}) while a minimum of 1 is required by it", where="X")
    if array.ndim == 2:
        return in_memory(pd.DataFrame(array, columns=[f"x{number}" for number in range(array.shape[1])]))
    raise UsageError("wrong shape: reshape your data", where="X", got=array.shape, needed="numbers n, or n d")
