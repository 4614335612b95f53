"""Times of a MIDI file, in ticks, on the grid of sixteenths."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

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
    """The nearest step to a tick; the later of two equally near."""
    return (2 * BEAT * tick + ticks) // (2 * ticks)


def check_length(tick: int, ticks: int, path: Path) -> int:
    """The steps up to a tick. Raises `UsageError` for more than `MOST_STEPS`."""
    if (steps := step_of(tick, ticks)) > MOST_STEPS:
        raise UsageError(f"{path}: lasts {steps} sixteenths; {MOST_STEPS} at most can be read")
    return steps


def positions_of(file: File, steps: int) -> Int[np.ndarray, "t"]:
    """Sixteenths since the bar line, for each step."""
    metre = dict(sorted((step_of(tick, file.ticks), length) for tick, length in file.metre))
    starts, lengths = list(metre), list(metre.values())
    upbeat = lengths[1] - lengths[0] if len(starts) > 1 and starts[1] == lengths[0] < lengths[1] else 0
    positions = np.zeros(steps, np.int64)
    for start, end, length in zip(starts, [*starts[1:], steps], lengths, strict=True):
        positions[start:end] = np.arange(max(min(end, steps) - start, 0)) % length
    positions[: starts[1] if upbeat else 0] += upbeat
    return positions


def rounded(
    lines: Lines, names: tuple[str, ...], ticks: int, positions: Int[np.ndarray, "t"], path: Path
) -> tuple[list[list[Note]], list[str]]:
    """The notes of each voice on the grid, and what had to be moved or left out for that.

    Raises `UsageError`, naming bar and voice, for a note out of range and for two at once; and where no note is left.
    """
    voices = []
    doubled = 0
    for name, line in zip(names, lines, strict=True):
        on_grid = [
            Note(step_of(n.start, ticks), step_of(n.end, ticks) - step_of(n.start, ticks), n.pitch) for n in line
        ]
        sounding = [note for note in on_grid if note.steps]
        single = _undoubled(sounding)
        doubled += len(sounding) - len(single)
        voices.append(_separate(single))
        _check_line(voices[-1], name, positions, path)
    if not any(voices):
        raise UsageError(f"{path}: there is not one note in it that lasts half a sixteenth")
    every = [note for line in lines for note in line]
    kept = [note for note in every if step_of(note.end, ticks) > step_of(note.start, ticks)]
    lost = len(every) - len(kept)
    said = [
        *_moved([note.start for note in kept], "moved to the grid", ticks),
        *_moved([note.end for note in kept], "ended off the grid", ticks),
        *([f"{counted(lost, 'note')} too short for the grid: left out"] if lost else []),
        *([f"{counted(doubled, 'note')} doubled within a voice: left out"] if doubled else []),
    ]
    return voices, said


def _undoubled(line: list[Note]) -> list[Note]:
    """Return the notes of a voice in order; of equal ones that begin at once, the longest."""
    longest = {(note.start, note.pitch): note for note in sorted(line)}
    return sorted(longest.values())


def _separate(line: list[Note]) -> list[Note]:
    """Return a line in which a note ends where the same pitch is struck again: legato holds it a little longer."""
    ends = [
        note._replace(steps=min(note.steps, after.start - note.start))
        if after.pitch == note.pitch and after.start > note.start
        else note
        for note, after in pairwise(line)
    ]
    return [*ends, *line[-1:]]


def _moved(times: list[int], what: str, ticks: int) -> list[str]:
    """How many of these ticks are not on the grid, and how far the furthest is."""
    off = [abs(BEAT * time - ticks * step_of(time, ticks)) for time in times]
    count = sum(distance > 0 for distance in off)
    return [f"{counted(count, 'note')} {what}, the furthest by {max(off) / BEAT:g} of {ticks} ticks"] if count else []


def _check_line(line: list[Note], name: str, positions: Int[np.ndarray, "t"], path: Path) -> None:
    """Raises `UsageError` for a note out of range, and for two at once."""

    def place(step: int) -> str:
        return f"{path}: bar {np.count_nonzero(positions[: step + 1] == 0)}, {name}"

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
