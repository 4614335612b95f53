"""Passages of a piece that occur in the training set note for note, in any key.

A stretch of steps occurs there if some training piece has the same notes in all four voices for as many steps, all
shifted by one interval, and the same rests. Arrays of notes do not tell a struck note from a held one.
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
"""More than the number of intervals between two MIDI numbers, up and down."""


class Memory(NamedTuple):
    """Index of the steps of the training pieces, which are laid out one after the other with a gap before each.

    shapes  code of each step's chord without its pitch, ascending
    places  place of each of them
    moves   at each place, the motion from the previous chord that sounds, in semitones
    """

    shapes: Int[np.ndarray, " n"]
    places: Int[np.ndarray, " n"]
    moves: Int[np.ndarray, " m"]


class Memorised(NamedTuple):
    """Passages of the pieces that occur in the training set.

    share     share of their windows of 32 steps; NaN if no piece is that long
    windows   number of windows
    longest   longest stretch of each piece, in steps
    """

    share: float
    windows: int
    longest: tuple[int, ...]


class _Steps(NamedTuple):
    """Description of each step of a piece.

    shapes  code of its chord, the same in every key
    moves   motion from the previous chord that sounds, in semitones
    rests   silent steps before it
    """

    shapes: Int[np.ndarray, "t"]
    moves: Int[np.ndarray, "t"]
    rests: Int[np.ndarray, "t"]


def remember(pieces: Sequence[Int[np.ndarray, "_ 4"]]) -> Memory:
    """Index the training pieces, MIDI numbers with 0 for a rest."""
    # Empty arrays stand first, since no pieces at all cannot be concatenated.
    shapes = [np.zeros(0, np.int64)]
    places = [np.zeros(0, np.int64)]
    moves = [np.zeros(0, np.int64)]
    end = 0
    for piece in pieces:
        steps = _describe(piece)
        shapes.append(steps.shapes)
        places.append(end + 1 + np.arange(len(piece)))
        moves.append(np.concatenate([[0], steps.moves]))
        end += 1 + len(piece)

    all_shapes = np.concatenate(shapes)
    order = np.argsort(all_shapes, kind="stable")
    return Memory(all_shapes[order], np.concatenate(places)[order], np.concatenate(moves))


def memorised(memory: Memory, pieces: Sequence[Int[np.ndarray, "_ 4"]], window: int = WINDOW) -> Memorised:
    """Measure the passages of pieces that occur in the training set: windows from every step, and longest stretches."""
    stretches_of_pieces = [stretches(memory, piece) for piece in pieces]
    windows = sum(max(0, len(piece) - window + 1) for piece in pieces)
    copied = sum(int(np.count_nonzero(lengths >= window)) for lengths in stretches_of_pieces)
    longest = tuple(int(lengths.max(initial=0)) for lengths in stretches_of_pieces)

    share = math.nan
    if windows:
        share = copied / windows
    return Memorised(share, windows, longest)


def stretches(memory: Memory, notes: Int[np.ndarray, "t 4"]) -> Int[np.ndarray, "t"]:
    """Return the length of the longest stretch that ends with each step and occurs in the training set.

    0 if not even the chord occurs. Longest common substring by dynamic programming over the places that have the chord:
    a stretch is one longer than the one that ended a step before, if both pieces moved by the same interval. If they did
    not, only the rests just before remain, since silence is in every key.
    """
    steps = _describe(notes)
    first = np.searchsorted(memory.shapes, steps.shapes, side="left")
    end = np.searchsorted(memory.shapes, steps.shapes, side="right")

    lengths = np.zeros(len(notes), np.int64)
    # For each place, the stretch that ends there with the current step; all other places hold 0.
    run = np.zeros(len(memory.moves), np.int64)
    places = memory.places[:0]
    for step in range(len(notes)):
        last_places = places
        places = memory.places[first[step] : end[step]]
        before = run[places - 1]
        run[last_places] = 0

        same_move = memory.moves[places] == steps.moves[step]
        run[places] = 1 + np.where(same_move, before, np.minimum(before, steps.rests[step]))
        lengths[step] = run[places].max(initial=0)
    return lengths


def _describe(notes: Int[np.ndarray, "t 4"]) -> _Steps:
    sounding = notes != REST
    steps = np.arange(len(notes))
    has_notes = sounding.any(axis=1)

    # A chord without its pitch: the intervals below the highest voice that sounds.
    lead = notes[steps, sounding.argmax(axis=1)].astype(np.int64)
    intervals = np.where(sounding, notes - lead[:, None] + _INTERVALS // 2, 0)
    shapes = intervals @ _INTERVALS ** np.arange(4)

    last_chord = np.maximum.accumulate(np.where(has_notes, steps, -1))
    before = np.concatenate([[-1], last_chord[:-1]])[: len(notes)]
    # The first chord's motion may be anything: only rests precede it.
    moves = np.where(has_notes, lead - lead[np.maximum(before, 0)], 0)
    return _Steps(shapes, moves, steps - 1 - before)
