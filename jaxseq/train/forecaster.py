"""Trained forecasters: their forecasts of a part of the data, and runs restored to forecast raw values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from jaxseq.checkpoint import run_seal
from jaxseq.common import checks, files, row_counts
from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted
from jaxseq.data.dataset import Dataset, SeriesData
from jaxseq.data.laid_out import in_float32
from jaxseq.data.panel import Panel
from jaxseq.data.powers import NONE
from jaxseq.data.scaling import Scaling
from jaxseq.data.tables.frame import IntoFrame
from jaxseq.data.uncut import PartWindows
from jaxseq.data.windows import Series, Windows, check_series, lay_out, rows_by_series
from jaxseq.forecasting import mixture, quantities, rollout, saved_intervals
from jaxseq.forecasting.intervals import Bounds, Forecast, Intervals, above_floor, bounds, extend
from jaxseq.forecasting.part import Part
from jaxseq.forecasting.predictions import Future
from jaxseq.forecasting.quantities import Quantity
from jaxseq.train import devices, overrides, run_folder, stateful, trained_series
from jaxseq.train.domains.base import one_line
from jaxseq.train.epoch import EVALUATION_BATCHES, Setup, TrainState, predict, predict_along
from jaxseq.train.experiments.base import Experiment
from jaxseq.train.experiments.config import rebuild
from jaxseq.train.experiments.forecasts import ForecastExperiment
from jaxseq.train.feed import Course
from jaxseq.train.job import Job, restore_epoch, setup_of, state_shapes
from jaxseq.train.notebook import page_of_run
from jaxseq.train.saved_experiment import saved_experiment_of
from jaxseq.train.stateful import History
from jaxseq.train.trained_series import TrainedSeries

LAID_OUT = 2**24
"""Numbers of the network's inputs that are laid out at once for a forecast: 64 MiB."""
PATHS = 200
"""Sample paths from which the quantiles of an iterated forecast are estimated."""
DRAWN = 2**26
"""Numbers of all sample paths of a part that are drawn at once: 512 MiB in float64."""


class Trained(NamedTuple):
    """A trained forecaster, restored: call it on windows in the series' own units.

    `predict` forecasts beyond the end of a table. It can be pickled, with all of its arrays.

    intervals     of the run's forecasts; None before the run was judged
    names         of the series of the training; empty for runs of the first format
    facts         about their training rows, by name
    folder        of the run; None if it has gone, and of a pickled forecaster
    carried_from  time of the training's series from which a stateful run carries the state; None for any other run
    weights       a note on those of a refit; empty for a run without one
    is_refit      whether the state is that of a refit on all rows
    combination   mean or median, of an ensemble whose first member this is; empty for a single run
    others        further members of the ensemble
    """

    experiment: ForecastExperiment[SeriesData]
    epoch: int
    setup: Setup
    state: TrainState
    scaling: Scaling
    intervals: Intervals | None = None
    names: tuple[str, ...] = ()
    facts: Mapping[str, TrainedSeries] = MappingProxyType({})
    folder: Path | None = None
    carried_from: str | int | None = None
    weights: str = ""
    is_refit: bool = False
    combination: mixture.Combination | Literal[""] = ""
    others: tuple[Trained, ...] = ()

    @property
    def quantity(self) -> Quantity:
        """The quantity that is forecast."""
        return quantities.of(self.experiment.head)

    @property
    def title(self) -> str:
        """The network with its epoch, or that of an ensemble with the number of its members, for tables."""
        details = [f"epoch {self.epoch}"]
        if self.combination:
            details = [f"{self.combination} of {1 + len(self.others)} seeds"]
        if self.is_refit:
            details.append("all rows")
        return f"{overrides.network_name(self.experiment)} ({', '.join(details)})"

    def __repr__(self) -> str:
        """Return experiment, epoch and network in one line."""
        return one_line(self)

    def _repr_html_(self) -> str:
        """Return the run as a small page, for notebooks."""
        return page_of_run(self)

    def __reduce__(self) -> tuple[Callable[..., Trained], tuple[object, ...]]:
        arrays = [_as_numpy(leaf) for leaf in jax.tree.leaves(self.state)]
        # Another machine has another folder, or none.
        fields = self._replace(facts=dict(self.facts), folder=None)._asdict()
        # Both are made again: a module and an optimiser hold functions, which have no bytes.
        del fields["setup"], fields["state"]
        return _unpickled, (fields, arrays)

    def predict(self, table: str | Path | IntoFrame | Panel | None = None, horizon: int | None = None) -> Future:
        """Forecast beyond the end of the run's series, or of other rows, with intervals if the run has them.

        table    a file, a DataFrame of pandas or polars or an Arrow table with the columns of the run's own, or a panel;
                 None reads the run's own data again
        horizon  time steps; None takes those of the training

        ``restore("runs/table-0001").predict(frame).table`` has a row for each series and step. Raises `UsageError` for rows
        that do not fit the run.
        """
        # It forecasts with this class.
        from jaxseq.train import future

        if table is None or isinstance(table, Panel):
            return future.forecast(self, table, horizon)
        return future.forecast(self, future.panel_of(self, table), horizon)

    def __call__(self, values: Float[np.ndarray, "*n t"]) -> Float[np.ndarray, "*n k"]:
        """Forecast one window "t" or several, "n t", in the units of the values.

        Numbers of windows that are close share a compiled program; the last digit of a forecast may depend on the number.
        The state of a stateful run starts anew with each window: what came before it is not known here. `predict` carries
        it through all rows.

        Raises `UsageError` for windows of another length than in training, and for values that are not finite.
        """
        values = np.asarray(values, np.float64)
        self._check_windows(values)

        window = self.experiment.data.window
        rows = values.reshape(-1, window)
        check_series(np.arange(rows.size), rows.ravel(), "windows")
        part = lay_out(rows, np.full((len(rows), self.experiment.horizon), np.nan))

        forecasts, _ = self.forecast(part, self.scaling, starts_anew=True)
        if values.ndim == 1:
            return forecasts[0]
        return forecasts

    def _check_windows(self, values: Float[np.ndarray, "..."]) -> None:
        """Raise `UsageError` for values that do not say all that the model reads, or have another length."""
        # Each series has its own scale, and values alone do not tell whose they are.
        series = len(self.scaling.shift)
        if series > 1:
            raise UsageError(f"the model was trained on {series} series: name them by calling `forecast`")
        covariates = len(self.scaling.covariate_shift)
        if covariates:
            raise UsageError(
                f"the model was trained with {counted(covariates, 'covariate')}: give them by calling `forecast`"
            )
        window = self.experiment.data.window
        if values.ndim not in (1, 2) or values.shape[-1] != window:
            raise UsageError(
                "the windows have another shape than in training",
                got=values.shape,
                needed=f"windows of {window} values",
            )

    def forecast(
        self,
        part: Windows,
        scaling: Scaling,
        horizon: int | None = None,
        series: Sequence[Series] = (),
        *,
        histories: Sequence[History] = (),
        starts_anew: bool = False,
    ) -> tuple[Float[np.ndarray, "n k"], Bounds]:
        """Forecast in the series' units, or probabilities, with intervals (low, high) by level if the run has them.

        `series` are all rows known of each series, NaN where a value is missing: intervals that grow with the volatility
        take it from them, or from the windows' inputs where there are none. Adaptive intervals follow the known targets
        of earlier rows of `part`. `histories` are those of each series, through which a stateful run carries its state;
        `starts_anew` reads each window by itself.

        Raises `UsageError` for a `horizon` beyond that of the training, unless the run has the strategy iterated, and for a
        stateful run with neither of the last two.
        """
        trained_horizon = self.experiment.horizon
        steps = trained_horizon if horizon is None else horizon
        checks.count(horizon=steps)
        if steps > trained_horizon and self.experiment.task != "iterated":
            raise UsageError(
                f"the model forecasts {trained_horizon} steps; train it with --horizon {steps} or with --task iterated",
                where="horizon",
                got=steps,
                needed=f"at most {trained_horizon}",
            )

        members = (self, *self.others)
        forecasts = [member._predicted(part, scaling, steps, histories, starts_anew) for member in members]
        predicted = forecasts[0]
        if self.combination:
            predicted = combined(
                forecasts,
                how=self.combination,
                part=part,
                scaling=scaling,
                floor=self._floor,
                quantity=self.quantity,
            )
        centre = self.quantity.in_units(predicted.centre, part, scaling)
        if self.intervals is None:
            return centre, {}

        centre = above_floor(centre, self.intervals.floor)
        # Nothing is known of the errors of a point forecast beyond the steps that were validated.
        if steps > trained_horizon and predicted.quantiles is None:
            return centre, {}
        fitted = extend(self.intervals, steps)
        return centre, bounds(predicted, fitted, Part(part, scaling, series))

    def _predicted(
        self,
        part: Windows,
        scaling: Scaling,
        steps: int,
        histories: Sequence[History],
        starts_anew: bool,
    ) -> Forecast:
        """Forecast by this member alone, in the scale of the model."""
        network = Network(self.experiment, self.setup, self.state, scaling)
        if self.experiment.stateful and not starts_anew:
            if not histories:
                raise UsageError(
                    "the state is carried through the whole series",
                    where="histories",
                    got="none",
                    needed="one for each series, or starts_anew=True",
                )
            predicted = _as_forecast(self.experiment, _carried(network, part, histories))
        else:
            inputs = inputs_of(network, part)
            rows = row_counts.shared(len(part.inputs), EVALUATION_BATCHES * self.experiment.batch)
            x, ahead = (jnp.asarray(row_counts.filled_up(np.asarray(array), rows)) for array in inputs)
            predicted = _predict(network, rollout.Inputs(x, ahead), steps)
        return _first_part(predicted, len(part.origins), steps)

    @property
    def _floor(self) -> float | None:
        """The least possible value."""
        if self.intervals is None:
            return None
        return self.intervals.floor


def _as_numpy(leaf: Array) -> np.ndarray:
    """Return an array of a training state, a PRNG key as its numbers."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(leaf))
    return np.asarray(leaf)


def _unpickled(fields: dict[str, Any], arrays: Sequence[np.ndarray]) -> Trained:
    """Return a forecaster from its fields but `setup` and `state`, and the arrays of its state in order."""
    experiment = fields["experiment"]
    setup = setup_of(experiment)
    row = jax.ShapeDtypeStruct((1, experiment.input_steps, fields["scaling"].features), np.float32)
    shapes = state_shapes(setup, row)
    leaves = []
    for shape, array in zip(jax.tree.leaves(shapes), arrays, strict=True):
        leaf = jnp.asarray(array)
        if jnp.issubdtype(shape.dtype, jax.dtypes.prng_key):
            leaf = jax.random.wrap_key_data(leaf)
        leaves.append(leaf)
    state = jax.tree.unflatten(jax.tree.structure(shapes), leaves)
    return Trained(setup=setup, state=state, **fields)


def restore(folder: str | Path, epoch: int | None = None, experiment: Experiment | None = None) -> Trained:
    """Restore a forecaster; see `jaxseq.train.restore.restore`."""
    folder = files.user_path(folder)
    saved = saved_experiment_of(folder, ForecastExperiment, "which forecasts nothing", experiment)
    config = run_folder.read_config(folder)
    scaling = _saved_scaling(config, str(folder / run_seal.CONFIG))
    # The shapes come from config.json alone: the data may be gone, or have other rows by now.
    row = jax.ShapeDtypeStruct((1, saved.input_steps, scaling.features), np.float32)
    restored = restore_epoch(folder, saved, row, epoch)
    names = tuple(config.get("series", ()))
    fitted_intervals = _saved_intervals(folder, restored.epoch, saved, len(scaling.shift))
    return Trained(
        experiment=saved,
        epoch=restored.epoch,
        setup=restored.setup,
        state=restored.state,
        scaling=scaling,
        intervals=fitted_intervals,
        names=names,
        facts=trained_series.read(config, names),
        folder=folder,
        carried_from=saved_start(saved, config, str(folder / run_seal.CONFIG)),
    )


def forecast(
    job: Job[ForecastExperiment, Dataset],
    state: TrainState,
    part: PartWindows,
) -> Forecast:
    """Forecast one part of a job's data, in the scale of the model."""
    scaling = job.material.scaling
    if job.experiment.stateful:
        # The course through the test part is the longest; its last time step precedes the last forecast.
        assert isinstance(job.data.test, Course), "the state is carried through it"
        x = job.data.test.x
        raw = np.asarray(predict_along(job.setup, state.params, state.stats, x))
        start = int(job.material.windows.test.origins.max()) - len(x)
        return _as_forecast(job.experiment, raw[part.origins - 1 - start])

    network = Network(job.experiment, job.setup, state, scaling)
    pieces = []
    for number, rows in enumerate(_pieces(network, part)):
        x, ahead = (devices.replicate(job.mesh, array) for array in inputs_of(network, part.take(rows)))
        pieces.append(_predict(network, rollout.Inputs(x, ahead), job.experiment.horizon, number))
    return _joined(pieces, len(part.origins))


def _pieces(network: Network, part: PartWindows) -> list[Int[np.ndarray, " _"]]:
    """Return the rows of a part in pieces, as many in each, by which a limited number is laid out at once.

    A piece is a number of whole batches, and the last one is filled up with its first row, so that each row is in a batch
    of the same size as in a single piece, and has the same forecast bit for bit.
    Sample paths are drawn for each piece by itself.
    """
    experiment = network.experiment
    count = len(part.origins)
    batch = EVALUATION_BATCHES * experiment.batch
    numbers = part.steps * network.scaling.features
    size = batch * max(1, LAID_OUT // (numbers * batch))
    if experiment.task == "iterated" and experiment.head.draw is not None:
        # Paths take more than what they are drawn from. A piece has draws of its own, for its number of rows.
        size = min(size, max(1, DRAWN // (PATHS * experiment.horizon)))
    if count <= size:
        return [np.arange(count)]
    rows = np.arange(-(-count // size) * size)
    rows[count:] = rows[-size]
    return np.split(rows, len(rows) // size)


def _joined(pieces: Sequence[Forecast], count: int) -> Forecast:
    """Return the forecasts of consecutive pieces, of which the last one may be filled up, as those of `count` rows."""
    if len(pieces) == 1:
        return pieces[0]
    quantiles = [piece.quantiles for piece in pieces if piece.quantiles is not None]
    return Forecast(
        centre=np.concatenate([piece.centre for piece in pieces])[:count],
        quantiles=np.concatenate(quantiles)[:count] if quantiles else None,
        levels=pieces[0].levels,
    )


def network_of(job: Job[ForecastExperiment, Dataset], state: TrainState) -> Network:
    """Return the network of a job after training."""
    return Network(job.experiment, job.setup, state, job.material.scaling)


def centres(network: Network, inputs: rollout.Inputs, horizon: int) -> Float[np.ndarray, "n k"]:
    """Forecast by the centre alone, in the scale of the model: no path of a distribution is drawn."""
    experiment, setup, state, _ = network
    if experiment.task == "iterated":
        return _iterated_centre(network, inputs, horizon)
    rows = EVALUATION_BATCHES * experiment.batch
    raw = predict(setup, state.params, state.stats, inputs.x, rows)
    return np.asarray(experiment.head.centre(_by_step(experiment, raw)), np.float64)


def combined(
    members: Sequence[Forecast],
    *,
    how: mixture.Combination,
    part: PartWindows,
    scaling: Scaling,
    floor: float | None,
    quantity: Quantity,
) -> Forecast:
    """Combine the forecasts of an ensemble's members, in the scale of the model.

    Their mean or median is that of the values in the series' units, raised to the floor, or of probabilities;
    distributions are mixed.
    """
    # A probability has no floor.
    if not quantity.IS_VALUE:
        floor = None
    values = [above_floor(quantity.in_units(member.centre, part, scaling), floor) for member in members]
    centre = quantity.in_scale(mixture.centre(values, how), part, scaling)
    quantiles = [member.quantiles for member in members if member.quantiles is not None]
    if not quantiles:
        return Forecast(centre)
    levels = members[0].levels
    return Forecast(centre, mixture.quantiles(quantiles, levels), levels)


class Network(NamedTuple):
    """A network with its parameters and the scaling of its input."""

    experiment: ForecastExperiment[SeriesData]
    setup: Setup
    state: TrainState
    scaling: Scaling

    @property
    def feedback(self) -> rollout.Feedback:
        """How forecasts are fed back."""
        # The scale stands after the value, and stays.
        kept = int(self.scaling.scale_input)
        return rollout.Feedback(self.experiment.head, self.scaling.transform.as_input, kept)


def inputs_of(network: Network, part: Windows) -> rollout.Inputs:
    """Return the inputs of a network for windows, in float32."""
    read_at_once = part.known_until(network.experiment.steps_out)
    # Scaled in float64, then rounded: in float32 the change of a high price would lose its digits.
    x = in_float32(network.scaling, read_at_once)
    ahead = network.scaling.ahead(part)[:, read_at_once.known.shape[1] :]
    return rollout.Inputs(x, ahead.astype(np.float32))


def _predict(network: Network, inputs: rollout.Inputs, horizon: int, piece: int = 0) -> Forecast:
    """Forecast `horizon` steps if the strategy is iterated, else those of the training, in the scale of the model.

    `piece` is the number of these rows among the pieces of a part: each has its own draws.
    """
    experiment, setup, state, _ = network
    if experiment.task == "iterated":
        return _iterate(network, inputs, horizon, piece)

    rows = EVALUATION_BATCHES * experiment.batch
    return _as_forecast(experiment, predict(setup, state.params, state.stats, inputs.x, rows))


def _as_forecast(experiment: ForecastExperiment[SeriesData], raw: Float[Array | np.ndarray, "n kp"]) -> Forecast:
    """Read the network's output by its head."""
    head = experiment.head
    raw = _by_step(experiment, raw)

    centre = np.asarray(head.centre(raw), np.float64)
    if head.quantiles is None:
        return Forecast(centre)
    quantiles = np.asarray(head.quantiles(raw), np.float64)
    return Forecast(centre, quantiles, head.levels)


def _by_step(
    experiment: ForecastExperiment[SeriesData], raw: Float[Array | np.ndarray, "n kp"]
) -> Float[Array, "n k p"]:
    """Return the network's output with the numbers of each step by themselves, as its head reads them."""
    return jnp.asarray(raw).reshape(len(raw), -1, experiment.head.width)


def _carried(network: Network, part: Windows, histories: Sequence[History]) -> Float[np.ndarray, "n kp"]:
    """Return the network's output before each origin, with its state carried through the series."""

    def along(x: Float[np.ndarray, "m d"]) -> Array:
        return predict_along(network.setup, network.state.params, network.state.stats, jnp.asarray(x))

    outputs = []
    places = []
    for number, rows in rows_by_series(part.series).items():
        history = histories[number]
        x = stateful.inputs(network.scaling, history.rows)
        first_rows = history.first_rows(part.origins[rows] - 1)
        # One walk through the series, or another one through the rows of the training.
        for first in np.unique(first_rows).tolist():
            chosen = rows[first_rows == first]
            made_after = part.origins[chosen] - 1
            # Series of about the same length share a compiled program; nothing is read of what follows the last forecast.
            raw = row_counts.computed(along, x[first : made_after.max() + 1])
            outputs.append(raw[made_after - first])
            places.append(chosen)
    # The rows of a part need not be series after series.
    return np.concatenate(outputs)[np.argsort(np.concatenate(places))]


def _iterate(network: Network, inputs: rollout.Inputs, horizon: int, piece: int) -> Forecast:
    """Feed one-step forecasts back over the horizon; a distribution's quantiles are those of sample paths."""
    experiment = network.experiment
    centre = _iterated_centre(network, inputs, horizon)
    if experiment.head.draw is None:
        return Forecast(centre)

    # Each horizon has its own paths, the same at every call.
    key = jax.random.fold_in(jax.random.key(experiment.seed), horizon)
    if piece:
        key = jax.random.fold_in(key, piece)
    paths = _paths(network, inputs, horizon, jax.random.split(key, PATHS))
    # Between two counts there is no other.
    method = "inverted_cdf" if experiment.head.support == "counts" else "linear"
    levels = experiment.head.levels
    quantiles = np.quantile(paths, levels, axis=0, method=method)
    return Forecast(centre, np.moveaxis(quantiles, 0, -1), levels)


def _iterated_centre(network: Network, inputs: rollout.Inputs, horizon: int) -> Float[np.ndarray, "n k"]:
    """Feed the centre of each one-step forecast back over the horizon."""
    steps = rollout.rollout(
        network.setup.model,
        network.feedback,
        params=network.state.params,
        stats=network.state.stats,
        x=inputs,
        horizon=horizon,
    )
    return network.scaling.add_up(np.asarray(steps))


def _paths(
    network: Network, inputs: rollout.Inputs, horizon: int, keys: Shaped[Array, "m"]
) -> Float[np.ndarray, "m n k"]:
    """Draw a path for each key, each value fed back, in the scale of the model."""
    draws = rollout.paths(
        network.setup.model,
        network.feedback,
        params=network.state.params,
        stats=network.state.stats,
        x=inputs,
        horizon=horizon,
        keys=keys,
    )
    # Added up path by path: quantiles of single steps are not those of their sum.
    return network.scaling.add_up(np.asarray(draws))


def drawn_paths(
    trained: Trained, part: Windows, scaling: Scaling, keys: Shaped[Array, "m"]
) -> Float[np.ndarray, "m n k"]:
    """Draw a path of an iterated distribution for each key and window, over the horizon of the windows' targets."""
    network = Network(trained.experiment, trained.setup, trained.state, scaling)
    x, ahead = (jnp.asarray(array) for array in inputs_of(network, part))
    return _paths(network, rollout.Inputs(x, ahead), part.targets.shape[1], keys)


def _first_part(forecast: Forecast, rows: int, steps: int) -> Forecast:
    """Return the forecast of the first rows and steps."""
    quantiles = forecast.quantiles
    if quantiles is not None:
        quantiles = quantiles[:rows, :steps]
    return Forecast(forecast.centre[:rows, :steps], quantiles, forecast.levels)


def _saved_intervals(folder: Path, epoch: int, experiment: ForecastExperiment, series: int) -> Intervals | None:
    """Read the intervals of an epoch; None if they were fitted to another one, or if the run has not been judged."""
    path = folder / run_seal.INTERVALS
    judged = run_seal.read_judged(folder)
    if judged is not None:
        if judged.epoch != epoch:
            return None
        run_seal.check_output(folder, judged, run_seal.INTERVALS)
    elif run_seal.has_seals(folder) or not path.is_file():
        return None
    return saved_intervals.parse(
        files.read_json(path),
        source=str(path),
        horizon=experiment.horizon,
        series=series,
        point=experiment.head.quantiles is None,
    )


def saved_start(experiment: ForecastExperiment, config: Mapping[str, object], source: str) -> str | int | None:
    """Read the time from which a stateful run carries the state, or its row in an older run; None of other runs.

    Raises `UsageError`, which names `source`, for neither of them.
    """
    if not experiment.stateful:
        return None
    start = config.get(stateful.START)
    if isinstance(start, str) and _is_time(start):
        return start
    if type(start) is int and start >= 0:
        return start
    raise UsageError(
        "no time of the series", where=f"{source}: {stateful.START}", got=start, needed="a date, or a number of a row"
    )


def _is_time(text: str) -> bool:
    try:
        trained_series.time_of(text)
    except ValueError:
        return False
    return True


def _saved_scaling(config: Mapping[str, object], source: str) -> Scaling:
    """Read the scaling of a run. Raises `UsageError`, which names `source`, unless it is by finite numbers."""
    scaling = rebuild(Scaling("level", (), ()), config.get("scaling"), f"{source}: scaling")

    numbers = (
        *scaling.shift,
        *scaling.scale,
        *scaling.covariate_shift,
        *scaling.covariate_scale,
        *scaling.exponents,
    )
    # JSON as Python reads it has NaN and Infinity, which would make every forecast NaN.
    if not scaling.scale or not all(math.isfinite(number) for number in numbers):
        raise UsageError("not by finite numbers", where=f"{source}: scaling", got=scaling)
    if scaling.power != NONE and len(scaling.exponents) != len(scaling.scale):
        raise UsageError("without an exponent of each series", where=f"{source}: scaling", got=scaling)
    return scaling
