"""What is asked of a model: a loss, the metrics beside it, and the NAME of the metric that the best epoch is chosen by."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxseq.common.arrays import Key
from jaxseq.nn import heads
from jaxseq.nn.heads import Head

PerRow = Callable[[Array, Array], Array]


class Task(NamedTuple):
    """Pure functions of (prediction, target) that give one number a row, "b".

    loss     what training minimises (its mean over the rows)
    metrics  (name, function) pairs; names, because dictionaries leave `jax.jit` with their keys sorted
    select   the name of the metric whose validation value chooses the best epoch; smaller is better
    at_end   (prediction or target) -> the part of it that is the forecast; metrics are given that part
    weight   (target) -> how much each row counts in every mean, "b"; None: all alike
    augment  (key, x, y) -> other rows of the same meaning, drawn anew in each training step; None: the rows as they are
    """

    loss: PerRow
    metrics: tuple[tuple[str, PerRow], ...]
    select: str
    at_end: Callable[[Array], Array]
    weight: Callable[[Array], Array] | None = None
    augment: Callable[[Key, Array, Array], tuple[Array, Array]] | None = None


def squared_error(prediction: Float[Array, "b k"], target: Float[Array, "b k"]) -> Float[Array, "b"]:
    """Mean over the horizon of the squared error, row by row."""
    chex.assert_equal_shape([prediction, target])
    return jnp.mean((prediction - target) ** 2, axis=-1)


def absolute_error(prediction: Float[Array, "b k"], target: Float[Array, "b k"]) -> Float[Array, "b"]:
    """Mean over the horizon of the absolute error, row by row."""
    chex.assert_equal_shape([prediction, target])
    return jnp.mean(jnp.abs(prediction - target), axis=-1)


@functools.cache
def forecasting(head: Head, every_step: bool = False) -> Task:
    """Forecasts of k steps from a model that puts out k · `head.width` numbers, once or, with `every_step`, after each
    step of the window; the forecast is then the last one. The same arguments give the same object."""

    def read(raw: Array) -> Array:
        return raw.reshape(*raw.shape[:-1], -1, head.width)

    def loss(raw: Array, y: Array) -> Array:
        chex.assert_equal_shape([raw[..., :: head.width], y])
        each = head.loss(read(raw), y)
        return jnp.mean(each.reshape(each.shape[0], -1), axis=-1)

    def by(error: PerRow) -> PerRow:
        return lambda raw, y: error(head.centre(read(raw)), y)

    metrics = (("mse", by(squared_error)), ("mae", by(absolute_error)))
    if head.quantiles is not None:
        metrics = (("loss", lambda raw, y: jnp.mean(head.loss(read(raw), y), axis=-1)), *metrics)
    return Task(loss, metrics, metrics[0][0], _last_step if every_step else _whole)


def _last_step(values: Array) -> Array:
    return values[:, -1]


def _whole(values: Array) -> Array:
    return values


REGRESSION = forecasting(heads.point())


@functools.cache
def next_symbol(columns: tuple[int, ...] = (), transpose: int = 0, lowest: int = 1, highest: int = 0) -> Task:
    """Symbols predicted by logits "b ... v": cross entropy in nats a symbol, every target >= 0 counting alike.

    With `transpose`, each row of a training step is moved by up to so many symbols, as far as those of its `columns` of x
    that lie from `lowest` to `highest` (others have no pitch) stay within that range. The same arguments give the same
    object.
    """

    def augment(key: Key, x: Array, y: Array) -> tuple[Array, Array]:
        return _transpose(key, x, y, columns, transpose, lowest, highest)

    metrics = (("nats", _nats), ("accuracy", _accuracy))
    return Task(_nats, metrics, "nats", _whole, scored, augment if transpose else None)


@functools.cache
def hidden_symbols(count: int, masked: int, transpose: int = 0, lowest: int = 1, highest: int = 0) -> Task:
    """Symbols predicted from those around them: of the first `count` columns of x, each training step hides some anew.

    Which ones is agnostic of any order (Uria et al. 2014; Coconet: Huang et al. 2017): each row hides its
    symbols with a probability of its own, drawn evenly from 0 to 1, so that any number of them is equally likely. `masked`
    is written in their place, and they alone are targets. The loss of a row is the mean over its targets, which is the
    paper's weight of 1 / (number of hidden ones). `transpose` is as in `next_symbol`. The same arguments give the same
    object.
    """
    columns = tuple(range(count))

    def augment(key: Key, x: Array, y: Array) -> tuple[Array, Array]:
        transpose_key, key = jax.random.split(key)
        if transpose:
            x, y = _transpose(transpose_key, x, y, columns, transpose, lowest, highest)
        return _hide(key, x, y, masked)

    return Task(_nats, (("nats", _nats), ("accuracy", _accuracy)), "nats", _whole, None, augment)


def _hide(key: Key, x: Int[Array, "b t d"], y: Int[Array, "b t n"], masked: int) -> tuple[Array, Array]:
    """Rows in which some symbols are hidden, and the targets that these are."""
    share_key, key = jax.random.split(key)
    share = jax.random.uniform(share_key, (len(x), 1, 1))
    hidden = (jax.random.uniform(key, y.shape) < share) & (y >= 0)
    count = y.shape[-1]
    symbols = jnp.where(hidden, masked, x[..., :count])
    return x.at[..., :count].set(symbols), jnp.where(hidden, y, -1)


def scored(y: Int[Array, "b *k"]) -> Float[Array, "b"]:
    """How many targets a row has; those below 0 are none."""
    return jnp.sum(y >= 0, axis=tuple(range(1, y.ndim)), dtype=jnp.float32)


def _nats(logits: Float[Array, "b *k v"], y: Int[Array, "b *k"]) -> Float[Array, "b"]:
    """-log p of a row's targets, on average; 0 for a row without any."""
    log_p = jax.nn.log_softmax(logits)
    found = jnp.take_along_axis(log_p, jnp.maximum(y, 0)[..., None], axis=-1)[..., 0]
    return _average(-found, y)


def _accuracy(logits: Float[Array, "b *k v"], y: Int[Array, "b *k"]) -> Float[Array, "b"]:
    return _average((jnp.argmax(logits, axis=-1) == y).astype(logits.dtype), y)


def _average(values: Float[Array, "b *k"], y: Int[Array, "b *k"]) -> Float[Array, "b"]:
    axes = tuple(range(1, y.ndim))
    return jnp.sum(jnp.where(y >= 0, values, 0), axis=axes) / jnp.maximum(scored(y), 1).astype(values.dtype)


def _transpose(
    key: Key,
    x: Int[Array, "b t d"],
    y: Int[Array, "b t *k"],
    columns: tuple[int, ...],
    most: int,
    lowest: int,
    highest: int,
) -> tuple[Array, Array]:
    """Rows moved by a number of symbols, drawn evenly from those up to `most` either way that keep them in range."""
    symbols = x[..., jnp.array(columns)]
    # the last target of a row of notes is read by nobody: it has to stay in range all the same
    every = jnp.concatenate([part.reshape(len(part), -1).astype(y.dtype) for part in (symbols, y)], axis=1)
    pitched = (every >= lowest) & (every <= highest)
    down = jnp.min(jnp.where(pitched, every, highest), axis=1) - lowest
    up = highest - jnp.max(jnp.where(pitched, every, lowest), axis=1)
    down, up = jnp.minimum(down, most), jnp.minimum(up, most)
    shift = jax.random.randint(key, down.shape, -down, up + 1)

    def moved(values: Array) -> Array:
        by = shift.reshape(-1, *[1] * (values.ndim - 1)).astype(values.dtype)
        return jnp.where((values >= lowest) & (values <= highest), values + by, values)

    with_symbols = x.at[..., jnp.array(columns)].set(moved(symbols))
    return with_symbols, moved(y)


@functools.cache
def frames() -> Task:
    """Keys that sound or not, by logits "b t d": cross entropy in nats a frame, summed over its keys, every frame alike.
    Frames that are below 0 are none."""
    return Task(_frame_nats, (("nats", _frame_nats),), "nats", _whole, _frames)


def _frames(y: Float[Array, "b t d"]) -> Float[Array, "b"]:
    return jnp.sum(y[..., 0] >= 0, axis=1, dtype=jnp.float32)


def _frame_nats(logits: Float[Array, "b t d"], y: Float[Array, "b t d"]) -> Float[Array, "b"]:
    """-log p of a row's frames, on average; 0 for a row without any."""
    nats = jnp.sum(jax.nn.softplus(jnp.where(y > 0, -logits, logits)), axis=-1)
    there = y[..., 0] >= 0
    count = jnp.maximum(jnp.sum(there, axis=1, dtype=nats.dtype), 1)
    return jnp.sum(jnp.where(there, nats, 0), axis=1) / count
