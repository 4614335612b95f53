"""Draw notes from a network's distribution of them.

Each note is drawn from the network's distribution after temperature, top-k and top-p, in this order: temperature divides
the logits; top-k keeps the k most likely notes (Fan et al. 2018, "Hierarchical neural story generation"); top-p
renormalises these and keeps the smallest set of most likely notes whose probabilities reach p (Holtzman et al. 2020, "The
curious case of neural text degeneration", section 3.1). Reported log-probabilities are those of the network itself,
before any of these.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxseq.music.sampling.options import FREE, Thresholds

COLDEST = 1e-30
"""Lowest temperature that is divided by; there, the most likely note is always drawn."""


class Program(NamedTuple):
    """Settings that decide what is compiled.

    truncates        as `SamplingOptions.truncates`
    avoid_parallels  as in `SamplingOptions`
    started          whether pieces begin with a start symbol
    """

    truncates: bool
    avoid_parallels: bool = False
    started: bool = True


class Chosen(NamedTuple):
    """Notes of one step, with the network's log-probability of each."""

    note: Int[Array, "b *4"]
    log_p: Float[Array, "b *4"]


def choose(
    logits: Float[Array, "b v"],
    noise: Float[Array, "b v"],
    program: Program,
    thresholds: Thresholds,
    forced: Int[Array, "b"] | None = None,
    excluded: Bool[Array, "b v"] | None = None,
) -> Chosen:
    """Draw a note for each row from those that are not excluded, unless one is forced."""
    log_p = jax.nn.log_softmax(logits)
    candidates = log_p
    if excluded is not None:
        candidates = jnp.where(excluded, -jnp.inf, log_p)

    note = draw(candidates, noise, program.truncates, thresholds)
    if forced is not None:
        note = jnp.where(forced == FREE, note, forced)
    # By the network itself: temperature, thresholds and excluded notes do not change it.
    log_p_note = jnp.take_along_axis(log_p, note[:, None], axis=-1)
    return Chosen(note, log_p_note[:, 0])


def draw(
    log_p: Float[Array, "b v"],
    noise: Float[Array, "b v"],
    truncates: bool,
    thresholds: Thresholds,
) -> Int[Array, "b"]:
    """Draw a symbol for each row by the Gumbel-max trick: the largest log p / temperature + noise.

    `noise` has Gumbel's distribution (Maddison, Tarlow & Minka 2014, "A* sampling"). Top-k and top-p apply where the
    options truncate.
    """
    # Relative to the best: its quotient stays 0 at any temperature, where log p alone would overflow.
    best = jnp.max(log_p, axis=-1, keepdims=True)
    scaled = (log_p - best) / jnp.maximum(thresholds.temperature, COLDEST)
    if truncates:
        scaled = _truncated(scaled, thresholds)
    return jnp.argmax(scaled + noise, axis=-1).astype(jnp.int32)


def _truncated(scaled: Float[Array, "b v"], thresholds: Thresholds) -> Float[Array, "b v"]:
    """Set all logits to -inf but the k most likely, and of those the fewest that together reach p."""
    # Comparing all pairs of 47 numbers takes much less time than sorting them. Of equal ones, the first comes first.
    index = jnp.arange(scaled.shape[-1])
    values = scaled[..., None]
    others = scaled[..., None, :]
    is_before = index < index[:, None]
    is_likelier = (others > values) | ((others == values) & is_before)
    rank = jnp.sum(is_likelier, axis=-1)
    allowed = jnp.where(rank < thresholds.top_k, scaled, -jnp.inf)

    probabilities = jax.nn.softmax(allowed)[..., None, :]
    reached = jnp.sum(jnp.where(is_likelier, probabilities, 0), axis=-1)
    # The most likely note stays, however small p is.
    is_first = ~jnp.any(is_likelier, axis=-1)
    is_allowed = (reached < thresholds.top_p) | is_first
    return jnp.where(is_allowed, allowed, -jnp.inf)
