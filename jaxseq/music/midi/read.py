"""MIDI files as pieces: a chorale of four voices, or a melody that is to be given them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted
from jaxseq.music.midi.grid import Lines, check_length, positions_of, rounded
from jaxseq.music.midi.tracks import File, Sounded, Track, load
from jaxseq.music.notes import grid
from jaxseq.music.piece import VOICES, Piece


class Reading(NamedTuple):
    """A piece, and what was changed or decided to read it so: a sentence each."""

    piece: Piece
    said: tuple[str, ...]


class Melody(NamedTuple):
    """One voice on a grid of sixteenths (0 is a rest), its onsets and bars as in a `Piece`, and what was decided."""

    name: str
    notes: Int[np.ndarray, "t"]
    onsets: Bool[np.ndarray, "t"]
    positions: Int[np.ndarray, "t"]
    said: tuple[str, ...]


def read(path: Path) -> Reading:
    """The chorale in a MIDI file, its times rounded to sixteenths.

    The voices are the tracks named soprano, alto, tenor and bass; or else the four tracks that have notes, or the four
    channels, the highest on average first. A time signature that holds for one bar at the start, and is shorter than
    the next, is an upbeat. Raises `UsageError`, naming file, bar and voice, for what is no chorale.
    """
    file = load(path)
    found, said = _voices(file, path)
    steps = check_length(max(track.end for track in file.tracks), file.ticks, path)
    positions = positions_of(file, steps)
    voices, changed = rounded(found, VOICES, file.ticks, positions, path)
    notes, onsets = grid(voices, steps)
    fifths, minor = (None, None) if file.key is None else _key(file.key)
    piece = Piece(path.stem, notes, onsets, positions, np.zeros(steps, bool), fifths, minor)
    return Reading(piece, (*said, *changed))


def read_melody(path: Path) -> Melody:
    """The melody in a MIDI file, its times rounded to sixteenths: the first track that has notes, up to its last note.

    Raises `UsageError`, naming file and bar, for what is no single line of notes within the range.
    """
    file = load(path)
    every = [(track, channel) for track in file.tracks for channel in track.channels]
    if not every:
        raise UsageError(f"{path}: there is not one note in it")
    track, channel = every[0]
    line, said = track.channels[channel], []
    if len(every) > 1:
        number = file.tracks.index(track) + 1
        said.append(f"the first of {len(every)} lines is the melody: track {number} ({_title(track)})")
    said += _endless([track])
    steps = check_length(max(note.end for note in line), file.ticks, path)
    positions = positions_of(file, steps)
    voices, changed = rounded([line], ("melody",), file.ticks, positions, path)
    notes, onsets = grid(voices, steps)
    return Melody(path.stem, notes[:, 0], onsets[:, 0], positions, (*said, *changed))


def _voices(file: File, path: Path) -> tuple[Lines, list[str]]:
    """The notes of soprano, alto, tenor and bass, and what was decided."""
    sung = [track for track in file.tracks if track.channels]
    if not sung:
        raise UsageError(f"{path}: there is not one note in it")
    named = {track.name.strip().lower(): track for track in file.tracks if track.name.strip().lower() in VOICES}
    if len(named) == len(VOICES):
        left = [_title(track) for track in sung if track not in named.values()]
        said = [f"left out: track {name}" for name in left]
        return [_joined([named[voice]]) for voice in VOICES], said + _endless(named.values())
    channels = sorted({channel for track in sung for channel in track.channels})
    if len(sung) == len(VOICES):
        found = [_joined([track]) for track in sung]
    elif len(channels) == len(VOICES):
        found = [_joined(sung, channel) for channel in channels]
    else:
        raise UsageError(
            f"{path}: {len(VOICES)} voices are needed; it has {counted(len(sung), 'track')} with notes, on "
            f"{counted(len(channels), 'channel')}"
        )
    order = sorted(range(len(found)), key=lambda i: -np.mean([note.pitch for note in found[i]]))
    turned = order != list(range(len(found)))
    said = [f"voices ordered by pitch: {', '.join(str(i + 1) for i in order)} of the file"] if turned else []
    return [found[i] for i in order], said + _endless(sung)


def _joined(tracks: list[Track], only: int | None = None) -> list[Sounded]:
    """The notes of some tracks, on one channel or on all, in order."""
    return sorted(
        note
        for track in tracks
        for channel, notes in track.channels.items()
        if only in (None, channel)
        for note in notes
    )


def _title(track: Track) -> str:
    """The name of a track on one line."""
    return " ".join(track.name.split())[:40] or "without a name"


def _endless(tracks: Iterable[Track]) -> list[str]:
    count = sum(track.endless for track in tracks)
    return [f"{counted(count, 'note')} without an end: held to the end of the track"] if count else []


def _key(name: str) -> tuple[int, bool]:
    """Sharps (or, below 0, flats) of a key that the format names, and whether it is minor."""
    minor = name.endswith("m")
    place = "FCGDAEB".index(name[0]) - 1 + 7 * (name.count("#") - name.count("b"))
    return place - 3 * minor, minor
