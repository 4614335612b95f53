"""Our trainer: `epoch.epoch` with its random order, norms of the gradient and weights of rows, as the package trains."""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Array

from jaxseq.benchmark.gpu.loads import Load
from jaxseq.benchmark.gpu.programs import ADAM, Lowered, zeros
from jaxseq.benchmark.gpu.start import Start, norm_of
from jaxseq.cells import CELLS
from jaxseq.common.arrays import Batch, Tree
from jaxseq.nn import forecaster, heads
from jaxseq.nn.objectives import forecasting
from jaxseq.train import epoch


def trace(load: Load, start: Start) -> Lowered:
    """Trace an epoch of as many batches as a call has repetitions; the kernel is the package's own choice."""
    model = forecaster.Forecaster(CELLS[load.cell], load.hidden, 1, 1, norm=norm_of(load))
    setup = epoch.Setup(model, forecasting(heads.point()), ADAM, precision=load.precision)
    rows = load.steps * load.batch
    x = np.ascontiguousarray(np.swapaxes(start.x, 1, 2)).reshape(rows, load.time_steps, load.features)
    y = start.y.reshape(rows, 1)

    # Our weights in the place of the model's own, which would be drawn by a compiled program.
    shapes = jax.eval_shape(lambda key, x: epoch.init(setup, key, x), jax.random.key(0), x[:1])
    layer = {"cell": start.params}
    if load.norm:
        layer["norm"] = start.gains
    params = {"recurrent_0": layer, "head": {"kernel": start.head_kernel, "bias": start.head_bias}}
    state = shapes._replace(
        step=np.zeros((), np.int32),
        params=params,
        opt=zeros(shapes.opt),
        key=jax.random.key(1),
    )
    state, data = jax.device_put((state, Batch(x, y)))

    def program(state: epoch.TrainState, data: Batch) -> tuple[Tree, Array]:
        state, log = epoch.epoch(setup, state, data, load.batch)
        return state, log.loss

    lowered = jax.jit(program, donate_argnums=0).lower(state, data)
    return Lowered(lowered, state, data, comparable=False)
