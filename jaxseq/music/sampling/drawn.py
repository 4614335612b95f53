"""Notes that are given and notes that were drawn."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from jaxseq.common import row_counts
from jaxseq.common.arrays import Key
from jaxseq.music.piece import BAR
from jaxseq.music.sampling.choose import Leaning
from jaxseq.music.sampling.weights import Weights


class Drawn(NamedTuple):
    """Drawn symbols.

    log_probability  of each symbol by the network; NaN where the network gives none
    """

    tokens: Int[Array, "b t 4"]
    log_probability: Float[Array, "b t 4"]


Keys: TypeAlias = Shaped[Array, "b"]
"""Keys of pseudo-random numbers, one for each piece."""


class Guide(NamedTuple):
    """Guidance of pieces beyond the notes that are given.

    known    columns of `music.conditions` for a network that reads them; None if nothing is known
    weights  added to the log-probabilities that notes are drawn by
    numbers  of the pieces, which with the key decide their notes; None counts them from 0
    """

    known: Int[np.ndarray, "b t _"] | None = None
    weights: Weights | None = None
    numbers: Int[np.ndarray, "b"] | None = None

    def keys(self, key: Key, count: int, rows: int) -> Keys:
        """Return a key for each of `count` pieces, filled up to a number of rows."""
        numbers = self.numbers
        if numbers is None:
            numbers = np.arange(count)
        return numbered_keys(key, row_counts.filled_up(numbers, rows))


UNGUIDED = Guide()
"""Nothing but the given notes."""


class Template(NamedTuple):
    """Symbols with `FREE` where one is to be drawn, and the position in the bar of each step.

    known    columns of `music.conditions`; there are none for a network that does not read them
    weights  of the notes; None for none
    """

    forced: Int[Array, "b t 4"]
    places: Int[Array, "t"]
    known: Int[Array, "b t _"]
    weights: Weights | None = None


def template_of(
    forced: Int[np.ndarray, "b t 4"],
    positions: Int[np.ndarray, "t"],
    known: Int[np.ndarray, "b t _"] | None = None,
    weights: Weights | None = None,
) -> Template:
    """Make a template of given symbols, sixteenths since the bar line, and what is known of each piece."""
    # The networks know the positions of one bar of four quarters; later ones in a longer bar share the last.
    places = jnp.minimum(jnp.asarray(positions, jnp.int32), BAR - 1)
    if known is None:
        known = np.zeros((*forced.shape[:2], 0), np.int32)
    if weights is not None and len(weights.notes) > 1:
        # Rows that fill up the number of pieces lean as the first one.
        weights = weights._replace(notes=row_counts.filled_up(np.asarray(weights.notes), len(forced)))
    return Template(
        forced=jnp.asarray(forced, jnp.int32),
        places=places,
        known=jnp.asarray(known, jnp.int32),
        weights=jax.tree.map(jnp.asarray, weights),
    )


def numbered_keys(key: Key, numbers: Int[np.ndarray, "b"]) -> Keys:
    """Return a key for each piece, by its number: its notes do not depend on the pieces that are drawn beside it."""
    return jax.vmap(lambda number: jax.random.fold_in(key, number))(jnp.asarray(numbers, jnp.uint32))


def by_time(weights: Weights) -> Leaning:
    """Return weights with time as their first axis, then voices: notes are "t 4 #b v"."""
    notes = jnp.transpose(jnp.asarray(weights.notes), (1, 2, 0, 3))
    return Leaning(notes, jnp.asarray(weights.moving))


def first_pieces(drawn: Drawn, count: int) -> Drawn:
    """Return the first pieces."""
    # Cut by numpy, as JAX compiles a cut for each number of them.
    return Drawn(*(jnp.asarray(np.asarray(part)[:count]) for part in drawn))
