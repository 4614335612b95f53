"""Our trainer: `epoch.epoch` with its random order, norms of the gradient and weights of rows, as the package trains."""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Array, Float

from jaxseq.benchmark.gpu.loads import Load
from jaxseq.benchmark.gpu.programs import ADAM, Lowered, zeros
from jaxseq.benchmark.gpu.start import Start, norm_of
from jaxseq.cells import CELLS
from jaxseq.common.arrays import Batch, Tree
from jaxseq.nn import fields, forecaster, heads
from jaxseq.nn.objectives import forecasting
from jaxseq.train import epoch
from jaxseq.train.epoch import TrainState


def trace(load: Load, start: Start) -> Lowered:
    """Trace an epoch of as many batches as a call has repetitions; the kernel is the package's own choice."""
    model = forecaster.Forecaster(
        CELLS[load.cell],
        load.hidden,
        layers=1,
        outputs=1,
        norm=norm_of(load),
    )
    setup = epoch.Setup(
        model,
        forecasting(heads.point()),
        ADAM,
        precision=load.precision,
    )
    data = _rows(load, start)
    state = _first_state(setup, load, start, data)

    def program(
        state: TrainState,
        data: Batch,
    ) -> tuple[TrainState, Float[Array, "n"]]:
        state, log = epoch.epoch(setup, state, data, load.batch)
        return state, log.loss

    state, data = jax.device_put((state, data))
    lowered = jax.jit(program, donate_argnums=0).lower(state, data)
    # Its batches are other rows than those of the peers.
    return Lowered(lowered, state, data, comparable=False)


def _rows(load: Load, start: Start) -> Batch:
    """Return inputs and targets as the trainer takes them, rows first."""
    row_count = load.steps * load.batch
    # A call has the same rows as that of the peers, which take time first.
    x = np.swapaxes(start.x, 1, 2)
    return Batch(
        np.ascontiguousarray(x).reshape(row_count, load.time_steps, load.features),
        start.y.reshape(row_count, 1),
    )


def _first_state(
    setup: epoch.Setup,
    load: Load,
    start: Start,
    data: Batch,
) -> TrainState:
    """Return the state with the weights of the row; the model's own would be drawn by a program to be compiled."""
    key = jax.random.key(1)
    shapes = jax.eval_shape(
        lambda key, x: epoch.init(setup, key, x),
        key,
        data.x[:1],
    )
    layer: dict[str, Tree] = {"cell": fields.nested(start.params)}
    if load.norm:
        layer["norm"] = fields.nested(start.gains)
    return TrainState(
        step=zeros(shapes.step),
        params={
            "recurrent_0": layer,
            "head": {"kernel": start.head_kernel, "bias": start.head_bias},
        },
        stats=shapes.stats,
        opt=zeros(shapes.opt),
        key=key,
    )
