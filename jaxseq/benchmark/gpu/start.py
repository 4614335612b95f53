"""Weights and data of a row, the same for all its peers."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from jaxseq.benchmark.gpu.loads import Load
from jaxseq.cells import CELLS
from jaxseq.cells import norm as norms
from jaxseq.cells.norm import Norm
from jaxseq.common.arrays import Tree


class Start(NamedTuple):
    """Weights and data of a row.

    params       of the cell
    gains        of its norm; None for the plain cell
    head_kernel  of the dense head of a training step
    x            inputs of every repetition of a call
    y            targets of a training step
    cotangent    of the outputs, for the passes of the layer alone
    """

    params: Tree
    gains: Tree
    head_kernel: Float[np.ndarray, "h 1"]
    head_bias: Float[np.ndarray, "1"]
    x: Float[np.ndarray, "n t b d"]
    y: Float[np.ndarray, "n b 1"]
    cotangent: Float[np.ndarray, "t b h"]


def norm_of(load: Load) -> Norm | None:
    """Return the norm of a row, None for the plain cell."""
    if not load.norm:
        return None
    return Norm(load.norm)


def draw(load: Load) -> Start:
    """Draw weights by our initialisers, and normal inputs, targets and cotangents; all arrays are numpy's."""
    cell = CELLS[load.cell]
    norm = norm_of(load)
    hidden = load.hidden
    generator = np.random.default_rng(0)

    def normal(*shape: int) -> Float[np.ndarray, "..."]:
        return generator.standard_normal(shape, np.float32)

    # Compiling the initialisers for a GPU takes seconds of every row.
    with jax.default_device(jax.devices("cpu")[0]):
        init = jax.jit(cell.init, static_argnums=(1, 2))
        params = init(jax.random.key(0), load.features, hidden)
        gains = None
        if norm is not None:
            # The LSTM's norm has a gain for c, too.
            has_memory = len(cell.start((1, 1))) > 1
            gains = norms.init(norm, cell.gate_count, has_memory, hidden)
    return Start(
        params=jax.tree.map(np.array, params),
        gains=jax.tree.map(np.array, gains),
        # Scaled, so that a prediction is about as large at every width.
        head_kernel=normal(hidden, 1) / np.float32(hidden**0.5),
        head_bias=np.zeros(1, np.float32),
        x=normal(load.steps, load.time_steps, load.batch, load.features),
        y=normal(load.steps, load.batch, 1),
        cotangent=normal(load.time_steps, load.batch, hidden),
    )
