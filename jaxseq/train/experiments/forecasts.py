"""Experiments that forecast series. A new one is an entry of `EXPERIMENTS`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Literal, TypeVar, get_args

from jaxseq.common.checks import count, one_of
from jaxseq.data.aapl import Prices
from jaxseq.data.dataset import Dataset, SeriesData
from jaxseq.data.panel_data import PanelData
from jaxseq.data.table import Table
from jaxseq.data.targets import AUTO
from jaxseq.data.ticker import Ticker
from jaxseq.data.waves import Waves
from jaxseq.forecasting.intervals import Choice
from jaxseq.nn import forecaster, heads, networks, objectives
from jaxseq.nn.heads import LossName
from jaxseq.train.experiments import forecast_checks
from jaxseq.train.experiments.base import Experiment
from jaxseq.train.experiments.forecast_network import Model

__all__ = ["EXPERIMENTS", "ForecastExperiment", "LossName", "Model", "Start", "Strategy"]

Strategy = Literal["one-step", "iterated", "direct", "every-step"]
Start = Literal["random", "ridge", "auto"]


Data = TypeVar("Data", bound=SeriesData)


@dataclass(frozen=True, kw_only=True)
class ForecastExperiment(Experiment, Generic[Data]):
    """A forecast of series. Raises `UsageError` for an invalid field."""

    data: Data
    """The series."""
    model: Model = field(default_factory=Model)
    """The network."""
    task: Strategy = "one-step"
    """One step (one-step), fed back (iterated), or the whole horizon: once (direct), at each input step (every-step)."""
    horizon: int = 1
    """Time steps to forecast."""
    loss: LossName = "mse"
    """Training loss of a point forecast; a distribution is trained by its likelihood or pinball loss."""

    start: Start = "random"
    """First weights: random, or a ridge regression on the window that the network adds to; auto: ridge where it can."""

    intervals: Choice = "auto"
    """Intervals: split (constant), scaled (by last value, series), volatility, adaptive; auto: best on validation."""

    domain: ClassVar[str] = "forecasts"

    def __post_init__(self) -> None:
        super().__post_init__()
        count(1, horizon=self.horizon)
        one_of(get_args(Strategy), task=self.task)
        one_of(get_args(LossName), loss=self.loss)
        one_of(get_args(Start), start=self.start)
        one_of(get_args(Choice), intervals=self.intervals)
        forecast_checks.check_strategy(self)

    def load(self) -> Dataset:
        """Read the series and cut them into windows, for the targets of the horizon.

        A target that the data leave open is the change from the last value where the strategy or the head needs one.
        Raises `UsageError` for series that cannot be read, split or scaled.
        """
        data = self.data
        needs_changes = self.steps_through_window or self.head.quantity == "direction"
        if isinstance(data, PanelData) and data.target == AUTO and needs_changes:
            data = dataclasses.replace(data, target="change")
        return data.load(self.horizon)

    @property
    def steps_through_window(self) -> bool:
        """Whether the network forecasts from within the window, or beyond its own forecasts."""
        return self.task in ("iterated", "every-step")

    @property
    def predicts_every_step(self) -> bool:
        """Whether the network is trained to forecast after every time step of the window."""
        return self.task == "every-step" or networks.named(self.model.kind).teacher_forced

    @property
    def knows_ahead(self) -> bool:
        """Whether covariates are known of the rows that are forecast."""
        return isinstance(self.data, PanelData) and self.data.knows_ahead

    @property
    def input_steps(self) -> int:
        """Time steps of the network's input: those of the window, and those beyond it of which covariates are known."""
        return self.data.window + self._steps_beyond

    @property
    def _steps_beyond(self) -> int:
        if not self.knows_ahead:
            return 0
        # The window's last step has what is known of the first row.
        return self.steps_out - 1

    @property
    def takes_ridge(self) -> bool:
        """Whether the network can begin as a linear map of the whole window, to a point."""
        # A head that serves every step would need an intercept for each.
        if networks.named(self.model.kind).decodes:
            return False
        return not self.steps_through_window and not self._steps_beyond and self.model.head == "point"

    @property
    def starts_from_ridge(self) -> bool:
        """Whether the network begins as a ridge regression on the window."""
        return self.start != "random" and self.takes_ridge

    @property
    def stateful(self) -> bool:
        """Whether the state is carried through one long series."""
        return isinstance(self.data, PanelData) and self.data.stateful

    @property
    def test_stride(self) -> int:
        """Windows of the test part from one that is judged to the next."""
        if isinstance(self.data, PanelData):
            return self.data.test_stride
        return 1

    @property
    def steps_out(self) -> int:
        """Time steps of one output of the network; an iterated forecast adds one step at a time."""
        if self.task == "iterated":
            return 1
        return self.horizon

    @property
    def head(self) -> heads.Head:
        """The head, which reads the network's output as a point or a distribution."""
        levels = heads.levels_of(self.model.quantiles)
        return heads.named(
            self.model.head, self.loss, levels=levels, components=self.model.components, power=self.model.power
        )

    def objective(self) -> objectives.Objective:
        """Return the training loss and the validation metrics."""
        # The last window of a stateful epoch is filled up with time steps without a target.
        masks_targets = self.data.masks_targets or self.stateful
        return objectives.forecasting(self.head, self.predicts_every_step, masks_targets)

    def build(self) -> forecaster.Forecaster:
        """Build the Flax module."""
        outputs = self.steps_out * self.head.width
        # A ridge regression is in the weights of the skip.
        model = dataclasses.replace(self.model, skip=self.model.skip or self.starts_from_ridge)
        return model.build(outputs, self.predicts_every_step, self._steps_beyond, self.steps_out)


EXPERIMENTS = (
    ForecastExperiment(
        name="aapl",
        about="""
            Apple's share price one day ahead, 2000 to 2013; included in the package, no network needed.

            python -m jaxseq.train aapl --model.cell lstm --data.target log-return

            Takes under half a minute on two cores. Expect "no evidence of improvement over drift", the best simple
            forecast of the validation part (MSE relative to it 0.99 to 1.03): past daily prices say next to nothing
            about the next one. --data.target level is the set-up of most tutorials; on an honest split its error is
            tens of times that of the last value.
            """,
        data=Prices(),
        patience=20,
    ),
    ForecastExperiment(
        name="waves",
        about="""
            Sums of two sines with noise, one step ahead (Géron 2019, chapter 15): a series that can be forecast.

            python -m jaxseq.train waves --model.cell lstm

            20 epochs take half a minute on two cores. Expect a validation MSE of 0.0014 (gru, lstm) or 0.0023 (rnn);
            least squares on the 50 lags has 0.0029, the last value 0.0202, the noise alone 0.0008. The verdict is
            "improves on least squares on the lags".
            """,
        data=Waves(),
        epochs=20,
        lr=5e-3,
        schedule="cosine",
        clip=1.0,
    ),
    ForecastExperiment(
        name="waves-book",
        about="""
            The same waves ten steps ahead, as in Géron's chapter 15: two layers of 20 units, Keras' Adam.

            python -m jaxseq.train waves-book --model.cell gru \\
                --model.norm layer-sum --lr 0.01

            20 epochs take half a minute on two cores. Expect a validation MSE of about 0.0085 for an LSTM (mean over
            the ten steps and five seeds), as in his notebook; the last value has 0.257, least squares 0.0155.
            """,
        data=Waves(),
        model=Model(cell="lstm", hidden=20, layers=2),
        task="every-step",
        horizon=10,
        epochs=20,
    ),
    ForecastExperiment(
        name="prices",
        about="""
            Any share, index or currency of Yahoo Finance, downloaded once and cached; needs pip install "jaxseq[prices]".

            python -m jaxseq.train prices --data.ticker MSFT --data.start 2010-01-01

            Expect no evidence of improvement over a simple forecast, as for aapl.
            """,
        data=Ticker(),
    ),
    ForecastExperiment(
        name="table",
        about="""
            Your own CSV or Parquet file: one series, or many in one model.

            python -m jaxseq.train table --data.path sales.csv --data.column sales \\
                --data.series store --task direct --horizon 7

            Each series is scaled by its own training part. Dates, frequency and season are inferred and reported. The
            network begins as a ridge regression on the window, and a short file gets more epochs than a long one. The
            verdict is against the simple forecast that is best on the validation part; that of many series is scaled
            by each series' own seasonal change.
            """,
        data=Table(target="auto"),
        epochs="auto",
        start="auto",
    ),
)
"""The experiments of this domain, in the order of --help."""
