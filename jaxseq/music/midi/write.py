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
"""Ticks of a quarter note."""
VELOCITY = 80
LONGEST_QUARTER = 2**24 - 1
"""Most microseconds of a quarter note that a file has room for."""
LONGEST_SIGNATURE = 255
"""Most beats of a time signature that a file has room for."""
Timed = tuple[int, mido.Message | mido.MetaMessage]
"""A message, and the tick at which it is sent."""


def midi(piece: Piece, bpm: float = BPM, hold: float = 1.0, instrument: Instrument = ORGAN) -> bytes:
    """Return the file's content. Steps under a fermata last `hold` times as long, by the tempo; reading gives back the
    same notes, onsets and upbeat.

    Raises `UsageError` for what is no MIDI number, for a tempo below 3.6, or where a bar is too long for the format.
    """
    file = mido.MidiFile(type=1, ticks_per_beat=TICKS, charset="utf-8")
    length = _tick(len(piece.notes))
    title = mido.MetaMessage("track_name", name=piece.name)
    file.tracks.append(_track([(0, title), *_signatures(piece), *_tempi(piece, bpm, hold)], length))
    for channel, line in enumerate(lines(piece)):
        name = mido.MetaMessage("track_name", name=VOICES[channel].capitalize())
        program = mido.Message("program_change", channel=channel, program=instrument.program)
        file.tracks.append(_track([(0, name), (0, program), *_sung(line, channel)], length))

    content = io.BytesIO()
    file.save(file=content)
    return content.getvalue()


def key_name(fifths: int, minor: bool) -> str:
    """Return a key as the format's text: C, F#m, Bb."""
    # The line of fifths goes on with a sharp, or a flat, for every seven letters.
    place = fifths + 3 * minor + 1
    sharps = place // 7
    return "FCGDAEB"[place % 7] + "#" * sharps + "b" * -sharps + "m" * minor


def _tick(step: int) -> int:
    """Return the tick at which a step begins."""
    return step * TICKS // BEAT


def _signatures(piece: Piece) -> list[Timed]:
    """Return key and metre. A bar that is cut short has a time signature to itself, and so has an upbeat."""
    key = mido.MetaMessage("key_signature", key=key_name(*signed(piece)))
    signatures: list[Timed] = [(0, key)]
    steps = len(piece.positions)
    current: int | None = None
    for bar in bars(piece.positions):
        length = bar.end - bar.start
        # The piece may end within a bar, which needs no signature.
        is_cut_by_the_end = current is not None and bar.end == steps and length < current
        if length == current or is_cut_by_the_end:
            continue
        numerator, denominator = fraction(length, piece.units)
        if numerator > LONGEST_SIGNATURE:
            raise UsageError(
                f"{piece.name}: bar {bar.number} has {numerator} beats; a MIDI file has room for {LONGEST_SIGNATURE}"
            )
        signature = mido.MetaMessage("time_signature", numerator=numerator, denominator=denominator)
        signatures.append((_tick(bar.start), signature))
        current = length
    return signatures


def _tempi(piece: Piece, bpm: float, hold: float) -> list[Timed]:
    """Return the tempo, at the start and wherever a fermata begins or ends."""
    quarters = [round(seconds * BEAT * 1e6) for seconds in clock(piece, bpm, hold)]
    if quarters and not 0 < max(quarters) <= LONGEST_QUARTER:
        raise UsageError(
            f"a quarter note would last {max(quarters)} microseconds; a MIDI file has room for 1 to {LONGEST_QUARTER}: "
            f"bpm is {bpm:g}, hold {hold:g}"
        )

    tempi: list[Timed] = []
    last_quarter = None
    for step, quarter in enumerate(quarters):
        if quarter != last_quarter:
            tempi.append((_tick(step), mido.MetaMessage("set_tempo", tempo=quarter)))
        last_quarter = quarter
    return tempi


def _sung(line: list[Note], channel: int) -> list[Timed]:
    """Return the notes of one voice: each ends before the next begins."""
    messages: list[Timed] = []
    for note in line:
        if note.pitch == REST:
            continue
        on = mido.Message("note_on", channel=channel, note=note.pitch, velocity=VELOCITY)
        off = mido.Message("note_off", channel=channel, note=note.pitch, velocity=0)
        messages.append((_tick(note.start), on))
        messages.append((_tick(note.end), off))
    return messages


def _track(messages: list[Timed], length: int) -> mido.MidiTrack:
    """Return the messages in order of time, each with the ticks since the one before it."""
    # Sorting keeps the order of those at one tick: a note ends before the next one begins.
    in_order = sorted(messages, key=lambda timed: timed[0])
    track = mido.MidiTrack()
    last_tick = 0
    for tick, message in [*in_order, (length, mido.MetaMessage("end_of_track"))]:
        track.append(message.copy(time=tick - last_tick))
        last_tick = tick
    return track
