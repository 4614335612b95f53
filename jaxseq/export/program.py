"""A trained forecaster as one pure function from values to forecasts, scaling and its inverse inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxseq.common.errors import UsageError
from jaxseq.data.scaling import Scaling
from jaxseq.forecasting import rollout
from jaxseq.nn import apply
from jaxseq.train.forecaster import Trained

Inputs: TypeAlias = dict[str, Array]
"""Arrays by name: `values` "n t" in the series' unit, `covariates` "n t c" where the model was trained with some, and
`series` "n", the number of each row's series, where there are several."""
Outputs: TypeAlias = dict[str, Array]
"""`forecast` "n k" in the series' unit, and `quantiles` "n k q" where the head has them."""


class Program(NamedTuple):
    """A function from `Inputs` to `Outputs`, with the shapes of its inputs but for the rows."""

    function: Callable[[Inputs], Outputs]
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, np.dtype]


def program_of(trained: Trained) -> Program:
    """Return the forecast of a run as a program in float64 around a network in float32, as the command computes it.

    Values that are missing cannot be given: a mask that the network was trained with is zero. The run's intervals follow
    the errors of the past, and are no part of the program.
    """
    scaling = trained.scaling
    transform = scaling.transform
    shapes: dict[str, tuple[int, ...]] = {"values": (trained.experiment.data.window,)}
    dtypes: dict[str, np.dtype] = {"values": np.dtype(np.float64)}
    # The run's data decide which inputs there are.
    if scaling.covariate_shift:
        shapes["covariates"] = (trained.experiment.data.window, len(scaling.covariate_shift))
        dtypes["covariates"] = np.dtype(np.float64)
    if len(scaling.scale) > 1:
        shapes["series"] = ()
        dtypes["series"] = np.dtype(np.int32)

    def function(inputs: Inputs) -> Outputs:
        values = inputs["values"]
        shift = _of_each_row(scaling.shift, inputs)
        scale = _of_each_row(scaling.scale, inputs)
        # The window's first value has none before it: its change is 0.
        previous = jnp.concatenate([values[:, :1], values[:, :-1]], axis=1)
        scaled = transform.inputs(values, previous, shift, scale)
        columns = [scaled[..., None]]

        if scaling.covariate_shift:
            centred = inputs["covariates"] - jnp.asarray(scaling.covariate_shift)
            columns.append(centred / jnp.asarray(scaling.covariate_scale))

        # Nothing is missing in what the program is given.
        masks = jnp.zeros((*scaled.shape, len(scaling.masks)), scaled.dtype)
        columns.append(masks)

        # Scaled in float64, then rounded: in float32 the change of a high price would lose its digits.
        steps = jnp.concatenate(columns, axis=2).astype(jnp.float32)

        outputs = {}
        for name, raw in _network(trained, steps).items():
            numbers = raw.astype(jnp.float64)
            # Quantiles have an axis more than the forecast.
            axes = (..., *[None] * (numbers.ndim - 2))
            unscaled = transform.invert(numbers, values[:, -1:][axes], shift[axes], scale[axes])
            outputs[name] = jnp.asarray(unscaled)
        return outputs

    return Program(function, shapes, dtypes)


def check_exportable(trained: Trained) -> None:
    """Raise `UsageError` for a forecast that is no function of its window alone."""
    experiment = trained.experiment
    if experiment.task == "iterated" and experiment.head.quantiles is not None:
        raise UsageError(
            "quantiles of an iterated forecast are those of sample paths, which are no function",
            where="--task",
            got="iterated",
            needed="--task direct, or a point head",
        )


def _of_each_row(numbers: tuple[float, ...], inputs: Inputs) -> Float[Array, "n 1"]:
    """Return the number of each row's series, or "1 1" if there is one series."""
    column = jnp.asarray(numbers)[:, None]
    if len(numbers) == 1:
        return column
    series: Int[Array, "n"] = inputs["series"]
    return column[series]


def _network(trained: Trained, x: Float[Array, "n t d"]) -> Outputs:
    """Compute the forecast, and the quantiles of a head that has them, in the model's scale."""
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
        )
        if trained.scaling.transform.adds_up:
            steps = jnp.cumsum(steps, axis=-1)
        return {"forecast": steps}

    predictions = apply.apply(setup.model, params, stats, x)
    # Of a network that predicts at every step, the forecast is the last one.
    raw = setup.objective.at_end(predictions)
    raw = raw.reshape(x.shape[0], -1, head.width)
    outputs = {"forecast": head.centre(raw)}
    if head.quantiles is not None:
        outputs["quantiles"] = head.quantiles(raw)
    return outputs


def example(program: Program, scaling: Scaling, rows: int = 3) -> dict[str, np.ndarray]:
    """Return made-up inputs near the level of the training, by which an export is checked."""
    transform = scaling.transform
    inputs: dict[str, np.ndarray] = {}
    for name, shape in program.shapes.items():
        inputs[name] = np.zeros((rows, *shape), program.dtypes[name])

    shift = np.full((rows, 1), scaling.shift[0])
    scale = np.full((rows, 1), scaling.scale[0])
    random = np.random.default_rng(0)
    # One value after the other, because a change needs the value before it.
    value = shift + scale
    for step in range(inputs["values"].shape[1]):
        if transform.support == "counts":
            numbers = random.poisson(4, (rows, 1)).astype(np.float64)
        else:
            numbers = random.uniform(-0.5, 1, (rows, 1))
        value = np.asarray(transform.invert(numbers, value, shift, scale))
        inputs["values"][:, step] = value[:, 0]
    return inputs


def computed(program: Program, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the outputs of a program for inputs."""
    # The scaling is in float64, which JAX leaves out by default.
    with jax.enable_x64(True):  # noqa: FBT003
        arrays = {name: jnp.asarray(value) for name, value in inputs.items()}
        outputs = jax.jit(program.function)(arrays)
    return {name: np.asarray(value) for name, value in outputs.items()}
