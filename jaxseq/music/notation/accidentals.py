"""Which accidentals are printed: those that a reader needs, and a few that spare him a doubt."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from jaxseq.music.notation.spelling import Name

SIGNS = {-2: "flat-flat", -1: "flat", 0: "natural", 1: "sharp", 2: "double-sharp"}
"""MusicXML's names of the accidentals."""
Mark = Literal["needed", "courtesy"]


def in_signature(letter: str, fifths: int) -> int:
    """The alteration that a key signature gives to a letter."""
    return (fifths - "FCGDAEB".index(letter) + 6) // 7


def marks(bars: Iterable[list[tuple[Name, bool]]], fifths: int) -> list[list[Mark | None]]:
    """The accidental at each note of a staff, bar by bar; a note is its name and whether a tie leads to it.

    An accidental holds until the bar line, for its own octave; a tied note needs none. A note that would be read right
    without a sign gets one in courtesy if its letter was last altered otherwise, in any octave of this bar or of the
    bar before.
    """
    made, before = [], dict[str, int]()
    for bar in bars:
        holds, heard, row = dict[tuple[str, int], int](), dict[str, int](), []
        for (letter, alter, octave), tied in bar:
            usual = in_signature(letter, fifths)
            last = heard.get(letter, before.get(letter, usual))
            read = holds.get((letter, octave), usual)
            heard[letter] = alter
            if not tied:
                holds[letter, octave] = alter
            row.append(None if tied else _mark(alter, read, last))
        made.append(row)
        before = heard
    return made


def _mark(alter: int, read: int, last: int) -> Mark | None:
    if alter != read:
        return "needed"
    return "courtesy" if alter != last else None
