"""How much of a piece stands in the training set, note for note, in whatever key.

A stretch of steps is there if some training piece has the same notes in all four voices for as many steps, all of them
shifted by one interval, with the same rests. Struck and held notes are alike here: arrays of notes do not tell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from jaxseq.music.piece import REST

WINDOW = 32
"""Steps of a window: two bars of four quarters."""
_INTERVALS = 512
"""More than the intervals between two MIDI numbers, up and down."""


class Memory(NamedTuple):
    """The steps of the training pieces, one after the other with an empty place before each piece.

    shapes   what each chord is but for its pitch, ascending
    places   the place of each of them
    moves    by place: the step up or down from the last chord before
    """

    shapes: Int[np.ndarray, " n"]
    places: Int[np.ndarray, " n"]
    moves: Int[np.ndarray, " m"]


class Memorised(NamedTuple):
    """Passages of the pieces that occur in the training set.

    share     of their windows of 32 steps, all of them alike; NaN where no piece is that long
    windows   how many there are
    longest   the longest stretch of each piece that does, in steps
    """

    share: float
    windows: int
    longest: tuple[int, ...]


def remember(pieces: Sequence[Int[np.ndarray, "_ 4"]]) -> Memory:
    """An index of the training pieces, as MIDI numbers with 0 for a rest."""
    shapes, places, moves = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    end = 0
    for piece in pieces:
        shape, move, _ = _describe(piece)
        shapes.append(shape)
        places.append(end + 1 + np.arange(len(piece)))
        moves.append(np.concatenate([[0], move]))
        end += 1 + len(piece)
    every = np.concatenate(shapes)
    order = np.argsort(every, kind="stable")
    return Memory(every[order], np.concatenate(places)[order], np.concatenate(moves))


def memorised(memory: Memory, pieces: Sequence[Int[np.ndarray, "_ 4"]], window: int = WINDOW) -> Memorised:
    """How much of the pieces (MIDI numbers, 0 is a rest) is there: windows from every step, and longest stretches."""
    found = [stretches(memory, piece) for piece in pieces]
    windows = sum(max(0, len(piece) - window + 1) for piece in pieces)
    copied = sum(int(np.count_nonzero(lengths >= window)) for lengths in found)
    longest = tuple(int(lengths.max(initial=0)) for lengths in found)
    return Memorised(copied / windows if windows else math.nan, windows, longest)


def stretches(memory: Memory, notes: Int[np.ndarray, "t 4"]) -> Int[np.ndarray, "t"]:
    """For each step, how many steps that end with it stand in the training set as they are; 0 if not even its chord.

    The longest common stretch, by dynamic programming over the places that have the chord: what ends here is one longer
    than what ended a step before, if both pieces got here by the same interval. Where they did not, what is left of it
    are the rests just before, since silence is in every key.
    """
    shapes, moves, silent = _describe(notes)
    first, last = (np.searchsorted(memory.shapes, shapes, side) for side in ("left", "right"))
    lengths, run = np.zeros(len(notes), np.int64), np.zeros(len(memory.moves), np.int64)
    here = memory.places[:0]
    for step in range(len(notes)):
        there, here = here, memory.places[first[step] : last[step]]
        before = run[here - 1]
        run[there] = 0
        run[here] = 1 + np.where(memory.moves[here] == moves[step], before, np.minimum(before, silent[step]))
        lengths[step] = run[here].max(initial=0)
    return lengths


def _describe(
    notes: Int[np.ndarray, "t 4"],
) -> tuple[Int[np.ndarray, "t"], Int[np.ndarray, "t"], Int[np.ndarray, "t"]]:
    """Of each step: its chord in any key, as one number; its interval from the last one that sounds; rests before it."""
    sounding, steps = notes != REST, np.arange(len(notes))
    heard = sounding.any(axis=1)
    lead = notes[steps, sounding.argmax(axis=1)].astype(np.int64)  # the highest voice that sounds
    intervals = np.where(sounding, notes - lead[:, None] + _INTERVALS // 2, 0)
    latest = np.maximum.accumulate(np.where(heard, steps, -1))
    before = np.concatenate([[-1], latest[:-1]])[: len(notes)]
    moves = np.where(heard, lead - lead[np.maximum(before, 0)], 0)  # the first may be anything: only rests precede it
    return intervals @ _INTERVALS ** np.arange(4), moves, steps - 1 - before
