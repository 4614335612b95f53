"""Random changes to the rows of a training step: transposition, hidden conditions and hidden notes."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Shaped

from jaxseq.common.arrays import Key
from jaxseq.music.scales import OCTAVE

NOTHING_KNOWN = 0.5
"""Share of the training rows in which no condition is known, as in the likelihoods that are compared with other models'."""
HIDDEN = 0.2
"""Share of the other rows in which a condition is not known."""


class Transposition(NamedTuple):
    """How far a row may be transposed.

    columns          columns of x that hold symbols
    tonics           columns of x that hold pitch classes, from 1 to 12; 0 is unknown
    most             largest shift, up or down
    lowest, highest  the symbols that have a pitch, between which all shifted ones must stay
    """

    columns: tuple[int, ...]
    most: int
    lowest: int
    highest: int
    tonics: tuple[int, ...] = ()

    def is_pitch(self, symbols: Int[Array, "*n"]) -> Bool[Array, "*n"]:
        """Return which symbols have a pitch."""
        return (symbols >= self.lowest) & (symbols <= self.highest)


def transpose(
    key: Key, x: Int[Array, "b t d"], y: Int[Array, "b t *k"], transposition: Transposition
) -> tuple[Int[Array, "b t d"], Int[Array, "b t *k"]]:
    """Shift each row by a number of symbols, drawn uniformly from those that keep all its pitches in range."""
    symbols = x[..., jnp.array(transposition.columns)]

    # The last target of a row of notes is not among the symbols of x, but has to stay in range as well.
    # Shifts may be negative, which narrow or unsigned symbols are not.
    parts = [part.reshape(len(part), -1).astype(jnp.int32) for part in (symbols, y)]
    row = jnp.concatenate(parts, axis=1)
    has_pitch = transposition.is_pitch(row)
    down = jnp.min(jnp.where(has_pitch, row, transposition.highest), axis=1) - transposition.lowest
    up = transposition.highest - jnp.max(jnp.where(has_pitch, row, transposition.lowest), axis=1)
    down = jnp.minimum(down, transposition.most)
    up = jnp.minimum(up, transposition.most)
    shift = jax.random.randint(key, down.shape, -down, up + 1)

    def shifted(values: Shaped[Array, "b *n"]) -> Shaped[Array, "b *n"]:
        by_row = shift.reshape(-1, *[1] * (values.ndim - 1)).astype(values.dtype)
        return jnp.where(transposition.is_pitch(values), values + by_row, values)

    x = x.at[..., jnp.array(transposition.columns)].set(shifted(symbols))
    for column in transposition.tonics:
        tonic = x[..., column]
        moved = (tonic - 1 + shift[:, None].astype(x.dtype)) % OCTAVE + 1
        # Neither an unknown key nor padding moves.
        x = x.at[..., column].set(jnp.where(tonic > 0, moved, tonic))
    return x, shifted(y)


def forget(key: Key, x: Int[Array, "b t d"], conditions: tuple[tuple[int, ...], ...]) -> Int[Array, "b t d"]:
    """Make conditions unknown: all of them in a share of the rows, and in the others each in a share of them."""
    all_key, each_key = jax.random.split(key)
    of_all = jax.random.uniform(all_key, (len(x), 1)) < NOTHING_KNOWN
    of_each = jax.random.uniform(each_key, (len(x), len(conditions))) < HIDDEN
    is_unknown = of_all | of_each
    for number, columns in enumerate(conditions):
        known = x[..., jnp.array(columns)]
        x = x.at[..., jnp.array(columns)].set(jnp.where(is_unknown[:, number, None, None] & (known > 0), 0, known))
    return x


def hide(
    key: Key, x: Int[Array, "b t d"], y: Int[Array, "b t n"], masked: int
) -> tuple[Int[Array, "b t d"], Int[Array, "b t n"]]:
    """Hide some symbols of each row, which alone stay targets."""
    share_key, symbol_key = jax.random.split(key)
    share = jax.random.uniform(share_key, (len(x), 1, 1))
    hidden = (jax.random.uniform(symbol_key, y.shape) < share) & (y >= 0)

    count = y.shape[-1]
    symbols = jnp.where(hidden, masked, x[..., :count])
    return x.at[..., :count].set(symbols), jnp.where(hidden, y, -1)
