"""How a piece is played: its tempo, and instruments as MIDI and MusicXML name them and as they sound when synthesised.

Programs and names are those of General MIDI 1 (MIDI Association, RP-003) and of MusicXML's standard sounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from jaxseq.music.notes import BPM, HOLD

InstrumentName = Literal["organ", "choir", "strings", "piano"]


class Instrument(NamedTuple):
    """An instrument.

    title     for a score
    program   of General MIDI, counted from 0
    standard  name among MusicXML's sounds
    partials  amplitudes of the fundamental and the partials above it
    attack    seconds in which a note rises
    decay     seconds in which it then falls to 1/e of the way to the sustained level
    sustain   that level, relative to the loudest
    release   seconds in which it fades after its end
    detune    cents that the two tones of each voice are off the pitch, one above and one below
    """

    title: str
    program: int
    standard: str
    partials: tuple[float, ...]
    attack: float
    decay: float
    sustain: float
    release: float
    detune: float


ORGAN = Instrument(
    title="Organ",
    program=19,
    standard="keyboard.organ.pipe",
    partials=(1.0, 0.42, 0.24, 0.13, 0.09, 0.05, 0.03, 0.02),
    attack=0.035,
    decay=0.25,
    sustain=0.8,
    release=0.11,
    detune=1.5,
)
CHOIR = Instrument(
    title="Choir",
    program=52,
    standard="voice.aa",
    partials=(1.0, 0.6, 0.3, 0.1, 0.05, 0.02),
    attack=0.09,
    decay=0.4,
    sustain=0.85,
    release=0.2,
    detune=7.0,
)
STRINGS = Instrument(
    title="Strings",
    program=48,
    standard="strings.group",
    partials=tuple(1 / k for k in range(1, 9)),
    attack=0.08,
    decay=0.3,
    sustain=0.85,
    release=0.15,
    detune=4.0,
)
PIANO = Instrument(
    title="Piano",
    program=0,
    standard="keyboard.piano",
    partials=(1.0, 0.5, 0.3, 0.2, 0.12, 0.08, 0.05, 0.03),
    attack=0.004,
    decay=1.1,
    sustain=0.05,
    release=0.15,
    detune=0.8,
)


class Performance(NamedTuple):
    """How a piece is played.

    bpm         tempo in quarter notes a minute
    hold        how much longer a step under a fermata lasts
    instrument  of all voices
    """

    bpm: float = BPM
    hold: float = HOLD
    instrument: Instrument = ORGAN


INSTRUMENTS: Mapping[InstrumentName, Instrument] = MappingProxyType(
    {"organ": ORGAN, "choir": CHOIR, "strings": STRINGS, "piano": PIANO}
)
