"""Where in a piece the passage just heard was heard before, and what followed it there.

Chorales repeat whole phrases, which a recurrent state of fixed size forgets. A reprise points at the latest earlier place
that has the longest passage in common with the steps before the present one: in all voices, and in the soprano alone,
whose tune returns in other harmonies. Compressors call this a match model (Mahoney 2005, "Adaptive weighing of context
models for lossless data compression").

`columns` reads whole pieces; `start`, `recall` and `remember` do the same step by step, where a piece is drawn.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from jaxseq.common.arrays import namespace
from jaxseq.music.piece import BAR, VOICES
from jaxseq.music.tokens import MASKED

LAG = BAR
"""Steps from an earlier place to the present one, at least: held chords are equal to themselves."""
SHORTEST, LONGEST = 4, 32
"""Steps of the shortest passage that counts, and of the longest that is told from longer ones."""
WIDTH = len(VOICES) + 1
"""Columns of one reprise: the chord that followed, and the length of the passage; without one, hidden notes and 0."""
PASSAGES = (slice(0, len(VOICES)), slice(0, 1))
"""Voices that a passage has in common with the present one, for each of the two reprises."""
COLUMNS = len(PASSAGES) * WIDTH
"""Columns of both reprises."""
NOTE_COLUMNS = tuple(WIDTH * number + voice for number in range(len(PASSAGES)) for voice in range(len(VOICES)))
"""Those among them that hold symbols."""


def columns(tokens: Int[np.ndarray | Array, "t 4"]) -> Int[np.ndarray | Array, "t 10"]:
    """Return both reprises before each step of a piece: in numpy, or in JAX as part of an exported program."""
    if namespace(tokens) is not np:
        return _columns_by_step(jnp.asarray(tokens))
    tokens = np.asarray(tokens)
    parts = []
    for voices in PASSAGES:
        lengths, places = _longest_passages(tokens[:, voices])
        followed = np.where(lengths[:, None] > 0, tokens[places], MASKED)
        parts += [followed, np.minimum(lengths, LONGEST)[:, None]]
    return np.concatenate(parts, axis=1)


def _longest_passages(notes: Int[np.ndarray, "t n"]) -> tuple[Int[np.ndarray, "t"], Int[np.ndarray, "t"]]:
    """Return, for each step, the length of the longest passage that ended before it, 0 for none, and where it led to."""
    # One number for each chord: comparing rows takes five times as long.
    _, chords = np.unique(notes, axis=0, return_inverse=True)
    chords = chords.reshape(-1)
    steps = len(notes)
    lengths = np.zeros(steps, np.int64)
    places = np.zeros(steps, np.int64)
    # From the longest lag to the shortest: of passages of one length the latest stays.
    for lag in range(steps - 2, LAG - 1, -1):
        equal = chords[lag:-1] == chords[: -lag - 1]
        numbers = np.arange(len(equal))
        run = numbers - np.maximum.accumulate(np.where(equal, -1, numbers))
        present = lag + 1 + numbers
        longer = (run >= SHORTEST) & (run >= lengths[present])
        lengths[present[longer]] = run[longer]
        places[present[longer]] = present[longer] - lag
    return lengths, places


def _columns_by_step(tokens: Int[Array, "t 4"]) -> Int[Array, "t 10"]:
    steps = tokens.shape[0]

    def step(memory: Memory, now: tuple[Array, Array]) -> tuple[Memory, Int[Array, "1 10"]]:
        chord, number = now
        return remember(memory, chord[None], number), recall(memory)

    before_first = start(1, steps, tokens.dtype)
    _, both = jax.lax.scan(step, before_first, (tokens, jnp.arange(steps)))
    return both[:, 0].astype(tokens.dtype)


class Memory(NamedTuple):
    """The steps of pieces in the making, up to the present one.

    notes  symbols of all steps; those that are to come are hidden notes
    runs   for each reprise and earlier step, the length of the passage in common that ends there
    """

    notes: Int[Array, "b t 4"]
    runs: Int[Array, "2 b t"]


def start(rows: int, steps: int, dtype: np.dtype | type = np.int32) -> Memory:
    """Return the memory before the first step, for symbols of this dtype."""
    notes = jnp.full((rows, steps, len(VOICES)), MASKED, dtype)
    return Memory(notes, jnp.zeros((len(PASSAGES), rows, steps), jnp.int32))


def recall(memory: Memory) -> Int[Array, "b 10"]:
    """Return both reprises before the present step."""
    steps = memory.notes.shape[1]
    parts = []
    for runs in memory.runs:
        # The latest of the longest passages: the first of them from behind.
        last = steps - 1 - jnp.argmax(runs[:, ::-1], axis=1)
        length = jnp.take_along_axis(runs, last[:, None], axis=1)
        place = jnp.minimum(last + 1, steps - 1)
        followed = jnp.take_along_axis(memory.notes, place[:, None, None], axis=1)[:, 0]
        counts = length >= SHORTEST
        parts += [jnp.where(counts, followed, MASKED), jnp.where(counts, jnp.minimum(length, LONGEST), 0)]
    return jnp.concatenate(parts, axis=1)


def remember(memory: Memory, chord: Int[Array, "b 4"], number: Int[Array, ""]) -> Memory:
    """Return the memory after step `number`, counted from 0, has the notes `chord`."""
    steps = memory.notes.shape[1]
    is_earlier = jnp.arange(steps) <= number - LAG
    runs = []
    for voices, run in zip(PASSAGES, memory.runs, strict=True):
        equal = (memory.notes[..., voices] == chord[:, None, voices]).all(axis=-1)
        before = jnp.pad(run[:, :-1], ((0, 0), (1, 0)))
        runs.append(jnp.where(equal & is_earlier, before + 1, 0))
    return Memory(memory.notes.at[:, number].set(chord), jnp.stack(runs))


def followed(columns: Int[Array, "*b 10"], above: Int[Array, "*b n"]) -> Bool[Array, "*b 2"]:
    """Return whether the notes above a voice are those of each reprise, which else is no guide for the voice."""
    alive = []
    for number, voices in enumerate(PASSAGES):
        shared = above[..., voices]
        of_reprise = columns[..., WIDTH * number : WIDTH * number + shared.shape[-1]]
        alive.append((shared == of_reprise).all(axis=-1))
    return jnp.stack(alive, axis=-1)
