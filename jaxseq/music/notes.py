"""Notes of a piece with start and length, and the duration of its steps in seconds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxseq.common.errors import UsageError
from jaxseq.music.piece import BEAT, REST, VOICES, Piece

BPM = 84.0
"""Tempo in quarter notes a minute, where nothing else is asked for."""
HOLD = 1.5
"""How much longer a step under a fermata lasts, when a piece is played."""


class Note(NamedTuple):
    """One note or rest of a voice.

    start  step in which it begins
    steps  sixteenths that it lasts
    pitch  MIDI number; 0 is a rest
    """

    start: int
    steps: int
    pitch: int

    @property
    def end(self) -> int:
        """Step after its last."""
        return self.start + self.steps


def line(notes: Int[np.ndarray, "t"], onsets: Bool[np.ndarray, "t"]) -> list[Note]:
    """Return the notes and rests of one voice, without a gap: one begins where a note is struck or the pitch changes."""
    if not len(notes):
        return []
    begins = np.ones(len(notes), bool)
    begins[1:] = (notes[1:] != notes[:-1]) | (onsets[1:] & (notes[1:] != REST))
    starts = np.flatnonzero(begins)
    steps = np.diff(starts, append=len(notes))
    return [Note(*map(int, row)) for row in zip(starts, steps, notes[starts], strict=True)]


def lines(piece: Piece) -> list[list[Note]]:
    """Return the notes and rests of soprano, alto, tenor and bass. Raises `UsageError` for anything but MIDI numbers."""
    outside = np.argwhere((piece.notes < 0) | (piece.notes > 127))
    if len(outside):
        step, voice = map(int, outside[0])
        raise UsageError(
            f"{piece.name}: the {VOICES[voice]} has note {piece.notes[step, voice]} at step {step + 1}; "
            f"MIDI numbers go from 1 to 127, and {REST} is a rest"
        )
    return [line(piece.notes[:, voice], piece.onsets[:, voice]) for voice in range(len(VOICES))]


def grid(voices: list[list[Note]], steps: int) -> tuple[Int[np.ndarray, "t v"], Bool[np.ndarray, "t v"]]:
    """Return notes and onsets, a column for each voice: the inverse of `line`."""
    notes = np.zeros((steps, len(voices)), np.int64)
    onsets = np.zeros((steps, len(voices)), bool)
    for voice, voice_notes in enumerate(voices):
        for note in voice_notes:
            notes[note.start : note.end, voice] = note.pitch
            onsets[note.start, voice] = note.pitch != REST
    return notes, onsets


def tempo_changes(piece: Piece, bpm: float, hold: float) -> dict[int, float]:
    """Return the tempo in quarter notes a minute, by the step from which it holds: it changes at fermatas alone."""
    tempi = 60 / BEAT / clock(piece, bpm, hold)
    begins = np.flatnonzero(np.diff(tempi, prepend=0.0))
    return {int(step): float(tempi[step]) for step in begins}


def clock(piece: Piece, bpm: float, hold: float = 1.0) -> Float[np.ndarray, "t"]:
    """Return the seconds of each step at `bpm` quarters a minute; steps under a fermata last `hold` times as long.

    Raises `UsageError` unless both are positive and finite.
    """
    for name, value in (("bpm", bpm), ("hold", hold)):
        if not (np.isfinite(value) and value > 0):
            raise UsageError(f"{name} is {value:g}; it must be a positive number")
    return 60 / bpm / BEAT * np.where(piece.fermatas, hold, 1.0)
