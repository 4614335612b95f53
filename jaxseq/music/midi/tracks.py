"""Notes and metre of a Standard MIDI File, track by track, before they are given to voices."""

from __future__ import annotations

import io
import re
import stat
from pathlib import Path
from typing import NamedTuple

import mido

from jaxseq.common.errors import UsageError
from jaxseq.music.piece import BAR, BEAT

MOST_BYTES = 500_000
"""A chorale has about ten thousand."""
LONGEST_WAIT = 2**28 - 1
"""Ticks between two messages that the format allows."""
NO_END = re.compile(rb"[\x80-\xff]{1000}")
"""A number that goes on and on: each byte says that another follows."""


class Sounded(NamedTuple):
    """One note of a file, in ticks."""

    start: int
    end: int
    pitch: int


class Track(NamedTuple):
    """The notes of one track by channel (in order of their first note), its name, and the tick at which it ends."""

    name: str
    channels: dict[int, list[Sounded]]
    end: int
    endless: int


class File(NamedTuple):
    """The content of a MIDI file.

    ticks   of a quarter note
    tracks  all of them, those without notes too
    metre   pairs of tick and bar length in sixteenths, in order
    key     as the format names it, None where there is none
    """

    ticks: int
    tracks: list[Track]
    metre: list[tuple[int, int]]
    key: str | None


def load(path: Path) -> File:
    """Read a MIDI file of format 0 or 1. Raises `UsageError`, naming the file, for anything else."""
    file = _decoded(_content(path), str(path))
    if file.type not in (0, 1):
        raise UsageError(f"{path}: MIDI format {file.type}; formats 0 and 1 can be read")
    if file.ticks_per_beat < 0:
        raise UsageError(
            f"{path}: times are SMPTE frames and not beats; save it with a resolution in ticks per quarter"
        )
    if file.ticks_per_beat == 0:
        raise UsageError(f"{path}: damaged: 0 ticks per quarter note, at least 1 is needed")
    for number, track in enumerate(file.tracks, start=1):
        if (wait := max((message.time for message in track), default=0)) > LONGEST_WAIT:
            much = f"{wait} ticks" if wait < 10**12 else "more than 10^12 ticks"
            raise UsageError(f"{path}: damaged: track {number} waits {much} for a message, {LONGEST_WAIT} at most")
    keys = [message.key for track in file.tracks for message in track if message.type == "key_signature"]
    return File(file.ticks_per_beat, list(map(_track, file.tracks)), _metre(file, path), keys[0] if keys else None)


def _content(path: Path) -> bytes:
    try:
        if not (path.is_dir() or stat.S_ISREG(path.stat().st_mode)):  # a pipe may never end
            raise OSError(0, "no regular file")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not content:
        raise UsageError(f"{path}: the file is empty")
    if not content.startswith(b"MThd"):
        raise UsageError(f"{path}: no MIDI file: it begins with {content[:4]!r}, and not with {b'MThd'!r}")
    if len(content) > MOST_BYTES:
        raise UsageError(f"{path}: more than {MOST_BYTES} bytes; that is no chorale")
    return content


def _decoded(content: bytes, source: str) -> mido.MidiFile:
    if NO_END.search(content):
        raise UsageError(f"{source}: damaged: a number of more than 1000 bytes")
    try:
        return mido.MidiFile(file=io.BytesIO(content))
    except EOFError as error:
        raise UsageError(f"{source}: damaged: the file ends within a track ({len(content)} bytes)") from error
    except Exception as error:  # mido promises no kind of exception for a file that breaks the format
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"{source}: damaged: {reason}") from error


def _track(messages: mido.MidiTrack) -> Track:
    """The notes: one ends with its note-off, with the next of the same pitch, or with the track."""
    now, open_notes, endless = 0, dict[tuple[int, int], int](), 0
    channels: dict[int, list[Sounded]] = {}
    for message in messages:
        now += message.time
        if message.type not in ("note_on", "note_off"):
            continue
        place = (message.channel, message.note)
        begun = open_notes.pop(place, None)
        if begun is not None:
            channels[message.channel].append(Sounded(begun, now, message.note))
        if message.type == "note_on" and message.velocity:
            open_notes[place] = now
            channels.setdefault(message.channel, [])
    for (channel, pitch), begun in open_notes.items():
        channels[channel].append(Sounded(begun, now, pitch))
        endless += 1
    return Track(messages.name, {channel: sorted(notes) for channel, notes in channels.items()}, now, endless)


def _metre(file: mido.MidiFile, path: Path) -> list[tuple[int, int]]:
    """Where bars of which length begin; bars of four quarters where the file says nothing."""
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
