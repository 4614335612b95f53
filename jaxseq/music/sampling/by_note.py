"""Draw pieces note by note, with a network that reads notes."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxseq.common import precision
from jaxseq.common.arrays import Tree
from jaxseq.music.networks.layers import VOICE_COUNT
from jaxseq.music.networks.note_net import NoteNet
from jaxseq.music.piece import BAR
from jaxseq.music.sampling.choose import Bounds, Chosen, Leaning, Program, choose
from jaxseq.music.sampling.drawn import Drawn, Template, by_time, zeros
from jaxseq.music.sampling.options import Thresholds
from jaxseq.music.sampling.rules import parallel
from jaxseq.music.tokens import START

RECENT = 2 * VOICE_COUNT - 1
"""Notes from a voice's last chord on to the note before its next one, the voices above included."""


class _NoteState(NamedTuple):
    """State of the scan over notes: the network's own states, and the last seven notes."""

    carries: Tree
    recent: Int[Array, "b 7"]


class _NoteStep(NamedTuple):
    """Inputs of one step of the scan over notes.

    code    16 * voice + place in the bar
    number  of the step, from 0
    noise   that the note is drawn by
    leaning  weights of the voice's notes, if there are any
    """

    forced: Int[Array, "*t b"]
    code: Int[Array, "*t"]
    number: Int[Array, "*t"]
    noise: Float[Array, "*t b v"]
    leaning: Leaning | None


@partial(jax.jit, static_argnames=("model", "program"))
@precision.in_full()
def by_note(
    model: NoteNet,
    program: Program,
    variables: Tree,
    noise: Float[Array, "m b v"],
    template: Template,
    thresholds: Thresholds,
) -> Drawn:
    """Draw the free notes of a template in one compiled scan over its notes."""
    rows, steps, _ = template.forced.shape
    forced = template.forced.reshape(rows, -1).T
    voice_codes = BAR * jnp.arange(VOICE_COUNT)
    codes = (voice_codes + template.places[:, None]).ravel()

    def read(
        x: Int[Array, "b 1 2"],
        carries: Tree,
        first: Int[Array, ""] | int,
    ) -> tuple[Tree, Float[Array, "b 1 v"]]:
        carries, logits = model.apply(variables, x, carries=carries, first=first)
        return carries, jnp.asarray(logits)

    def step(state: _NoteState, now: _NoteStep) -> tuple[_NoteState, Chosen]:
        recent = state.recent
        code_column = jnp.full(rows, now.code)
        x = jnp.stack([recent[:, -1], code_column], axis=-1)
        carries, logits = read(x[:, None], state.carries, now.number)

        chosen = choose(
            logits[:, 0],
            now.noise,
            program,
            thresholds,
            Bounds(
                forced=now.forced,
                excluded=_parallel_to_recent(recent, now.code) if program.avoid_parallels else None,
                # In the first chord no voice has a last note.
                last=jnp.where(now.number + drawn_from < VOICE_COUNT, START, recent[:, -VOICE_COUNT]),
                leaning=now.leaning,
            ),
        )
        recent = jnp.concatenate([recent[:, 1:], chosen.note[:, None]], axis=1)
        return _NoteState(carries, recent), chosen

    first = jnp.full(rows, START)
    drawn_from = 0
    # Without a start symbol the first note is read, not drawn.
    if not program.started:
        first = forced[0]
        drawn_from = 1

    row = jax.ShapeDtypeStruct((rows, 1, 2), jnp.int32)
    carries, _ = jax.eval_shape(read, row, None, 0)
    recent = jnp.zeros((rows, RECENT), jnp.int32)
    state = _NoteState(zeros(carries), recent.at[:, -1].set(first))

    leaning = None
    if template.weights is not None:
        by_chord = by_time(template.weights)
        notes = by_chord.notes.reshape(-1, *by_chord.notes.shape[2:])
        moving = jnp.repeat(by_chord.moving, VOICE_COUNT)
        leaning = Leaning(notes[drawn_from:], moving[drawn_from:])

    count = VOICE_COUNT * steps - drawn_from
    inputs = _NoteStep(
        forced=forced[drawn_from:],
        code=codes[drawn_from:],
        number=jnp.arange(count),
        noise=noise,
        leaning=leaning,
    )
    _, (notes, log_p) = jax.lax.scan(step, state, inputs)

    if not program.started:
        no_log_p = jnp.full_like(log_p[:1], jnp.nan)
        notes = jnp.concatenate([forced[:1], notes])
        log_p = jnp.concatenate([no_log_p, log_p])
    shape = (rows, steps, VOICE_COUNT)
    return Drawn(notes.T.reshape(shape), log_p.T.reshape(shape))


def _parallel_to_recent(
    recent: Int[Array, "b 7"],
    code: Int[Array, ""],
) -> Bool[Array, "b v"]:
    """Return which notes would make parallels with the voices above, by the notes drawn last."""
    # Four notes back is this voice's last one. The three notes before it are those of the voices above in the last chord,
    # the three after it those in this chord; a higher voice has fewer voices above, and other notes stand there.
    last = recent[:, -VOICE_COUNT]
    before = recent[:, : VOICE_COUNT - 1]
    now = recent[:, 1 - VOICE_COUNT :]
    voice = code // BAR
    is_above = jnp.arange(1 - VOICE_COUNT, 0) >= -voice
    # Symbol 0 is a rest, which is parallel to nothing.
    return parallel(last, before, jnp.where(is_above, now, 0))
