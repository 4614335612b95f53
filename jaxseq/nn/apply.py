"""Flax shells around the recurrence: the only file that knows Flax's modules.

`Recurrent` is a layer for anybody's Flax model, in the place of `nn.RNN`; `Forecaster` is a stack of them with a dense
head.
"""

from __future__ import annotations

from typing import Any, get_type_hints

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from jaxseq.common.arrays import Key, Tree
from jaxseq.nn.recurrent import STATS


def init(model: nn.Module, key: Key, x: Shaped[Array, "b t d"]) -> tuple[Tree, Tree]:
    """Parameters and statistics (running moments; empty where the model keeps none) for inputs shaped like x."""
    variables = dict(model.init(key, x))
    return variables.pop("params"), variables


def apply(model: nn.Module, params: Tree, stats: Tree, x: Shaped[Array, "b t d"]) -> Float[Array, "b *k"]:
    """The model's prediction, statistics left as they are."""
    return resume(model, params, stats, x, None, 0)[1]


def resume(
    model: nn.Module, params: Tree, stats: Tree, x: Shaped[Array, "b t d"], carries: Tree, first: int | Int[Array, ""]
) -> tuple[Tree, Float[Array, "b *k"]]:
    """The carries after x and the prediction, going on from the carries of an earlier call that saw `first` steps."""
    carries, prediction = model.apply({"params": params, **stats}, x, carries=carries, first=first)
    return carries, jnp.asarray(prediction)


def apply_train(
    model: Any, params: Tree, stats: Tree, x: Shaped[Array, "b t d"], rows: Float[Array, "b"], key: Key
) -> tuple[Float[Array, "b *k"], Tree]:
    """The model's prediction in a training step, and the statistics after it.

    Rows whose weight in `rows` is zero stay out of batch moments; the key is what dropout draws from.
    """
    lengths = jnp.where(rows > 0, x.shape[1], 0) if stats else None
    rngs = {"dropout": key} if model.draws else None
    (_, prediction), changed = model.apply(
        {"params": params, **stats}, x, lengths=lengths, train=True, mutable=[STATS], rngs=rngs
    )
    return jnp.asarray(prediction), {**stats, **changed}


def axes(params: Tree) -> dict[str, str]:
    """The axes of every parameter by its path, say ``{"recurrent_0/cell/input_kernel": "d g"}``, read from the cells'
    annotations."""
    found: dict[str, str] = {"head/kernel": "h k", "head/bias": "k"}

    def note(path: tuple[Any, ...], node: Any) -> Any:
        if hasattr(node, "_fields"):
            hints = get_type_hints(type(node), include_extras=True)
            start = jax.tree_util.keystr(path, simple=True, separator="/")
            found.update({f"{start}/{field}": hints[field].dim_str.removeprefix("*b ") for field in node._fields})
        return node

    jax.tree_util.tree_map_with_path(note, params, is_leaf=lambda node: hasattr(node, "_fields"))
    return found


def table(model: nn.Module, x: jax.ShapeDtypeStruct) -> str:
    """Flax's own table of the model: modules, parameters and shapes for inputs shaped like x."""
    return nn.tabulate(model, jax.random.key(0), console_kwargs={"width": 120})(jnp.zeros(x.shape, x.dtype))
