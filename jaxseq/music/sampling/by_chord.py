"""Draw pieces chord by chord, with a network that reads chords."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxseq.common import precision
from jaxseq.common.arrays import Tree
from jaxseq.music.networks import reprise
from jaxseq.music.networks.chord_net import ChordNet
from jaxseq.music.networks.inputs import CHORD_WIDTH, LONGEST
from jaxseq.music.networks.layers import VOICE_COUNT
from jaxseq.music.networks.reprise import Memory
from jaxseq.music.sampling.choose import Bounds, Chosen, Leaning, Program, choose
from jaxseq.music.sampling.drawn import Drawn, Template, by_time, zeros
from jaxseq.music.sampling.options import Thresholds
from jaxseq.music.sampling.rules import parallel
from jaxseq.music.tokens import MASKED, START


class _ChordState(NamedTuple):
    """State of the scan over chords.

    carries  the network's own states
    before   the last chord; `lasted` is for how many steps each voice has had its note
    memory   all chords so far; None for a network without reprises
    """

    carries: Tree
    before: Int[Array, "b 4"]
    lasted: Int[Array, "b 4"]
    memory: Memory | None


class _ChordStep(NamedTuple):
    """Inputs of one step of the scan over chords.

    place   position in the bar
    known   columns of `music.conditions`, if the network reads them
    number  of the step, from 0
    noise   that each voice is drawn by
    leaning  weights of each voice's notes, if there are any
    """

    forced: Int[Array, "*t b 4"]
    place: Int[Array, "*t"]
    known: Int[Array, "*t b _"]
    number: Int[Array, "*t"]
    noise: Float[Array, "*t 4 b v"]
    leaning: Leaning | None


@partial(jax.jit, static_argnames=("model", "program"))
@precision.in_full()
def by_chord(
    model: ChordNet,
    program: Program,
    variables: Tree,
    noise: Float[Array, "t 4 b v"],
    template: Template,
    thresholds: Thresholds,
) -> Drawn:
    """Draw the free notes of a template in one compiled scan over its chords."""
    rows, steps, _ = template.forced.shape

    def read(
        x: Int[Array, "b 1 _"],
        carries: Tree,
        first: Int[Array, ""] | int,
    ) -> tuple[Tree, Float[Array, "b 1 h"]]:
        carries, context = model.apply(
            variables,
            x,
            lengths=None,
            train=False,
            carries=carries,
            first=first,
            method="read",
        )
        return carries, jnp.asarray(context)

    def step(state: _ChordState, now: _ChordStep) -> tuple[_ChordState, Chosen]:
        before = state.before
        # In training, the second chord in a row is the one to predict. `read` does not look at it.
        unread = before
        place_column = jnp.full((rows, 1), now.place)
        x = jnp.concatenate([before, unread, state.lasted, place_column, now.known], axis=-1)
        carries, context = read(x[:, None], state.carries, now.number)
        further = now.known
        if state.memory is not None:
            further = jnp.concatenate([further, reprise.recall(state.memory)], axis=-1)

        chord = []
        log_p = []
        for voice in range(VOICE_COUNT):
            excluded = None
            # The soprano has no voice above it.
            if program.avoid_parallels and voice:
                above = jnp.stack(chord, axis=-1)
                excluded = parallel(before[:, voice], before[:, :voice], above)
            logits = model.apply(variables, context[:, 0], before, chord, voice, further, method=_voice)
            chosen = choose(
                jnp.asarray(logits),
                now.noise[voice],
                program,
                thresholds,
                Bounds(
                    forced=now.forced[:, voice],
                    excluded=excluded,
                    last=before[:, voice],
                    leaning=_of_voice(now.leaning, voice),
                ),
            )
            chord.append(chosen.note)
            log_p.append(chosen.log_p)

        notes = jnp.stack(chord, axis=-1)
        longer = jnp.minimum(state.lasted + 1, LONGEST)
        lasted = jnp.where(notes == before, longer, 1)
        memory = None
        if state.memory is not None:
            memory = reprise.remember(state.memory, notes, now.number)
        return _ChordState(carries, notes, lasted, memory), Chosen(notes, jnp.stack(log_p, axis=-1))

    # Without a start symbol, nothing is known of the chord before the first.
    before_first = START if program.started else MASKED
    before = jnp.full((rows, VOICE_COUNT), before_first)
    row = jax.ShapeDtypeStruct((rows, 1, CHORD_WIDTH + template.known.shape[-1]), jnp.int32)
    carries, _ = jax.eval_shape(read, row, None, 0)
    memory = None
    if model.reprises:
        memory = reprise.start(rows, steps)
    state = _ChordState(zeros(carries), before, lasted=jnp.zeros_like(before), memory=memory)

    leaning = None
    if template.weights is not None:
        leaning = by_time(template.weights)

    inputs = _ChordStep(
        forced=jnp.swapaxes(template.forced, 0, 1),
        place=template.places,
        known=jnp.swapaxes(template.known, 0, 1),
        number=jnp.arange(steps),
        noise=noise,
        leaning=leaning,
    )
    _, (notes, log_p) = jax.lax.scan(step, state, inputs)

    # A network of windows has an output for the first note, which it was never trained on.
    if not program.started:
        log_p = log_p.at[0, :, 0].set(jnp.nan)
    return Drawn(jnp.swapaxes(notes, 0, 1), jnp.swapaxes(log_p, 0, 1))


def _of_voice(leaning: Leaning | None, voice: int) -> Leaning | None:
    """Return the weights of one voice, of those of a step: notes are "4 #b v"."""
    if leaning is None:
        return None
    return leaning._replace(notes=leaning.notes[voice])


def _voice(
    model: ChordNet,
    context: Float[Array, "b h"],
    before: Int[Array, "b 4"],
    above: list[Int[Array, "b"]],
    number: int,
    further: Int[Array, "b _"],
) -> Float[Array, "b v"]:
    """Return the logits of one voice; called by `apply`, bound to the module."""
    notes = jnp.zeros((len(context), 0), jnp.int32)
    if above:
        notes = jnp.stack(above, axis=-1)
    return model.voice(context, before, notes, number, further=further)
