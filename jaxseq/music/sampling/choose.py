"""Draw notes from a network's distribution of them.

Each note is drawn from the network's distribution after weights, temperature, note temperature, top-k and top-p, in this
order. Weights are added to the logits; temperature divides them. A note temperature divides those of all notes but the
voice's last one once more, and keeps the sum of their probabilities: whether a voice moves is as likely as before, and
where it moves to is more certain. Top-k keeps the k most likely notes (Fan et al. 2018, "Hierarchical neural story
generation"); top-p renormalises these and keeps the smallest set of most likely notes whose probabilities reach p (Holtzman
et al. 2020, "The curious case of neural text degeneration", section 3.1). Reported log-probabilities are those of the
network itself, before any of these.
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
    sharpens_moves   as `SamplingOptions.sharpens_moves`
    """

    truncates: bool
    avoid_parallels: bool = False
    started: bool = True
    sharpens_moves: bool = False


class Leaning(NamedTuple):
    """Weights of steps, as `weights.Weights`; of one step and voice, notes are "#b v" and moving is a number."""

    notes: Float[Array, "*n v"]
    moving: Float[Array, "*t"]


class Chosen(NamedTuple):
    """Notes of one step, with the network's log-probability of each."""

    note: Int[Array, "b *4"]
    log_p: Float[Array, "b *4"]


class Bounds(NamedTuple):
    """Bounds of the notes to choose from, of one step and voice.

    forced    symbols that stay, and `FREE` where one is to be drawn
    excluded  symbols that are not drawn
    last      the voice's last symbol; one that cannot be drawn stands for none
    leaning   weights that are added to the log-probabilities
    """

    forced: Int[Array, "b"] | None = None
    excluded: Bool[Array, "b v"] | None = None
    last: Int[Array, "b"] | None = None
    leaning: Leaning | None = None


def choose(
    logits: Float[Array, "b v"],
    noise: Float[Array, "b v"],
    program: Program,
    thresholds: Thresholds,
    bounds: Bounds,
) -> Chosen:
    """Draw a note for each row from those that are not excluded, unless one is forced."""
    forced, excluded, last, leaning = bounds
    log_p = jax.nn.log_softmax(logits)
    stays = None
    if last is not None:
        stays = jnp.arange(log_p.shape[-1]) == last[:, None]
    candidates = log_p
    if leaning is not None:
        candidates = _leant(log_p, leaning, stays)
    if excluded is not None:
        candidates = _possible(jnp.where(excluded, -jnp.inf, candidates), candidates)

    note = draw(candidates, noise, program.truncates, thresholds, stays if program.sharpens_moves else None)
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
    stays: Bool[Array, "b v"] | None = None,
) -> Int[Array, "b"]:
    """Draw a symbol for each row by the Gumbel-max trick: the largest log p / temperature + noise.

    `noise` has Gumbel's distribution (Maddison, Tarlow & Minka 2014, "A* sampling"). `stays` is where the voice's last note
    is, if the notes that it moves to have a temperature of their own. Top-k and top-p apply where the options truncate.
    """
    # Relative to the best: its quotient stays 0 at any temperature, where log p alone would overflow.
    best = jnp.max(log_p, axis=-1, keepdims=True)
    scaled = (log_p - best) / jnp.maximum(thresholds.temperature, COLDEST)
    if stays is not None:
        scaled = _with_sharper_moves(scaled, stays, thresholds.note_temperature)
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


def _leant(
    log_p: Float[Array, "b v"],
    leaning: Leaning,
    stays: Bool[Array, "b v"] | None,
) -> Float[Array, "b v"]:
    """Add weights."""
    leant = log_p + leaning.notes
    if stays is not None:
        leant = leant + jnp.where(stays, 0.0, leaning.moving)
    # A given voice may stand where a held note was asked for.
    return _possible(leant, log_p)


def _possible(candidates: Float[Array, "b v"], otherwise: Float[Array, "b v"]) -> Float[Array, "b v"]:
    """Return the candidates of each row, or others where none is left: weights go before excluded notes."""
    is_possible = jnp.any(jnp.isfinite(candidates), axis=-1, keepdims=True)
    return jnp.where(is_possible, candidates, otherwise)


def _with_sharper_moves(
    scaled: Float[Array, "b v"],
    stays: Bool[Array, "b v"],
    temperature: Float[Array, ""],
) -> Float[Array, "b v"]:
    """Divide the logits of all notes but the last one by a temperature, and keep the sum of their probabilities."""
    moves = jnp.where(stays, -jnp.inf, scaled)
    best = jnp.max(moves, axis=-1, keepdims=True)
    # Without a note to move to there is nothing to sharpen, and no number to subtract.
    best = jnp.where(jnp.isfinite(best), best, 0.0)
    sharper = (moves - best) / jnp.maximum(temperature, COLDEST)
    kept = jax.nn.logsumexp(moves - best, axis=-1, keepdims=True) + best
    total = jax.nn.logsumexp(sharper, axis=-1, keepdims=True)
    is_move = jnp.isfinite(moves)
    return jnp.where(is_move, sharper - jnp.where(is_move, total - kept, 0.0), scaled)
