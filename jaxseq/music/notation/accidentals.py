"""Which accidentals are printed: those that a reader needs, and a few that spare him a doubt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from jaxseq.music.notation.spelling import Name

SIGNS = {-2: "flat-flat", -1: "flat", 0: "natural", 1: "sharp", 2: "double-sharp"}
"""MusicXML's names of the accidentals."""
Mark = Literal["needed", "courtesy"]


def in_signature(letter: str, fifths: int) -> int:
    """Return the alteration that a key signature gives to a letter."""
    return (fifths - "FCGDAEB".index(letter) + 6) // 7


def marks(bars: Iterable[list[tuple[Name, bool]]], fifths: int) -> list[list[Mark | None]]:
    """Return the accidental at each note of a staff, bar by bar; a note is its name and whether a tie leads to it.

    An accidental holds until the bar line, for its own octave; a tied note needs none. A note that would be read right
    without a sign gets one in courtesy if its letter was last altered otherwise, in any octave of this bar or of the
    bar before.
    """
    marks_of_bars = []
    last_bar: dict[str, int] = {}
    for bar in bars:
        marks_of_bar, last_bar = _marks_of_bar(bar, fifths, last_bar)
        marks_of_bars.append(marks_of_bar)
    return marks_of_bars


def _marks_of_bar(
    bar: list[tuple[Name, bool]],
    fifths: int,
    last_bar: Mapping[str, int],
) -> tuple[list[Mark | None], dict[str, int]]:
    """Return the accidentals of a bar and the last alteration of each letter in it, by those of the bar before."""
    marks_of_bar: list[Mark | None] = []
    # A sign holds for its own octave alone, but the ear has the letter in mind.
    printed: dict[tuple[str, int], int] = {}
    heard: dict[str, int] = {}
    for (letter, alter, octave), is_tied in bar:
        usual = in_signature(letter, fifths)
        last = heard.get(letter, last_bar.get(letter, usual))
        heard[letter] = alter
        # A tied note has no sign, and so none that holds.
        if is_tied:
            marks_of_bar.append(None)
            continue
        read = printed.get((letter, octave), usual)
        printed[letter, octave] = alter
        marks_of_bar.append(_mark(alter, read, last))
    return marks_of_bar, heard


def _mark(alter: int, read: int, last: int) -> Mark | None:
    """Return the sign of an alteration, by what is read without one and by how its letter was last altered."""
    if alter != read:
        return "needed"
    if alter != last:
        return "courtesy"
    return None
