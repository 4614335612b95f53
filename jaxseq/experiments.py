"""The recipes: what is trained on what, and how. Each docstring says what to type, how long it takes, what to expect."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin, get_type_hints

import optax

from jaxseq import cells, heads, models, tasks
from jaxseq.cells.norm import Norm
from jaxseq.data.own import Table, Ticker
from jaxseq.data.prices import Prices
from jaxseq.data.waves import Waves
from jaxseq.errors import UsageError


def _at_least(least: int, **fields: int) -> None:
    for name, value in fields.items():
        if value < least:
            raise UsageError(f"{name} must be at least {least}; it is {value}")


def _share(**fields: float) -> None:
    for name, value in fields.items():
        if not 0 <= value < 1:
            raise UsageError(f"{name} must be at least 0 and below 1; it is {value:g}")


def _one_of(choices: tuple[str, ...], **fields: str) -> None:
    for name, value in fields.items():
        if value not in choices:
            raise UsageError(f"unknown {name} {value!r}: choose one of {', '.join(choices)}")


NormName = Literal["none", "layer", "layer-sum", "batch", "batch-between"]
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
        _at_least(1, hidden=self.hidden, layers=self.layers)
        _one_of(get_args(NormName), norm=self.norm)
        _one_of(get_args(HeadName), head=self.head)
        _share(momentum=self.momentum, dropout=self.dropout, recurrent_dropout=self.recurrent_dropout)
        if not 0 < self.epsilon < math.inf:
            raise UsageError(f"epsilon must be a finite number above 0; it is {self.epsilon:g}")
        if self.layers == 1 and (self.norm == "batch-between" or self.dropout):
            what = "norm batch-between" if self.norm == "batch-between" else f"dropout {self.dropout:g}"
            raise UsageError(f"{what} goes between two layers; there is {self.layers}: take --model.layers 2")

    def build(self, outputs: int, every_step: bool = False) -> models.Forecaster:
        """The Flax module, with so many outputs, once or after every step."""
        norm = None if self.norm == "none" else Norm(self.norm, self.epsilon, self.momentum)
        between = self.norm == "batch-between"
        return models.Forecaster(
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
class Experiment:
    """A recipe: data, model, and how it is trained. Raises `UsageError` for a field that cannot be."""

    data: Any
    """A data set's recipe, such as `Prices`: name, unit, window; windows(horizon), scaling(horizon)."""
    model: Model = field(default_factory=Model)
    task: Strategy = "one-step"
    """One step ahead; that step fed back over the horizon; the whole horizon at once; or at once after every step of
    the window, which gives a loss for each of them (sequence to sequence)."""
    horizon: int = 1
    """Steps that are forecast."""
    loss: LossName = "mse"
    """What a point forecast is trained by; a distribution has its own."""
    epochs: int = 100
    """Times that training goes through all its rows."""
    batch: int = 32
    """Windows in one optimiser step."""
    lr: float = 1e-3
    """Learning rate of Adam, at the start."""
    schedule: Literal["constant", "cosine"] = "constant"
    """The rate over the epochs: constant, or a cosine from `lr` to 0."""
    clip: float | None = None
    """Norm that gradients are clipped to; None clips nothing."""
    seed: int = 0
    """The key of every draw: initial weights and the order of the rows."""
    patience: int | None = None
    """Stop after so many epochs without a better validation; None goes through all of them."""

    name: ClassVar[str]

    def __post_init__(self) -> None:
        _at_least(1, epochs=self.epochs, batch=self.batch, horizon=self.horizon)
        _one_of(get_args(Strategy), task=self.task)
        _one_of(get_args(LossName), loss=self.loss)
        self._check_task()
        _at_least(0, seed=self.seed)
        if self.seed >= 2**32:
            raise UsageError(f"seed must be below 2**32, where JAX's keys begin again; it is {self.seed}")
        if self.patience is not None:
            _at_least(1, patience=self.patience)
        for name, value in {"lr": self.lr, "clip": self.clip}.items():
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UsageError(f"{name} must be a finite number above 0; it is {value:g}")
        _one_of(("constant", "cosine"), schedule=self.schedule)

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

    def objective(self) -> tasks.Task:
        """The loss that is trained and the metrics of validation."""
        return tasks.forecasting(self.head, self.task == "every-step")

    def build(self) -> models.Forecaster:
        """The Flax module."""
        return self.model.build(self.steps_out * self.head.width, self.task == "every-step")

    def optimiser(self, steps_per_epoch: int) -> optax.GradientTransformation:
        """Adam by this recipe; one object for one recipe, so that what is compiled for it is found again."""
        return _adam(self.lr, self.clip, self.epochs * steps_per_epoch if self.schedule == "cosine" else None)


@functools.cache
def _adam(lr: float, clip: float | None, cosine_steps: int | None) -> optax.GradientTransformation:
    adam = optax.adam(lr if cosine_steps is None else optax.cosine_decay_schedule(lr, cosine_steps))
    return adam if clip is None else optax.chain(optax.clip_by_global_norm(clip), adam)


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
    schedule: Literal["constant", "cosine"] = "cosine"
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


EXPERIMENTS: MappingProxyType[str, Experiment] = MappingProxyType(
    {e.name: e for e in (Aapl(), WavesOneStep(), WavesBook(), SharePrices(), OwnTable())}
)


def named(name: str) -> Experiment:
    """The experiment of that name; `UsageError` lists the right ones if there is none."""
    if name not in EXPERIMENTS:
        raise UsageError(f"unknown experiment {name!r}: choose one of {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]


def to_config(experiment: Experiment) -> dict[str, Any]:
    """The experiment as JSON-able nested dictionaries, its name under "experiment"."""
    return {"experiment": experiment.name, **dataclasses.asdict(experiment)}


BESIDE_THE_RECIPE = ("experiment", "scaling", "axes")
"""What a run's config holds that is no field of an experiment: its name, and what follows from the rest."""


def from_config(config: Mapping[str, Any], source: str) -> Experiment:
    """The experiment that `to_config` wrote; `UsageError`, which opens with `source`, for anything else."""
    fields = {key: value for key, value in config.items() if key not in BESIDE_THE_RECIPE}
    name = config.get("experiment")
    if not isinstance(name, str):
        raise UsageError(f"{source}: no experiment is named in it")
    try:
        default = named(name)
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from error
    nested = {key: rebuild(getattr(default, key), fields.pop(key, {}), f"{source}: {key}") for key in ("data", "model")}
    return rebuild(default, fields, source, nested)


Recipe = TypeVar("Recipe")


def rebuild(default: Recipe, values: Any, source: str, nested: Mapping[str, Any] = MappingProxyType({})) -> Recipe:
    """`default` with other values, each of the type that its field has; `nested` values are taken as they are."""
    hints = get_type_hints(type(default))
    known = [f.name for f in dataclasses.fields(default)]  # pyrefly: ignore[bad-argument-type]
    if not isinstance(values, Mapping):
        raise UsageError(f"{source} is no table of fields but {values!r}; known are {', '.join(known)}")
    if unknown := sorted(set(values) - set(known)):
        raise UsageError(f"{source} has unknown fields {', '.join(unknown)}; known are {', '.join(known)}")
    for name, value in values.items():
        if not _fits(value, hints[name]):
            raise UsageError(f"{source}: {name} must be {_words(hints[name])}; it is {value!r}")
    try:
        return dataclasses.replace(default, **values, **nested)  # pyrefly: ignore[bad-specialization]
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from error


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value out of JSON has a field's type."""
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_fits(one, get_args(hint)[0]) for one in value)
    if alternatives := get_args(hint):
        return any(_fits(value, alternative) for alternative in alternatives)
    return type(value) in ((int, float) if hint is float else (hint,))


def _words(hint: Any) -> str:
    """A field's type for a message: ``int``, ``float or None``, ``one of constant, cosine``."""
    if get_origin(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    if get_origin(hint) is tuple:
        return f"a list of {get_args(hint)[0].__name__}"
    return " or ".join("None" if kind is type(None) else kind.__name__ for kind in get_args(hint) or (hint,))
