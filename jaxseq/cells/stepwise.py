"""The scan of a cell that computes its whole step itself, with autodiff's derivative."""

from __future__ import annotations

from typing import Any

import jax
from jaxtyping import Array, Float, PyTree

from jaxseq.cells import products
from jaxseq.cells.adjoint import Layer, Result, Sequence, Trainable, hold, in_its_precision, restarted, steps_of
from jaxseq.cells.base import Carry


@in_its_precision
def scan(
    layer: Layer,
    trainable: Trainable,
    sequence: Sequence,
) -> Result:
    """Scan as `adjoint.plain` does, by the cell's `step`."""
    params = trainable.params
    step = layer.cell.step
    assert step is not None
    x, start, valid, drop, anew = sequence

    # The input does not depend on the state: one product of all steps beats one in each.
    z = products.project_input(layer.cell, params, x)

    def body(carry: Carry, inputs: Any) -> tuple[Carry, PyTree[Float[Array, "b _"]]]:
        z_t, valid_t, restart_t = inputs
        carry = restarted(restart_t, anew, carry)
        # Dropout is the layer's, so that a cell needs no word about it.
        h = products.apply_drop(drop, carry.h)
        return hold(valid_t, step(params, z_t, h, carry), carry, layer.every_state)

    return jax.lax.scan(body, start, (z, valid, steps_of(anew)))
