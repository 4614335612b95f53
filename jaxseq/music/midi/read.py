"""MIDI files as pieces: a chorale of four voices, or a melody that is to be given them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from jaxseq.music import transposition
from jaxseq.music.bars import Units
from jaxseq.music.midi import voices
from jaxseq.music.midi.grid import Lines, check_length, positions_of, rounded
from jaxseq.music.midi.tracks import load
from jaxseq.music.notes import grid
from jaxseq.music.piece import VOICES, Piece, Reading
from jaxseq.music.tokens import HIGHEST, LOWEST
from jaxseq.music.transposition import SOPRANO, Key, Transposition, low

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


class Moved(NamedTuple):
    """Lines of notes after a transposition, its semitones, and remarks on it."""

    lines: Lines
    semitones: int
    remarks: tuple[str, ...]


def read(path: Path, by: Transposition = 0) -> Reading:
    """Read the chorale in a MIDI file, its times rounded to sixteenths.

    The voices are those of `voices.of_chorale`. A time signature that holds for one bar at the start, and is shorter
    than the next, is an upbeat. Silence after the bar of the last note is left out. Raises `UsageError`, naming file,
    bar and voice, for what is no chorale.
    """
    file = load(path)
    chorale = voices.of_chorale(file, path)
    moved = _transposed(chorale.lines, by, (LOWEST, HIGHEST))

    ticks = max(track.end for track in file.tracks)
    positions = positions_of(file, check_length(ticks, file.ticks, path))
    lines, changes = rounded(moved.lines, VOICES, file.ticks, positions, path)
    last = max(note.end for line in lines for note in line)
    steps, cut = _without_silence(positions, last)
    notes, onsets = grid(lines, steps)

    piece = Piece(
        name=path.stem,
        notes=notes,
        onsets=onsets,
        positions=positions[:steps],
        # MIDI has none.
        fermatas=np.zeros(steps, bool),
        units=file.units,
    )
    if file.key is not None:
        key = file.key.transposed(moved.semitones)
        piece = piece._replace(fifths=key.fifths, minor=key.minor)
    remarks = (*file.said, *chorale.said, *moved.remarks, *changes, *cut)
    return Reading(piece=piece, said=remarks, bpm=file.bpm)


def read_melody(path: Path, by: Transposition = 0, track: int | None = None) -> Melody:
    """Read the melody in a MIDI file up to its last note, its times rounded to sixteenths.

    track  its number, from 1; None finds the melody as `voices.of_melody` does

    Raises `UsageError`, naming file and bar, for what is no single line of notes within the range.
    """
    file = load(path)
    melody = voices.of_melody(file, path, track)
    moved = _transposed(melody.lines, by, SOPRANO)

    # A melody is the only line, and ends with its last note.
    (line,) = moved.lines
    steps = check_length(max(note.end for note in line), file.ticks, path)
    positions = positions_of(file, steps)
    lines, changes = rounded(moved.lines, ("melody",), file.ticks, positions, path)
    notes, onsets = grid(lines, steps)

    key = None
    if file.key is not None:
        key = file.key.transposed(moved.semitones)
    return Melody(
        name=path.stem,
        notes=notes[:, 0],
        onsets=onsets[:, 0],
        positions=positions,
        said=(*file.said, *melody.said, *moved.remarks, *low(notes[:, 0]), *changes),
        key=key,
        bpm=file.bpm,
        units=file.units,
    )


def file_and_track(word: str) -> tuple[str, int | None]:
    """Return the file that a word names, and the number of the track behind it: tune.mid:3."""
    match = TRACK.fullmatch(word)
    # A file may be called so.
    if match is None or Path(word).exists():
        return word, None
    return match[1], int(match[2])


def _transposed(lines: Lines, by: Transposition, within: tuple[int, int]) -> Moved:
    pitches = [note.pitch for line in lines for note in line]
    shift = transposition.semitones(by, pitches, within)
    moved_lines = []
    for line in lines:
        moved_lines.append([note._replace(pitch=note.pitch + shift) for note in line])
    return Moved(moved_lines, shift, transposition.told(shift))


def _without_silence(positions: Int[np.ndarray, "t"], last: int) -> tuple[int, tuple[str, ...]]:
    """Return the steps up to the end of the bar of the last note, and a sentence if the file is longer."""
    bar_lines = np.flatnonzero(positions[last:] == 0)
    # The file ends in the bar of the last note.
    if not len(bar_lines):
        return len(positions), ()
    end = last + int(bar_lines[0])
    return end, (f"{len(positions) - end} sixteenths of silence after the last bar: left out",)
