"""Notes, metre, key and tempo of a Standard MIDI File, track by track, before they are given to voices."""

from __future__ import annotations

from bisect import bisect_right
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
    endless   number of notes that nothing ends: they are held to the end of the track
    cut       number of notes without an end that the next message of their pitch ends
    """

    name: str
    channels: dict[int, list[Sounded]]
    end: int
    endless: int
    cut: int


class _Key(NamedTuple):
    """Ticks at which a pitch of one channel is struck, and at which one of its notes is released, in order."""

    strikes: list[int]
    releases: list[int]


class File(NamedTuple):
    """The content of a MIDI file.

    ticks   of a quarter note
    tracks  all of them, those without notes too
    metre   pairs of tick and bar length in sixteenths, in order
    units   of the beats, where the length of a bar does not tell them: as in a `Piece`
    key     the first one; None where there is none
    bpm     the tempo at the start, in quarter notes a minute; None where there is none
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
    return File(
        ticks=file.ticks_per_beat,
        tracks=list(map(_track, file.tracks)),
        metre=_metre(file, path),
        units=units_of(signatures),
        key=_key(keys[0]) if keys else None,
        bpm=_first_tempo(file),
        said=said,
    )


def _track(messages: mido.MidiTrack) -> Track:
    """Return the notes: a note-off ends the first of its pitch that still sounds.

    Where a repeated note begins before the last one has ended (legato), each so has its own end. Where a pitch has fewer
    note-offs than notes, nothing tells which one was lost: its last overlapping notes end at whatever comes next of that
    pitch, a note-off or another note, or at the end of the track.
    """
    now = 0
    keys: dict[tuple[int, int], _Key] = {}
    for message in messages:
        now += message.time
        if message.type not in ("note_on", "note_off"):
            continue
        place = (message.channel, message.note)
        if message.type == "note_on" and message.velocity:
            keys.setdefault(place, _Key([], [])).strikes.append(now)
        elif place in keys and len(keys[place].releases) < len(keys[place].strikes):
            keys[place].releases.append(now)

    channels: dict[int, list[Sounded]] = {}
    endless = 0
    cut = 0
    for (channel, pitch), key in keys.items():
        ends = key.releases
        lost = len(key.strikes) - len(key.releases)
        if lost:
            ends = _ends(key, now)
            held = key.strikes.count(max(key.strikes[-1:] + key.releases[-1:]))
            endless += held
            cut += max(lost - held, 0)
        notes = [Sounded(start, end, pitch) for start, end in zip(key.strikes, ends, strict=True)]
        channels.setdefault(channel, []).extend(notes)
    in_order = {channel: sorted(notes) for channel, notes in channels.items()}
    return Track(_text(messages.name), in_order, now, endless=endless, cut=cut)


def _ends(key: _Key, last: int) -> list[int]:
    """Return the end of each note of a key that has lost note-offs; `last` where nothing follows."""
    strikes, releases = key
    # Where a note ends before the next begins, all notes so far have their ends.
    whole = max((n for n in range(1, len(releases) + 1) if releases[n - 1] <= strikes[n]), default=0)

    times = sorted({*strikes, *releases})
    ends = [*times, last]
    return [*releases[:whole], *(ends[bisect_right(times, strike)] for strike in strikes[whole:])]


def _text(name: str) -> str:
    """Return a text of the file in UTF-8, as most programs write it, or as mido reads it, in Latin 1."""
    try:
        return name.encode("latin1").decode()
    except UnicodeDecodeError:
        return name


def _first_tempo(file: mido.MidiFile) -> float | None:
    """Return the tempo at the start, the last if there are several, in quarter notes a minute; None without one."""
    tempi = []
    for track in file.tracks:
        for message in track:
            # Tempi after the start are changes, such as those of fermatas.
            if message.time:
                break
            if message.type == "set_tempo" and message.tempo:
                tempi.append(message.tempo)
    return 60e6 / tempi[-1] if tempi else None


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
