"""Pieces as the input rows and targets of networks; a row holds everything that is known before its target.

`notes` gives a row for each note, `chords` and `fills` a row for each sixteenth. A piece is read whole, from a start
symbol, or `cold`: a stretch whose past is unknown and whose first note is given, and therefore no target.

Axis m is the number of notes that are read, 4 t, or 4 t - 1 for a cold start. Pieces are laid out in numpy, or in JAX as
part of an exported program.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Int

from jaxseq.common.arrays import namespace
from jaxseq.music.networks import reprise
from jaxseq.music.piece import BAR, VOICES
from jaxseq.music.tokens import MASKED, START, UNSCORED

PADDING = -1
"""Value of the first column beyond the end of a piece."""
NARROWEST = 4
"""Bytes of the narrowest integers that hold every number of steps."""
LONGEST = 16
"""Longest duration of a held note, in steps; longer ones count as this."""
NOTE_COLUMNS = (0,)
"""Columns of `notes` that hold symbols."""
CHORD_COLUMNS = tuple(range(2 * len(VOICES)))
"""Columns of `chords` that hold symbols, apart from those of reprises."""
CHORD_WIDTH = 3 * len(VOICES) + 1
"""Columns of `chords` that every chord network reads; those of conditions and of reprises follow."""
FILL_COLUMNS = tuple(range(len(VOICES)))
"""Columns of `fills` that hold symbols."""


class Rows(NamedTuple):
    """Inputs and targets of a network: of one piece, or of n pieces or stretches."""

    x: Int[np.ndarray | Array, "*n t d"]
    y: Int[np.ndarray | Array, "*n t *k"]


def notes(tokens: Int[np.ndarray | Array, "t 4"], positions: Int[np.ndarray | Array, "t"], cold: bool = False) -> Rows:
    """Lay out a piece note by note, soprano first: x "m 2" and y "m".

    The columns of x are the previous note, and voice and position of the next one as 16 · voice + position in the bar.
    """
    arrays = namespace(tokens)
    tokens = _wide(tokens)
    symbols = tokens.ravel()
    start = arrays.full_like(symbols[:1], START)
    before = arrays.concatenate([start, symbols[:-1]])
    voices = arrays.arange(len(VOICES), dtype=tokens.dtype)
    places = BAR * voices + _bar_positions(positions)[:, None]
    x = arrays.stack([before, places.ravel()], axis=1)

    if cold:
        return Rows(x[1:], symbols[1:])
    return Rows(x, symbols)


def chords(
    tokens: Int[np.ndarray | Array, "t 4"],
    positions: Int[np.ndarray | Array, "t"],
    cold: bool = False,
    conditions: Int[np.ndarray | Array, "t _"] | None = None,
    reprises: bool = False,
) -> Rows:
    """Lay out a piece chord by chord: x "t d" and y "t 4".

    The 13 first columns of x are the previous chord, this chord (of which a network may show a voice only the notes above
    it), the steps that each note of the previous chord has lasted, and the position in the bar. The columns of
    `conditions` and of `reprise` follow, for a network that reads them.
    """
    arrays = namespace(tokens)
    tokens = _wide(tokens)
    first_chord = arrays.full_like(tokens[:1], MASKED if cold else START)
    before = arrays.concatenate([first_chord, tokens[:-1]])
    lasted = arrays.concatenate([arrays.zeros_like(tokens[:1]), durations(tokens)[:-1]])
    parts = [before, tokens, lasted, _bar_positions(positions)[:, None]]
    if conditions is not None:
        parts.append(arrays.asarray(conditions, dtype=tokens.dtype))
    if reprises:
        parts.append(reprise.columns(tokens))
    x = arrays.concatenate(parts, axis=1)

    y = tokens
    if cold:
        first_soprano = arrays.full_like(tokens[:1, :1], UNSCORED)
        first_targets = arrays.concatenate([first_soprano, tokens[:1, 1:]], axis=1)
        y = arrays.concatenate([first_targets, tokens[1:]])
    return Rows(x, y)


def fills(tokens: Int[np.ndarray | Array, "t 4"], positions: Int[np.ndarray | Array, "t"]) -> Rows:
    """Lay out a piece with no note hidden: x "t 5", the chord and the position in the bar; y "t 4", the chord."""
    tokens = _wide(tokens)
    x = namespace(tokens).concatenate([tokens, _bar_positions(positions)[:, None]], axis=1)
    return Rows(x, tokens)


def hide(rows: Rows, rng: np.random.Generator) -> Rows:
    """Hide a share of the notes of `fills`, drawn uniformly from 0 to 1; the hidden notes alone stay targets."""
    # The notes are drawn before their share, an order on which recorded scores depend.
    hidden = rng.random(rows.y.shape) < rng.random()
    voices = len(VOICES)
    notes = np.where(hidden, MASKED, rows.x[:, :voices])
    x = np.concatenate([notes, rows.x[:, voices:]], axis=1)
    return Rows(x, np.where(hidden, rows.y, UNSCORED))


def durations(tokens: Int[np.ndarray | Array, "t n"]) -> Int[np.ndarray | Array, "t n"]:
    """Count the steps that each voice has had its note, this one included: 1 where it changed, `LONGEST` at most."""
    arrays = namespace(tokens)
    tokens = _wide(tokens)
    steps = arrays.arange(tokens.shape[0], dtype=tokens.dtype)[:, None]
    changed = tokens[1:] != tokens[:-1]
    changes = arrays.where(changed, steps[1:], 0)
    changes = arrays.concatenate([arrays.zeros_like(tokens[:1]), changes])
    # JAX's own `accumulate` takes no symbol as a number of steps.
    if arrays is np:
        last_change = np.maximum.accumulate(changes, axis=0)
    else:
        last_change = jax.lax.cummax(changes, axis=0)
    return arrays.minimum(steps - last_change + 1, LONGEST)


def cut(rows: Rows, length: int, hop: int) -> list[Rows]:
    """Cut rows into stretches of `length` steps, one every `hop` steps, until one reaches the end."""
    starts = range(0, max(1, len(rows.x) - length + hop), hop)
    return [Rows(rows.x[start : start + length], rows.y[start : start + length]) for start in starts]


def pad(rows: Sequence[Rows], length: int | None = None) -> Rows:
    """Stack rows of different lengths, padded to `length` or to the longest: x "n t d", y "n t *k".

    No loss counts the padding.
    """
    t = length
    if t is None:
        t = max(len(row.x) for row in rows)

    x = np.full((len(rows), t, *rows[0].x.shape[1:]), PADDING, np.int32)
    y = np.full((len(rows), t, *rows[0].y.shape[1:]), UNSCORED, np.int32)
    for number, row in enumerate(rows):
        x[number, : len(row.x)] = row.x
        y[number, : len(row.y)] = row.y
    return Rows(x, y)


def _bar_positions(positions: Int[np.ndarray | Array, "t"]) -> Int[np.ndarray | Array, "t"]:
    """Limit positions to those that have an embedding; longer bars repeat the last."""
    return namespace(positions).minimum(_wide(positions), BAR - 1)


def _wide(numbers: Int[np.ndarray | Array, "*t"]) -> Int[np.ndarray | Array, "*t"]:
    """Return integers as they are, or as int32 where their dtype lacks the steps of a long piece or negative marks."""
    if numbers.dtype.itemsize < NARROWEST or numbers.dtype.kind == "u":
        return numbers.astype(np.int32)
    return numbers
