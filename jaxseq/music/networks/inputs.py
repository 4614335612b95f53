"""Pieces as the rows that networks read: inputs and targets, step by step, with all that is known before each target.

A network of notes reads one row a note (`notes`), one of chords a row a sixteenth (`chords`). Either reads whole pieces
from a start symbol, or, `cold`, a stretch of which nothing before is known and whose first note is given: then that note
is no target.
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
"""Steps up to which a held note's length is told apart; longer ones are as long as this."""
NOTE_COLUMNS = (0,)
"""Columns of `notes` that hold symbols."""
CHORD_COLUMNS = tuple(range(2 * len(VOICES)))
"""Columns of `chords` that hold symbols."""
FILL_COLUMNS = tuple(range(len(VOICES)))
"""Columns of `fills` that hold symbols."""


class Rows(NamedTuple):
    """Inputs and targets of a network, a piece or stretch for each of "n"."""

    x: Int[np.ndarray, "*n t d"]
    y: Int[np.ndarray, "*n t *k"]


def notes(tokens: Int[np.ndarray, "t 4"], positions: Int[np.ndarray, "t"], cold: bool = False) -> Rows:
    """x "m 2": the note before, and of the note to come 16 · voice + position in the bar; y "m": that note.

    m is 4 t, or 4 t - 1 for a cold start.
    """
    flat = tokens.ravel()
    before = np.concatenate([[START], flat[:-1]])
    codes = BAR * np.tile(np.arange(len(VOICES)), len(tokens)) + np.repeat(np.minimum(positions, BAR - 1), len(VOICES))
    first = 1 if cold else 0
    return Rows(np.stack([before, codes], axis=1)[first:], flat[first:])


def chords(tokens: Int[np.ndarray, "t 4"], positions: Int[np.ndarray, "t"], cold: bool = False) -> Rows:
    """x "t 13": the chord before, this chord, how long each voice of the one before has lasted, and the position; y "t 4".

    The columns of this chord are there for the voices below: a network may show a voice only those above it.
    """
    before = np.concatenate([np.full((1, len(VOICES)), MASKED if cold else START), tokens[:-1]])
    lasted = np.concatenate([np.zeros((1, len(VOICES)), int), durations(tokens)[:-1]])
    y = tokens.copy()
    if cold:
        y[0, 0] = UNSCORED
    return Rows(np.concatenate([before, tokens, lasted, np.minimum(positions, BAR - 1)[:, None]], axis=1), y)


def fills(tokens: Int[np.ndarray, "t 4"], positions: Int[np.ndarray, "t"]) -> Rows:
    """x "t 5": this chord, nothing hidden yet, and the position; y "t 4": the chord."""
    return Rows(np.concatenate([tokens, np.minimum(positions, BAR - 1)[:, None]], axis=1), tokens)


def hide(rows: Rows, rng: np.random.Generator) -> Rows:
    """Rows of `fills` with some notes hidden, a share that is drawn evenly from 0 to 1, which alone are targets."""
    hidden = rng.random(rows.y.shape) < rng.random()
    notes = np.where(hidden, MASKED, rows.x[:, : len(VOICES)])
    return Rows(np.concatenate([notes, rows.x[:, len(VOICES) :]], axis=1), np.where(hidden, rows.y, UNSCORED))


def durations(tokens: Int[np.ndarray, "t n"]) -> Int[np.ndarray, "t n"]:
    """For how many steps each voice has had its note, this one included: 1 where it changed, `LONGEST` at the most."""
    steps = np.arange(len(tokens))[:, None]
    changed = np.ones(tokens.shape, bool)
    changed[1:] = tokens[1:] != tokens[:-1]
    last = np.maximum.accumulate(np.where(changed, steps, 0), axis=0)
    return np.minimum(steps - last + 1, LONGEST)


def cut(rows: Rows, length: int, hop: int) -> list[Rows]:
    """Stretches of so many steps, each beginning `hop` after the one before, until one reaches the end."""
    firsts = range(0, max(1, len(rows.x) - length + hop), hop)
    return [Rows(rows.x[first : first + length], rows.y[first : first + length]) for first in firsts]


def pad(rows: Sequence[Rows], length: int | None = None) -> Rows:
    """All rows side by side, "n t ...": shorter ones are filled up, to `length` or the longest, by what no loss counts."""
    t = max(len(row.x) for row in rows) if length is None else length
    x = np.full((len(rows), t, *rows[0].x.shape[1:]), PADDING, np.int32)
    y = np.full((len(rows), t, *rows[0].y.shape[1:]), UNSCORED, np.int32)
    for number, row in enumerate(rows):
        x[number, : len(row.x)], y[number, : len(row.y)] = row
    return Rows(x, y)
