"""A piece for four voices on a grid of sixteenth notes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Int

from jaxseq.common.arrays import Splits

VOICES = ("soprano", "alto", "tenor", "bass")
"""The columns of every array of notes, in this order."""
BEAT, BAR = 4, 16
"""Steps (sixteenth notes) in a quarter note, and in a bar of four of them."""
REST = 0
"""The note of a voice that is silent."""


class Piece(NamedTuple):
    """A chorale, one row for each sixteenth note.

    notes      MIDI numbers of soprano, alto, tenor and bass; 0 is a rest
    onsets     whether a note is struck in this step; only this tells a repeated pitch from a held one
    positions  sixteenths since the bar line: 0 on it. A first bar that is an upbeat begins above 0
    fermatas   whether the soprano's note of this step stands under a fermata
    fifths     sharps (or, below 0, flats) of the key signature; None if the source has none
    minor      whether the key is a minor one; None if unknown
    units      time signatures that the length of a bar does not tell: pairs of a length in sixteenths and the unit of
               its beats, such as (12, 8) where bars of 12 are in 6/8 and not in 3/4
    """

    name: str
    notes: Int[np.ndarray, "t 4"]
    onsets: Bool[np.ndarray, "t 4"]
    positions: Int[np.ndarray, "t"]
    fermatas: Bool[np.ndarray, "t"]
    fifths: int | None = None
    minor: bool | None = None
    units: tuple[tuple[int, int], ...] = ()


class Reading(NamedTuple):
    """A piece from a file or from data, and how it was read.

    said  what was changed or decided, a sentence each
    bpm   tempo at the start, in quarter notes a minute; None where there is none
    """

    piece: Piece
    said: tuple[str, ...] = ()
    bpm: float | None = None


# beartype cannot check a generic NamedTuple.
if TYPE_CHECKING:
    PieceSplits: TypeAlias = Splits[tuple[Piece, ...]]
else:
    PieceSplits = tuple


def from_notes(name: str, notes: Int[np.ndarray, "t 4"], first: int = 0) -> Piece:
    """Build a piece from its notes alone.

    Bars have four quarters, and `first` is the position of the first step. A note is struck where the pitch changes.
    """
    changed = np.ones(notes.shape, bool)
    changed[1:] = notes[1:] != notes[:-1]
    onsets = changed & (notes != REST)
    positions = (first + np.arange(len(notes))) % BAR
    return Piece(name, notes, onsets, positions, fermatas=np.zeros(len(notes), bool))
