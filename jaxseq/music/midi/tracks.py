"""Notes, metre, key and tempo of a Standard MIDI File, track by track, before they are given to voices."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import NamedTuple

import mido

from jaxseq.common.errors import UsageError
from jaxseq.music.bars import Units, units_of
from jaxseq.music.midi import content
from jaxseq.music.piece import BAR, BEAT
from jaxseq.music.transposition import Key

DRUMS = 9
"""Channel of the drums by General MIDI, counted from 0: channel 10."""


class Sounded(NamedTuple):
    """One note of a file, in ticks."""

    start: int
    end: int
    pitch: int


class Track(NamedTuple):
    """One track of a file.

    name      "" where it has none
    channels  its notes by channel, counted from 0, in order of their first note
    end       tick at which it ends
    endless   number of notes that nothing ends
    """

    name: str
    channels: dict[int, list[Sounded]]
    end: int
    endless: int


class File(NamedTuple):
    """The content of a MIDI file.

    ticks   of a quarter note
    tracks  all of them, those without notes too
    metre   pairs of tick and bar length in sixteenths, in order
    units   of the beats, where the length of a bar does not tell them: as in a `Piece`
    key     the first one; None where there is none
    bpm     the first tempo, in quarter notes a minute; None where there is none
    said    what was left out, a sentence each
    """

    ticks: int
    tracks: list[Track]
    metre: list[tuple[int, int]]
    units: Units
    key: Key | None
    bpm: float | None
    said: tuple[str, ...]


def load(path: Path) -> File:
    """Read a MIDI file of format 0 or 1. Raises `UsageError`, naming the file, for anything else."""
    file, said = content.read(path)
    messages = [message for track in file.tracks for message in track]
    signatures = [(message.numerator, message.denominator) for message in messages if message.type == "time_signature"]
    keys = [message.key for message in messages if message.type == "key_signature"]
    tempi = [message.tempo for message in messages if message.type == "set_tempo" and message.tempo]
    return File(
        ticks=file.ticks_per_beat,
        tracks=list(map(_track, file.tracks)),
        metre=_metre(file, path),
        units=units_of(signatures),
        key=_key(keys[0]) if keys else None,
        bpm=60e6 / tempi[0] if tempi else None,
        said=said,
    )


def _track(messages: mido.MidiTrack) -> Track:
    """Return the notes: a note-off ends the first of its pitch that still sounds, the end of the track all others.

    Where a repeated note begins before the last one has ended (legato), each so has its own end.
    """
    now = 0
    sounding: dict[tuple[int, int], deque[int]] = {}
    channels: dict[int, list[Sounded]] = {}
    for message in messages:
        now += message.time
        if message.type not in ("note_on", "note_off"):
            continue
        starts = sounding.setdefault((message.channel, message.note), deque())
        if message.type == "note_on" and message.velocity:
            starts.append(now)
            channels.setdefault(message.channel, [])
        elif starts:
            channels[message.channel].append(Sounded(starts.popleft(), now, message.note))

    endless = 0
    for (channel, pitch), starts in sounding.items():
        channels.get(channel, []).extend(Sounded(start, now, pitch) for start in starts)
        endless += len(starts)
    return Track(messages.name, {channel: sorted(notes) for channel, notes in channels.items()}, now, endless)


def _metre(file: mido.MidiFile, path: Path) -> list[tuple[int, int]]:
    """Return where bars of which length begin; bars of four quarters where the file says nothing."""
    found = {0: BAR}
    for track in file.tracks:
        now = 0
        for message in track:
            now += message.time
            if message.type == "time_signature":
                length, rest = divmod(message.numerator * 4 * BEAT, message.denominator)
                if rest or not length:
                    raise UsageError(
                        f"{path}: a time signature of {message.numerator}/{message.denominator}; a bar must be a whole "
                        f"number of sixteenths, at least 1"
                    )
                found[now] = length
    return sorted(found.items())


def _key(name: str) -> Key:
    """Return the key that the format names: C, F#m, Bb."""
    minor = name.endswith("m")
    place = "FCGDAEB".index(name[0]) - 1 + 7 * (name.count("#") - name.count("b"))
    return Key(place - 3 * minor, minor)
