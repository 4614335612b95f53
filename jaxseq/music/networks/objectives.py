"""Objectives of music: cross entropy in nats a note, of hidden notes, and a frame of a piano roll."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxseq.common.arrays import Key
from jaxseq.nn.objectives import Objective, whole_output


@functools.cache
def next_symbol(columns: tuple[int, ...] = (), transpose: int = 0, lowest: int = 1, highest: int = 0) -> Objective:
    """Symbols predicted by logits "b ... v": cross entropy in nats a symbol, every target >= 0 counting alike.

    With `transpose`, each row of a training step is moved by up to so many symbols, as far as those of its `columns` of x
    that lie from `lowest` to `highest` (others have no pitch) stay within that range. The same arguments give the same
    object.
    """

    def augment(key: Key, x: Array, y: Array) -> tuple[Array, Array]:
        return _transpose(key, x, y, columns, transpose, lowest, highest)

    metrics = (("nats", _nats), ("accuracy", _accuracy))
    return Objective(_nats, metrics, "nats", whole_output, scored, augment if transpose else None)


@functools.cache
def hidden_symbols(count: int, masked: int, transpose: int = 0, lowest: int = 1, highest: int = 0) -> Objective:
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

    return Objective(_nats, (("nats", _nats), ("accuracy", _accuracy)), "nats", whole_output, None, augment)


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
def frames() -> Objective:
    """Keys that sound or not, by logits "b t d": cross entropy in nats a frame, summed over its keys, every frame alike.
    Frames that are below 0 are none."""
    return Objective(_frame_nats, (("nats", _frame_nats),), "nats", whole_output, _frames)


def _frames(y: Float[Array, "b t d"]) -> Float[Array, "b"]:
    return jnp.sum(y[..., 0] >= 0, axis=1, dtype=jnp.float32)


def _frame_nats(logits: Float[Array, "b t d"], y: Float[Array, "b t d"]) -> Float[Array, "b"]:
    """-log p of a row's frames, on average; 0 for a row without any."""
    nats = jnp.sum(jax.nn.softplus(jnp.where(y > 0, -logits, logits)), axis=-1)
    there = y[..., 0] >= 0
    count = jnp.maximum(jnp.sum(there, axis=1, dtype=nats.dtype), 1)
    return jnp.sum(jnp.where(there, nats, 0), axis=1) / count
