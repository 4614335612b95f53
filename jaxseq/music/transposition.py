"""Keys, and how far given notes are moved to lie in a range."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Int

from jaxseq.music.piece import REST

OCTAVE = 12
SOPRANO = (60, 81)
"""Range of Bach's sopranos, from C4 to A5: where auto puts a melody."""

Transposition: TypeAlias = int | Literal["auto"]
"""Semitones, or auto: the octaves that bring the most notes into the range."""


class Key(NamedTuple):
    """A key signature: sharps (or, below 0, flats), and whether it is minor."""

    fifths: int
    minor: bool

    def transposed(self, semitones: int) -> Key:
        """Return the key so many semitones higher, with six sharps or flats at most where it changes."""
        return self._replace(fifths=transposed_fifths(self.fifths, semitones))


def transposed_fifths(fifths: int, semitones: int) -> int:
    """Return the sharps of a key so many semitones higher: from five flats to six sharps where it changes."""
    if semitones % OCTAVE == 0:
        return fifths
    return (fifths + 7 * semitones + 5) % 12 - 5


def semitones(by: Transposition, pitches: Iterable[int], within: tuple[int, int]) -> int:
    """Return the semitones of a transposition.

    auto takes the octaves by which most notes are within the range, and of equally good ones the fewest.
    """
    if by != "auto":
        return by
    low, high = within
    notes = np.fromiter(pitches, np.int64)
    shifts = sorted(range(-10 * OCTAVE, 11 * OCTAVE, OCTAVE), key=abs)
    return max(shifts, key=lambda shift: int(np.sum((notes + shift >= low) & (notes + shift <= high))))


def told(by: int) -> tuple[str, ...]:
    """Return a remark on a transposition; none where nothing moves."""
    if by == 0:
        return ()
    return (f"transposed by {by:+d} semitones",)


def low(melody: Int[np.ndarray, "t"]) -> tuple[str, ...]:
    """Return a remark on a melody that lies more than half an octave below every soprano of Bach's."""
    mean = float(melody[melody != REST].mean())
    if mean >= SOPRANO[0] - OCTAVE / 2:
        return ()
    return (
        f"the melody is low for a soprano: its mean pitch is {mean:.0f}, Bach's go from {SOPRANO[0]} to {SOPRANO[1]}; "
        "--transpose auto moves it by octaves",
    )
