"""Times of a MIDI file, in ticks, on the grid of sixteenths."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted
from jaxseq.music.midi.tracks import File, Sounded
from jaxseq.music.notes import Note
from jaxseq.music.piece import BEAT
from jaxseq.music.tokens import HIGHEST, LOWEST

MOST_STEPS = 100_000
"""Sixteenths that a file may last: 5 hours at 84 quarters a minute."""
Lines = list[list[Sounded]]
"""The notes of several voices."""


def step_of(tick: int, ticks: int) -> int:
    """Return the nearest step to a tick; the later of two equally near."""
    return (2 * BEAT * tick + ticks) // (2 * ticks)


def check_length(tick: int, ticks: int, path: Path) -> int:
    """Return the steps up to a tick. Raises `UsageError` for more than `MOST_STEPS`."""
    steps = step_of(tick, ticks)
    if steps > MOST_STEPS:
        raise UsageError(f"{path}: lasts {steps} sixteenths; {MOST_STEPS} at most can be read")
    return steps


def positions_of(file: File, steps: int) -> Int[np.ndarray, "t"]:
    """Return the sixteenths since the bar line, for each step."""
    # Of two signatures that begin in one step, the later one holds.
    metre = dict(sorted((step_of(tick, file.ticks), length) for tick, length in file.metre))
    starts = list(metre)
    lengths = list(metre.values())
    positions = np.zeros(steps, np.int64)
    for start, end, length in zip(starts, [*starts[1:], steps], lengths, strict=True):
        count = max(min(end, steps) - start, 0)
        positions[start:end] = np.arange(count) % length

    # A shorter first bar, with a signature to itself, is an upbeat: it ends where a whole bar would.
    if len(starts) > 1 and starts[1] == lengths[0] < lengths[1]:
        positions[: starts[1]] += lengths[1] - lengths[0]
    return positions


class OnGrid(NamedTuple):
    """The notes of each voice on the grid, and remarks on what had to be moved or left out for that."""

    voices: list[list[Note]]
    remarks: list[str]


def rounded(
    lines: Lines,
    names: tuple[str, ...],
    ticks: int,
    positions: Int[np.ndarray, "t"],
    path: Path,
) -> OnGrid:
    """Round the notes of each voice to the grid.

    Raises `UsageError`, naming bar and voice, for a note out of range and for two at once; and where no note is left.
    """
    voices = []
    doubled = 0
    for name, line in zip(names, lines, strict=True):
        sounding = _sounding(line, ticks)
        single = _undoubled(sounding)
        doubled += len(sounding) - len(single)
        voice = _separate(single)
        _check_line(voice, name, positions, path)
        voices.append(voice)
    if not any(voices):
        raise UsageError(f"{path}: there is not one note in it that lasts half a sixteenth")
    return OnGrid(voices, _remarks(lines, doubled, ticks))


def _sounding(line: list[Sounded], ticks: int) -> list[Note]:
    """Return the notes of a voice that last a step or more on the grid."""
    sounding = []
    for note in line:
        start = step_of(note.start, ticks)
        steps = step_of(note.end, ticks) - start
        if steps:
            sounding.append(Note(start, steps, note.pitch))
    return sounding


def _remarks(lines: Lines, doubled: int, ticks: int) -> list[str]:
    """Return a remark on each kind of change: moved starts and ends, notes that are too short, and doubled ones."""
    notes = [note for line in lines for note in line]
    long_enough = [note for note in notes if step_of(note.end, ticks) > step_of(note.start, ticks)]
    too_short = len(notes) - len(long_enough)
    remarks = [
        *_moved([note.start for note in long_enough], "moved to the grid", ticks),
        *_moved([note.end for note in long_enough], "ended off the grid", ticks),
    ]
    if too_short:
        remarks.append(f"{counted(too_short, 'note')} too short for the grid: left out")
    if doubled:
        remarks.append(f"{counted(doubled, 'note')} doubled within a voice: left out")
    return remarks


def _undoubled(line: list[Note]) -> list[Note]:
    """Return the notes of a voice in order; of equal ones that begin at once, the longest."""
    longest = {(note.start, note.pitch): note for note in sorted(line)}
    return sorted(longest.values())


def _separate(line: list[Note]) -> list[Note]:
    """Return a line in which a note ends where the same pitch is struck again."""
    separate = []
    for note, after in pairwise(line):
        # Legato holds it a little longer.
        if after.pitch == note.pitch and after.start > note.start:
            note = note._replace(steps=min(note.steps, after.start - note.start))
        separate.append(note)
    return [*separate, *line[-1:]]


def _moved(times: list[int], change: str, ticks: int) -> list[str]:
    """Return a remark on how many of these ticks are not on the grid, and how far the furthest is; none without one."""
    distances = [abs(BEAT * time - ticks * step_of(time, ticks)) for time in times]
    count = sum(distance > 0 for distance in distances)
    if not count:
        return []
    furthest = max(distances) / BEAT
    return [f"{counted(count, 'note')} {change}, the furthest by {furthest:g} of {ticks} ticks"]


def _check_line(line: list[Note], name: str, positions: Int[np.ndarray, "t"], path: Path) -> None:
    """Raise `UsageError` for a note out of range, and for two at once."""

    def place(step: int) -> str:
        # A bar begins at each position 0.
        bar = np.count_nonzero(positions[: step + 1] == 0)
        return f"{path}: bar {bar}, {name}"

    for note in line:
        if not LOWEST <= note.pitch <= HIGHEST:
            raise UsageError(
                f"{place(note.start)}: note {note.pitch} is out of range; notes go from {LOWEST} to {HIGHEST} "
                f"(--transpose auto moves by octaves)"
            )
    for before, note in pairwise(line):
        if note.start < before.end:
            raise UsageError(
                f"{place(note.start)}: notes {before.pitch} and {note.pitch} sound at once; a voice sings one at a time"
            )
