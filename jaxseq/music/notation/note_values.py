"""Note values: how a length on the grid is written as notes that are tied, so that the beats can be seen."""

from __future__ import annotations

from typing import NamedTuple

from jaxseq.music.bars import Bar, Units, beat_of
from jaxseq.music.notes import Note
from jaxseq.music.piece import BEAT, REST

COMPOUND = 6
"""Sixteenths of a beat in a compound metre, a dotted quarter."""
COMPOUND_BEATS = (24, 12, 6, 4, 3, 2, 1)
"""Lengths of a note that begins on a beat of a compound metre."""
WHOLE_BEATS = (24, 16, 12, 8, 4)
"""Lengths of a note that begins on a beat, in sixteenths: a dotted whole to a quarter."""
TYPES = {24: ("whole", 1), 16: ("whole", 0), 12: ("half", 1), 8: ("half", 0), 6: ("quarter", 1), 4: ("quarter", 0)}
TYPES |= {3: ("eighth", 1), 2: ("eighth", 0), 1: ("16th", 0)}
"""Name and dots of each value."""


class Written(NamedTuple):
    """One note head or rest.

    note       the note that it is (a part of)
    position   sixteenths since the bar line
    value      sixteenths that it lasts
    tied_from  whether a tie leads to it
    tied_to    whether a tie leads from it
    """

    note: Note
    position: int
    value: int
    tied_from: bool
    tied_to: bool


def written(line: list[Note], bars: list[Bar], units: Units = ()) -> list[list[Written]]:
    """Return the note heads and rests of one voice, bar by bar. A note is cut at bar lines, and at beats where needed.

    units  of the time signatures, as in a `Piece`
    """
    made, rest = [], iter(line)
    note = next(rest, None)
    for bar in bars:
        heads = []
        while note is not None and note.start < bar.end:
            heads += _heads(note, bar, beat_of(bar.metre, units))
            if note.end > bar.end:
                break
            note = next(rest, None)
        made.append(heads)
    return made


def _heads(note: Note, bar: Bar, beat: int) -> list[Written]:
    """Return the part of a note that is written in one bar."""
    step, end = max(note.start, bar.start), min(note.end, bar.end)
    heads = []
    while step < end:
        position = step - bar.start + bar.first
        value = (rest_value if note.pitch == REST else note_value)(position, end - step, beat)
        sounds = note.pitch != REST
        heads.append(Written(note, position, value, sounds and step > note.start, sounds and step + value < note.end))
        step += value
    return heads


def note_value(position: int, left: int, beat: int = BEAT) -> int:
    """Return the next value of a note at a position in its bar that still lasts `left` sixteenths.

    On a beat it is the longest that fits. Off the beat it goes to the next beat, but for a quarter or a dotted quarter
    that begins on the half beat and stays within two beats (short, long, short). In a compound metre, whose beats are
    dotted quarters, it goes to the next beat by way of its eighths.
    """
    if beat == COMPOUND:
        place = position % COMPOUND
        if place == 0:
            return next(value for value in COMPOUND_BEATS if value <= left)
        within = min(left, COMPOUND - place)
        # Between two eighths, the next one has to be seen, unless the note ends the beat.
        if place % 2 and within != 3:
            return 1
        return next(value for value in (4, 3, 2, 1) if value <= within)
    if position % BEAT == 0:
        if left == 6:
            return left
        return next((value for value in WHOLE_BEATS if value <= left), left)
    if position % BEAT == 2 and left in (4, 6) and position % 8 + left <= 8:
        return left
    return min(left, BEAT - position % BEAT)


def rest_value(position: int, left: int, beat: int = BEAT) -> int:
    """Return the next value of a rest: the longest without a dot that fits and that the position is a multiple of.

    A rest of one or two whole beats of a compound metre has a dot.
    """
    if beat == COMPOUND:
        whole = [value for value in (12, 6) if value <= left and position % value == 0]
        within = min(left, COMPOUND - position % COMPOUND)
        parts = [value for value in (4, 2, 1) if value <= within and position % min(value, 2) == 0]
        return [*whole, *parts][0]
    return next(value for value in (16, 8, 4, 2, 1) if value <= left and position % value == 0)
