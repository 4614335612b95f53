"""A user's MusicXML score: a chorale to go on with, or a melody. Bars, upbeat, key, fermatas and repeats as written."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted, printable
from jaxseq.data.archive import read_bounded
from jaxseq.music import transposition, voice_names
from jaxseq.music.corpora import musicxml
from jaxseq.music.corpora.measures import assemble
from jaxseq.music.corpora.musicxml import Part
from jaxseq.music.piece import REST, VOICES, Piece
from jaxseq.music.tokens import HIGHEST, LOWEST
from jaxseq.music.transposition import SOPRANO, Transposition

SUFFIXES = (".musicxml", ".mxl", ".xml")
WHAT = "a score in MusicXML"


class Score(NamedTuple):
    """A piece of a score.

    said  what was decided, a sentence each
    bpm   tempo that the score begins with, in quarter notes a minute; None where it has none
    """

    piece: Piece
    said: tuple[str, ...]
    bpm: float | None


def read(path: Path, by: Transposition = 0) -> Score:
    """Read the chorale in a score: the parts that are named as choirs do, or the only four.

    Raises `UsageError`, naming file, voice and bar, for what is no chorale.
    """
    source = printable(str(path))
    document = musicxml.read_parts(read_bounded(path, WHAT), source)
    voices, said = _voices(document.parts, source)
    piece = assemble([musicxml.bars(part, f"{source}: {part.name}") for part in voices], path.stem, source).piece
    return _moved(Score(piece, said, document.bpm), by, (LOWEST, HIGHEST))


def read_melody(path: Path, by: Transposition = 0, number: int | None = None) -> Score:
    """Read the melody in a score, as a piece that all voices sing: the part of that number, from 1, or else the one that
    is named so, or the first.

    Raises `UsageError`, naming file and bar, for what cannot be read.
    """
    source = printable(str(path))
    document = musicxml.read_parts(read_bounded(path, WHAT), source)
    part, said = _melody(document.parts, number, source)
    bars = musicxml.bars(part, f"{source}: {part.name}")
    piece = assemble([bars] * len(VOICES), path.stem, source).piece
    if not np.any(piece.notes):
        raise UsageError(f"{source}: there is not one note in the part {part.name!r}")
    return _moved(Score(piece, said, document.bpm), by, SOPRANO)


def _voices(parts: tuple[Part, ...], source: str) -> tuple[list[Part], tuple[str, ...]]:
    """Return soprano, alto, tenor and bass, and what was left out."""
    named: dict[str, Part] = {}
    for part in parts:
        voice = voice_names.voice_of(part.name)
        if voice is not None:
            named.setdefault(voice, part)
    if len(named) == len(VOICES):
        chosen = [named[voice] for voice in VOICES]
        return chosen, tuple(f"left out: part {part.name}" for part in parts if part not in chosen)
    if len(parts) == len(VOICES):
        return list(parts), ()
    names = ", ".join(part.name for part in parts)
    raise UsageError(
        f"{source}: {len(VOICES)} voices are needed, a part each; it has {counted(len(parts), 'part')}: {names}"
    )


def _melody(parts: tuple[Part, ...], number: int | None, source: str) -> tuple[Part, tuple[str, ...]]:
    """Return the part of a melody, and how it was found if there are others."""
    if not parts:
        raise UsageError(f"{source}: there is no part in it")
    if number is not None:
        if not 1 <= number <= len(parts):
            raise UsageError(f"{source}: no part {number}; it has {counted(len(parts), 'part')}")
        return parts[number - 1], ()
    # Of equally likely parts, the first: a score has its melody on top.
    best = max(parts, key=lambda part: voice_names.likeness(part.name))
    if len(parts) == 1:
        return best, ()
    reason = "by its name" if voice_names.likeness(best.name) else "the first"
    return best, (f"of {len(parts)} parts, {best.name} is the melody, {reason}; FILE:N takes part N",)


def _moved(score: Score, by: Transposition, within: tuple[int, int]) -> Score:
    """Return a score transposed, its key as well."""
    piece = score.piece
    sung = piece.notes != REST
    shift = transposition.semitones(by, piece.notes[sung].tolist(), within)
    notes = np.where(sung, piece.notes + shift, REST)
    fifths = piece.fifths
    if fifths is not None:
        fifths = transposition.transposed_fifths(fifths, shift)
    return score._replace(
        piece=piece._replace(notes=notes, fifths=fifths), said=(*score.said, *transposition.told(shift))
    )
