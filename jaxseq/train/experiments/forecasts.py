"""The recipes: what is trained on what, and how. Each docstring says what to type, how long it takes, what to expect."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from jaxseq import cells
from jaxseq.cells.norm import Norm
from jaxseq.common.checks import at_least, one_of, share
from jaxseq.common.errors import UsageError
from jaxseq.data.aapl import Prices
from jaxseq.data.dataset import SeriesData
from jaxseq.data.table import Table
from jaxseq.data.ticker import Ticker
from jaxseq.data.waves import Waves
from jaxseq.nn import forecaster, heads, objectives
from jaxseq.train.experiments.base import NormName, Recipe, Schedule

HeadName = Literal["point", "quantile", "gaussian", "student-t"]
LossName = Literal["mse", "mae", "huber"]
Strategy = Literal["one-step", "iterated", "direct", "every-step"]


@dataclass(frozen=True)
class Model:
    """A stack of recurrent layers and a dense head."""

    cell: str = "gru"
    """The recurrent cell: rnn, lstm or gru."""
    hidden: int = 50
    """Units in each layer."""
    layers: int = 1
    """Recurrent layers, one on the other."""
    norm: NormName = "none"
    """Normalisation: layer (Ba et al. 2016), layer-sum (on the sum of both projections), batch (Cooijmans et al. 2017),
    batch-between (between two layers). With a single input feature, layer sees hardly more of it than its sign."""
    epsilon: float = 1e-5
    """What is added to a variance before its root is taken."""
    momentum: float = 0.9
    """Share of a running moment of batch norm that stays at each step."""
    bidirectional: bool = False
    """Run a second layer backwards beside each."""
    dropout: float = 0.0
    """Share of the values between two layers that a training step leaves out."""
    recurrent_dropout: float = 0.0
    """Share of the state that does not recur in a training step, one draw a sequence (Gal & Ghahramani 2016)."""
    head: HeadName = "point"
    """What is forecast: one number, seven quantiles that cannot cross, or the parameters of a distribution."""

    def __post_init__(self) -> None:
        cells.named(self.cell)
        at_least(1, hidden=self.hidden, layers=self.layers)
        one_of(get_args(NormName), norm=self.norm)
        one_of(get_args(HeadName), head=self.head)
        share(momentum=self.momentum, dropout=self.dropout, recurrent_dropout=self.recurrent_dropout)
        if not 0 < self.epsilon < math.inf:
            raise UsageError(f"epsilon must be a finite number above 0; it is {self.epsilon:g}")
        if self.layers == 1 and (self.norm == "batch-between" or self.dropout):
            what = "norm batch-between" if self.norm == "batch-between" else f"dropout {self.dropout:g}"
            raise UsageError(f"{what} goes between two layers; there is {self.layers}: take --model.layers 2")

    def build(self, outputs: int, every_step: bool = False) -> forecaster.Forecaster:
        """The Flax module, with so many outputs, once or after every step."""
        norm = None if self.norm == "none" else Norm(self.norm, self.epsilon, self.momentum)
        between = self.norm == "batch-between"
        return forecaster.Forecaster(
            cells.named(self.cell),
            self.hidden,
            self.layers,
            outputs,
            every_step,
            norm=None if between else norm,
            norm_between=norm if between else None,
            bidirectional=self.bidirectional,
            dropout=self.dropout,
            recurrent_dropout=self.recurrent_dropout,
        )


@dataclass(frozen=True, kw_only=True)
class Experiment(Recipe):
    """A forecast of series. Raises `UsageError` for a field that cannot be."""

    data: SeriesData
    """Recipe of the data set, such as `Prices`."""
    model: Model = field(default_factory=Model)
    task: Strategy = "one-step"
    """One step ahead; that step fed back over the horizon; the whole horizon at once; or at once after every step of
    the window, which gives a loss for each of them (sequence to sequence)."""
    horizon: int = 1
    """Steps that are forecast."""
    loss: LossName = "mse"
    """What a point forecast is trained by; a distribution has its own."""
    domain: ClassVar[str] = "forecasts"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, horizon=self.horizon)
        one_of(get_args(Strategy), task=self.task)
        one_of(get_args(LossName), loss=self.loss)
        self._check_task()

    def _check_task(self) -> None:
        if self.task == "one-step" and self.horizon > 1:
            raise UsageError(
                f"horizon {self.horizon} is more than one step: take --task direct, every-step or iterated"
            )
        if self.model.bidirectional and self.task in ("iterated", "every-step"):
            why = "would see what it is to forecast" if self.task == "every-step" else "cannot be fed back to"
            raise UsageError(f"a bidirectional model {why}: take --task direct, not {self.task}")
        if self.task == "iterated" and self.model.head == "quantile":
            raise UsageError(
                "quantiles of one step do not add up over several: take --model.head gaussian or student-t"
            )
        if self.loss != "mse" and self.model.head != "point":
            raise UsageError(f"loss {self.loss} is of a point forecast; --model.head {self.model.head} has its own")

    @property
    def steps_out(self) -> int:
        """Steps that the model itself puts out; those of an iterated forecast come one by one."""
        return 1 if self.task == "iterated" else self.horizon

    @property
    def head(self) -> heads.Head:
        """What the model's output means."""
        return heads.named(self.model.head, self.loss)

    def objective(self) -> objectives.Objective:
        """The loss that is trained and the metrics of validation."""
        return objectives.forecasting(self.head, self.task == "every-step")

    def build(self) -> forecaster.Forecaster:
        """The Flax module."""
        return self.model.build(self.steps_out * self.head.width, self.task == "every-step")


@dataclass(frozen=True, kw_only=True)
class Aapl(Experiment):
    """Apple's share price one day ahead, 2000 to 2013, offline; the default.

    python -m jaxseq.train aapl [--model.cell rnn|lstm|gru] [--data.target change|log-return|level]

    100 epochs take under a minute on two cores. Expect a tie with the last value (MSE relative to naive 0.99 to 1.03): a
    daily price has next to nothing in it that its past would tell. `--data.target level` is the set-up of most tutorials,
    and shows why an honest split is unkind to it.
    """

    data: Prices = field(default_factory=Prices)
    name: ClassVar[str] = "aapl"


@dataclass(frozen=True, kw_only=True)
class WavesOneStep(Experiment):
    """Sums of two sines with noise, one step ahead (Géron 2019, chapter 15): a problem with something to learn.

    python -m jaxseq.train waves [--model.cell rnn|lstm|gru]

    20 epochs take half a minute on two cores. Expect a validation MSE of 0.0014 (gru, lstm) or 0.0023 (rnn), where
    least squares on the 50 lags has 0.0029, the last value 0.0202, and the noise alone 0.0008.
    """

    data: Waves = field(default_factory=Waves)
    epochs: int = 20
    lr: float = 5e-3
    schedule: Schedule = "cosine"
    clip: float | None = 1.0
    name: ClassVar[str] = "waves"


@dataclass(frozen=True, kw_only=True)
class WavesBook(Experiment):
    """The same waves ten steps ahead, in the set-up of Géron's chapter 15: two layers of 20 units, Adam as Keras has it.

    python -m jaxseq.train waves-book [--model.cell rnn|lstm|gru] [--model.norm layer-sum|batch-between] [--lr 0.01]

    20 epochs take half a minute on two cores. Over five seeds a validation MSE (mean over the ten steps) of about 0.0085
    is to be expected of an LSTM in his notebook; the last value has 0.257, least squares 0.0155.
    """

    data: Waves = field(default_factory=Waves)
    model: Model = field(default_factory=lambda: Model(cell="lstm", hidden=20, layers=2))
    task: Strategy = "every-step"
    horizon: int = 10
    epochs: int = 20
    name: ClassVar[str] = "waves-book"


@dataclass(frozen=True, kw_only=True)
class SharePrices(Experiment):
    """Any share, index or currency that Yahoo Finance has, downloaded once and kept.

    python -m jaxseq.train prices --data.ticker MSFT [--data.start 2010-01-01] [--data.end 2020-01-01]

    Expect a tie with the last value, as for `aapl`.
    """

    data: Ticker = field(default_factory=Ticker)
    name: ClassVar[str] = "prices"


@dataclass(frozen=True, kw_only=True)
class OwnTable(Experiment):
    """Your own CSV or Parquet file: one series or many in one model.

    python -m jaxseq.train table --data.path sales.csv --data.column sales [--data.series store] [--horizon 7 --task direct]

    Each series is scaled by its own training part. Dates, frequency and season are inferred and stated.
    """

    data: Table = field(default_factory=Table)
    epochs: int = 20
    name: ClassVar[str] = "table"


ALL = (Aapl(), WavesOneStep(), WavesBook(), SharePrices(), OwnTable())
"""The recipes of forecasts."""
