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

from jaxseq.cells import norm as norms
from jaxseq.cells import normalised, recurrence
from jaxseq.cells.base import Carry, Cell
from jaxseq.cells.norm import Norm
from jaxseq.cells.padding import valid_steps
from jaxseq.common.arrays import Key, Tree

STATS = "batch_stats"
"""Flax's name for the collection of running moments."""


class Recurrent(nn.Module):
    """A recurrent layer: `hidden` units of `cell`, scanned over a batch of sequences.

    The cell's parameters are one pytree under the name "cell", the gains of `norm` another under "norm", and running
    moments stand under "moments" in the collection `batch_stats` (make it mutable to let them follow a training step).
    `recurrent_dropout` is the share of h that does not reach the recurrent product, one draw a sequence, and needs an
    rng named "dropout". With `learn_start` the initial state is a parameter, under "start". `truncate` stops gradients
    between chunks of so many steps.
    """

    cell: Cell
    hidden: int
    norm: Norm | None = None
    reverse: bool = False
    recurrent_dropout: float = 0.0
    learn_start: bool = False
    truncate: int | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        carry: Carry | None = None,
        lengths: Int[Array, "b"] | None = None,
        train: bool = False,
        first: int | Int[Array, ""] = 0,
    ) -> tuple[Carry, Float[Array, "b t h"]]:
        """The last carry and the output of every step; starts from `carry`, or from the learnt state, or from zeros.
        `first` is the number of x's first step in its sequence, where `carry` has seen some.

        What lies beyond a row's length changes nothing, and outputs there are zero. Raises `ValueError`, which names
        the argument, where shapes or dtypes do not fit.
        """
        if x.ndim != 3:
            raise ValueError(f"x has the shape {x.shape}; expected (rows, steps, features)")
        params = self.param("cell", self.cell.init, x.shape[-1], self.hidden, x.dtype)
        start = self._start(x) if carry is None else carry
        steps = jnp.swapaxes(x, 0, 1)
        drop = self._drop(x) if train and self.recurrent_dropout else None
        if self.norm is None:
            way = recurrence.scan
            last, outputs = way(self.cell, params, steps, start, lengths, self.reverse, drop, self.truncate)
        else:
            last, outputs = self._normalised(params, steps, start, lengths, drop, train, first)
        return last, jnp.swapaxes(outputs, 0, 1)

    def _start(self, x: Array) -> Carry:
        zeros = self.cell.start((x.shape[0], self.hidden), x.dtype)
        if not self.learn_start:
            return zeros
        learnt = self.param("start", lambda _: self.cell.start((self.hidden,), x.dtype))
        return jax.tree.map(lambda zero, start: zero + start, zeros, learnt)

    def _drop(self, x: Array) -> Array:
        keep = 1 - self.recurrent_dropout
        drawn = jax.random.bernoulli(self.make_rng("dropout"), keep, (x.shape[0], self.hidden))
        return drawn.astype(x.dtype) / keep

    def _normalised(
        self,
        params: Tree,
        steps: Array,
        start: Carry,
        lengths: Array | None,
        drop: Array | None,
        train: bool,
        first: int | Int[Array, ""],
    ) -> tuple[Carry, Array]:
        norm = self.norm
        assert norm is not None
        memory, sizes = len(start) > 1, (self.cell.gate_count, len(start) > 1)
        weights = self.param("norm", lambda _: norms.init(norm, *sizes, self.hidden, steps.dtype))
        running = None
        if norm.by_batch:
            fresh = norms.init_running(self.cell.gate_count, memory, steps.shape[0], self.hidden, steps.dtype)
            running = self.variable(STATS, "moments", lambda: fresh)
        last, outputs, moments = normalised.scan(
            self.cell,
            norm,
            params,
            weights,
            steps,
            start,
            lengths,
            self.reverse,
            drop,
            None if running is None else running.value,
            train and not self.is_initializing(),
            self.truncate,
            first,
        )
        if running is not None and moments is not None and train and self.is_mutable_collection(STATS):
            running.value = moments
        return last, outputs


class Bidirectional(nn.Module):
    """Two recurrent layers over the same rows, one of them backwards within each row's length.

    Outputs are concatenated forward, then backward, "b t 2h", as torch and Keras do; so are the last carries, field by
    field: the backward one is that at each row's first step.
    """

    layer: Recurrent

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t d"], lengths: Int[Array, "b"] | None = None, train: bool = False
    ) -> tuple[Carry, Float[Array, "b t _"]]:
        """The last carries and the outputs of every step, each both ways."""
        forward = self.layer.clone(parent=self, name="forward")
        backward = self.layer.clone(parent=self, name="backward", reverse=True)
        ways = [way(x, None, lengths, train) for way in (forward, backward)]
        last = jax.tree.map(lambda *states: jnp.concatenate(states, axis=-1), *(carry for carry, _ in ways))
        return last, jnp.concatenate([outputs for _, outputs in ways], axis=-1)


class Forecaster(nn.Module):
    """`layers` recurrent layers of `hidden` units, then a dense layer to `outputs` numbers.

    The head reads the last state and gives "b k", or, with `every_step`, the state of every step and gives "b t k".
    Between two layers come, where they are asked for, a batch norm over rows and steps (`norm_between`) and dropout.
    """

    cell: Cell
    hidden: int
    layers: int
    outputs: int
    every_step: bool = False
    norm: Norm | None = None
    norm_between: Norm | None = None
    bidirectional: bool = False
    dropout: float = 0.0
    recurrent_dropout: float = 0.0

    @property
    def draws(self) -> bool:
        """Whether a training step draws random numbers."""
        return bool(self.dropout or self.recurrent_dropout)

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        lengths: Int[Array, "b"] | None = None,
        train: bool = False,
        carries: tuple[Carry, ...] | None = None,
        first: int | Int[Array, ""] = 0,
    ) -> tuple[tuple[Carry, ...], Float[Array, "b *k"]]:
        """The layers' last carries, and predictions for a batch of windows.

        `carries` go on from where an earlier call stopped, after `first` steps; with `bidirectional` they cannot.
        """
        last = []
        for number in range(self.layers):
            if number:
                x = self._between(x, lengths, train, number)
            name = f"recurrent_{number}"
            if self.bidirectional:
                carry, x = Bidirectional(self._layer(None), name=name)(x, lengths, train)
            else:
                start = None if carries is None else carries[number]
                carry, x = self._layer(name)(x, start, lengths, train, first)
            last.append(carry)
        return tuple(last), nn.Dense(self.outputs, name="head")(x if self.every_step else last[-1].h)

    def _layer(self, name: str | None) -> Recurrent:
        """A layer of the stack; without a name, a pattern that belongs to nobody yet."""
        parent = None if name is None else self
        options = {"norm": self.norm, "recurrent_dropout": self.recurrent_dropout}
        return Recurrent(self.cell, self.hidden, **options, name=name, parent=parent)

    def _between(self, x: Array, lengths: Array | None, train: bool, number: int) -> Array:
        keep = None if lengths is None else valid_steps(lengths, x.shape[1]).T[..., None]
        if self.norm_between is not None:
            norm = nn.BatchNorm(
                use_running_average=not train,
                momentum=self.norm_between.momentum,
                epsilon=self.norm_between.epsilon,
                name=f"norm_{number}",
            )
            x = norm(x, mask=keep)
        if self.dropout:
            x = nn.Dropout(self.dropout, deterministic=not train, name=f"dropout_{number}")(x)
        return x if keep is None else jnp.where(keep, x, 0)


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
