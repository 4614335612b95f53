"""Notes that are given and notes that were drawn."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxseq.common.arrays import Tree
from jaxseq.music.piece import BAR


class Drawn(NamedTuple):
    """Drawn symbols.

    log_probability  of each symbol by the network; NaN where the network gives none
    """

    tokens: Int[Array, "b t 4"]
    log_probability: Float[Array, "b t 4"]


class Template(NamedTuple):
    """Symbols with `FREE` where one is to be drawn, and the position in the bar of each step.

    known  columns of `music.conditions`; there are none for a network that does not read them
    """

    forced: Int[Array, "b t 4"]
    places: Int[Array, "t"]
    known: Int[Array, "b t _"]


def template_of(
    forced: Int[np.ndarray, "b t 4"],
    positions: Int[np.ndarray, "t"],
    known: Int[np.ndarray, "b t _"] | None = None,
) -> Template:
    """Make a template of given symbols, sixteenths since the bar line, and what is known of each piece."""
    # The networks know the positions of one bar of four quarters; later ones in a longer bar share the last.
    places = jnp.minimum(jnp.asarray(positions, jnp.int32), BAR - 1)
    if known is None:
        known = np.zeros((*forced.shape[:2], 0), np.int32)
    return Template(jnp.asarray(forced, jnp.int32), places, jnp.asarray(known, jnp.int32))


def first_pieces(drawn: Drawn, count: int) -> Drawn:
    """Return the first pieces."""
    # Cut by numpy, as JAX compiles a cut for each number of them.
    return Drawn(*(jnp.asarray(np.asarray(part)[:count]) for part in drawn))


def zeros(like: Tree) -> Tree:
    """Return the states before the first step."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
