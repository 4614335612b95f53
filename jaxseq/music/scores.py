"""A user's MusicXML score: a chorale to go on with, or a melody. Bars, upbeat, key, fermatas and repeats as written."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted, printable
from jaxseq.data.archive import read_bounded
from jaxseq.music import transposition, voice_names
from jaxseq.music.corpora import musicxml
from jaxseq.music.corpora.measures import Bar, assemble
from jaxseq.music.corpora.musicxml import Part
from jaxseq.music.piece import REST, VOICES, Piece, Reading
from jaxseq.music.tokens import HIGHEST, LOWEST
from jaxseq.music.transposition import SOPRANO, Transposition

SUFFIXES = (".musicxml", ".mxl", ".xml")
WHAT = "a score in MusicXML"
MOST_FIFTHS = 7
"""Sharps or flats of a key signature."""


def read(path: Path, by: Transposition = 0) -> Reading:
    """Read the chorale in a score: the parts that are named as choirs do, or the only four, ordered by pitch.

    Percussion is left out. Raises `UsageError`, naming file, voice and bar, for what is no chorale.
    """
    source = printable(str(path))
    document = musicxml.read_parts(read_bounded(path, WHAT), source)
    parts, remarks = _voices(document.parts, source)
    voices = [musicxml.bars(part, f"{source}: {part.name}") for part in parts]

    # Names tell the order of the voices, or else their pitch.
    names = {voice_names.voice_of(part.name) for part in parts}
    if names != set(VOICES):
        voices, order_remarks = _by_pitch(voices)
        remarks = (*remarks, *order_remarks)

    whole = assemble(voices, path.stem, source).piece
    piece, moved = _moved(whole, by, (LOWEST, HIGHEST))
    return Reading(piece=piece, said=(*remarks, *moved), bpm=document.bpm)


def read_melody(path: Path, by: Transposition = 0, number: int | None = None) -> Reading:
    """Read the melody in a score, as a piece that all voices sing: the part of that number, from 1, or else the one that
    is named so, or the first with pitches.

    Raises `UsageError`, naming file and bar, for what cannot be read.
    """
    source = printable(str(path))
    document = musicxml.read_parts(read_bounded(path, WHAT), source)
    part, remarks = _melody(document.parts, number, source)
    bars = musicxml.bars(part, f"{source}: {part.name}")
    # A piece has four voices: all of them sing it.
    piece = assemble([bars] * len(VOICES), path.stem, source).piece
    if not np.any(piece.notes):
        raise UsageError(f"{source}: there is not one note in the part {part.name!r}")
    piece, moved = _moved(piece, by, SOPRANO)
    low = transposition.low(piece.notes[:, 0])
    return Reading(piece=piece, said=(*remarks, *moved, *low), bpm=document.bpm)


def _voices(parts: tuple[Part, ...], source: str) -> tuple[list[Part], tuple[str, ...]]:
    """Return soprano, alto, tenor and bass by their names, or the only four parts, and what was left out."""
    named: dict[str, Part] = {}
    for part in parts:
        voice = voice_names.voice_of(part.name)
        # Of two parts of a name, the first.
        if voice is not None:
            named.setdefault(voice, part)

    sung = [part for part in parts if not part.is_percussion]
    if len(named) == len(VOICES):
        chosen = [named[voice] for voice in VOICES]
    elif len(sung) == len(VOICES):
        chosen = sung
    else:
        names = ", ".join(part.name for part in parts)
        raise UsageError(
            f"{source}: {len(VOICES)} voices are needed, a part each; it has {counted(len(parts), 'part')}: {names}"
        )
    return chosen, tuple(f"left out: part {part.name}" for part in parts if part not in chosen)


def _by_pitch(voices: list[list[Bar]]) -> tuple[list[list[Bar]], tuple[str, ...]]:
    """Return voices in the order of their mean pitch, the highest first, and a remark where that is not the score's.

    The order stays if a voice is silent.
    """
    pitches = [[note.pitch for bar in bars for note in bar.notes] for bars in voices]
    if not all(pitches):
        return voices, ()

    heights = [float(np.mean(voice_pitches)) for voice_pitches in pitches]
    order = sorted(range(len(voices)), key=lambda voice: -heights[voice])
    if order == sorted(order):
        return voices, ()
    places = ", ".join(str(voice + 1) for voice in order)
    return [voices[voice] for voice in order], (f"voices ordered by pitch: {places} of the file",)


def _melody(parts: tuple[Part, ...], number: int | None, source: str) -> tuple[Part, tuple[str, ...]]:
    """Return the part of a melody, and how it was found if there are others."""
    if not parts:
        raise UsageError(f"{source}: there is no part in it")
    if number is not None:
        if not 1 <= number <= len(parts):
            raise UsageError(f"{source}: no part {number}; it has {counted(len(parts), 'part')}")
        return parts[number - 1], ()
    # Of equally likely parts, the first: a score has its melody on top.
    sung = [part for part in parts if not part.is_percussion] or parts
    best = max(sung, key=lambda part: voice_names.likeness(part.name))
    if len(parts) == 1:
        return best, ()
    reason = "the first"
    if voice_names.likeness(best.name):
        reason = "by its name"
    return best, (f"of {len(parts)} parts, {best.name} is the melody, {reason}; FILE:N takes part N",)


def _moved(piece: Piece, by: Transposition, within: tuple[int, int]) -> tuple[Piece, tuple[str, ...]]:
    """Return a piece transposed, its key as well, and remarks on that; a key that is none is left out."""
    remarks: tuple[str, ...] = ()
    if piece.fifths is not None and abs(piece.fifths) > MOST_FIFTHS:
        kind = "flats"
        if piece.fifths > 0:
            kind = "sharps"
        remarks = (f"left out: a key signature of {abs(piece.fifths)} {kind}",)
        piece = piece._replace(fifths=None, minor=None)

    # Rests have no pitch.
    sung = piece.notes != REST
    shift = transposition.semitones(by, piece.notes[sung].tolist(), within)
    notes = np.where(sung, piece.notes + shift, REST)
    fifths = piece.fifths
    if fifths is not None:
        fifths = transposition.transposed_fifths(fifths, shift)
    return piece._replace(notes=notes, fifths=fifths), (*remarks, *transposition.told(shift))
