"""Initialisers of a user's choice in the place of a cell's own."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from jaxseq.cells.base import Cell
from jaxseq.common.arrays import DType, Key, Tree
from jaxseq.common.errors import UsageError

SINGLE = 32
"""Bits of the narrowest numbers that weights are drawn in; narrower ones are rounded."""


class Initialisers(NamedTuple):
    """An initialiser for each kind of parameter; None leaves the cell's own."""

    kernel: Initializer | None = None
    recurrent: Initializer | None = None
    bias: Initializer | None = None


def cell_params(
    cell: Cell,
    key: Key,
    features: int,
    hidden: int,
    dtype: DType,
    initialisers: Initialisers,
) -> Tree:
    """Draw the parameters of a cell, each gate separately, and round them to `dtype`.

    Raises `UsageError` for an initialiser of a parameter that the cell does not have.
    """
    # An orthogonal matrix of 16 bits cannot be drawn, and rounding one is what is meant.
    drawn_dtype = dtype
    if jnp.finfo(dtype).bits < SINGLE:
        drawn_dtype = jnp.float32
    params = cell.init(key, features, hidden, drawn_dtype)

    fields = {
        "input_kernel": initialisers.kernel,
        "recurrent_kernel": initialisers.recurrent,
        "bias": initialisers.bias,
    }
    # A GRU's second bias is one, too.
    if hasattr(params, "recurrent_bias"):
        fields["recurrent_bias"] = initialisers.bias
    for number, (field, initialiser) in enumerate(fields.items()):
        if initialiser is not None:
            drawn = _draw(cell, params, jax.random.fold_in(key, number), field, initialiser)
            params = params._replace(**{field: drawn})
    # Weights that have the dtype already stay the arrays that they are.
    return jax.tree.map(lambda leaf: leaf.astype(dtype), params)


def _draw(
    cell: Cell,
    params: Tree,
    key: Key,
    field: str,
    initialiser: Initializer,
) -> Float[Array, "*d g"]:
    """Draw one parameter, a block for each gate."""
    if not hasattr(params, field):
        raise UsageError(
            "the cell has no parameter for this initialiser",
            where=f"cell {cell.name}: {field}",
            got=", ".join(getattr(params, "_fields", ())),
            needed="None",
        )
    gates = jnp.split(getattr(params, field), cell.gate_count, axis=-1)
    keys = jax.random.split(key, cell.gate_count)
    # All gates at once would give each the fan-out of all.
    parts = [initialiser(gate_key, gate.shape, gate.dtype) for gate_key, gate in zip(keys, gates, strict=True)]
    return jnp.concatenate(parts, axis=-1)
