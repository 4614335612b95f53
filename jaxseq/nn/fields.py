"""The variables of a layer: nested dicts for Flax, NamedTuples for the pure functions of cells and norms.

Flax and what is built on it take plain dicts of arrays, ``params["cell"]["input_kernel"]``: `flax.nnx`, masks of optax,
files of safetensors. A layer makes the NamedTuples inside.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import get_type_hints

import jax
import jax.numpy as jnp

from jaxseq.cells import gru, norm
from jaxseq.cells.base import AnyCell
from jaxseq.common.arrays import Tree

ORDER = dict.fromkeys((*gru.Params._fields, *norm.MemoryGains._fields, *norm.SumGains._fields))
"""The fields of cells and norms, in their order there."""
RANKS = {name: rank for rank, name in enumerate(ORDER)}


def nested(tree: Tree) -> Tree:
    """Return NamedTuples of arrays as nested dicts; fields without arrays are left out."""
    if not _is_namedtuple(tree):
        return tree

    dicts = {}
    for name, field in tree._asdict().items():
        # Tools that flatten dicts would lose an empty one.
        if jax.tree.leaves(field):
            dicts[name] = nested(field)
    return dicts


def typed(arrays: Tree, like: Tree) -> Tree:
    """Return nested dicts of arrays as NamedTuples of the structure of `like`; NamedTuples stay as they are.

    Raises `KeyError` if a field of `like` is missing.
    """
    # Weights that somebody has put in as their cell made them, or a cell without NamedTuples.
    if not isinstance(arrays, Mapping) or not _is_namedtuple(like):
        return arrays

    values = {}
    for name, field in like._asdict().items():
        values[name] = field
        # No dict holds a field without arrays.
        if jax.tree.leaves(field):
            values[name] = typed(arrays[name], field)
    return like._replace(**values)


def cell_params(cell: AnyCell, arrays: Tree, features: int = 1, hidden: int = 1) -> Tree:
    """Return ``params["cell"]`` of a layer as the cell's own functions take it.

    The sizes are those of the layer; a cell may leave them out whose fields do not depend on them.
    """
    return typed(arrays, _params_like(cell, features, hidden))


def in_order(tree: Tree) -> list[object]:
    """Return the leaves of nested dicts, those of cells and norms in the order of their fields, all others by name.

    JAX sorts the names of dicts. A sum of floats depends on its order, and runs depend on that sum to the last bit.
    """
    if not isinstance(tree, Mapping):
        return jax.tree.leaves(tree)

    def rank(name: str) -> tuple[int, str]:
        return RANKS.get(name, len(RANKS)), name

    leaves = []
    for name in sorted(tree, key=rank):
        leaves += in_order(tree[name])
    return leaves


def axes_by_field(cell: AnyCell | None) -> dict[str, dict[str, str]]:
    """Return the axes of each field of a layer's parameters "cell", "norm" and "start", from their annotations."""
    of_norms = _annotated_axes(norm.MemoryGains) | _annotated_axes(norm.SumGains)
    axes = {"norm": of_norms}
    if cell is not None:
        axes["cell"] = _annotated_axes(type(_params_like(cell)))
        axes["start"] = _annotated_axes(type(cell.start((1,))))
    return axes


def _annotated_axes(kind: type) -> dict[str, str]:
    axes = {}
    for field, hint in get_type_hints(kind, include_extras=True).items():
        if hasattr(hint, "dim_str"):
            # A learnt initial state has no batch axis, its annotation has.
            axes[field] = hint.dim_str.removeprefix("*b ")
    return axes


# Cached, because orthogonal kernels take longer to trace than a whole layer.
@functools.cache
def _params_like(cell: AnyCell, features: int = 1, hidden: int = 1) -> Tree:
    """Return a tree with the structure of a cell's parameters."""
    return jax.eval_shape(lambda key: cell.init(key, features, hidden, jnp.float32), jax.random.key(0))


def _is_namedtuple(node: object) -> bool:
    return hasattr(node, "_fields")
