"""Pieces as the input rows and targets of networks; a row holds everything that is known before its target.

`notes` gives a row for each note, `chords` and `fills` a row for each sixteenth. A piece is read whole, from a start
symbol, or `cold`: a stretch whose past is unknown and whose first note is given, and therefore no target.

Axis m is the number of notes that are read, 4 t, or 4 t - 1 for a cold start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from jaxseq.music.piece import BAR, VOICES
from jaxseq.music.tokens import MASKED, START, UNSCORED

PADDING = -1
"""Value of the first column beyond the end of a piece."""
LONGEST = 16
"""Longest duration of a held note, in steps; longer ones count as this."""
NOTE_COLUMNS = (0,)
"""Columns of `notes` that hold symbols."""
CHORD_COLUMNS = tuple(range(2 * len(VOICES)))
"""Columns of `chords` that hold symbols."""
FILL_COLUMNS = tuple(range(len(VOICES)))
"""Columns of `fills` that hold symbols."""


class Rows(NamedTuple):
    """Inputs and targets of a network: of one piece, or of n pieces or stretches."""

    x: Int[np.ndarray, "*n t d"]
    y: Int[np.ndarray, "*n t *k"]


def notes(tokens: Int[np.ndarray, "t 4"], positions: Int[np.ndarray, "t"], cold: bool = False) -> Rows:
    """Lay out a piece note by note, soprano first: x "m 2" and y "m".

    The columns of x are the previous note, and voice and position of the next one as 16 · voice + position in the bar.
    """
    symbols = tokens.ravel()
    before = np.concatenate([[START], symbols[:-1]])
    voices = np.tile(np.arange(len(VOICES)), len(tokens))
    places = np.repeat(_bar_positions(positions), len(VOICES))
    x = np.stack([before, BAR * voices + places], axis=1)

    if cold:
        return Rows(x[1:], symbols[1:])
    return Rows(x, symbols)


def chords(tokens: Int[np.ndarray, "t 4"], positions: Int[np.ndarray, "t"], cold: bool = False) -> Rows:
    """Lay out a piece chord by chord: x "t 13" and y "t 4".

    The columns of x are the previous chord, this chord (of which a network may show a voice only the notes above it),
    the steps that each note of the previous chord has lasted, and the position in the bar.
    """
    first_chord = START
    if cold:
        first_chord = MASKED
    before = np.concatenate([np.full((1, len(VOICES)), first_chord), tokens[:-1]])
    lasted = np.concatenate([np.zeros((1, len(VOICES)), int), durations(tokens)[:-1]])
    x = np.concatenate([before, tokens, lasted, _bar_positions(positions)[:, None]], axis=1)

    y = tokens.copy()
    if cold:
        y[0, 0] = UNSCORED
    return Rows(x, y)


def fills(tokens: Int[np.ndarray, "t 4"], positions: Int[np.ndarray, "t"]) -> Rows:
    """Lay out a piece with no note hidden: x "t 5", the chord and the position in the bar; y "t 4", the chord."""
    return Rows(np.concatenate([tokens, _bar_positions(positions)[:, None]], axis=1), tokens)


def hide(rows: Rows, rng: np.random.Generator) -> Rows:
    """Hide a share of the notes of `fills`, drawn uniformly from 0 to 1; the hidden notes alone stay targets."""
    # The notes are drawn before their share, an order on which recorded scores depend.
    hidden = rng.random(rows.y.shape) < rng.random()
    voices = len(VOICES)
    notes = np.where(hidden, MASKED, rows.x[:, :voices])
    x = np.concatenate([notes, rows.x[:, voices:]], axis=1)
    return Rows(x, np.where(hidden, rows.y, UNSCORED))


def durations(tokens: Int[np.ndarray, "t n"]) -> Int[np.ndarray, "t n"]:
    """Count the steps that each voice has had its note, this one included: 1 where it changed, `LONGEST` at most."""
    steps = np.arange(len(tokens))[:, None]
    changed = np.ones(tokens.shape, bool)
    changed[1:] = tokens[1:] != tokens[:-1]
    last_change = np.maximum.accumulate(np.where(changed, steps, 0), axis=0)
    return np.minimum(steps - last_change + 1, LONGEST)


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


def _bar_positions(positions: Int[np.ndarray, "t"]) -> Int[np.ndarray, "t"]:
    """Limit positions to those that have an embedding; longer bars repeat the last."""
    return np.minimum(positions, BAR - 1)
