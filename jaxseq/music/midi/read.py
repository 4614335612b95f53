"""MIDI files as pieces: a chorale of four voices, or a melody that is to be given them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from jaxseq.music.bars import Units
from jaxseq.music.midi import voices
from jaxseq.music.midi.grid import Lines, check_length, positions_of, rounded
from jaxseq.music.midi.tracks import load
from jaxseq.music.notes import grid
from jaxseq.music.piece import VOICES, Piece, Reading
from jaxseq.music.tokens import HIGHEST, LOWEST
from jaxseq.music.transposition import SOPRANO, Key, Transposition, low, semitones, told

TRACK = re.compile(r"(.+):(\d{1,4})")
"""A file's name with the number of a track behind it: tune.mid:3."""


class Melody(NamedTuple):
    """A melody.

    notes      one voice on a grid of sixteenths; 0 is a rest
    onsets     as in a `Piece`, as are `positions`
    key        that the file names; None where it names none
    bpm        tempo at the start, in quarter notes a minute; None where it has none
    said       what was changed or decided, a sentence each
    units      of its time signatures, as in a `Piece`
    """

    name: str
    notes: Int[np.ndarray, "t"]
    onsets: Bool[np.ndarray, "t"]
    positions: Int[np.ndarray, "t"]
    said: tuple[str, ...]
    key: Key | None = None
    bpm: float | None = None
    units: Units = ()


def read(path: Path, transposition: Transposition = 0) -> Reading:
    """Read the chorale in a MIDI file, its times rounded to sixteenths.

    The voices are those of `voices.of_chorale`. A time signature that holds for one bar at the start, and is shorter
    than the next, is an upbeat. Silence after the bar of the last note is left out. Raises `UsageError`, naming file,
    bar and voice, for what is no chorale.
    """
    file = load(path)
    found, said = voices.of_chorale(file, path)
    found, by, moved = _transposed(found, transposition, (LOWEST, HIGHEST))
    positions = positions_of(file, check_length(max(track.end for track in file.tracks), file.ticks, path))
    lines, changed = rounded(found, VOICES, file.ticks, positions, path)

    steps, cut = _without_silence(positions, max(note.start + note.steps for line in lines for note in line))
    notes, onsets = grid(lines, steps)
    fifths, minor = (None, None) if file.key is None else file.key.transposed(by)
    piece = Piece(path.stem, notes, onsets, positions[:steps], np.zeros(steps, bool), fifths, minor, file.units)
    return Reading(piece=piece, said=(*file.said, *said, *moved, *changed, *cut), bpm=file.bpm)


def read_melody(path: Path, transposition: Transposition = 0, track: int | None = None) -> Melody:
    """Read the melody in a MIDI file up to its last note, its times rounded to sixteenths.

    track  its number, from 1; None finds the melody as `voices.of_melody` does

    Raises `UsageError`, naming file and bar, for what is no single line of notes within the range.
    """
    file = load(path)
    found, said = voices.of_melody(file, path, track)
    found, by, moved = _transposed(found, transposition, SOPRANO)
    steps = check_length(max(note.end for note in found[0]), file.ticks, path)
    positions = positions_of(file, steps)
    lines, changed = rounded(found, ("melody",), file.ticks, positions, path)
    notes, onsets = grid(lines, steps)
    return Melody(
        path.stem,
        notes[:, 0],
        onsets[:, 0],
        positions,
        said=(*file.said, *said, *moved, *low(notes[:, 0]), *changed),
        key=None if file.key is None else file.key.transposed(by),
        bpm=file.bpm,
        units=file.units,
    )


def file_and_track(word: str) -> tuple[str, int | None]:
    """Return the file that a word names, and the number of the track behind it: tune.mid:3."""
    match = TRACK.fullmatch(word)
    if match is None or Path(word).exists():
        return word, None
    return match[1], int(match[2])


def _transposed(lines: Lines, by: Transposition, within: tuple[int, int]) -> tuple[Lines, int, tuple[str, ...]]:
    """Return lines transposed, the semitones, and a remark on that."""
    shift = semitones(by, (note.pitch for line in lines for note in line), within)
    moved = [[note._replace(pitch=note.pitch + shift) for note in line] for line in lines]
    return moved, shift, told(shift)


def _without_silence(positions: Int[np.ndarray, "t"], last: int) -> tuple[int, tuple[str, ...]]:
    """Return the steps up to the end of the bar of the last note, and a sentence if the file is longer."""
    after = np.flatnonzero(positions[last:] == 0)
    if not len(after):
        return len(positions), ()
    end = last + int(after[0])
    return end, (f"{len(positions) - end} sixteenths of silence after the last bar: left out",)
