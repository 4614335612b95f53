"""Bars of four voices, as a score has them, laid out on a grid of sixteenths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted
from jaxseq.music.bars import Units, units_of
from jaxseq.music.piece import BAR, REST, VOICES, Piece

LONGEST = 100_000
"""Steps of one score, its repeats played."""
DENSEST = 10
"""Limit on the durations of all notes of a voice together, in multiples of `LONGEST`."""


class Chorale(NamedTuple):
    """A piece as written, and `played`: its steps in the order in which they sound with all repeats."""

    piece: Piece
    played: Int[np.ndarray, "p"]


class Note(NamedTuple):
    """A sounding note of one voice; times are sixteenths since its bar's start."""

    start: Fraction
    end: Fraction
    pitch: int
    continues: bool
    fermata: bool


class Bar(NamedTuple):
    """One measure of one part; times are sixteenths."""

    notes: list[Note]
    length: Fraction
    metre: Fraction | None
    unit: int | None
    """Unit of the metre's beats: 8 of 6/8."""
    fifths: int | None
    mode: str | None
    marks: frozenset[str]
    """Marks at its bar lines: forward, backward, "begin 1" at the start of an ending for the first time, end."""


class Columns(NamedTuple):
    """One voice on the grid: its column of each array of a `Piece`."""

    notes: Int[np.ndarray, "t"]
    onsets: Bool[np.ndarray, "t"]
    fermatas: Bool[np.ndarray, "t"]


def assemble(voices: Sequence[Sequence[Bar]], name: str, source: str) -> Chorale:
    """Build the chorale of soprano, alto, tenor and bass.

    A bar lasts as long as the longest of its four voices. Raises `UsageError`, with `source`, for voices with different
    numbers of bars, for bars that are no whole number of sixteenths, and for a piece without any or with too many.
    """
    if len({len(bars) for bars in voices}) > 1:
        counts = ", ".join(f"{len(bars)} in the {voice}" for bars, voice in zip(voices, VOICES, strict=True))
        raise UsageError(f"{source}: the voices have different numbers of bars ({counts}); they must be equal")
    together = list(zip(*voices, strict=True))
    lengths = _lengths([max(bar.length for bar in bars) for bars in together], source)
    starts = np.cumsum([0, *lengths]).tolist()
    _check_density(voices, source)
    columns = [_fill(bars, starts) for bars in voices]

    # A mark counts in whichever voice it stands.
    order = played([frozenset().union(*(bar.marks for bar in bars)) for bars in together])
    if sum(lengths[bar] for bar in order) > LONGEST:
        raise UsageError(f"{source} has more than {LONGEST:,} sixteenths with its repeats, the most that is read")

    fifths, minor = _key(voices[0])
    piece = Piece(
        name,
        notes=np.stack([column.notes for column in columns], axis=1),
        onsets=np.stack([column.onsets for column in columns], axis=1),
        positions=_positions([bars[0].metre for bars in together], lengths),
        fermatas=columns[0].fermatas,
        fifths=fifths,
        minor=minor,
        units=_units(voices[0]),
    )
    steps = [np.arange(starts[bar], starts[bar + 1]) for bar in order]
    return Chorale(piece, np.concatenate(steps))


def _units(voice: Sequence[Bar]) -> Units:
    """Return the units of the time signatures, where the lengths of the bars do not tell them."""
    signatures = [
        (int(bar.metre * bar.unit / BAR), bar.unit)
        for bar in voice
        if bar.unit and bar.metre and bar.metre.denominator == 1
    ]
    return units_of(signatures)


def played(marks: Sequence[frozenset[str]]) -> list[int]:
    """Return the bars in the order in which they sound.

    A section is played twice up to its backward repeat, with the ending of each time. It begins at its forward repeat,
    or where the section before it ended. If no bar would sound, the bars are played as written.
    """
    endings = _endings(marks)
    order = []
    start = 0
    turn = "1"
    bar = 0
    repeated: set[int] = set()
    while bar < len(marks):
        after_endings = turn == "2" and endings[bar - 1] and not endings[bar]
        # A section begins once: otherwise this would not end.
        if bar > start and ("forward" in marks[bar] or after_endings):
            start = bar
            turn = "1"

        sounds = not endings[bar] or turn in endings[bar]
        if sounds:
            order.append(bar)

        ends_section = sounds and "backward" in marks[bar]
        if ends_section and turn == "1" and bar not in repeated:
            repeated.add(bar)
            bar = start
            turn = "2"
            continue
        bar += 1
        if ends_section:
            start = bar
            turn = "1"
    return order or list(range(len(marks)))


def _lengths(lengths: Sequence[Fraction], source: str) -> list[int]:
    for number, length in enumerate(lengths, 1):
        if length.denominator != 1:
            raise UsageError(f"{source}: bar {number} lasts {float(length):.6g} sixteenths; it must be a whole number")
    total = int(sum(lengths))
    if not 1 <= total <= LONGEST:
        raise UsageError(f"{source} has {counted(total, 'sixteenth')}; 1 to {LONGEST:,} are read")
    return [int(length) for length in lengths]


def _check_density(voices: Sequence[Sequence[Bar]], source: str) -> None:
    """Raise `UsageError` for a voice with layers of notes, each of which would be written over the others."""
    for bars in voices:
        steps = sum(float(note.end - note.start) for bar in bars for note in bar.notes)
        if steps > DENSEST * LONGEST:
            raise UsageError(
                f"{source}: the notes of a voice last {steps:,.0f} sixteenths; {DENSEST * LONGEST:,} are the most"
            )


def _fill(bars: Sequence[Bar], starts: Sequence[int]) -> Columns:
    """Lay out one voice: each sixteenth has the note that sounds at its beginning."""
    notes = np.full(starts[-1], REST)
    onsets = np.zeros(starts[-1], bool)
    fermatas = np.zeros(starts[-1], bool)
    for bar, bar_start in zip(bars, starts, strict=False):
        for note in bar.notes:
            first = bar_start + math.ceil(note.start)
            end = bar_start + math.ceil(note.end)
            # A note between two beginnings of sixteenths is lost.
            if first >= end:
                continue
            notes[first:end] = note.pitch
            fermatas[first:end] = note.fermata
            onsets[first:end] = False
            tied = note.continues and first and notes[first - 1] == note.pitch
            onsets[first] = not tied
    return Columns(notes, onsets, fermatas)


def _positions(metres: Sequence[Fraction | None], lengths: Sequence[int]) -> Int[np.ndarray, "t"]:
    """Return the sixteenths since the bar line at every step.

    A first bar that is too short is an upbeat, which ends where its metre ends. A later short bar that completes the
    short bar before it (round a repeat, say) resumes where that ended; any other is an upbeat if less than half of its
    metre is there and the next bar does not complete it. A bar that is too long counts from 0 again after every metre.
    """
    positions = []
    end = 0
    next_lengths = [*lengths[1:], 0]
    for number, (metre, length, next_length) in enumerate(zip(metres, lengths, next_lengths, strict=True)):
        full = int(metre or 0) or max(length, 1)
        start = 0
        if length < full:
            upbeat = number == 0 or (2 * length < full < length + next_length)
            if end and end + length <= full:
                start = end
            elif upbeat:
                start = full - length
        end = (start + length) % full
        positions.append(np.arange(start, start + length) % full)
    return np.concatenate(positions)


def _key(bars: Sequence[Bar]) -> tuple[int | None, bool | None]:
    """Return the sharps of the first key signature, and whether it is minor; None where it does not say."""
    for bar in bars:
        if bar.fifths is not None:
            minor = {"major": False, "minor": True}.get((bar.mode or "").strip())
            return bar.fifths, minor
    return None, None


def _endings(marks: Sequence[frozenset[str]]) -> list[frozenset[str]]:
    """Return the numbers of the ending to which each bar belongs; none for most."""
    endings = []
    inside = frozenset()
    for bar_marks in marks:
        begun = frozenset(mark.removeprefix("begin ") for mark in bar_marks if mark.startswith("begin "))
        # A new ending takes the place of one without an end.
        inside = begun or inside
        endings.append(inside)
        if "end" in bar_marks:
            inside = frozenset()
    return endings
