"""Interface of a quantity that is forecast, a module of this package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure
from numpy import ndarray

from jaxseq.data.dataset import Background, Dataset
from jaxseq.data.earlier import Earlier
from jaxseq.data.later import Later
from jaxseq.data.panel import Panel
from jaxseq.data.scaling import Scaling
from jaxseq.data.transforms import Transform
from jaxseq.data.uncut import PartWindows, WindowSplits
from jaxseq.data.windows import Windows
from jaxseq.forecasting.calibration import Calibrated
from jaxseq.forecasting.distributions import Forecasts
from jaxseq.forecasting.evaluate import Entry, Judgement
from jaxseq.forecasting.intervals import Choice, Forecast
from jaxseq.forecasting.losses import Loss
from jaxseq.forecasting.metrics import Values
from jaxseq.forecasting.scored import Ends, Score

RunNumbers = dict[str, float]
"""Numbers of a run in the table of its study, by column."""


@runtime_checkable
class Quantity(Protocol):
    """A module with these names, in this order.

    IS_VALUE   whether it is a value in the series' unit: only that has intervals, paths, and a place beside the series
    COLUMN     of the tables of forecasts beyond the end of the data
    SIMPLEST   the simple forecast that a model has to improve on, whatever the reference is
    MEASURE    name of the loss by which a study compares its seeds
    VALID      name of `valid_mse`
    TYPICAL    sentence on what the model's row of a study is, `typical`
    CHOSEN     end of the sentence on what the validation part chose, which begins with the epoch
    HOW        sentence of a report on what else was judged
    PICTURES   captions of the pictures of a report: of `forecast.png` and `errors.png`
    SCORED     sentence on the measures of a score
    """

    IS_VALUE: bool
    COLUMN: str
    SIMPLEST: str
    MEASURE: str
    VALID: str
    TYPICAL: str
    CHOSEN: str
    HOW: str
    PICTURES: tuple[str, str]
    SCORED: str

    def needs(self, transform: Transform) -> bool:
        """Return whether the targets of a transform tell the quantity."""
        ...

    def loss(self, trained_by: str) -> Loss:
        """Return the loss of the verdict on a model; `trained_by` is the loss of a point forecast."""
        ...

    def in_units(self, numbers: Float[ndarray, "n k"], part: PartWindows, scaling: Scaling) -> Values:
        """Return what tables have, from a model's own numbers."""
        ...

    def in_scale(self, values: Values, part: PartWindows, scaling: Scaling) -> Float[ndarray, "n k"]:
        """Return a model's own numbers from those of tables, the inverse of `in_units`."""
        ...

    def calibrate(self, dataset: Dataset, valid: Forecast, choice: Choice = "auto") -> Calibrated:
        """Fit intervals to a model's forecasts of the validation part; they have no level where there are none."""
        ...

    def judge(
        self,
        name: str,
        dataset: Dataset,
        model: Entry,
        *,
        members: Mapping[str, Entry],
        seed: int,
        loss: Loss,
    ) -> Judgement:
        """Compare a model's forecasts of the test part with simple ones; see `evaluate.judge`."""
        ...

    def typical(self, actual: Values, forecasts: Sequence[Values]) -> Values:
        """Return the forecast whose loss is the mean one of several, such as those of the seeds of a study."""
        ...

    def losses(self, actual: Values, forecast: Values, /) -> Float[ndarray, "n k"]:
        """Return the loss of each step, by which a study compares its seeds."""
        ...

    def run_numbers(self, model: pd.Series, simplest: pd.Series) -> RunNumbers:
        """Return a run's numbers for the table of its study, by the scores of the model and of the simplest forecast."""
        ...

    def section(self, judgement: Judgement, shown: pd.DataFrame, unit: str) -> str:
        """Return the section of a report that follows its table, in Markdown; `shown` are the scores of its rows."""
        ...

    def figures(
        self, judgement: Judgement, windows: WindowSplits, shown: pd.DataFrame, unit: str, title: str
    ) -> Iterator[Figure]:
        """Draw the test part, one picture after the other, in the order of `PICTURES`."""
        ...

    def future_figure(self, history: pd.DataFrame, forecast: pd.DataFrame, unit: str, title: str) -> Figure:
        """Draw a forecast beyond the end of the data."""
        ...

    def simple_ends(self, ends: Windows, background: Background, panel: Panel, earlier: Earlier) -> Forecasts:
        """Forecast from the end of each series by simple forecasts that are fitted to all of its rows.

        `earlier` are the values that the network's target is compared with.
        """
        ...

    def score(self, ends: Ends, later: Later, *, reference: str, loss: Loss, seed: int) -> Score:
        """Judge forecasts from the end of each series by the values that came; see `scored.score`."""
        ...
