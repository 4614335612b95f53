"""A forecaster as a program from values to forecasts and their intervals, scaling and its inverse inside."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxseq.checkpoint import run_seal
from jaxseq.common import csv_tables
from jaxseq.common.errors import UsageError
from jaxseq.data.powers import NONE
from jaxseq.data.scaling import Scaling
from jaxseq.data.windows import Series, Windows, lay_out
from jaxseq.export.kinds.base import Kind
from jaxseq.export.program import Computed, Inputs, Outputs, Program
from jaxseq.forecasting import intervals, quantities, rollout, sizes
from jaxseq.forecasting.intervals import Intervals
from jaxseq.nn import apply, networks
from jaxseq.train import overrides
from jaxseq.train.domains.base import RestoredRun
from jaxseq.train.forecaster import Trained

if TYPE_CHECKING:
    from onnx import ModelProto

HISTORY = 5
"""Values before the window in made-up inputs, where the intervals grow with a volatility."""
LEAST_ROWS = 3
MOST_ROWS = 16
"""Rows of made-up inputs: one for each series, up to so many of them."""


def of(run: RestoredRun) -> Trained:
    """Return a restored run as a forecaster, which the domain says it is."""
    assert isinstance(run, Trained)
    return run


class _Signature(NamedTuple):
    """Shapes and dtypes of the inputs of a program, and the smallest free length of each letter."""

    shapes: dict[str, tuple[int | str, ...]]
    dtypes: dict[str, np.dtype]
    least: dict[str, int]


def program_of(run: RestoredRun) -> Program:
    """Return the forecast of a run as a program in float64 around a network in float32, as the command computes it.

    Inputs are `values` "n t" in the series' unit, `covariates` "n t c" where the model was trained with some, and
    `series` "n", the number of each row's series, where there are several. Outputs are `forecast` "n k", the ends of the
    intervals as `low_80` and `high_80` "n k", and `quantiles` "n k q" of a head that has them, before they are
    calibrated. Intervals that grow with the volatility take values from before the window, too.

    Values that are missing cannot be given: a mask that the network was trained with is zero. Adaptive intervals are at
    their nominal levels, as no value has come after them. Raises `UsageError` for a forecast that is no function of its
    window alone.
    """
    trained = of(run)
    _check_exportable(trained)
    # In full as the program computes, at whatever precision the run was trained.
    trained = trained._replace(intervals=intervals_of(trained), setup=trained.setup.in_full())
    scaling = trained.scaling
    window = trained.experiment.data.window

    signature = _signature(trained)
    steps = window
    if signature.least:
        steps += HISTORY
    inputs = example(scaling, steps, window)
    scale = np.asarray(scaling.scale)[inputs.get("series", 0)]
    return Program(
        partial(_outputs, trained),
        signature.shapes,
        signature.dtypes,
        result="forecast",
        example=inputs,
        own=partial(_own, trained),
        least=signature.least,
        unit=scale,
        grows=scaling.transform.relative,
    )


def intervals_of(trained: Trained) -> Intervals | None:
    """Return the intervals of a run, a distribution's own quantiles where there are none, or None."""
    if trained.intervals is None and trained.experiment.head.quantiles is not None:
        coverages = intervals.coverages_of(trained.experiment.head.levels)
        return intervals.uncalibrated(trained.experiment.horizon, coverages)
    return trained.intervals


def reads_history(fitted: Intervals | None) -> bool:
    """Return whether intervals need values from before the window."""
    return fitted is not None and bool(fitted.levels) and fitted.size == "volatility"


def _check_exportable(trained: Trained) -> None:
    experiment = trained.experiment
    # A program of a single window would start each forecast anew, and forecast something else than the run.
    if experiment.stateful:
        raise UsageError(
            "carries its state from window to window, which a program of one window cannot",
            where="--data.stateful",
            got=True,
            needed="a run without it, or python -m jaxseq.forecast",
        )
    refuse_known_ahead(trained)
    refuse_power(trained)
    quantities.check_values(experiment.head, "--to")
    if experiment.head.simulated:
        raise UsageError(
            "its quantiles are simulated, and a program in float64 draws other numbers",
            where="--model.head",
            got=experiment.head.name,
            needed="another head, or python -m jaxseq.forecast",
        )
    if experiment.task == "iterated" and experiment.head.quantiles is not None:
        raise UsageError(
            "quantiles of an iterated forecast are those of sample paths, which are no function",
            where="--task",
            got="iterated",
            needed="--task direct, or a point head",
        )


def refuse_kinds(trained: Trained) -> None:
    """Raise `UsageError` for a network that is no stack of layers, for a format that has no others."""
    kind = trained.experiment.model.kind
    if kind != networks.DEFAULT:
        raise UsageError(
            "has stacked layers alone", where="--to", got=f"--model.kind {kind}", needed="--to stablehlo or safetensors"
        )


def refuse_known_ahead(trained: Trained) -> None:
    """Raise `UsageError` for a run with covariates that are known ahead, or with texts, which no program takes."""
    kind = ""
    if trained.experiment.knows_ahead:
        kind = "covariates that are known ahead"
    elif trained.scaling.category_columns:
        kind = "covariates that are texts"
    if kind:
        raise UsageError(
            "only its parameters are exported",
            where="--to",
            got=f"a run with {kind}",
            needed="--to safetensors, or python -m jaxseq.forecast",
        )


def refuse_power(trained: Trained) -> None:
    """Raise `UsageError` for a run whose values no program or module scales: by a power, or by another scale."""
    scaling = trained.scaling
    options = {
        f"--data.transform {scaling.power}": scaling.power != NONE,
        f"--data.scale {scaling.window_scale}": bool(scaling.window_scale),
        "--data.scale-input": scaling.scale_input,
    }
    for option, is_given in options.items():
        if is_given:
            raise UsageError(
                "only its parameters are exported",
                where="--to",
                got=f"a run with {option}",
                needed="--to safetensors, or python -m jaxseq.forecast",
            )


def _signature(trained: Trained) -> _Signature:
    """Return the inputs of a forecaster: the run's data decide which there are."""
    scaling = trained.scaling
    window = trained.experiment.data.window
    shapes: dict[str, tuple[int | str, ...]] = {"values": (window,)}
    dtypes: dict[str, np.dtype] = {"values": np.dtype(np.float64)}
    least: dict[str, int] = {}

    if reads_history(trained.intervals):
        shapes["values"] = ("t",)
        least["t"] = window
    if scaling.covariate_shift:
        shapes["covariates"] = (window, len(scaling.covariate_shift))
        dtypes["covariates"] = np.dtype(np.float64)
    if len(scaling.scale) > 1:
        shapes["series"] = ()
        dtypes["series"] = np.dtype(np.int32)
    return _Signature(shapes, dtypes, least)


# The computation ------------------------------------------------------------------------------------------------------


def _outputs(trained: Trained, inputs: Inputs) -> Outputs:
    """Compute the forecast, its quantiles and its intervals in the series' unit."""
    scaling = trained.scaling
    window = _window(trained, inputs)
    of_series = (_of_each_row(scaling.shift, inputs), _of_each_row(scaling.scale, inputs))
    shift, scale = (jnp.asarray(numbers) for numbers in scaling.fit_rows(window, *of_series))
    forecast = _network(trained, _network_inputs(trained, inputs, shift, scale))
    known = scaling.known(window, trained.experiment.horizon)

    def invert(numbers: Array) -> Array:
        # Quantiles have an axis more than the forecast.
        axes = (..., *[None] * (numbers.ndim - 2))
        return jnp.asarray(scaling.transform.invert(numbers, known[axes], shift[axes], scale[axes]))

    outputs = {name: invert(numbers) for name, numbers in forecast.items()}
    fitted = trained.intervals
    if fitted is None:
        return outputs
    outputs["forecast"] = intervals.above_floor(outputs["forecast"], fitted.floor)
    ends = _interval_ends(fitted, trained, forecast, inputs, scale)
    for level, level_ends in intervals.in_units(ends, fitted, scaling.transform, invert).items():
        outputs |= dict(zip(intervals.end_names(level), level_ends, strict=True))
    return outputs


def _of_each_row(numbers: tuple[float, ...], inputs: Inputs) -> Float[Array, "n 1"]:
    """Return the number of each row's series, or "1 1" if there is one series."""
    column = jnp.asarray(numbers)[:, None]
    if len(numbers) == 1:
        return column
    series: Int[Array, "n"] = inputs["series"]
    return column[series]


def _window(trained: Trained, inputs: Inputs) -> Float[Array, "n t"]:
    """Return the values that the network reads; the intervals may need those before, too."""
    return inputs["values"][:, -trained.experiment.data.window :]


def _network_inputs(
    trained: Trained, inputs: Inputs, shift: Float[Array, "_ 1"], scale: Float[Array, "_ 1"]
) -> Float[Array, "n t d"]:
    """Return the network's inputs: scaled values, covariates and masks."""
    scaling = trained.scaling
    scaled = jnp.asarray(scaling.columns(_window(trained, inputs), shift, scale))
    columns = [scaled]

    if scaling.covariate_shift:
        centred = inputs["covariates"] - jnp.asarray(scaling.covariate_shift)
        columns.append(centred / jnp.asarray(scaling.covariate_scale))

    # Nothing is missing in what the program is given.
    masks = jnp.zeros((*scaled.shape[:2], len(scaling.masks)), scaled.dtype)
    columns.append(masks)

    # Scaled in float64, then rounded: in float32 the change of a high price would lose its digits.
    return jnp.concatenate(columns, axis=2).astype(jnp.float32)


def _network(trained: Trained, x: Float[Array, "n t d"]) -> Outputs:
    """Compute the forecast, and the quantiles of a head that has them, in the model's scale and float64."""
    experiment = trained.experiment
    setup = trained.setup
    params = trained.state.params
    stats = trained.state.stats
    head = experiment.head

    if experiment.task == "iterated":
        steps = rollout.rollout(
            setup.model,
            rollout.Feedback(head, trained.scaling.transform.as_input),
            params,
            stats,
            x=x,
            horizon=experiment.horizon,
        ).astype(jnp.float64)
        if trained.scaling.transform.adds_up:
            steps = jnp.cumsum(steps, axis=-1)
        return {"forecast": steps}

    predictions = apply.apply(setup.model, params, stats, x)
    # Of a network that predicts at every step, the forecast is the last one.
    raw = setup.objective.at_end(predictions)
    raw = raw.reshape(x.shape[0], -1, head.width)
    outputs = {"forecast": head.centre(raw).astype(jnp.float64)}
    if head.quantiles is not None:
        outputs["quantiles"] = head.quantiles(raw).astype(jnp.float64)
    return outputs


def _interval_ends(
    fitted: Intervals,
    trained: Trained,
    forecast: Outputs,
    inputs: Inputs,
    scale: Float[Array, "_ 1"],
) -> dict[float, tuple[Float[Array, "n k"], Float[Array, "n k"]]]:
    """Return the ends of the intervals by their level, in the model's scale."""
    levels = trained.experiment.head.levels
    own = {level: _own_interval(forecast, level, levels) for level in fitted.levels}
    size = jnp.fmax(_row_sizes(fitted, trained.scaling, inputs, scale), fitted.least)
    return intervals.nested(own, intervals.nominal_margins(fitted), size[:, None])


def _own_interval(
    forecast: Outputs,
    level: float,
    levels: tuple[float, ...],
) -> tuple[Float[Array, "n k"], Float[Array, "n k"]]:
    """Return the interval between a distribution's own quantiles, or the point forecast as both ends."""
    if "quantiles" not in forecast:
        return forecast["forecast"], forecast["forecast"]
    low, high = intervals.tails(level, levels)
    return forecast["quantiles"][..., low], forecast["quantiles"][..., high]


def _row_sizes(fitted: Intervals, scaling: Scaling, inputs: Inputs, scale: Float[Array, "_ 1"]) -> Float[Array, "n"]:
    """Return the size of each row that its margins are multiplied by, at least NaN."""
    if fitted.size == "scaled" and fitted.series:
        return jnp.asarray(fitted.series)[inputs["series"]]
    return jnp.asarray(sizes.of_values(fitted.size, inputs["values"], scaling.transform, scale))


# The run's own forecast -----------------------------------------------------------------------------------------------


def _own(trained: Trained, inputs: Computed) -> Computed:
    """Return forecast and intervals of inputs by `Trained.forecast`."""
    parts = []
    # Row by row: each is the end of a series with its own past.
    for row in range(len(inputs["values"])):
        of_row = {name: array[row : row + 1] for name, array in inputs.items()}
        values = of_row["values"]
        series = Series(np.arange(values.shape[1]), values[0])
        all_series = (series,) * len(trained.scaling.scale)
        if not reads_history(trained.intervals):
            all_series = ()
        windows = _windows_of(trained, of_row)
        forecast, bounds = trained.forecast(windows, trained.scaling, series=all_series)
        outputs = {"forecast": forecast}
        for level, ends in bounds.items():
            outputs |= dict(zip(intervals.end_names(level), ends, strict=True))
        parts.append(outputs)

    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _windows_of(trained: Trained, inputs: Computed) -> Windows:
    """Return the inputs of a program as windows of unknown targets, at the end of the values."""
    window = trained.experiment.data.window
    rows, steps = inputs["values"].shape
    return lay_out(
        inputs["values"][:, -window:],
        np.full((rows, trained.experiment.horizon), np.nan),
        series=inputs.get("series", np.zeros(rows, int)),
        covariates=inputs.get("covariates", np.zeros((rows, window, 0))),
        origins=np.full(rows, steps),
    )


def example(scaling: Scaling, steps: int, window: int) -> Computed:
    """Return made-up inputs near the levels of the training, with so many values: a row for each of the first series."""
    transform = scaling.transform
    count = len(scaling.scale)
    rows = max(LEAST_ROWS, min(count, MOST_ROWS))
    series = np.arange(rows) % count
    inputs: Computed = {"values": np.zeros((rows, steps))}
    if scaling.covariate_shift:
        inputs["covariates"] = np.zeros((rows, window, len(scaling.covariate_shift)))
    if len(scaling.scale) > 1:
        inputs["series"] = series.astype(np.int32)

    shift = np.asarray(scaling.shift)[series, None]
    scale = np.asarray(scaling.scale)[series, None]
    random = np.random.default_rng(0)
    # One value after the other, because a change needs the value before it.
    value = shift + scale
    for step in range(steps):
        if transform.support == "counts":
            numbers = random.poisson(4, (rows, 1)).astype(np.float64)
        elif transform.support == "amounts":
            numbers = random.exponential(1, (rows, 1))
        else:
            numbers = random.uniform(-0.5, 1, (rows, 1))
        value = np.asarray(transform.invert(numbers, value, shift, scale))
        inputs["values"][:, step] = value[:, 0]
    return inputs


# The card -------------------------------------------------------------------------------------------------------------


def _title(run: RestoredRun) -> str:
    """Say what the model does."""
    experiment = of(run).experiment
    network = f"A {overrides.network_words(experiment)}"
    return f"{network} that forecasts {experiment.horizon} from {experiment.data.window} values."


def _interface(run: RestoredRun) -> list[str]:
    """Say what goes in and comes out, a line each."""
    trained = of(run)
    scaling = trained.scaling
    window = trained.experiment.data.window
    horizon = trained.experiment.horizon
    fitted = intervals_of(trained)
    lines = [f'- `values` "n {window}": windows in the unit of the series, float64']
    if reads_history(fitted):
        lines = [
            f'- `values` "n t", the last t values in the unit of the series, at least {window}, float64; the network reads '
            f"the last {window}, the intervals the volatility of all"
        ]
    if scaling.covariate_shift:
        lines.append(f'- `covariates` "n {window} {len(scaling.covariate_shift)}", float64')
    if len(scaling.scale) > 1:
        lines.append('- `series` "n": the number of each row\'s series in the training, int32')
    lines.append(f'- result `forecast` "n {horizon}", in the unit of the series, float64')
    if fitted is not None:
        for level in fitted.levels:
            low, high = intervals.end_names(level)
            lines.append(f'- result `{low}`, `{high}` "n {horizon}": the ends of the {level:.0%} interval')
    return lines


def _remarks(run: RestoredRun, folder: Path) -> list[str]:
    """Say what the intervals are, with their levels and the coverage that was measured on the test part."""
    trained = of(run)
    if intervals_of(trained) is None:
        return ["There are no intervals: this epoch was not judged."]
    fitted = trained.intervals
    if fitted is None:
        return [
            "The intervals lie between the distribution's own quantiles: this epoch was not judged, nor calibrated."
        ]
    if not fitted.levels:
        return ["There are no intervals: the validation part had too few rows for any level."]

    coverage = _coverage(folder, fitted.levels)
    lines = [f"| {level:.0%} | {coverage[level]:.1%} |" for level in fitted.levels if level in coverage]
    # Runs of older formats have not written it.
    if lines:
        lines = ["| interval | coverage of the test part |", "|---:|---:|", *lines, ""]
    remarks = {
        "split": "The intervals are conformal, of equal width for all rows.",
        "scaled": "The intervals are conformal, and grow with the last value or with the errors of the series.",
        "volatility": "The intervals are conformal, and grow with the volatility of the values.",
        "adaptive": "The intervals are adaptive conformal ones at their nominal levels: in the run they follow the values "
        "that have come since, which a file does not know, and the coverage is theirs.",
    }
    return [*lines, remarks[fitted.kind]]


def _coverage(folder: Path, levels: tuple[float, ...]) -> dict[float, float]:
    """Return the measured coverage of a judged run by level; empty for runs that were judged before it was written."""
    judged = run_seal.read_judged(folder)
    if judged is None:
        return {}
    run_seal.check_output(folder, judged, run_seal.SCORES)
    table = csv_tables.read(folder / run_seal.SCORES)
    # The model stands last, with all steps before the single ones.
    over_all_steps = table[table["step"] == "all"].iloc[-1]
    coverage = {}
    for level in levels:
        if f"coverage_{level:.0%}" in table:
            coverage[level] = float(over_all_steps[f"coverage_{level:.0%}"])
    return coverage


def _graph(run: RestoredRun, program: Program) -> ModelProto:
    """Return the ONNX graph of a forecaster."""
    # Imported here: onnx is an optional package.
    from jaxseq.export.graphs import forecasts as graph

    return graph.model_of(of(run), program)


KIND = Kind(
    program_of,
    _graph,
    title=_title,
    interface=_interface,
    remarks=_remarks,
    tag="time-series-forecasting",
    task="time-series-forecasting",
)
"""Forecasts: the whole way from values to forecasts, with the coverage of their intervals."""
