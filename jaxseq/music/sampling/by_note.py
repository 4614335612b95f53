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
from jaxseq.music.sampling.drawn import Drawn, Template, by_time
from jaxseq.music.sampling.in_turn import draw_in_turn
from jaxseq.music.sampling.options import Thresholds
from jaxseq.music.sampling.rules import parallel
from jaxseq.music.sampling.weights import Weights
from jaxseq.music.tokens import START

RECENT = 2 * VOICE_COUNT - 1
"""Notes from a voice's last chord on to the note before its next one, the voices above included."""


class _NoteStep(NamedTuple):
    """Inputs of one step of the scan over notes.

    code     16 * voice + place in the bar
    number   of the step, from 0
    noise    that the note is drawn by
    leaning  weights of the voice's notes, if there are any
    """

    forced: Int[Array, "*t b"]
    code: Int[Array, "*t"]
    number: Int[Array, "*t"]
    noise: Float[Array, "*t b v"]
    leaning: Leaning | None


class _Notes(NamedTuple):
    """A network of notes as an `in_turn.Drawer`, which knows the last seven notes.

    drawn_from  number of the first note that is drawn
    """

    model: NoteNet
    program: Program
    variables: Tree
    thresholds: Thresholds
    drawn_from: int

    def row(self, recent: Int[Array, "b 7"], now: _NoteStep) -> Int[Array, "b 2"]:
        code_column = jnp.full(len(recent), now.code)
        return jnp.stack([recent[:, -1], code_column], axis=-1)

    def read(
        self,
        x: Int[Array, "b 1 2"],
        carries: Tree,
        first: Int[Array, ""] | int,
    ) -> tuple[Tree, Float[Array, "b 1 v"]]:
        carries, logits = self.model.apply(self.variables, x, carries=carries, first=first)
        return carries, jnp.asarray(logits)

    def choose(self, output: Float[Array, "b v"], recent: Int[Array, "b 7"], now: _NoteStep) -> Chosen:
        excluded = None
        if self.program.avoid_parallels:
            excluded = _parallel_to_recent(recent, now.code)
        # In the first chord no voice has a last note.
        is_first_chord = now.number + self.drawn_from < VOICE_COUNT
        last = jnp.where(is_first_chord, START, recent[:, -VOICE_COUNT])
        bounds = Bounds(forced=now.forced, excluded=excluded, last=last, leaning=now.leaning)
        return choose(output, now.noise, self.program, self.thresholds, bounds)

    def remember(self, recent: Int[Array, "b 7"], chosen: Chosen, now: _NoteStep) -> Int[Array, "b 7"]:
        return jnp.concatenate([recent[:, 1:], chosen.note[:, None]], axis=1)


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

    first = jnp.full(rows, START)
    drawn_from = 0
    # Without a start symbol the first note is read, not drawn.
    if not program.started:
        first = forced[0]
        drawn_from = 1
    recent = jnp.zeros((rows, RECENT), jnp.int32)

    notes, log_p = draw_in_turn(
        _Notes(model, program, variables, thresholds, drawn_from),
        recent.at[:, -1].set(first),
        _NoteStep(
            forced=forced[drawn_from:],
            code=codes[drawn_from:],
            number=jnp.arange(VOICE_COUNT * steps - drawn_from),
            noise=noise,
            leaning=_by_note(template.weights, drawn_from),
        ),
    )

    if not program.started:
        no_log_p = jnp.full_like(log_p[:1], jnp.nan)
        notes = jnp.concatenate([forced[:1], notes])
        log_p = jnp.concatenate([no_log_p, log_p])
    shape = (rows, steps, VOICE_COUNT)
    return Drawn(notes.T.reshape(shape), log_p.T.reshape(shape))


def _by_note(weights: Weights | None, drawn_from: int) -> Leaning | None:
    """Return weights with the drawn notes as their first axis: notes are "m #b v"."""
    if weights is None:
        return None
    of_steps = by_time(weights)
    notes = of_steps.notes.reshape(-1, *of_steps.notes.shape[2:])
    moving = jnp.repeat(of_steps.moving, VOICE_COUNT)
    return Leaning(notes[drawn_from:], moving[drawn_from:])


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
