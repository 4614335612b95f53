"""A piece for four voices on a grid of sixteenth notes: what everything else about music reads and writes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

VOICES = ("soprano", "alto", "tenor", "bass")
"""The columns of every array of notes, in this order."""
BEAT, BAR = 4, 16
"""Steps (sixteenth notes) in a quarter note, and in a bar of four of them."""
REST = 0
"""The note of a voice that is silent."""


class Piece(NamedTuple):
    """A chorale, one row for each sixteenth note.

    notes      MIDI numbers of soprano, alto, tenor and bass; 0 is a rest
    onsets     whether a note is struck in this step (a repeated pitch is two notes only where this says so)
    positions  sixteenths since the bar line: 0 on it. The first bar may be an upbeat, and then begins above 0
    fermatas   whether the soprano's note of this step stands under a fermata
    fifths     sharps (or, below 0, flats) of the key signature; None where the source has none
    minor      whether the key is a minor one; None where that is not known
    """

    name: str
    notes: Int[np.ndarray, "t 4"]
    onsets: Bool[np.ndarray, "t 4"]
    positions: Int[np.ndarray, "t"]
    fermatas: Bool[np.ndarray, "t"]
    fifths: int | None = None
    minor: bool | None = None


def from_notes(name: str, notes: Int[np.ndarray, "t 4"], first: int = 0) -> Piece:
    """A piece of which nothing but its notes is known: in bars of four quarters, `first` sixteenths after a bar line;
    a note is struck where the pitch changes."""
    changed = np.ones(notes.shape, bool)
    changed[1:] = notes[1:] != notes[:-1]
    positions = (first + np.arange(len(notes))) % BAR
    return Piece(name, notes, changed & (notes != REST), positions, np.zeros(len(notes), bool))
