"""Experiments that forecast series. A new one is an entry of `EXPERIMENTS`."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Literal, TypeVar, get_args

from jaxseq import cells
from jaxseq.cells.chunks import Chunk
from jaxseq.cells.norm import Norm
from jaxseq.common.checks import count, one_of, share
from jaxseq.common.errors import UsageError
from jaxseq.data.aapl import Prices
from jaxseq.data.dataset import Dataset, SeriesData
from jaxseq.data.panel import PanelData
from jaxseq.data.table import Table
from jaxseq.data.targets import AUTO
from jaxseq.data.ticker import Ticker
from jaxseq.data.waves import Waves
from jaxseq.forecasting.intervals import Choice
from jaxseq.nn import forecaster, heads, objectives
from jaxseq.nn.heads import HeadName, LossName
from jaxseq.train.experiments.base import CellName, Experiment, NormName

Strategy = Literal["one-step", "iterated", "direct", "every-step"]
Start = Literal["random", "ridge", "auto"]


@dataclass(frozen=True)
class Model:
    """A stack of recurrent layers and a dense head."""

    cell: CellName = "gru"
    """Recurrent cell, a name of `jaxseq.cells.CELLS`."""
    hidden: int = 50
    """Units in each recurrent layer."""
    layers: int = 1
    """Number of stacked recurrent layers."""
    norm: NormName = "none"
    """Layer norm of both projections (layer) or of their sum (layer-sum); batch norm within or between layers."""
    # Both defaults have their home in the norm: a layer that is built by hand is the one of the command line.
    epsilon: float = Norm._field_defaults["epsilon"]
    """Added to the variance in normalisation for numerical stability."""
    momentum: float = Norm._field_defaults["momentum"]
    """Momentum of the running moments of batch norm."""
    bidirectional: bool = False
    """Add a second, backward layer to each recurrent layer."""
    dropout: float = 0.0
    """Dropout rate between recurrent layers."""
    recurrent_dropout: float = 0.0
    """Dropout rate of the recurrent state, one mask for a whole sequence (Gal & Ghahramani 2016)."""
    chunk: Chunk = "auto"
    """Time steps that the derivative computes again at once: less memory for long windows; None keeps all of them."""
    skip: bool = False
    """Add a linear map of the whole window to the forecast, the autoregressive part of LSTNet (Lai et al. 2018)."""
    head: HeadName = "point"
    """Forecast of each step: a point, quantiles, or a distribution; counts take --data.target count, tweedie amount."""
    quantiles: str = ""
    """Levels of --model.head quantile, with 0.5 and both ends of each interval: 0.05,0.5,0.95; empty takes seven."""
    components: int = heads.COMPONENTS
    """Normal distributions in --model.head mixture."""
    power: float = heads.POWER
    """Power of --model.head tweedie, between 1 (Poisson counts of one size) and 2 (gamma-distributed amounts)."""

    def __post_init__(self) -> None:
        cells.check_options(self.cell, self.norm not in ("none", "batch-between"), self.recurrent_dropout)
        count(1, hidden=self.hidden, layers=self.layers)
        if self.chunk not in (None, "auto"):
            count(chunk=self.chunk)
        one_of(get_args(NormName), norm=self.norm)
        one_of(get_args(HeadName), head=self.head)
        self._check_head()
        share(momentum=self.momentum, dropout=self.dropout, recurrent_dropout=self.recurrent_dropout)
        if not 0 < self.epsilon < math.inf:
            raise UsageError("not a positive number", where="model.epsilon", got=self.epsilon, needed="finite, above 0")
        if self.layers == 1:
            self._check_single_layer()

    def _check_head(self) -> None:
        """Raise `UsageError` for a setting of another head, and for levels or a number that a head cannot have."""
        count(1, components=self.components)
        if self.components > heads.MOST_COMPONENTS:
            raise UsageError(
                "too many", where="--model.components", got=self.components, needed=f"at most {heads.MOST_COMPONENTS}"
            )
        heads.levels_of(self.quantiles)
        # Near its ends the gamma distribution's shape, (2 - p) / (p - 1), leaves the range of float32's series.
        if not 1.05 <= self.power <= 1.95:
            raise UsageError("no compound distribution", where="--model.power", got=self.power, needed="1.05 to 1.95")
        # A setting that no head reads would be in the config as if it had been used.
        for option, value, head in (
            ("quantiles", self.quantiles, "quantile"),
            ("components", self.components, "mixture"),
            ("power", self.power, "tweedie"),
        ):
            if value != Model.__dataclass_fields__[option].default and self.head != head:
                raise UsageError(
                    f"is of another head than {self.head}",
                    where=f"--model.{option}",
                    got=value,
                    needed=f"--model.head {head}",
                )

    def _check_single_layer(self) -> None:
        """Raise `UsageError` for a setting that acts between two layers."""
        if self.norm == "batch-between":
            raise UsageError("acts between two layers", where="--model.norm", got=self.norm, needed="--model.layers 2")
        if self.dropout:
            raise UsageError(
                "acts between two layers", where="--model.dropout", got=self.dropout, needed="--model.layers 2"
            )

    def build(self, outputs: int, every_step: bool = False, beyond: int = 0) -> forecaster.Forecaster:
        """Build the Flax module with `outputs` numbers once, or after every time step.

        The last `beyond` time steps of its input lie beyond the window.
        """
        norm = norm_between = None
        if self.norm == "batch-between":
            norm_between = Norm(self.norm, self.epsilon, self.momentum)
        elif self.norm != "none":
            norm = Norm(self.norm, self.epsilon, self.momentum)

        return forecaster.Forecaster(
            cell=cells.named(self.cell),
            hidden=self.hidden,
            layers=self.layers,
            outputs=outputs,
            every_step=every_step,
            norm=norm,
            norm_between=norm_between,
            bidirectional=self.bidirectional,
            dropout=self.dropout,
            recurrent_dropout=self.recurrent_dropout,
            chunk=self.chunk,
            skip=self.skip,
            beyond=beyond,
        )


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
        self._check_strategy()

    def _check_strategy(self) -> None:
        """Raise `UsageError` for a strategy that the horizon, the network or its head rules out."""
        if self.task == "one-step" and self.horizon > 1:
            raise UsageError(
                "one-step forecasts a single step",
                where="--horizon",
                got=self.horizon,
                needed="--task direct, every-step or iterated",
            )
        if self.model.bidirectional and self.task == "every-step":
            raise UsageError(
                "a bidirectional model would see its targets", where="--task", got=self.task, needed="direct"
            )
        if self.model.bidirectional and self.task == "iterated":
            raise UsageError(
                "a bidirectional model cannot be fed its forecast", where="--task", got=self.task, needed="direct"
            )
        # The sum of two medians is not the median of the sum: quantiles need samples to be iterated.
        if self.task == "iterated" and self.head.quantiles is not None and self.head.draw is None:
            raise UsageError(
                "quantiles of one step do not add up over several",
                where="--model.head",
                got=self.model.head,
                needed=f"one of {', '.join(name for name, head in heads.HEADS.items() if head.draw)}",
            )
        self._check_whole_window()
        self._check_known_ahead()
        self._check_start()
        if self.stateful:
            self._check_stateful()
        if self.loss != "mse" and self.model.head != "point":
            raise UsageError(
                f"--model.head {self.model.head} has its own loss", where="--loss", got=self.loss, needed="mse"
            )

    def _check_stateful(self) -> None:
        """Raise `UsageError` for a strategy or a network whose state cannot be carried from window to window."""
        if self.task != "every-step":
            raise UsageError(
                "forecasts from windows that overlap, whose states do not follow one another",
                where="--task",
                got=self.task,
                needed="every-step with --data.stateful",
            )
        # Cooijmans et al. 2017 keep one mean and variance for each time step from the start of a sequence.
        if self.model.norm == "batch":
            raise UsageError(
                "has moments of each time step of a window, which a carried state does not start from",
                where="--model.norm",
                got=self.model.norm,
                needed="layer, layer-sum, batch-between or none with --data.stateful",
            )

    def load(self) -> Dataset:
        """Read the series and cut them into windows, for the targets of the horizon.

        A target that the data leave open is the change from the last value where the strategy needs one.
        Raises `UsageError` for series that cannot be read, split or scaled.
        """
        data = self.data
        if isinstance(data, PanelData) and data.target == AUTO and self._steps_through_window:
            data = dataclasses.replace(data, target="change")
        return data.load(self.horizon)

    @property
    def _steps_through_window(self) -> bool:
        """Whether the network forecasts from within the window, or beyond its own forecasts."""
        return self.task in ("iterated", "every-step")

    def _check_whole_window(self) -> None:
        """Raise `UsageError` for what needs the whole window, in a strategy that forecasts from a part of it."""
        if not self._steps_through_window:
            return
        needed = "--task direct or one-step"
        if self.model.skip:
            raise UsageError("reads the whole window", where="--model.skip", got=f"--task {self.task}", needed=needed)
        data = self.data
        if not isinstance(data, PanelData):
            return
        if data.target == "season":
            raise UsageError(
                f"--task {self.task} knows no value of one season before",
                where="--data.target",
                got="season",
                needed=needed,
            )
        if data.scale == "window" and self.task == "every-step":
            raise UsageError(
                "the first steps of a window would be scaled by the later ones",
                where="--data.scale",
                got="window",
                needed=needed,
            )

    def _check_known_ahead(self) -> None:
        """Raise `UsageError` for covariates that are known ahead, in a strategy that reads those of one row ahead alone."""
        if not self.knows_ahead:
            return
        if self.stateful or (self.task == "every-step" and self.horizon > 1):
            raise UsageError(
                "each time step reads what is known of one row ahead, and forecasts others",
                where="--task",
                got=self.task,
                needed="direct, iterated or one-step with covariates that are known ahead",
            )

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

    def _check_start(self) -> None:
        """Raise `UsageError` for a ridge regression that the network could not add to."""
        if self.start != "ridge" or self._takes_ridge:
            return
        if self._steps_through_window:
            raise UsageError(
                "reads the whole window", where="--start", got=f"--task {self.task}", needed="--task direct or one-step"
            )
        if self.model.head != "point":
            raise UsageError(
                "forecasts a point", where="--start", got=f"--model.head {self.model.head}", needed="--model.head point"
            )
        raise UsageError(
            "knows nothing beyond the window",
            where="--start",
            got="ridge",
            needed="random with covariates that are known ahead",
        )

    @property
    def _takes_ridge(self) -> bool:
        """Whether the network can begin as a linear map of the whole window, to a point."""
        # Beyond the window one head serves every step, which would need an intercept each.
        return not self._steps_through_window and not self._steps_beyond and self.model.head == "point"

    @property
    def starts_from_ridge(self) -> bool:
        """Whether the network begins as a ridge regression on the window."""
        return self.start != "random" and self._takes_ridge

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
        return objectives.forecasting(self.head, self.task == "every-step", masks_targets)

    def build(self) -> forecaster.Forecaster:
        """Build the Flax module."""
        outputs = self.steps_out * self.head.width
        # A ridge regression is in the weights of the skip.
        model = dataclasses.replace(self.model, skip=self.model.skip or self.starts_from_ridge)
        return model.build(outputs, self.task == "every-step", self._steps_beyond)


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
