"""Flax shells around the recurrence: the only file that knows Flax.

`Recurrent` is a layer for anybody's Flax model; `Forecaster` is a stack of them with a dense head.
"""

from __future__ import annotations

from typing import Any, get_type_hints

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq import recurrence
from jaxseq.arrays import Key, Tree
from jaxseq.cells.base import Carry, Cell


class Recurrent(nn.Module):
    """A recurrent layer: `hidden` units of `cell`, scanned over a batch of sequences.

    The cell's parameters are one pytree under the name "cell".
    """

    cell: Cell
    hidden: int

    @nn.compact
    def __call__(self, x: Float[Array, "b t d"], carry: Carry | None = None) -> tuple[Carry, Float[Array, "b t h"]]:
        """The last carry and the output of every step; starts from `carry`, or from zeros if there is none."""
        params = self.param("cell", self.cell.init, x.shape[-1], self.hidden, x.dtype)
        carry = self.cell.start((x.shape[0], self.hidden), x.dtype) if carry is None else carry
        last, outputs = recurrence.scan(self.cell, params, jnp.swapaxes(x, 0, 1), carry)
        return last, jnp.swapaxes(outputs, 0, 1)


class Forecaster(nn.Module):
    """`layers` recurrent layers of `hidden` units, then a dense layer to `outputs` numbers.

    The head reads the last state and gives "b k", or, with `every_step`, the state of every step and gives "b t k".
    """

    cell: Cell
    hidden: int
    layers: int
    outputs: int
    every_step: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b *k"]:
        """Predictions for a batch of windows."""
        last: Carry = None
        for layer in range(self.layers):
            last, x = Recurrent(self.cell, self.hidden, name=f"recurrent_{layer}")(x)
        return nn.Dense(self.outputs, name="head")(x if self.every_step else last.h)


def init(model: nn.Module, key: Key, x: Float[Array, "b t d"]) -> tuple[Tree, Tree]:
    """Parameters and statistics (running moments; empty where the model keeps none) for inputs shaped like x."""
    variables = dict(model.init(key, x))
    return variables.pop("params"), variables


def apply(model: nn.Module, params: Tree, stats: Tree, x: Float[Array, "b t d"]) -> Float[Array, "b *k"]:
    """The model's prediction, statistics left as they are."""
    return jnp.asarray(model.apply({"params": params, **stats}, x))


def axes(params: Tree) -> dict[str, str]:
    """The axes of every parameter by its path, say ``{"recurrent_0/cell/input_kernel": "d g"}``, read from the cells'
    annotations."""
    found: dict[str, str] = {"head/kernel": "h k", "head/bias": "k"}

    def note(path: tuple[Any, ...], node: Any) -> Any:
        if hasattr(node, "_fields"):
            hints = get_type_hints(type(node), include_extras=True)
            start = jax.tree_util.keystr(path, simple=True, separator="/")
            found.update({f"{start}/{field}": hints[field].dim_str for field in node._fields})
        return node

    jax.tree_util.tree_map_with_path(note, params, is_leaf=lambda node: hasattr(node, "_fields"))
    return found


def table(model: nn.Module, x: jax.ShapeDtypeStruct) -> str:
    """Flax's own table of the model: modules, parameters and shapes for inputs shaped like x."""
    return nn.tabulate(model, jax.random.key(0), console_kwargs={"width": 120})(jnp.zeros(x.shape, x.dtype))
