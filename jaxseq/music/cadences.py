"""Cadences: chords in root position, on degrees of a piece's key, at which a phrase comes to rest."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from jaxseq.music.scales import MAJOR_TRIAD, MINOR_TRIAD

CadenceName: TypeAlias = Literal["authentic", "half", "plagal", "deceptive"]


class Chord(NamedTuple):
    """A chord in root position: its notes in semitones above the tonic, the root first."""

    in_major: tuple[int, ...]
    in_minor: tuple[int, ...]


TONIC = Chord(MAJOR_TRIAD, MINOR_TRIAD)
# A piece in minor may end in major, as many of Bach's do. Which third it has is for its voices to agree on.
LAST_TONIC = Chord(MAJOR_TRIAD, (*MINOR_TRIAD, *MAJOR_TRIAD))
SUBDOMINANT = Chord((5, 9, 0), (5, 8, 0))
# In minor, too, the dominant has the leading note.
DOMINANT = Chord((7, 11, 2), (7, 11, 2))
DOMINANT_SEVENTH = Chord((7, 11, 2, 5), (7, 11, 2, 5))
SUBMEDIANT = Chord((9, 0, 4), (8, 0, 3))


class Cadence(NamedTuple):
    """A chord that is held, and the one that leads to it; None leaves that open."""

    chord: Chord
    before: Chord | None = None


CADENCES: dict[CadenceName, Cadence] = {
    "authentic": Cadence(TONIC, DOMINANT_SEVENTH),
    "half": Cadence(DOMINANT),
    "plagal": Cadence(TONIC, SUBDOMINANT),
    "deceptive": Cadence(SUBMEDIANT, DOMINANT_SEVENTH),
}
"""Cadences by their names."""
ENDING = Cadence(LAST_TONIC)
"""End of a piece of which no more is asked."""


class Place(NamedTuple):
    """A cadence whose chord is held from step `start` to step `end`."""

    cadence: Cadence
    start: int
    end: int
