"""Shapes and dtypes that layers, heads and forecasters promise. Nothing is computed: they are traced.

Every pair of values of a layer's parameters is tried on each change; the full product is `slow`.
"""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pairwise import grid
from problems import GATED

from jaxseq.cells import CELLS
from jaxseq.cells.norm import NORMS, Norm
from jaxseq.nn import apply, heads, objectives
from jaxseq.nn.forecaster import Forecaster
from jaxseq.nn.recurrent import STATS, Bidirectional, Recurrent

B, T, D, H, HORIZON = 3, 5, 2, 4, 6
X = jax.ShapeDtypeStruct((B, T, D), jnp.float32)
KEY = jax.eval_shape(lambda: jax.random.key(0))
LENGTHS = np.asarray([5, 0, 2])

OPTIONS = {
    "plain": {},
    **{name: {"norm": Norm(name)} for name in NORMS},
    "dropout and learnt start": {"recurrent_dropout": 0.5, "learn_start": True},
    "reverse and truncated": {"reverse": True, "truncate": 2},
}
DIRECTIONS = {"one way": False, "both ways": True}
ROWS = {"padded": LENGTHS, "whole": None}
every_cell = pytest.mark.parametrize("cell", GATED.values(), ids=list(GATED))
HEADS = [*(heads.point(loss) for loss in heads.LOSSES), *heads.HEADS.values()]
every_head = pytest.mark.parametrize("head", HEADS, ids=lambda head: head.loss.__name__)


def train_layer(layer, lengths):
    """Shapes of a layer's variables, results, new moments and gradient in a training step."""

    lengths = None if lengths is None else jnp.asarray(lengths)

    def call(variables, key, x):
        (carry, outputs), changed = layer.apply(
            variables, x, lengths=lengths, train=True, mutable=[STATS], rngs={"dropout": key}
        )
        return carry, outputs, changed

    def loss(params, variables, key, x):
        return jnp.sum(call({**variables, "params": params}, key, x)[1])

    variables = jax.eval_shape(layer.init, KEY, X)
    results = jax.eval_shape(call, variables, KEY, X)
    gradient = jax.eval_shape(jax.grad(loss), variables["params"], variables, KEY, X)
    return variables, results, gradient


@grid(cell=GATED, options=OPTIONS, both=DIRECTIONS, lengths=ROWS)
def test_a_layer_keeps_the_shapes_it_promises(cell, options, both, lengths):
    """Two directions put their units side by side."""
    layer, units = Recurrent(cell, H, **options), H
    if both:
        layer, units = Bidirectional(layer), 2 * H
    variables, (carry, outputs, changed), gradient = train_layer(layer, lengths)

    chex.assert_shape(outputs, (B, T, units))
    chex.assert_type(outputs, X.dtype)
    chex.assert_trees_all_equal_shapes_and_dtypes(carry, cell.start((B, units), X.dtype))
    chex.assert_trees_all_equal_shapes_and_dtypes(gradient, variables["params"])
    chex.assert_trees_all_equal_shapes_and_dtypes({**variables, **changed}, variables)


def train_forecaster(model):
    """Shapes of parameters, statistics, predictions, new statistics and gradient in a training step."""
    rows = jax.ShapeDtypeStruct((B,), X.dtype)

    def call(params, stats, x, rows, key):
        return apply.apply_train(model, params, stats, x, rows, key)

    def loss(params, stats, x, rows, key):
        return jnp.sum(call(params, stats, x, rows, key)[0])

    params, stats = jax.eval_shape(lambda key, x: apply.init(model, key, x), KEY, X)
    predictions, changed = jax.eval_shape(call, params, stats, X, rows, KEY)
    gradient = jax.eval_shape(jax.grad(loss), params, stats, X, rows, KEY)
    return params, stats, predictions, changed, gradient


FORECASTERS = {
    "one step": ({"outputs": 1}, (B, 1)),
    "several steps": ({"outputs": HORIZON}, (B, HORIZON)),
    "after every step": ({"outputs": HORIZON, "every_step": True}, (B, T, HORIZON)),
    "layer norm": ({"outputs": 1, "norm": Norm("layer")}, (B, 1)),
    "batch norm": (
        {"outputs": HORIZON, "every_step": True, "norm": Norm("batch"), "norm_between": Norm("batch-between")},
        (B, T, HORIZON),
    ),
    "dropout": ({"outputs": 1, "dropout": 0.5, "recurrent_dropout": 0.5}, (B, 1)),
    "bidirectional": ({"outputs": HORIZON, "bidirectional": True}, (B, HORIZON)),
    "bidirectional, after every step": ({"outputs": 1, "bidirectional": True, "every_step": True}, (B, T, 1)),
}
CELLS_OF_FORECASTERS = [
    pytest.param(
        cell,
        options,
        shape,
        id=f"{name}-{cell_name}",
        # Each forecaster with one of the cells, in turn; the other pairs are slow.
        marks=() if (row - column) % len(GATED) == 0 else pytest.mark.slow,
    )
    for row, (name, (options, shape)) in enumerate(FORECASTERS.items())
    for column, (cell_name, cell) in enumerate(GATED.items())
]


@pytest.mark.parametrize(("cell", "options", "shape"), CELLS_OF_FORECASTERS)
def test_a_forecaster_predicts_a_horizon_once_or_after_every_step(cell, options, shape):
    params, stats, predictions, changed, gradient = train_forecaster(Forecaster(cell, H, layers=2, **options))

    chex.assert_shape(predictions, shape)
    chex.assert_type(predictions, X.dtype)
    chex.assert_trees_all_equal_shapes_and_dtypes(gradient, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(changed, stats)


@every_cell
def test_a_forecast_resumes_from_the_carries_that_it_returned(cell):
    model = Forecaster(cell, H, layers=2, outputs=HORIZON)

    def resumed(key, x):
        params, stats = apply.init(model, key, x)
        carries, _ = apply.resume(model, params, stats, x, None, 0)
        return carries, apply.resume(model, params, stats, x, carries, T)

    carries, (later_carries, predictions) = jax.eval_shape(resumed, KEY, X)
    chex.assert_shape(predictions, (B, HORIZON))
    chex.assert_trees_all_equal_shapes_and_dtypes(carries, (cell.start((B, H), X.dtype),) * 2)
    chex.assert_trees_all_equal_shapes_and_dtypes(later_carries, carries)


def test_a_bidirectional_forecaster_does_not_resume():
    model = Forecaster(CELLS["gru"], H, layers=1, outputs=1, bidirectional=True)
    carries = (CELLS["gru"].start((B, 2 * H)),)
    with pytest.raises(ValueError, match="carries were given to a bidirectional forecaster"):
        jax.eval_shape(lambda key, x: model.init(key, x, carries=carries), KEY, X)


@every_head
@pytest.mark.parametrize("leading", [(B, 1), (B, HORIZON), (B, T, HORIZON)], ids=str)
def test_a_head_has_a_number_for_each_step_and_a_quantile_for_each_level(head, leading):
    raw = jax.ShapeDtypeStruct((*leading, head.width), jnp.float32)
    y = jax.ShapeDtypeStruct(leading, jnp.float32)

    chex.assert_equal_shape([jax.eval_shape(head.loss, raw, y), jax.eval_shape(head.centre, raw), y])
    gradient = jax.eval_shape(jax.grad(lambda raw, y: jnp.sum(head.loss(raw, y))), raw, y)
    chex.assert_trees_all_equal_shapes_and_dtypes(gradient, raw)

    if head.quantiles is not None:
        chex.assert_shape(jax.eval_shape(head.quantiles, raw), (*leading, len(heads.LEVELS)))
    if head.draw is not None:
        chex.assert_trees_all_equal_shapes_and_dtypes(jax.eval_shape(head.draw, raw, KEY), y)


@every_head
@pytest.mark.parametrize("every_step", [False, True], ids=["once", "every step"])
def test_an_objective_has_a_number_for_each_row(head, every_step):
    objective = objectives.forecasting(head, every_step)
    leading = (B, T) if every_step else (B,)
    raw = jax.ShapeDtypeStruct((*leading, HORIZON * head.width), jnp.float32)
    y = jax.ShapeDtypeStruct((*leading, HORIZON), jnp.float32)

    chex.assert_shape(jax.eval_shape(objective.loss, raw, y), (B,))
    raw_end, y_end = (jax.eval_shape(objective.at_end, values) for values in (raw, y))
    chex.assert_shape([raw_end, y_end], [(B, HORIZON * head.width), (B, HORIZON)])
    for _, metric in objective.metrics:
        chex.assert_shape(jax.eval_shape(metric, raw_end, y_end), (B,))


@pytest.mark.parametrize("shape", [(T, D), (B, T, D, 1)])
def test_inputs_without_rows_steps_and_features_are_refused(shape, unannotated):
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    for layer in (Recurrent(CELLS["rnn"], H), Forecaster(CELLS["rnn"], H, 1, 1)):
        with pytest.raises(ValueError, match=r"x has the shape .*; expected \(rows, steps, features\)"):
            jax.eval_shape(partial(apply.init, layer), KEY, x)


def test_weights_of_other_rows_are_refused(unannotated):
    model = Forecaster(CELLS["rnn"], H, layers=1, outputs=1)

    def step(key, x):
        params, stats = apply.init(model, key, x)
        return apply.apply_train(model, params, stats, x, jnp.ones(B + 1), key)

    with pytest.raises(AssertionError, match="shape"):
        jax.eval_shape(step, KEY, X)
