"""Draw chorales from trained networks.

`ancestral` serves the networks that read forward (`NoteNet`, `ChordNet`): note by note on carried states, in one compiled
scan. `gibbs` serves the network that also reads what follows (`FillNet`): sweep by sweep, in a compiled loop. Numbers of
pieces that are close share a compiled program.

Each note is drawn from the network's distribution after temperature, top-k and top-p, in this order: temperature divides
the logits; top-k keeps the k most likely notes (Fan et al. 2018, "Hierarchical neural story generation"); top-p
renormalises these and keeps the smallest set of most likely notes whose probabilities reach p (Holtzman et al. 2020, "The
curious case of neural text degeneration", section 3.1). Reported log-probabilities are those of the network itself,
before any of these.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxseq.common import precision, row_counts
from jaxseq.common.arrays import Key, Tree
from jaxseq.music.evaluation.coherence import FIFTH
from jaxseq.music.networks.chord_net import ChordNet
from jaxseq.music.networks.fill_net import FillNet
from jaxseq.music.networks.inputs import LONGEST
from jaxseq.music.networks.interval_features import OCTAVE, is_note
from jaxseq.music.networks.layers import VOICE_COUNT
from jaxseq.music.networks.note_net import NoteNet
from jaxseq.music.piece import BAR
from jaxseq.music.tokens import MASKED, START, VOCABULARY

RECENT = 2 * VOICE_COUNT - 1
"""Notes from a voice's last chord on to the note before its next one, the voices above included."""
FREE = -1
"""Stands for a note that is to be drawn."""
COLDEST = 1e-30
"""Lowest temperature that is divided by; there, the most likely note is always drawn."""
FIRST_SHARE = 1.0
LAST_SHARE = 0.02
"""Shares of the free notes that the first and the last sweep of Gibbs sampling draw again."""
ANNEALED = 0.75
"""Part of the sweeps over which that share falls linearly from the first to the last."""


class Thresholds(NamedTuple):
    """The numbers of `SamplingOptions` as arrays, so that other values need no new compilation."""

    temperature: Float[Array, ""]
    top_k: Int[Array, ""]
    top_p: Float[Array, ""]


class SamplingOptions(NamedTuple):
    """How notes are drawn; the defaults draw from the network's distribution unchanged.

    temperature      divides the logits; must be above 0
    top_k            number of most likely notes to draw from
    top_p            probability that the notes to draw from reach together
    avoid_parallels  whether to exclude notes that `parallel` names
    """

    temperature: float = 1.0
    top_k: int = VOCABULARY
    top_p: float = 1.0
    avoid_parallels: bool = False

    @property
    def truncates(self) -> bool:
        """Whether top-k or top-p excludes any note."""
        return self.top_k < VOCABULARY or self.top_p < 1

    @property
    def thresholds(self) -> Thresholds:
        """The numbers as arrays."""
        return Thresholds(
            temperature=jnp.float32(self.temperature),
            top_k=jnp.int32(self.top_k),
            top_p=jnp.float32(self.top_p),
        )


UNCHANGED = SamplingOptions()


class Drawn(NamedTuple):
    """Drawn symbols.

    log_probability  of each symbol by the network; NaN where the network gives none
    """

    tokens: Int[Array, "b t 4"]
    log_probability: Float[Array, "b t 4"]


class _Program(NamedTuple):
    """Settings that decide what is compiled.

    truncates        as `SamplingOptions.truncates`
    avoid_parallels  as in `SamplingOptions`
    started          whether pieces begin with a start symbol
    """

    truncates: bool
    avoid_parallels: bool = False
    started: bool = True


class _Template(NamedTuple):
    """Symbols with `FREE` where one is to be drawn, and the position in the bar of each step."""

    forced: Int[Array, "b t 4"]
    places: Int[Array, "t"]


def gibbs(
    model: FillNet,
    variables: Tree,
    key: Key,
    forced: Int[np.ndarray, "b t 4"],
    positions: Int[np.ndarray, "t"],
    options: SamplingOptions = UNCHANGED,
    sweeps: int = 128,
) -> Drawn:
    """Complete pieces by a network that reads both directions: annealed blocked Gibbs sampling.

    Each sweep hides a random share of the free notes and draws them again, all at once, from the network's distributions
    given the others. The share falls from all notes to a few (Yao et al. 2014, "On the equivalence between deep NADE and
    generative stochastic networks"; used in Coconet, Huang et al. 2017). Forced notes never change.

    The log-probability of a note is that at its last draw, given the notes that were not drawn with it, so that their sum
    is not a likelihood of the piece. That of a forced note is NaN.
    """
    count = len(forced)
    # The bits of a piece do not depend on the pieces after it, as pieces are the first axis of all that is drawn.
    filled = row_counts.filled_up(forced, row_counts.shared(count))
    drawn = _sweeps(
        model,
        _Program(options.truncates),
        variables,
        key,
        template=_template(filled, positions),
        thresholds=options.thresholds,
        sweeps=sweeps,
    )
    return _first_pieces(drawn, count)


def _first_pieces(drawn: Drawn, count: int) -> Drawn:
    """Return the first pieces."""
    # Cut by numpy, as JAX compiles a cut for each number of them.
    return Drawn(*(jnp.asarray(np.asarray(part)[:count]) for part in drawn))


def _template(
    forced: Int[np.ndarray, "b t 4"],
    positions: Int[np.ndarray, "t"],
) -> _Template:
    # The networks know the positions of one bar of four quarters; later ones in a longer bar share the last.
    places = jnp.minimum(jnp.asarray(positions, jnp.int32), BAR - 1)
    return _Template(jnp.asarray(forced, jnp.int32), places)


@partial(jax.jit, static_argnames=("model", "program"))
@precision.in_full()
def _sweeps(
    model: FillNet,
    program: _Program,
    variables: Tree,
    key: Key,
    template: _Template,
    thresholds: Thresholds,
    sweeps: Int[Array, ""] | int,
) -> Drawn:
    forced, places = template
    shape = forced.shape
    free = forced == FREE
    place_column = jnp.broadcast_to(places[:, None], (*shape[:2], 1))

    def sweep(number: Int[Array, ""], drawn: Drawn) -> Drawn:
        hide_key, draw_key = jax.random.split(jax.random.fold_in(key, number))
        share = _share(number, sweeps)
        hidden = free & (jax.random.uniform(hide_key, shape) < share)

        visible = jnp.where(hidden, MASKED, drawn.tokens)
        x = jnp.concatenate([visible, place_column], axis=-1)
        _, all_logits = model.apply(variables, x)
        logits = jnp.asarray(all_logits).reshape(-1, VOCABULARY)
        noise = jax.random.gumbel(draw_key, logits.shape)
        chosen = _choose(logits, noise, program, thresholds)

        return Drawn(
            tokens=jnp.where(hidden, chosen.note.reshape(shape), drawn.tokens),
            log_probability=jnp.where(hidden, chosen.log_p.reshape(shape), drawn.log_probability),
        )

    no_log_p = jnp.full(shape, jnp.nan, jnp.float32)
    return jax.lax.fori_loop(0, sweeps, sweep, Drawn(forced, no_log_p))


def _share(
    number: Int[Array, ""],
    sweeps: Int[Array, ""] | int,
) -> Float[Array, ""]:
    """Return the share of the free notes that a sweep, counted from 0, hides; all of them in the first."""
    annealed_sweeps = ANNEALED * jnp.asarray(sweeps, jnp.float32)
    progress = jnp.asarray(number, jnp.float32) / annealed_sweeps
    share = FIRST_SHARE - progress * (FIRST_SHARE - LAST_SHARE)
    return jnp.maximum(LAST_SHARE, share)


def ancestral(
    model: NoteNet | ChordNet,
    variables: Tree,
    key: Key,
    forced: Int[np.ndarray, "b t 4"],
    positions: Int[np.ndarray, "t"],
    options: SamplingOptions = UNCHANGED,
    started: bool = True,
) -> Drawn:
    """Draw pieces forward in time; within a step, in the order of the voices, each given everything before it.

    forced     symbols that stay, and `FREE` where one is to be drawn
    positions  sixteenths since the bar line
    started    whether the network was trained on pieces that begin with a start symbol

    Without a start symbol, a network has no distribution of the first note. Raises `ValueError` if that is free in any
    row; its log-probability is NaN.
    """
    first_notes = np.asarray(forced)[:, 0, 0]
    if not started and (first_notes == FREE).any():
        raise ValueError("forced[:, 0, 0] is free; the model was trained on windows, whose first note is given")

    count, steps, _ = forced.shape
    draw_all = _by_chord
    shape: tuple[int, ...] = (steps, VOICE_COUNT, count, VOCABULARY)
    if isinstance(model, NoteNet):
        draw_all = _by_note
        notes = VOICE_COUNT * steps
        # A first note that is given is read, not drawn.
        if not started:
            notes -= 1
        shape = (notes, count, VOCABULARY)

    # For the exact number of pieces: the bits of each piece depend on it.
    noise = np.asarray(_noise(key, shape))
    rows = row_counts.shared(count)
    padding = [(0, 0)] * noise.ndim
    padding[-2] = (0, rows - count)
    drawn = draw_all(
        model,
        _Program(options.truncates, options.avoid_parallels, started),
        variables,
        jnp.asarray(np.pad(noise, padding)),
        template=_template(row_counts.filled_up(forced, rows), positions),
        thresholds=options.thresholds,
    )
    return _first_pieces(drawn, count)


@partial(jax.jit, static_argnames="shape")
def _noise(key: Key, shape: tuple[int, ...]) -> Float[Array, "*n"]:
    """Draw the noise of all notes before the scan over them: drawn note by note it would take a quarter of the time."""
    return jax.random.gumbel(key, shape)


class _NoteState(NamedTuple):
    """State of the scan over notes: the network's own states, and the last seven notes."""

    carries: Tree
    recent: Int[Array, "b 7"]


class _NoteStep(NamedTuple):
    """Inputs of one step of the scan over notes.

    code    16 * voice + place in the bar
    number  of the step, from 0
    noise   that the note is drawn by
    """

    forced: Int[Array, "*t b"]
    code: Int[Array, "*t"]
    number: Int[Array, "*t"]
    noise: Float[Array, "*t b v"]


@partial(jax.jit, static_argnames=("model", "program"))
@precision.in_full()
def _by_note(
    model: NoteNet,
    program: _Program,
    variables: Tree,
    noise: Float[Array, "m b v"],
    template: _Template,
    thresholds: Thresholds,
) -> Drawn:
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

    def step(state: _NoteState, now: _NoteStep) -> tuple[_NoteState, _Chosen]:
        recent = state.recent
        code_column = jnp.full(rows, now.code)
        x = jnp.stack([recent[:, -1], code_column], axis=-1)
        carries, logits = read(x[:, None], state.carries, now.number)

        chosen = _choose(
            logits[:, 0],
            now.noise,
            program,
            thresholds,
            forced=now.forced,
            excluded=_parallel_to_recent(recent, now.code) if program.avoid_parallels else None,
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
    state = _NoteState(_zeros(carries), recent.at[:, -1].set(first))

    count = VOICE_COUNT * steps - drawn_from
    inputs = _NoteStep(
        forced=forced[drawn_from:],
        code=codes[drawn_from:],
        number=jnp.arange(count),
        noise=noise,
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


class _ChordState(NamedTuple):
    """State of the scan over chords.

    carries  the network's own states
    before   the last chord; `lasted` is for how many steps each voice has had its note
    """

    carries: Tree
    before: Int[Array, "b 4"]
    lasted: Int[Array, "b 4"]


class _ChordStep(NamedTuple):
    """Inputs of one step of the scan over chords.

    place   position in the bar
    number  of the step, from 0
    noise   that each voice is drawn by
    """

    forced: Int[Array, "*t b 4"]
    place: Int[Array, "*t"]
    number: Int[Array, "*t"]
    noise: Float[Array, "*t 4 b v"]


@partial(jax.jit, static_argnames=("model", "program"))
@precision.in_full()
def _by_chord(
    model: ChordNet,
    program: _Program,
    variables: Tree,
    noise: Float[Array, "t 4 b v"],
    template: _Template,
    thresholds: Thresholds,
) -> Drawn:
    rows, steps, _ = template.forced.shape

    def read(
        x: Int[Array, "b 1 13"],
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

    def step(state: _ChordState, now: _ChordStep) -> tuple[_ChordState, _Chosen]:
        before = state.before
        # In training, the second chord in a row is the one to predict. `read` does not look at it.
        unread = before
        place_column = jnp.full((rows, 1), now.place)
        x = jnp.concatenate([before, unread, state.lasted, place_column], axis=-1)
        carries, context = read(x[:, None], state.carries, now.number)

        chord = []
        log_p = []
        for voice in range(VOICE_COUNT):
            excluded = None
            # The soprano has no voice above it.
            if program.avoid_parallels and voice:
                above = jnp.stack(chord, axis=-1)
                excluded = parallel(before[:, voice], before[:, :voice], above)
            logits = model.apply(variables, context[:, 0], before, chord, voice, method=_voice)
            chosen = _choose(
                jnp.asarray(logits),
                now.noise[voice],
                program,
                thresholds,
                forced=now.forced[:, voice],
                excluded=excluded,
            )
            chord.append(chosen.note)
            log_p.append(chosen.log_p)

        notes = jnp.stack(chord, axis=-1)
        longer = jnp.minimum(state.lasted + 1, LONGEST)
        lasted = jnp.where(notes == before, longer, 1)
        return _ChordState(carries, notes, lasted), _Chosen(notes, jnp.stack(log_p, axis=-1))

    # Without a start symbol, nothing is known of the chord before the first.
    before_first = START if program.started else MASKED
    before = jnp.full((rows, VOICE_COUNT), before_first)
    row = jax.ShapeDtypeStruct((rows, 1, 3 * VOICE_COUNT + 1), jnp.int32)
    carries, _ = jax.eval_shape(read, row, None, 0)
    state = _ChordState(_zeros(carries), before, lasted=jnp.zeros_like(before))

    inputs = _ChordStep(
        forced=jnp.swapaxes(template.forced, 0, 1),
        place=template.places,
        number=jnp.arange(steps),
        noise=noise,
    )
    _, (notes, log_p) = jax.lax.scan(step, state, inputs)

    # A network of windows has an output for the first note, which it was never trained on.
    if not program.started:
        log_p = log_p.at[0, :, 0].set(jnp.nan)
    return Drawn(jnp.swapaxes(notes, 0, 1), jnp.swapaxes(log_p, 0, 1))


def _voice(
    model: ChordNet,
    context: Float[Array, "b h"],
    before: Int[Array, "b 4"],
    above: list[Int[Array, "b"]],
    number: int,
) -> Float[Array, "b v"]:
    """Return the logits of one voice; called by `apply`, bound to the module."""
    notes = jnp.zeros((len(context), 0), jnp.int32)
    if above:
        notes = jnp.stack(above, axis=-1)
    return model.voice(context, before, notes, number)


def parallel(
    last: Int[Array, "b"],
    before: Int[Array, "b n"],
    now: Int[Array, "b n"],
) -> Bool[Array, "b v"]:
    """Return which notes would make parallel fifths, octaves or unisons with a voice above.

    `last` is the last note of the voice itself, `before` and `now` are the notes of the voices above. Parallels are those
    that `music.evaluation.coherence` counts. A symbol that is no note makes none.
    """
    motion = now - before
    target = last[:, None] + motion
    interval = (now - target) % OCTAVE
    is_perfect = (interval == 0) | (interval == FIFTH)
    sounding = is_note(now) & is_note(before) & is_note(last)[:, None]
    # Two voices that both stay are no parallels.
    excluded = sounding & (motion != 0) & is_perfect

    is_target = jnp.arange(VOCABULARY) == target[..., None]
    return (is_target & excluded[..., None]).any(axis=1)


def _zeros(like: Tree) -> Tree:
    """Return the states before the first step."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)


class _Chosen(NamedTuple):
    """Notes of one step, with the network's log-probability of each."""

    note: Int[Array, "b *4"]
    log_p: Float[Array, "b *4"]


def _choose(
    logits: Float[Array, "b v"],
    noise: Float[Array, "b v"],
    program: _Program,
    thresholds: Thresholds,
    forced: Int[Array, "b"] | None = None,
    excluded: Bool[Array, "b v"] | None = None,
) -> _Chosen:
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
    return _Chosen(note, log_p_note[:, 0])


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
