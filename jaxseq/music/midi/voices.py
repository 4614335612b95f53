"""Which tracks or channels of a MIDI file are the voices of a chorale, or its melody."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted, printable
from jaxseq.music.midi.grid import Lines, step_of
from jaxseq.music.midi.tracks import DRUMS, File, Sounded, Track
from jaxseq.music.piece import VOICES
from jaxseq.music.voice_names import LONGEST, likeness, voice_of


class Found(NamedTuple):
    """Lines of notes, one for each voice, and what was decided: a sentence each."""

    lines: Lines
    said: tuple[str, ...]


class Line(NamedTuple):
    """The notes of one channel of a track; the track's number counts from 1."""

    number: int
    track: Track
    notes: list[Sounded]

    @property
    def height(self) -> float:
        """Mean pitch of the notes."""
        return float(np.mean([note.pitch for note in self.notes]))


# The voices of a chorale -----------------------------------------------------------------------------------------------


def of_chorale(file: File, path: Path) -> Found:
    """Find soprano, alto, tenor and bass: tracks of those names; else four tracks or channels, or two of two voices each.

    Voices without names are ordered by pitch, the highest first. Drums (channel 10) are left out. Raises `UsageError`
    for another number of voices.
    """
    sung = _sung(file.tracks)
    said = [_left_out(track) for track in file.tracks if track.channels and not _melodic(track).channels]
    if not sung:
        raise _no_note(file, path)

    named = _named(file.tracks)
    if len(named) == len(VOICES):
        chosen = list(named.values())
        said = [_left_out(track) for track in file.tracks if track.channels and track not in chosen]
        lines = [_joined([_melodic(track)]) for track in chosen]
        return Found(lines, (*said, *_without_end(chosen)))

    channels = sorted({channel for track in sung for channel in track.channels})
    by_channel = [_joined(sung, channel) for channel in channels]
    if len(sung) == len(VOICES):
        lines = [_joined([track]) for track in sung]
    elif len(channels) == len(VOICES):
        lines = by_channel
    elif (pairs := _pairs(sung, by_channel)) is not None:
        said.append("of two notes at once in a track, the upper voice sings the higher; of a single one, both sing it")
        return Found([voice for pair in pairs for voice in split(pair, file.ticks, path)], (*said, *_without_end(sung)))
    else:
        raise UsageError(
            f"{path}: {len(VOICES)} voices are needed; it has {counted(len(sung), 'track')} with notes, on "
            f"{counted(len(channels), 'channel')}"
        )

    ordered = _by_pitch(lines)
    if ordered != lines:
        places = ", ".join(str(lines.index(line) + 1) for line in ordered)
        said.append(f"voices ordered by pitch: {places} of the file")
    return Found(ordered, (*said, *_without_end(sung)))


def _pairs(sung: list[Track], by_channel: Lines) -> Lines | None:
    """Return the two lines of a hymn, the higher one first, each of two voices; None if the file has no such lines."""
    lines = by_channel
    if len(sung) == 2:
        lines = [_joined([track]) for track in sung]
    if len(lines) != 2 or any(is_single(line) for line in lines):
        return None
    return _by_pitch(lines)


def is_single(line: list[Sounded]) -> bool:
    """Return whether never two notes of a line begin at once."""
    return all(before.start < note.start for before, note in pairwise(line))


def _sings_one(line: list[Sounded]) -> bool:
    """Return whether never two pitches of a line begin at once; a doubled note is one."""
    return len({note.start for note in line}) == len({(note.start, note.pitch) for note in line})


def _named(tracks: Iterable[Track]) -> dict[str, Track]:
    """Return the track of each voice, in the order of the score: the first of its name that has notes, if one has."""
    found: dict[str, Track] = {}
    for track in tracks:
        voice = voice_of(track.name)
        if voice is not None and (voice not in found or (track.channels and not found[voice].channels)):
            found[voice] = track
    return {voice: found[voice] for voice in VOICES if voice in found}


def split(line: list[Sounded], ticks: int, path: Path) -> tuple[list[Sounded], list[Sounded]]:
    """Split a line of two voices, as a hymn book writes them, into the upper and the lower one.

    A note that begins alone is sung by the voice that is silent, and by both if both are. Raises `UsageError`, naming
    the quarter, where a third note sounds.
    """
    upper: list[Sounded] = []
    lower: list[Sounded] = []
    for step, group in groupby(sorted(line), lambda note: step_of(note.start, ticks)):
        notes = sorted(group, key=lambda note: -note.pitch)
        free = [voice for voice in (upper, lower) if not voice or step_of(voice[-1].end, ticks) <= step]
        if len(notes) > max(len(free), 1) or not free:
            raise UsageError(
                f"{path}: quarter {step // 4 + 1}: more than two notes at once in a line of two voices; give each voice "
                f"a track of its own"
            )
        # Of two notes, each has its voice. A single one that both are free for is sung by both.
        for place, voice in enumerate(free):
            voice.append(notes[min(place, len(notes) - 1)])
    return upper, lower


def _by_pitch(lines: Lines) -> Lines:
    """Return lines in the order of their mean pitch, the highest first."""
    return sorted(lines, key=lambda line: -float(np.mean([note.pitch for note in line])))


# A melody --------------------------------------------------------------------------------------------------------------


def of_melody(file: File, path: Path, number: int | None = None) -> Found:
    """Find the melody: the track of that number; else the one that is named so, or the highest single line.

    Drums (channel 10) are left out. Raises `UsageError` if there is no note, or none in the track of that number.
    """
    every = [
        Line(place, track, notes)
        for place, track in enumerate(file.tracks, start=1)
        for channel, notes in track.channels.items()
        if channel != DRUMS
    ]
    if not every:
        raise _no_note(file, path)
    if number is not None:
        chosen = [line for line in every if line.number == number]
        if not chosen:
            there = ", ".join(f"{line.number} ({_title(line.track)})" for line in every)
            raise UsageError(f"{path}: no notes in track {number}; those with notes: {there}")
        best = max(chosen, key=lambda line: line.height)
        return Found([best.notes], tuple(_without_end([best.track])))

    best = max(every, key=lambda line: (likeness(line.track.name), _sings_one(line.notes), line.height))
    said = []
    if len(every) > 1:
        reason = "by its name" if likeness(best.track.name) else "the highest"
        said.append(
            f"of {len(every)} lines, track {best.number} ({_title(best.track)}) is the melody, {reason}; "
            f"{path.name}:N takes track N"
        )
    return Found([best.notes], (*said, *_without_end([best.track])))


# Tracks ----------------------------------------------------------------------------------------------------------------


def _melodic(track: Track) -> Track:
    """Return a track without its drums."""
    return track._replace(channels={channel: notes for channel, notes in track.channels.items() if channel != DRUMS})


def _sung(tracks: Iterable[Track]) -> list[Track]:
    """Return the tracks with notes, without drums."""
    return [track for track in map(_melodic, tracks) if track.channels]


def _no_note(file: File, path: Path) -> UsageError:
    if any(track.channels for track in file.tracks):
        return UsageError(f"{path}: only drums: all notes are on channel {DRUMS + 1}")
    return UsageError(f"{path}: there is not one note in it")


def _joined(tracks: list[Track], only: int | None = None) -> list[Sounded]:
    """Return the notes of some tracks, on one channel or on all, in order."""
    return sorted(
        note
        for track in tracks
        for channel, notes in track.channels.items()
        if only in (None, channel)
        for note in notes
    )


def _title(track: Track) -> str:
    """Return the name of a track on one line."""
    return printable(" ".join(track.name[:LONGEST].split())) or "without a name"


def _left_out(track: Track) -> str:
    return f"left out: track {_title(track)}"


def _without_end(tracks: Iterable[Track]) -> list[str]:
    """Return remarks on the notes that no note-off ends."""
    tracks = list(tracks)
    remarks = []
    for count, reason in (
        (sum(track.cut for track in tracks), "ended by the next message of its pitch"),
        (sum(track.endless for track in tracks), "held to the end of the track"),
    ):
        if count:
            remarks.append(f"{counted(count, 'note')} without an end: {reason}")
    return remarks
