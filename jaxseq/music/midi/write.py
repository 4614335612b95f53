"""A piece as a Standard MIDI File: format 1, a track for the metre and one for each voice."""

from __future__ import annotations

import io

import mido

from jaxseq.common.errors import UsageError
from jaxseq.music.bars import bars, fraction
from jaxseq.music.instruments import ORGAN, Instrument
from jaxseq.music.notation.spelling import signed
from jaxseq.music.notes import BPM, Note, clock, lines
from jaxseq.music.piece import BEAT, REST, VOICES, Piece

TICKS = 480
"""Of a quarter note."""
VELOCITY = 80
LONGEST_QUARTER, LONGEST_SIGNATURE = 2**24 - 1, 255
"""Microseconds of a quarter note, and beats of a time signature, that a file has room for."""
Timed = tuple[int, mido.Message | mido.MetaMessage]
"""A message, and the tick at which it is sent."""


def midi(piece: Piece, bpm: float = BPM, hold: float = 1.0, instrument: Instrument = ORGAN) -> bytes:
    """Return the file's content. Steps under a fermata last `hold` times as long, by the tempo; reading gives back the
    same notes, onsets and upbeat.

    Raises `UsageError` for what is no MIDI number, for a tempo below 3.6, or where a bar is too long for the format.
    """
    file = mido.MidiFile(type=1, ticks_per_beat=TICKS, charset="utf-8")
    length = len(piece.notes) * TICKS // BEAT
    metre = [(0, mido.MetaMessage("track_name", name=piece.name)), *_signatures(piece), *_tempi(piece, bpm, hold)]
    file.tracks.append(_track(metre, length))
    for channel, line in enumerate(lines(piece)):
        head = [
            (0, mido.MetaMessage("track_name", name=VOICES[channel].capitalize())),
            (0, mido.Message("program_change", channel=channel, program=instrument.program)),
        ]
        file.tracks.append(_track([*head, *_sung(line, channel)], length))
    content = io.BytesIO()
    file.save(file=content)
    return content.getvalue()


def key_name(fifths: int, minor: bool) -> str:
    """A key as the format's text: C, F#m, Bb."""
    place = fifths + 3 * minor + 1
    sharps = place // 7
    return "FCGDAEB"[place % 7] + "#" * sharps + "b" * -sharps + "m" * minor


def _signatures(piece: Piece) -> list[Timed]:
    """Key and metre. A bar that is cut short has a time signature of its own, and so has an upbeat."""
    found: list[Timed] = [(0, mido.MetaMessage("key_signature", key=key_name(*signed(piece))))]
    last, current = len(piece.positions), None
    for bar in bars(piece.positions):
        length = bar.end - bar.start
        if length == current or (current is not None and bar.end == last and length < current):
            continue
        numerator, denominator = fraction(length, piece.units)
        if numerator > LONGEST_SIGNATURE:
            raise UsageError(
                f"{piece.name}: bar {bar.number} has {numerator} beats; a MIDI file has room for {LONGEST_SIGNATURE}"
            )
        meta = mido.MetaMessage("time_signature", numerator=numerator, denominator=denominator)
        found.append((bar.start * TICKS // BEAT, meta))
        current = length
    return found


def _tempi(piece: Piece, bpm: float, hold: float) -> list[Timed]:
    """The tempo, at the start and wherever a fermata begins or ends."""
    quarters = [round(seconds * BEAT * 1e6) for seconds in clock(piece, bpm, hold)]
    if quarters and not 0 < max(quarters) <= LONGEST_QUARTER:
        raise UsageError(
            f"a quarter note would last {max(quarters)} microseconds; a MIDI file has room for 1 to {LONGEST_QUARTER}: "
            f"bpm is {bpm:g}, hold {hold:g}"
        )
    return [
        (step * TICKS // BEAT, mido.MetaMessage("set_tempo", tempo=tempo))
        for step, tempo in enumerate(quarters)
        if step == 0 or tempo != quarters[step - 1]
    ]


def _sung(line: list[Note], channel: int) -> list[Timed]:
    """The notes of one voice: each ends before the next begins."""
    sent: list[Timed] = []
    for note in line:
        if note.pitch != REST:
            on = mido.Message("note_on", channel=channel, note=note.pitch, velocity=VELOCITY)
            off = mido.Message("note_off", channel=channel, note=note.pitch, velocity=0)
            sent += [(note.start * TICKS // BEAT, on), (note.end * TICKS // BEAT, off)]
    return sent


def _track(messages: list[Timed], length: int) -> mido.MidiTrack:
    """The messages in order of time, each with the ticks since the one before it."""
    track, now = mido.MidiTrack(), 0
    for tick, message in [*sorted(messages, key=lambda timed: timed[0]), (length, mido.MetaMessage("end_of_track"))]:
        track.append(message.copy(time=tick - now))
        now = tick
    return track
