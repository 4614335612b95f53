"""Music from the models of chorales: `compose` by those that read forward, note by note on carried states, in one compiled
scan; `fill` by those that know what comes after, too, in a compiled loop.

Each note is drawn from the model's distribution after temperature, top-k and top-p, in this order: temperature divides
the logits; top-k leaves the k likeliest (Fan et al. 2018, "Hierarchical neural story generation"); of these, renormalised,
top-p leaves the smallest set of the likeliest whose probabilities reach p (Holtzman et al. 2020, "The curious case of
neural text degeneration", section 3.1). Log-likelihoods are those of the model as it is, whatever a note was drawn from.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

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
from jaxseq.nn import apply

FREE = -1
"""In the place of a note that is to be drawn."""
COLDEST = 1e-30
"""Temperatures below are as this: the likeliest note, always."""
FIRST_SHARE, LAST_SHARE, ANNEALED = 1.0, 0.02, 0.75
"""Share of the free notes that a sweep draws anew: of the first, of the last, and the part of the sweeps in which it falls
from the one to the other."""


class Manner(NamedTuple):
    """How notes are drawn. With the defaults: from the model's distribution as it is."""

    temperature: float = 1.0
    top_k: int = VOCABULARY
    top_p: float = 1.0
    avoid_parallels: bool = False
    """Never draw a note that moves with a voice above by one interval into a fifth, an octave or a unison with it."""

    @property
    def filters(self) -> bool:
        """Whether any note is ruled out."""
        return self.top_k < VOCABULARY or self.top_p < 1


AS_IT_IS = Manner()


class Music(NamedTuple):
    """What was composed: symbols, and of each its log-probability given all before it; NaN where the model has none."""

    tokens: Int[Array, "b t 4"]
    log_probability: Float[Array, "b t 4"]


def fill(
    model: FillNet,
    params: Tree,
    stats: Tree,
    key: Key,
    forced: Int[np.ndarray, "b t 4"],
    positions: Int[np.ndarray, "t"],
    manner: Manner = AS_IT_IS,
    sweeps: int = 128,
) -> Music:
    """As `compose`, by a model that knows the notes before and after: annealed blocked Gibbs sampling.

    Each sweep hides a random share of the free notes and draws them anew, all at once, from what the model says of each
    given those that are left; the share shrinks, from all to a few (Yao et al. 2014, "On the equivalence between deep
    NADE and generative stochastic networks"; used so in Coconet, Huang et al. 2017). Forced notes are
    never touched. The log-probability of a note is that at its last draw, given all that was not drawn with it, so they
    add up to no likelihood of the piece; that of a forced note is NaN.
    """
    given, places = jnp.asarray(forced, jnp.int32), jnp.minimum(jnp.asarray(positions, jnp.int32), BAR - 1)
    return Music(*_sweeps(model, manner.filters, params, stats, key, given, places, _drawing(manner), sweeps))


@partial(jax.jit, static_argnames=("model", "filters"))
def _sweeps(
    model: FillNet,
    filters: bool,
    params: Tree,
    stats: Tree,
    key: Key,
    forced: Int[Array, "b t 4"],
    places: Int[Array, "t"],
    drawing: Any,
    sweeps: Int[Array, ""] | int,
) -> tuple[Array, Array]:
    free = forced == FREE
    column = jnp.broadcast_to(places[:, None], (*forced.shape[:2], 1))

    def sweep(number: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        notes, log_p = state
        hide_key, draw_key = jax.random.split(jax.random.fold_in(key, number))
        hidden = free & (jax.random.uniform(hide_key, free.shape) < _share(number, sweeps))
        x = jnp.concatenate([jnp.where(hidden, MASKED, notes), column], axis=-1)
        logits = apply.apply(model, params, stats, x).reshape(-1, VOCABULARY)
        noise = jax.random.gumbel(draw_key, logits.shape)
        drawn, log_of_drawn = (found.reshape(free.shape) for found in _choose(logits, noise, filters, drawing))
        return jnp.where(hidden, drawn, notes), jnp.where(hidden, log_of_drawn, log_p)

    return jax.lax.fori_loop(0, sweeps, sweep, (forced, jnp.full(forced.shape, jnp.nan, jnp.float32)))


def _share(number: Int[Array, ""], sweeps: Int[Array, ""] | int) -> Float[Array, ""]:
    """The share of the free notes that a sweep, counted from 0, hides; all of them in the first."""
    done = jnp.asarray(number, jnp.float32) / (ANNEALED * jnp.asarray(sweeps, jnp.float32))
    return jnp.maximum(LAST_SHARE, FIRST_SHARE - done * (FIRST_SHARE - LAST_SHARE))


def compose(
    model: NoteNet | ChordNet,
    params: Tree,
    stats: Tree,
    key: Key,
    forced: Int[np.ndarray, "b t 4"],
    positions: Int[np.ndarray, "t"],
    manner: Manner = AS_IT_IS,
    started: bool = True,
) -> Music:
    """So many rows of so many steps: symbols that are forced stay, those that are `FREE` are drawn in the order of the
    voices, each knowing all that stands before it. `positions` are sixteenths since the bar line.

    A model that was not `started` (trained on windows that begin without memory) knows no first note: the soprano's has
    to be forced in every row, and `ValueError` is raised if it is not.
    """
    if not started and (np.asarray(forced)[:, 0, 0] == FREE).any():
        raise ValueError("forced[:, 0, 0] is free; the model was trained on windows, whose first note is given")
    drawing = _drawing(manner)
    way = _by_note if isinstance(model, NoteNet) else _by_chord
    places = jnp.minimum(jnp.asarray(positions, jnp.int32), BAR - 1)
    given = jnp.asarray(forced, jnp.int32)
    rules = manner.filters, manner.avoid_parallels
    return Music(*way(model, rules, started, {"params": params, **stats}, key, given, places, drawing))


def _drawing(manner: Manner) -> tuple[Array, Array, Array]:
    """The numbers of a manner, as arrays: another temperature need not be compiled anew."""
    return jnp.float32(manner.temperature), jnp.int32(manner.top_k), jnp.float32(manner.top_p)


@partial(jax.jit, static_argnames=("model", "rules", "started"))
def _by_note(
    model: NoteNet,
    rules: tuple[bool, bool],
    started: bool,
    variables: Tree,
    key: Key,
    forced: Int[Array, "b t 4"],
    places: Int[Array, "t"],
    drawing: Any,
) -> tuple[Array, Array]:
    (filters, avoid), (rows, steps) = rules, forced.shape[:2]
    flat = forced.reshape(rows, -1).T
    codes = (BAR * jnp.arange(VOICE_COUNT) + places[:, None]).ravel()
    cold = 0 if started else 1

    def advance(x: Array, carries: Any, first: Array) -> Any:
        return model.apply(variables, x, carries=carries, first=first)

    def step(state: Any, now: Any) -> Any:
        carries, recent = state
        given, code, number, noise = now
        x = jnp.stack([recent[:, -1], jnp.full(rows, code)], axis=-1)[:, None]
        carries, logits = advance(x, carries, number)
        out = None
        if avoid:  # of the chord before, the notes of this voice and of those above; of this chord, those above
            above = jnp.arange(1 - VOICE_COUNT, 0) >= -(code // BAR)
            now_above = jnp.where(above, recent[:, 1 - VOICE_COUNT :], 0)
            out = parallel(recent[:, -VOICE_COUNT], recent[:, : VOICE_COUNT - 1], now_above)
        note, log_p = _choose(logits[:, 0], noise, filters, drawing, given, out)
        return (carries, jnp.concatenate([recent[:, 1:], note[:, None]], axis=1)), (note, log_p)

    first = jnp.full(rows, START) if started else flat[0]
    row = jax.ShapeDtypeStruct((rows, 1, 2), jnp.int32)
    carries = _zeros(jax.eval_shape(advance, row, None, 0)[0])
    count = VOICE_COUNT * steps - cold
    # Drawn all at once: note by note, the draws take a quarter of the time.
    noise = jax.random.gumbel(key, (count, rows, VOCABULARY))
    now = flat[cold:], codes[cold:], jnp.arange(count), noise
    recent = jnp.zeros((rows, 2 * VOICE_COUNT - 1), jnp.int32).at[:, -1].set(first)
    _, (notes, log_p) = jax.lax.scan(step, (carries, recent), now)
    if cold:
        notes = jnp.concatenate([flat[:1], notes])
        log_p = jnp.concatenate([jnp.full_like(log_p[:1], jnp.nan), log_p])
    return tuple(found.T.reshape(rows, steps, VOICE_COUNT) for found in (notes, log_p))


@partial(jax.jit, static_argnames=("model", "rules", "started"))
def _by_chord(
    model: ChordNet,
    rules: tuple[bool, bool],
    started: bool,
    variables: Tree,
    key: Key,
    forced: Int[Array, "b t 4"],
    places: Int[Array, "t"],
    drawing: Any,
) -> tuple[Array, Array]:
    (filters, avoid), (rows, steps) = rules, forced.shape[:2]

    def read(x: Array, carries: Any, first: Array) -> Any:
        return model.apply(variables, x, None, False, carries, first, method="read")

    def step(state: Any, now: Any) -> Any:
        carries, before, lasted = state
        given, place, number, noise = now
        x = jnp.concatenate([before, before, lasted, jnp.full((rows, 1), place)], axis=-1)[:, None]
        carries, context = read(x, carries, number)
        chord, log_p = [], []
        for v in range(VOICE_COUNT):
            logits = jnp.asarray(model.apply(variables, context[:, 0], before, chord, v, method=_voice))
            out = parallel(before[:, v], before[:, :v], jnp.stack(chord, axis=-1)) if avoid and v else None
            note, log_of_note = _choose(logits, noise[v], filters, drawing, given[:, v], out)
            chord.append(note)
            log_p.append(log_of_note)
        notes = jnp.stack(chord, axis=-1)
        lasted = jnp.where(notes == before, jnp.minimum(lasted + 1, LONGEST), 1)
        return (carries, notes, lasted), (notes, jnp.stack(log_p, axis=-1))

    before = jnp.full((rows, VOICE_COUNT), START if started else MASKED)
    row = jax.ShapeDtypeStruct((rows, 1, 3 * VOICE_COUNT + 1), jnp.int32)
    carries = _zeros(jax.eval_shape(read, row, None, 0)[0])
    noise = jax.random.gumbel(key, (steps, VOICE_COUNT, rows, VOCABULARY))
    now = jnp.swapaxes(forced, 0, 1), places, jnp.arange(steps), noise
    _, (notes, log_p) = jax.lax.scan(step, (carries, before, jnp.zeros_like(before)), now)
    if not started:
        log_p = log_p.at[0, :, 0].set(jnp.nan)
    return jnp.swapaxes(notes, 0, 1), jnp.swapaxes(log_p, 0, 1)


def _voice(model: ChordNet, context: Array, before: Array, above: list[Array], number: int) -> Array:
    notes = jnp.stack(above, axis=-1) if above else jnp.zeros((len(context), 0), jnp.int32)
    return model.voice(context, before, notes, number)


def parallel(mine: Int[Array, "b"], before: Int[Array, "b n"], now: Int[Array, "b n"]) -> Bool[Array, "b v"]:
    """The notes that would move with a voice above by one interval into a fifth, an octave or a unison with it.

    `mine` is this voice's last note, `before` and `now` are the notes of the voices above. What `music.coherence` counts
    as parallel; a symbol that is no note is parallel to nothing.
    """
    moved = now - before
    target = mine[:, None] + moved
    interval = (now - target) % OCTAVE
    sounding = is_note(now) & is_note(before) & is_note(mine)[:, None]
    found = sounding & (moved != 0) & ((interval == 0) | (interval == FIFTH))
    return ((jnp.arange(VOCABULARY) == target[..., None]) & found[..., None]).any(axis=1)


def _zeros(like: Tree) -> Tree:
    """The states before the first step."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)


def _choose(
    logits: Float[Array, "b v"],
    noise: Float[Array, "b v"],
    filters: bool,
    drawing: Any,
    given: Int[Array, "b"] | None = None,
    out: Bool[Array, "b v"] | None = None,
) -> tuple[Int[Array, "b"], Float[Array, "b"]]:
    """A note for each row, drawn from those that are not ruled `out` unless it is given, and its log-probability."""
    log_p = jax.nn.log_softmax(logits)
    note = draw(log_p if out is None else jnp.where(out, -jnp.inf, log_p), noise, filters, *drawing)
    note = note if given is None else jnp.where(given == FREE, note, given)
    return note, jnp.take_along_axis(log_p, note[:, None], axis=-1)[:, 0]


def draw(
    log_p: Float[Array, "b v"],
    noise: Float[Array, "b v"],
    filters: bool,
    temperature: Float[Array, ""] | float,
    top_k: Int[Array, ""] | int,
    top_p: Float[Array, ""] | float,
) -> Int[Array, "b"]:
    """A symbol for each row: that of the largest log p / temperature + noise, where the noise is of Gumbel's distribution
    (the Gumbel-max trick: Maddison, Tarlow & Minka 2014, "A* sampling")."""
    best = jnp.max(log_p, axis=-1, keepdims=True)
    scaled = (log_p - best) / jnp.maximum(temperature, COLDEST)
    if filters:
        scaled = _filtered(scaled, top_k, top_p)
    return jnp.argmax(scaled + noise, axis=-1).astype(jnp.int32)


def _filtered(scaled: Float[Array, "b v"], top_k: Any, top_p: Any) -> Float[Array, "b v"]:
    """-inf in the place of all but the k likeliest, and of those but the fewest likeliest that together reach p."""
    mine, theirs, place = scaled[..., None], scaled[..., None, :], jnp.arange(scaled.shape[-1])
    above = (theirs > mine) | ((theirs == mine) & (place < place[:, None]))  # a sort of 47 numbers takes much longer
    allowed = jnp.where(jnp.sum(above, axis=-1) < top_k, scaled, -jnp.inf)
    reached = jnp.sum(jnp.where(above, jax.nn.softmax(allowed)[..., None, :], 0), axis=-1)
    first = ~jnp.any(above, axis=-1)
    return jnp.where((reached < top_p) | first, allowed, -jnp.inf)
