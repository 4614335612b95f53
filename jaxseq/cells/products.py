"""Matrix products of the recurrence, each in the form that `jaxseq.cells.strategy` chooses."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq.cells import norm as norms
from jaxseq.cells import strategy
from jaxseq.cells.base import Carry, Cell
from jaxseq.cells.strategy import Product, Projection
from jaxseq.common.arrays import Tree


class Deltas(NamedTuple):
    """Cotangents of z_t, of u_t and of the product h_{t-1} R, of one step or of all."""

    z: Float[Array, "*t b g"]
    u: Float[Array, "*t b g"]
    product: Float[Array, "*t b g"]


class StoredDeltas(NamedTuple):
    """`Deltas` of which each array is stored once: `u` is None where it is `z`, and `product` where it is `u`."""

    z: Float[Array, "*t b g"]
    u: Float[Array, "*t b g"] | None
    product: Float[Array, "*t b g"] | None


def share(deltas: Deltas) -> StoredDeltas:
    """Leave out arrays that are the same object as another."""
    return StoredDeltas(
        z=deltas.z,
        u=None if deltas.u is deltas.z else deltas.u,
        product=None if deltas.product is deltas.u else deltas.product,
    )


def unshare(deltas: StoredDeltas) -> Deltas:
    """Undo `share`."""
    u = deltas.z if deltas.u is None else deltas.u
    product = u if deltas.product is None else deltas.product
    return Deltas(deltas.z, u, product)


def project_input(cell: Cell, params: Tree, x: Float[Array, "*t b d"]) -> Tree:
    """Compute the input projection of any number of steps: the cell's own, or x W + b."""
    if cell.project is not None:
        return cell.project(params, x)
    return project(params, x)


def project(params: Tree, x: Float[Array, "*t b d"]) -> Float[Array, "*t b g"]:
    """Compute x W + b."""
    kernel = params.input_kernel
    match strategy.projection(kernel, x.shape[-1]):
        case Projection.GIVEN:
            return x
        case Projection.IN_LOOP:
            features = jnp.split(x, x.shape[-1], axis=-1)
            return sum((feature * row for feature, row in zip(features, kernel, strict=True)), params.bias)
        case Projection.AT_ONCE:
            return x @ kernel + params.bias


def project_at_once(
    cell: Cell,
    params: Tree,
    x: Float[Array, "t b d"],
) -> list[Float[Array, "t b _"]]:
    """Compute x W of all time steps, an array for each group of gates.

    The arrays that a cell saves of a group have the shape of its projection, so that they can be written over it.
    """
    # Layer norm of the projection has been computed before: x is z.
    if params.input_kernel is None:
        return [x]
    return [x @ kernel for kernel in norms.split_groups(params.input_kernel, cell.groups)]


def assemble(params: Tree, parts: list[Float[Array, "b _"]]) -> Float[Array, "b g"]:
    """Put one step of `project_at_once` together, and add the bias."""
    z = parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)
    if params.input_kernel is None:
        return z
    # Added here, in the loop, the bias costs no array of all time steps.
    return z + params.bias


def recurrent(
    params: Tree,
    drop: Float[Array, "b h"] | None,
    carry: Carry,
) -> Float[Array, "b _"]:
    """Compute h R after recurrent dropout; "b g", or wider if the kernel has padded columns."""
    return apply_drop(drop, carry.h) @ params.recurrent_kernel


def apply_drop(drop: Float[Array, "... h"] | None, h: Float[Array, "*b h"]) -> Float[Array, "*b h"]:
    """Multiply h, of any number of steps and rows, by the mask of recurrent dropout, if there is one."""
    return h if drop is None else h * drop


def weight_gradients(
    cell: Cell,
    params: Tree,
    x: Float[Array, "*t b _"],
    recurrent_input: Float[Array, "*t b h"],
    deltas: Deltas,
) -> Tree:
    """Compute the gradient of the parameters from one step or from all of them.

    `recurrent_input` is h_{t-1} after recurrent dropout. Parts of the parameters that are None have none.
    """
    # Rows of one step, or of all steps.
    rows = tuple(range(deltas.z.ndim - 1))
    gradient = params
    if params.input_kernel is not None:
        gradient = gradient._replace(input_kernel=over_rows(x, deltas.z))
    gradient = gradient._replace(recurrent_kernel=over_rows(recurrent_input, deltas.product))
    if params.bias is not None:
        gradient = gradient._replace(bias=deltas.z.sum(rows))
    if cell.recurrent_bias:
        gradient = gradient._replace(recurrent_bias=deltas.u.sum(rows))
    return gradient


def input_gradient(params: Tree, z_grad: Float[Array, "*t b g"]) -> Float[Array, "*t b _"]:
    """Compute the cotangent of x from that of z."""
    if params.input_kernel is None:
        return z_grad
    return z_grad @ params.input_kernel.T


def pad_columns(right: Float[Array, "*t r g"]) -> Float[Array, "*t r _"]:
    """Lay out the right side of a product, with columns of zeros up to whole vector registers."""
    fill = strategy.padded_columns(right.shape[-1])
    padding = [(0, 0)] * (right.ndim - 1) + [(0, fill)]
    # The barrier keeps the layout out of the loop, where XLA would make it again at each step.
    return strategy.materialise(jnp.pad(right, padding))


def over_rows(x: Float[Array, "*t b d"], delta: Float[Array, "*t b g"]) -> Float[Array, "d g"]:
    """Compute the sum of x ⊗ delta over the batch, and over time where there is a time axis."""
    features = x.shape[-1]
    columns = delta.shape[-1]
    chosen = strategy.product(features, time_axis=delta.ndim > 2)

    if chosen is Product.SUMS:
        rows = tuple(range(delta.ndim - 1))
        return jnp.stack([(feature * delta).sum(rows) for feature in jnp.split(x, features, axis=-1)])

    # There is no time axis inside the loop.
    if chosen is Product.ROWS:
        return x.T @ delta

    if strategy.padded_columns(columns):
        delta = pad_columns(delta)
    # The zero columns are cut off again at the end.
    if chosen is Product.MERGED:
        gradient = x.reshape(-1, features).T @ delta.reshape(-1, delta.shape[-1])
    else:
        left = jax.lax.optimization_barrier(jnp.moveaxis(x, -1, 0))
        gradient = jax.lax.dot_general(left, delta, (((1, 2), (0, 1)), ((), ())))
    return gradient[:, :columns]
