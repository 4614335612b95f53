"""Keys, and how far given notes are moved to lie in a range."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Int

from jaxseq.common.errors import UsageError
from jaxseq.music.piece import REST
from jaxseq.music.scales import OCTAVE

MOST_FIFTHS = 7
"""Most sharps or flats of a key signature."""
_NAME = re.compile(r"([A-G])[ -]?(#|b|sharp|flat)?[ -]+(major|minor)", re.IGNORECASE)
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


def key_named(name: str) -> Key:
    """Return the key of a name such as G major, f# minor or B flat major.

    Raises `UsageError` for anything else, or a key of more than seven sharps or flats.
    """
    match = _NAME.fullmatch(name.strip())
    if match is None:
        raise UsageError("no key", where="--key", got=name, needed="a name such as G major, f# minor or Bb major")
    letter, accidental, mode = match.groups()
    sharps = {"#": 1, "sharp": 1, "b": -1, "flat": -1, None: 0}[accidental and accidental.lower()]
    minor = mode.lower() == "minor"
    # A minor key has three sharps fewer than the major key on its tonic.
    fifths = "FCGDAEB".index(letter.upper()) - 1 + 7 * sharps - 3 * minor
    if abs(fifths) > MOST_FIFTHS:
        raise UsageError("no key", where="--key", got=name, needed=f"at most {MOST_FIFTHS} sharps or flats")
    return Key(fifths, minor)


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
