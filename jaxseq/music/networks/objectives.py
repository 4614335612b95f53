"""Objectives of music: cross entropy of the next note, of hidden notes, and of the next frame of a piano roll."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxseq.common.arrays import Key
from jaxseq.music.networks import augmentation
from jaxseq.music.networks.augmentation import Transposition
from jaxseq.nn.objectives import Objective, whole_output


@functools.cache
def next_symbol(
    columns: tuple[int, ...] = (),
    transpose: int = 0,
    lowest: int = 1,
    highest: int = 0,
    tonics: tuple[int, ...] = (),
    conditions: tuple[tuple[int, ...], ...] = (),
) -> Objective:
    """Return the objective of predicted symbols, by logits "b ... v": cross entropy in nats a symbol, and accuracy.

    Targets below 0 do not count; all others weigh the same. Each row of a training step is transposed by up to
    `transpose` symbols, so far that the symbols in its `columns` that have a pitch, `lowest` to `highest`, keep one; the
    pitch classes in its columns `tonics` move with them. Groups of columns that hold `conditions` become 0, unknown, in
    some rows of a step. The same arguments give the same object.
    """
    transposition = Transposition(columns, transpose, lowest, highest, tonics)

    def augment(key: Key, x: Array, y: Array) -> tuple[Array, Array]:
        # A row without conditions draws what it has always drawn.
        if conditions:
            forget_key, key = jax.random.split(key)
            x = augmentation.forget(forget_key, x, conditions)
        if not transpose:
            return x, y
        return augmentation.transpose(key, x, y, transposition)

    return Objective(
        loss=_nats,
        metrics=SYMBOL_METRICS,
        select="nats",
        at_end=whole_output,
        weight=scored,
        # Rows that stay where they are need no randomness.
        augment=augment if transpose or conditions else None,
    )


@functools.cache
def hidden_symbols(count: int, masked: int, transpose: int = 0, lowest: int = 1, highest: int = 0) -> Objective:
    """Return the objective of hidden symbols, predicted from all others: cross entropy in nats a symbol, and accuracy.

    Each training step hides other symbols of the first `count` columns of x; they become `masked`, and are the only
    targets. A row hides its symbols with a probability drawn uniformly from 0 to 1, so that any number of them is
    equally likely: training that is agnostic of the order (Uria et al. 2014; Coconet, Huang et al. 2017). A row's loss is
    the mean over its targets, which is the paper's weight of 1 / (number of hidden symbols). `transpose` is as in
    `next_symbol`. The same arguments give the same object.
    """
    transposition = Transposition(tuple(range(count)), transpose, lowest, highest)

    def augment(key: Key, x: Array, y: Array) -> tuple[Array, Array]:
        transpose_key, hide_key = jax.random.split(key)
        if transpose:
            x, y = augmentation.transpose(transpose_key, x, y, transposition)
        return augmentation.hide(hide_key, x, y, masked)

    return Objective(
        loss=_nats,
        metrics=SYMBOL_METRICS,
        select="nats",
        at_end=whole_output,
        # A row counts once, with any number of hidden symbols.
        weight=None,
        augment=augment,
    )


@functools.cache
def frames() -> Objective:
    """Return the objective of piano rolls, by logits "b t d": cross entropy in nats a frame, summed over its keys.

    Frames below 0 do not count; all others weigh the same.
    """
    return Objective(
        loss=_frame_nats,
        metrics=(("nats", _frame_nats),),
        select="nats",
        at_end=whole_output,
        weight=_frames,
    )


def scored(y: Int[Array, "b *k"]) -> Float[Array, "b"]:
    """Count the targets of each row; those below 0 are none."""
    return jnp.sum(y >= 0, axis=tuple(range(1, y.ndim)), dtype=jnp.float32)


def _nats(logits: Float[Array, "b *k v"], y: Int[Array, "b *k"]) -> Float[Array, "b"]:
    """Compute the mean of -log p over a row's targets; 0 for a row without any."""
    log_p = jax.nn.log_softmax(logits)
    of_targets = jnp.take_along_axis(log_p, jnp.maximum(y, 0)[..., None], axis=-1)[..., 0]
    return _average(-of_targets, y)


def _accuracy(logits: Float[Array, "b *k v"], y: Int[Array, "b *k"]) -> Float[Array, "b"]:
    return _average((jnp.argmax(logits, axis=-1) == y).astype(logits.dtype), y)


def _average(values: Float[Array, "b *k"], y: Int[Array, "b *k"]) -> Float[Array, "b"]:
    axes = tuple(range(1, y.ndim))
    return jnp.sum(jnp.where(y >= 0, values, 0), axis=axes) / jnp.maximum(scored(y), 1).astype(values.dtype)


SYMBOL_METRICS = (("nats", _nats), ("accuracy", _accuracy))


def _frames(y: Float[Array, "b t d"]) -> Float[Array, "b"]:
    return jnp.sum(y[..., 0] >= 0, axis=1, dtype=jnp.float32)


def _frame_nats(logits: Float[Array, "b t d"], y: Float[Array, "b t d"]) -> Float[Array, "b"]:
    """Compute the mean of -log p over a row's frames; 0 for a row without any."""
    nats = jnp.sum(jax.nn.softplus(jnp.where(y > 0, -logits, logits)), axis=-1)
    is_frame = y[..., 0] >= 0
    count = jnp.maximum(jnp.sum(is_frame, axis=1, dtype=nats.dtype), 1)
    return jnp.sum(jnp.where(is_frame, nats, 0), axis=1) / count
