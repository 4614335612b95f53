"""Bars of four voices, as a score has them, onto a grid of sixteenths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted
from jaxseq.music.piece import REST, Piece

LONGEST = 100_000
"""Steps of one score, its repeats played."""
DENSEST = 10
"""Times that over that are the steps of all notes of a voice: one after the other, they would be as many as the score's."""


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
    fifths: int | None
    mode: str | None
    marks: frozenset[str]
    """Marks at its bar lines: forward, backward, "begin 1" at the start of an ending for the first time, end."""


def assemble(voices: Sequence[Sequence[Bar]], name: str, source: str) -> Chorale:
    """The chorale of soprano, alto, tenor and bass, with equally many bars each.

    A bar lasts as long as the longest of its four voices. Raises `UsageError`, which opens with `source`, for bars that
    are no whole number of sixteenths, and for a piece without any or with too many.
    """
    together = list(zip(*voices, strict=True))
    lengths = _lengths([max(bar.length for bar in bars) for bars in together], source)
    starts = np.cumsum([0, *lengths]).tolist()
    _check_density(voices, source)
    columns = [_fill(bars, starts) for bars in voices]
    notes, onsets, _ = (np.stack(column, axis=1) for column in zip(*columns, strict=True))
    order = played([frozenset().union(*(bar.marks for bar in bars)) for bars in together])
    if sum(lengths[bar] for bar in order) > LONGEST:
        raise UsageError(f"{source} has more than {LONGEST:,} sixteenths with its repeats, the most that is read")
    positions = _positions([bars[0].metre for bars in together], lengths)
    fifths, minor = _key(voices[0])
    piece = Piece(name, notes, onsets, positions, columns[0][2], fifths, minor)
    return Chorale(piece, np.concatenate([np.arange(starts[bar], starts[bar + 1]) for bar in order]))


def _lengths(lengths: Sequence[Fraction], source: str) -> list[int]:
    for number, length in enumerate(lengths, 1):
        if length.denominator != 1:
            raise UsageError(f"{source}: bar {number} lasts {float(length):.6g} sixteenths; it must be a whole number")
    if not 1 <= (total := int(sum(lengths))) <= LONGEST:
        raise UsageError(f"{source} has {counted(total, 'sixteenth')}; 1 to {LONGEST:,} are read")
    return [int(length) for length in lengths]


def _check_density(voices: Sequence[Sequence[Bar]], source: str) -> None:
    """Raises `UsageError` for a voice with notes over notes over notes, each of which would be laid over the others."""
    for bars in voices:
        steps = sum(float(note.end - note.start) for bar in bars for note in bar.notes)
        if steps > DENSEST * LONGEST:
            raise UsageError(
                f"{source}: the notes of a voice last {steps:,.0f} sixteenths; {DENSEST * LONGEST:,} are the most"
            )


def _fill(
    bars: Sequence[Bar], starts: Sequence[int]
) -> tuple[Int[np.ndarray, "t"], Bool[np.ndarray, "t"], Bool[np.ndarray, "t"]]:
    """Notes, onsets and fermatas of one voice: what sounds at the beginning of every sixteenth."""
    notes = np.full(starts[-1], REST)
    onsets, fermatas = np.zeros((2, starts[-1]), bool)
    for bar, begin in zip(bars, starts, strict=False):
        for note in bar.notes:
            first, last = begin + math.ceil(note.start), begin + math.ceil(note.end)
            if first >= last:
                continue
            notes[first:last], fermatas[first:last] = note.pitch, note.fermata
            onsets[first:last] = False
            onsets[first] = not (note.continues and first and notes[first - 1] == note.pitch)
    return notes, onsets, fermatas


def _positions(metres: Sequence[Fraction | None], lengths: Sequence[int]) -> Int[np.ndarray, "t"]:
    """Sixteenths since the bar line of every step.

    A first bar that is too short is an upbeat: it ends where its metre ends. One within the piece that follows a short
    bar and fills it up (round a repeat, say) goes on where that ended; another is an upbeat if less than half of its
    metre is there, and the next bar does not fill it up. A bar that is too long counts from 0 again after every metre.
    """
    positions, end = [], 0
    following = [*lengths[1:], 0]
    for number, (metre, length, after) in enumerate(zip(metres, lengths, following, strict=True)):
        full = int(metre or 0) or max(length, 1)
        begin = 0
        if length < full:
            upbeat = number == 0 or (2 * length < full < length + after)
            begin = end if end and end + length <= full else (full - length) * upbeat
        end = (begin + length) % full
        positions.append(np.arange(begin, begin + length) % full)
    return np.concatenate(positions)


def _key(bars: Sequence[Bar]) -> tuple[int | None, bool | None]:
    """Sharps of the first signature, and whether it says minor."""
    fifths, mode = next(((bar.fifths, bar.mode) for bar in bars if bar.fifths is not None), (None, None))
    return fifths, {"major": False, "minor": True}.get((mode or "").strip())


def played(marks: Sequence[frozenset[str]]) -> list[int]:
    """The bars in the order in which they sound: what stands before a backward repeat twice, endings where they belong.

    A section begins at its forward repeat, or where the one before it ended. Without a bar that sounds, as they are
    written.
    """
    endings = _endings(marks)
    order, start, turn, bar = [], 0, "1", 0
    taken: set[int] = set()
    while bar < len(marks):
        after_endings = turn == "2" and endings[bar - 1] and not endings[bar]
        if bar > start and ("forward" in marks[bar] or after_endings):  # a section begins once: or this would not end
            start, turn = bar, "1"
        sounds = not endings[bar] or turn in endings[bar]
        if sounds:
            order.append(bar)
        again = sounds and "backward" in marks[bar]
        if again and turn == "1" and bar not in taken:
            taken.add(bar)
            bar, turn = start, "2"
            continue
        bar += 1
        if again:
            start, turn = bar, "1"
    return order or list(range(len(marks)))


def _endings(marks: Sequence[frozenset[str]]) -> list[frozenset[str]]:
    """The numbers of the ending that each bar belongs to; none for most."""
    found, inside = [], frozenset()
    for here in marks:
        inside = frozenset(mark[6:] for mark in here if mark.startswith("begin ")) or inside
        found.append(inside)
        inside = frozenset() if "end" in here else inside
    return found
