"""Arrays that are spread over devices, by `jax.shard_map` or on a mesh with Explicit axes.

Both write into the type of an array where its values are, and a scan asks of what it carries that its type stays the same.
So the arrays of a recurrence are brought to one type before the scan, once:

    jax.shard_map  every array varies over each mesh axis over which one of them does. An array that did not, such as a
                   parameter, has its gradient summed over these devices, once and after the scan
    Explicit axes  the recurrence runs with these axes Auto, where XLA divides it; its results are sharded by the rows of x

On one device, and on a mesh with Auto axes, nothing is added to a program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PyTree, Shaped

from jaxseq.common.arrays import Tree

Axes: TypeAlias = tuple[str, ...]
"""Names of axes of a mesh."""

Results: TypeAlias = tuple[Any, PyTree[Float[Array, "_ _ _"]], Tree]
"""A carry, outputs, and arrays that all rows share."""


def varying_axes(tree: Tree) -> Axes:
    """Return the mesh axes of `jax.shard_map` over which the values of any array vary; none without its check of types."""
    axes: set[str] = set()
    for array in jax.tree.leaves(tree):
        axes |= jax.typeof(array).manual_axis_type.varying
    # In one order, for programs must not differ between processes.
    return tuple(sorted(axes))


def axes_of_rows(rows: Tree, weights: Tree) -> Axes:
    """Return the mesh axes over which rows are divided: they vary there, and the weights that they share do not."""
    shared = varying_axes(weights)
    return tuple(axis for axis in varying_axes(rows) if axis not in shared)


def sum_over(axes: Axes, values: Tree) -> Tree:
    """Sum over the devices of the axes."""
    # Without axes the program of one device stays as it is.
    return jax.lax.psum(values, axes) if axes else values


def mean_over(axes: Axes, values: Tree) -> Tree:
    """Take the mean over the devices of the axes."""
    return jax.lax.pmean(values, axes) if axes else values


def vary_alike(tree: Tree, others: Tree = ()) -> Tree:
    """Let every array of a tree vary over the axes over which any does, of this tree or of others."""
    axes = varying_axes((tree, others))

    def cast(array: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
        own = varying_axes(array)
        missing = tuple(axis for axis in axes if axis not in own)
        return jax.lax.pcast(array, missing, to="varying") if missing else array

    return jax.tree.map(cast, tree)


def zeros_for_rows(array: Shaped[Array, "..."], rows: int) -> Shaped[Array, "b ..."]:
    """Create zeros with a leading axis of rows, which vary as the array does."""
    return jnp.zeros_like(array, shape=(rows, *array.shape))


def by_rows(
    function: Callable[..., Results],
    x: Float[Array, "t b d"],
    *operands: Tree,
) -> Results:
    """Call ``function(x, *operands)`` with Explicit axes made Auto.

    Every array that the function reads has to be an operand.
    """
    mesh = _explicit_mesh((x, operands))
    if mesh is None:
        return function(x, *operands)

    rows = jax.typeof(x).sharding.spec[1]
    last_of_rows = NamedSharding(mesh, PartitionSpec(rows))
    outputs_of_rows = NamedSharding(mesh, PartitionSpec(None, rows))
    shared = NamedSharding(mesh, PartitionSpec())
    with_auto_axes = jax.sharding.auto_axes(
        function,
        axes=mesh.explicit_axes,
        out_sharding=(last_of_rows, outputs_of_rows, shared),
    )
    return with_auto_axes(x, *operands)  # pyrefly: ignore[bad-return]


def _explicit_mesh(tree: Tree) -> AbstractMesh | None:
    """Return the mesh that is set, or else that of an array, if it has Explicit axes."""
    meshes = [jax.sharding.get_abstract_mesh()]
    meshes += [jax.typeof(array).sharding.mesh for array in jax.tree.leaves(tree)]
    for mesh in meshes:
        if not mesh.empty:
            return mesh if mesh.explicit_axes else None
    return None
