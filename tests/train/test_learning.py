"""What can be learnt is learnt: on sums of sines each cell beats least squares on the lags, with epochs to spare.

On each change the default cell alone; the others are `slow`.
"""

import functools

import jax
import numpy as np
import pytest

from jaxseq.cells import CELLS
from jaxseq.data.laid_out import batch
from jaxseq.data.waves import Waves
from jaxseq.forecasting.least_squares import least_squares
from jaxseq.train import epoch, minibatch
from jaxseq.train.experiments import forecasts, named


@functools.cache
def waves():
    windows, scaling, _ = Waves().load(1)
    train, valid, _ = (batch(part, scaling) for part in windows)
    linear = least_squares(train.x, train.y)
    return train, valid, float(np.mean((linear.predict(valid.x) - valid.y) ** 2))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "gru" else [pytest.mark.slow]) for name in CELLS]
)
def test_every_cell_beats_least_squares_on_waves(name):
    train, valid, linear = waves()
    recipe = named("waves", model=forecasts.Model(cell=name), epochs=8, batch=64)
    steps = minibatch.steps_per_epoch(len(train.x), recipe.batch)
    optimiser = recipe.build_optimiser(steps)
    setup = epoch.Setup(recipe.build(), recipe.objective(), optimiser.transformation)
    state = epoch.init(setup, jax.random.key(0), jax.numpy.asarray(train.x[:1]), numbers=optimiser.numbers)
    *_, last = epoch.epochs(setup, state, train, valid, recipe.batch, range(1, recipe.epochs + 1))
    print(name, last.valid["mse"], linear)
    assert last.valid["mse"] < linear
