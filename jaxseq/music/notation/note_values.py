"""Note values: how a length on the grid is written as notes that are tied, so that the beats can be seen."""

from __future__ import annotations

from collections.abc import Sequence
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
    heads_of_bars = []
    following = iter(line)
    note = next(following, None)
    for bar in bars:
        beat = beat_of(bar.metre, units)
        heads: list[Written] = []
        while note is not None and note.start < bar.end:
            heads += _heads(note, bar, beat)
            # The next bar begins with the rest of it.
            if note.end > bar.end:
                break
            note = next(following, None)
        heads_of_bars.append(heads)
    return heads_of_bars


def _heads(note: Note, bar: Bar, beat: int) -> list[Written]:
    """Return the part of a note that is written in one bar."""
    is_rest = note.pitch == REST
    next_value = note_value
    if is_rest:
        next_value = rest_value

    heads = []
    step = max(note.start, bar.start)
    end = min(note.end, bar.end)
    while step < end:
        position = step - bar.start + bar.first
        value = next_value(position, end - step, beat)
        head = Written(
            note=note,
            position=position,
            value=value,
            # Rests are never tied.
            tied_from=not is_rest and step > note.start,
            tied_to=not is_rest and step + value < note.end,
        )
        heads.append(head)
        step += value
    return heads


def note_value(position: int, left: int, beat: int = BEAT) -> int:
    """Return the next value of a note at a position in its bar that still lasts `left` sixteenths.

    On a beat it is the longest that fits. Off the beat it goes to the next beat, but for a quarter or a dotted quarter
    that begins on the half beat and stays within two beats (short, long, short). In a compound metre, whose beats are
    dotted quarters, it goes to the next beat by way of its eighths.
    """
    if beat == COMPOUND:
        return _compound_value(position, left)
    if position % BEAT == 0:
        # A dotted quarter on the beat is one head.
        if left == COMPOUND:
            return left
        return _longest(WHOLE_BEATS, left, left)
    is_syncopation = position % BEAT == 2 and left in (4, 6)
    if is_syncopation and position % (2 * BEAT) + left <= 2 * BEAT:
        return left
    return min(left, BEAT - position % BEAT)


def _compound_value(position: int, left: int) -> int:
    """Return the next value of a note in a metre of dotted quarters."""
    place = position % COMPOUND
    if place == 0:
        return _longest(COMPOUND_BEATS, left)
    within = min(left, COMPOUND - place)
    # Between two eighths, the next one has to be seen, unless the note ends the beat.
    if place % 2 and within != 3:
        return 1
    return _longest((4, 3, 2, 1), within)


def _longest(values: Sequence[int], left: int, default: int = 1) -> int:
    """Return the first of the values, from long to short, that fits; a default where none does."""
    return next((value for value in values if value <= left), default)


def rest_value(position: int, left: int, beat: int = BEAT) -> int:
    """Return the next value of a rest: the longest without a dot that fits and that the position is a multiple of.

    A rest of one or two whole beats of a compound metre has a dot.
    """
    if beat != COMPOUND:
        return next(value for value in (16, 8, 4, 2, 1) if value <= left and position % value == 0)

    for value in (12, 6):
        if value <= left and position % value == 0:
            return value
    within = min(left, COMPOUND - position % COMPOUND)
    # An eighth or a quarter begins on an eighth, a sixteenth anywhere.
    return next(value for value in (4, 2, 1) if value <= within and position % min(value, 2) == 0)
