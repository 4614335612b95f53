"""Note heads and rests on the staves of a piece, with their names, accidentals, beams and fermatas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import NamedTuple

from jaxseq.music.bars import Bar, beat_of
from jaxseq.music.notation.accidentals import Mark, marks
from jaxseq.music.notation.beams import Beams, beams
from jaxseq.music.notation.note_values import Written, written
from jaxseq.music.notation.spelling import Name, spell
from jaxseq.music.notes import Note, lines
from jaxseq.music.piece import REST, Piece


class Head(NamedTuple):
    """A note head or rest with all that is drawn at it; a rest has no name."""

    written: Written
    name: Name | None
    mark: Mark | None
    beams: Beams
    fermata: bool


def staves(piece: Piece, measures: list[Bar], fifths: int) -> list[list[list[Head]]]:
    """Return the note heads and rests for each voice and bar."""
    names = spell(piece)
    held = _held(piece)
    beats = [beat_of(bar.metre, piece.units) for bar in measures]
    staves_of_voices = []
    for voice, line in enumerate(lines(piece)):
        rows = written(line, measures, piece.units)
        signs = _signs(rows, names[voice], fifths)
        staff = [_row(row, names[voice], signs, held[voice], beat) for row, beat in zip(rows, beats, strict=True)]
        staves_of_voices.append(staff)
    return staves_of_voices


def _signs(rows: list[list[Written]], names: Mapping[int, Name], fifths: int) -> Iterator[Mark | None]:
    """Return the accidental of each note head of a staff, in order; rests have none."""
    sounding = []
    for row in rows:
        notes = [head for head in row if head.note.pitch != REST]
        sounding.append([(names[head.note.start], head.tied_from) for head in notes])
    return chain.from_iterable(marks(sounding, fifths))


def _row(
    row: list[Written],
    names: Mapping[int, Name],
    signs: Iterator[Mark | None],
    held: set[int],
    beat: int,
) -> list[Head]:
    """Return the heads of a bar; `signs` has the accidentals from its first note on."""
    heads = []
    for value, joined in zip(row, beams(row, beat), strict=True):
        name = names.get(value.note.start)
        mark = None
        if name is not None:
            mark = next(signs)
        # Of tied heads the last one has the fermata.
        has_fermata = value.note.start in held and not value.tied_to
        heads.append(Head(value, name, mark, joined, has_fermata))
    return heads


def _held(piece: Piece) -> list[set[int]]:
    """Return, for each voice, where the notes begin that stand under a fermata: those that sound with the soprano's end."""
    voices = lines(piece)
    ends = []
    for note in voices[0]:
        steps = _under_fermata(piece, note)
        if steps:
            ends.append(steps[-1])

    held = []
    for line in voices:
        sung = [note for note in line if note.pitch != REST]
        held.append({note.start for note in sung if any(note.start <= end < note.end for end in ends)})
    return held


def _under_fermata(piece: Piece, note: Note) -> list[int]:
    """Return the steps of a note that stand under a fermata; none of a rest."""
    if note.pitch == REST:
        return []
    return [step for step in range(note.start, note.end) if piece.fermatas[step]]
