"""Fill gaps by a network that reads both directions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxseq.common import precision, row_counts
from jaxseq.common.arrays import Key, Tree
from jaxseq.music.networks.fill_net import FillNet
from jaxseq.music.sampling.choose import Bounds, Leaning, Program, choose
from jaxseq.music.sampling.drawn import UNGUIDED, Drawn, Guide, Keys, Template, first_pieces, template_of
from jaxseq.music.sampling.options import FREE, UNCHANGED, SamplingOptions, Thresholds
from jaxseq.music.sampling.weights import Weights
from jaxseq.music.tokens import MASKED, VOCABULARY

FIRST_SHARE = 1.0
LAST_SHARE = 0.02
"""Shares of the free notes that the first and the last sweep of Gibbs sampling draw again."""
ANNEALED = 0.75
"""Part of the sweeps over which that share falls linearly from the first to the last."""


def gibbs(
    model: FillNet,
    variables: Tree,
    key: Key,
    forced: Int[np.ndarray, "b t 4"],
    positions: Int[np.ndarray, "t"],
    options: SamplingOptions = UNCHANGED,
    guide: Guide = UNGUIDED,
) -> Drawn:
    """Complete pieces by a network that reads both directions: annealed blocked Gibbs sampling.

    Each sweep hides a random share of the free notes and draws them again, all at once, from the network's distributions
    given the others. The share falls from all notes to a few (Yao et al. 2014, "On the equivalence between deep NADE and
    generative stochastic networks"; used in Coconet, Huang et al. 2017). Forced notes never change.

    The log-probability of a note is that at its last draw, given the notes that were not drawn with it, so that their sum
    is not a likelihood of the piece. That of a forced note is NaN. Weights of moving and a note temperature do not apply:
    a note is drawn together with the one before it.
    """
    count = len(forced)
    rows = row_counts.shared(count)
    filled = row_counts.filled_up(forced, rows)
    drawn = _sweeps(
        model,
        Program(options.truncates),
        variables,
        guide.keys(key, count, rows),
        template=template_of(filled, positions, weights=guide.weights),
        thresholds=options.thresholds,
        sweeps=options.sweeps,
    )
    return first_pieces(drawn, count)


@partial(jax.jit, static_argnames=("model", "program"))
@precision.in_full()
def _sweeps(
    model: FillNet,
    program: Program,
    variables: Tree,
    keys: Keys,
    template: Template,
    thresholds: Thresholds,
    sweeps: Int[Array, ""] | int,
) -> Drawn:
    """Draw the free notes of a template in one compiled loop over the sweeps."""
    shape = template.forced.shape
    is_free = template.forced == FREE
    place_column = jnp.broadcast_to(template.places[:, None], (*shape[:2], 1))
    leaning = _of_all_notes(template.weights, shape)

    def sweep(number: Int[Array, ""], drawn: Drawn) -> Drawn:
        hide_keys, draw_keys = _sweep_keys(keys, number)
        share = _share(number, sweeps)
        is_chosen = _by_piece(jax.random.uniform, hide_keys, shape[1:]) < share
        hidden = is_free & is_chosen

        # All hidden notes are drawn at once: none knows of the others.
        visible = jnp.where(hidden, MASKED, drawn.tokens)
        x = jnp.concatenate([visible, place_column], axis=-1)
        _, all_logits = model.apply(variables, x)
        logits = jnp.asarray(all_logits).reshape(-1, VOCABULARY)
        noise = _by_piece(jax.random.gumbel, draw_keys, (*shape[1:], VOCABULARY))
        chosen = choose(
            logits,
            noise.reshape(logits.shape),
            program,
            thresholds,
            Bounds(leaning=leaning),
        )

        return Drawn(
            tokens=jnp.where(hidden, chosen.note.reshape(shape), drawn.tokens),
            log_probability=jnp.where(hidden, chosen.log_p.reshape(shape), drawn.log_probability),
        )

    no_log_p = jnp.full(shape, jnp.nan, jnp.float32)
    return jax.lax.fori_loop(0, sweeps, sweep, Drawn(template.forced, no_log_p))


def _of_all_notes(weights: Weights | None, shape: tuple[int, ...]) -> Leaning | None:
    """Return weights with all notes of all pieces as their first axis."""
    if weights is None:
        return None
    notes = jnp.broadcast_to(weights.notes, (*shape, VOCABULARY))
    # Weights of moving do not apply.
    return Leaning(notes.reshape(-1, VOCABULARY), moving=jnp.float32(0))


def _sweep_keys(keys: Keys, number: Int[Array, ""]) -> tuple[Keys, Keys]:
    """Return keys for each piece of a sweep: of what it hides, and of what it draws."""

    def of_piece(key: Key) -> Keys:
        return jax.random.split(jax.random.fold_in(key, number))

    split = jax.vmap(of_piece)(keys)
    return split[:, 0], split[:, 1]


def _by_piece(
    distribution: Callable[[Key, tuple[int, ...]], Array],
    keys: Keys,
    shape: tuple[int, ...],
) -> Float[Array, "b *n"]:
    """Draw for each piece by its own key."""
    return jax.vmap(lambda key: distribution(key, shape))(keys)


def _share(
    number: Int[Array, ""],
    sweeps: Int[Array, ""] | int,
) -> Float[Array, ""]:
    """Return the share of the free notes that a sweep, counted from 0, hides; all of them in the first."""
    annealed_sweeps = ANNEALED * jnp.asarray(sweeps, jnp.float32)
    progress = jnp.asarray(number, jnp.float32) / annealed_sweeps
    share = FIRST_SHARE - progress * (FIRST_SHARE - LAST_SHARE)
    return jnp.maximum(LAST_SHARE, share)
