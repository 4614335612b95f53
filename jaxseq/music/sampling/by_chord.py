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
from jaxseq.music.networks.inputs import LONGEST
from jaxseq.music.networks.layers import VOICE_COUNT
from jaxseq.music.networks.reprise import Memory
from jaxseq.music.sampling.choose import Bounds, Chosen, Leaning, Program, choose
from jaxseq.music.sampling.drawn import Drawn, Template, by_time
from jaxseq.music.sampling.in_turn import draw_in_turn
from jaxseq.music.sampling.options import Thresholds
from jaxseq.music.sampling.rules import parallel
from jaxseq.music.tokens import MASKED, START


class _Recent(NamedTuple):
    """The chords so far.

    before  the last chord
    lasted  for how many steps each voice has had its note
    memory  all chords; None for a network without reprises
    """

    before: Int[Array, "b 4"]
    lasted: Int[Array, "b 4"]
    memory: Memory | None


class _ChordStep(NamedTuple):
    """Inputs of one step of the scan over chords.

    place    position in the bar
    known    columns of `music.conditions`, if the network reads them
    number   of the step, from 0
    noise    that each voice is drawn by
    leaning  weights of each voice's notes, if there are any
    """

    forced: Int[Array, "*t b 4"]
    place: Int[Array, "*t"]
    known: Int[Array, "*t b _"]
    number: Int[Array, "*t"]
    noise: Float[Array, "*t 4 b v"]
    leaning: Leaning | None


class _Chords(NamedTuple):
    """A network of chords as an `in_turn.Drawer`: each of its steps draws all voices, each by those above it."""

    model: ChordNet
    program: Program
    variables: Tree
    thresholds: Thresholds

    def row(self, recent: _Recent, now: _ChordStep) -> Int[Array, "b _"]:
        # In training, the second chord in a row is the one to predict. `read` does not look at it.
        unread = recent.before
        place_column = jnp.full((len(unread), 1), now.place)
        return jnp.concatenate([recent.before, unread, recent.lasted, place_column, now.known], axis=-1)

    def read(
        self,
        x: Int[Array, "b 1 _"],
        carries: Tree,
        first: Int[Array, ""] | int,
    ) -> tuple[Tree, Float[Array, "b 1 h"]]:
        carries, context = self.model.apply(
            self.variables,
            x,
            lengths=None,
            train=False,
            carries=carries,
            first=first,
            method="read",
        )
        return carries, jnp.asarray(context)

    def choose(self, output: Float[Array, "b h"], recent: _Recent, now: _ChordStep) -> Chosen:
        further = now.known
        if recent.memory is not None:
            further = jnp.concatenate([further, reprise.recall(recent.memory)], axis=-1)

        chord: list[Int[Array, "b"]] = []
        log_p = []
        for voice in range(VOICE_COUNT):
            logits = self.model.apply(
                self.variables, output, recent.before, chord, voice, further, method=_logits_of_voice
            )
            chosen = choose(
                jnp.asarray(logits),
                now.noise[voice],
                self.program,
                self.thresholds,
                self._bounds(voice, chord, recent, now),
            )
            chord.append(chosen.note)
            log_p.append(chosen.log_p)
        return Chosen(jnp.stack(chord, axis=-1), jnp.stack(log_p, axis=-1))

    def _bounds(
        self,
        voice: int,
        above: list[Int[Array, "b"]],
        recent: _Recent,
        now: _ChordStep,
    ) -> Bounds:
        """Return the bounds of a voice's note below the notes of the voices above it."""
        excluded = None
        # The soprano has no voice above it.
        if self.program.avoid_parallels and voice:
            excluded = parallel(recent.before[:, voice], recent.before[:, :voice], jnp.stack(above, axis=-1))
        leaning = now.leaning
        if leaning is not None:
            leaning = leaning._replace(notes=leaning.notes[voice])
        return Bounds(
            forced=now.forced[:, voice],
            excluded=excluded,
            last=recent.before[:, voice],
            leaning=leaning,
        )

    def remember(self, recent: _Recent, chosen: Chosen, now: _ChordStep) -> _Recent:
        longer = jnp.minimum(recent.lasted + 1, LONGEST)
        lasted = jnp.where(chosen.note == recent.before, longer, 1)
        memory = None
        if recent.memory is not None:
            memory = reprise.remember(recent.memory, chosen.note, now.number)
        return _Recent(chosen.note, lasted, memory)


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
    # Without a start symbol, nothing is known of the chord before the first.
    before_first = START if program.started else MASKED
    before = jnp.full((rows, VOICE_COUNT), before_first)
    memory = None
    if model.reprises:
        memory = reprise.start(rows, steps)
    leaning = None
    if template.weights is not None:
        leaning = by_time(template.weights)

    notes, log_p = draw_in_turn(
        _Chords(model, program, variables, thresholds),
        _Recent(before, lasted=jnp.zeros_like(before), memory=memory),
        _ChordStep(
            forced=jnp.swapaxes(template.forced, 0, 1),
            place=template.places,
            known=jnp.swapaxes(template.known, 0, 1),
            number=jnp.arange(steps),
            noise=noise,
            leaning=leaning,
        ),
    )

    # A network of windows has an output for the first note, which it was never trained on.
    if not program.started:
        log_p = log_p.at[0, :, 0].set(jnp.nan)
    return Drawn(jnp.swapaxes(notes, 0, 1), jnp.swapaxes(log_p, 0, 1))


def _logits_of_voice(
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
