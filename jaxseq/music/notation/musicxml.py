"""A piece as a MusicXML 4.0 score on four staves (https://www.w3.org/2021/06/musicxml40/)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from xml.etree import ElementTree

from jaxseq.music.bars import Bar, Units, bars, beat_of, fraction
from jaxseq.music.instruments import Instrument, Performance
from jaxseq.music.notation.accidentals import SIGNS, Mark, marks
from jaxseq.music.notation.beams import Beams, beams
from jaxseq.music.notation.note_values import TYPES, Written, written
from jaxseq.music.notation.spelling import Name, signed, spell
from jaxseq.music.notes import Note, lines, tempo_changes
from jaxseq.music.piece import BAR, BEAT, REST, VOICES, Piece

CLEFS = (("G", 2, 0), ("G", 2, 0), ("G", 2, -1), ("F", 4, 0))
"""Sign, line and octave of each voice's clef; the tenor sounds an octave below the treble clef."""
COMPOSER = "jaxseq"
HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 4.0 Partwise//EN" '
    '"http://www.musicxml.org/dtds/partwise.dtd">\n'
)
UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML cannot hold."""

Element = ElementTree.Element


class Head(NamedTuple):
    """A note head or rest with all that is drawn at it; a rest has no name."""

    written: Written
    name: Name | None
    mark: Mark | None
    beams: Beams
    fermata: bool


def musicxml(
    piece: Piece, title: str | None = None, composer: str = COMPOSER, performance: Performance | None = None
) -> str:
    """Return the score of a piece, with key, spelling, ties, beams, accidentals and fermatas.

    title        the piece's name, if not given
    performance  adds the tempo, as a metronome mark, and the instrument; a program that holds fermatas by itself holds
                 them longer

    A piece without steps has one empty bar. Raises `UsageError` for what is no MIDI number or no key signature.
    """
    score = ElementTree.Element("score-partwise", version="4.0")
    _add(_add(score, "work"), "work-title", UNPRINTABLE.sub("\ufffd", piece.name if title is None else title))
    identification = _add(score, "identification")
    _add(identification, "creator", UNPRINTABLE.sub("\ufffd", composer), type="composer")
    _add(_add(identification, "encoding"), "software", "jaxseq")
    _parts(_add(score, "part-list"), performance)
    fifths, minor = signed(piece)
    measures = bars(piece.positions) or [Bar(0, 0, 0, 1, False, BAR, BAR)]
    tempi: dict[int, float] = {}
    if performance is not None:
        tempi = tempo_changes(piece, performance.bpm, performance.hold)
    for voice, staff in enumerate(staves(piece, measures, fifths)):
        part = _add(score, "part", id=f"P{voice + 1}")
        for number, (bar, heads) in enumerate(zip(measures, staff, strict=True)):
            measure = _measure(part, measures, number)
            _attributes(measure, bar, number == 0, fifths, minor, CLEFS[voice], piece.units)
            # One part has the tempo of all.
            _heads(measure, bar, heads, {} if voice else tempi)
            if number == len(measures) - 1:
                _add(_add(measure, "barline", location="right"), "bar-style", "light-heavy")
    ElementTree.indent(score, " ")
    return HEAD + ElementTree.tostring(score, encoding="unicode") + "\n"


def staves(piece: Piece, measures: list[Bar], fifths: int) -> list[list[list[Head]]]:
    """For each voice and bar, its note heads and rests."""
    names, held = spell(piece), _held(piece)
    made = []
    for voice, line in enumerate(lines(piece)):
        rows = written(line, measures, piece.units)
        sounding = [[(names[voice][w.note.start], w.tied_from) for w in row if w.note.pitch != REST] for row in rows]
        signs = iter([sign for row in marks(sounding, fifths) for sign in row])
        beats = [beat_of(bar.metre, piece.units) for bar in measures]
        made.append([_row(row, names[voice], signs, held[voice], beat) for row, beat in zip(rows, beats, strict=True)])
    return made


def _row(
    row: list[Written], names: dict[int, Name], signs: Iterator[Mark | None], held: set[int], beat: int
) -> list[Head]:
    heads = []
    for one, joined in zip(row, beams(row, beat), strict=True):
        name = names.get(one.note.start)
        fermata = one.note.start in held and not one.tied_to
        heads.append(Head(one, name, next(signs) if name else None, joined, fermata))
    return heads


def _held(piece: Piece) -> list[set[int]]:
    """For each voice, where the notes begin that stand under a fermata: those that sound with the end of the soprano's."""
    voices = lines(piece)
    ends = [held[-1] for note in voices[0] if (held := _under(piece, note))]
    sung = [[note for note in line if note.pitch != REST] for line in voices]
    return [{note.start for note in line if any(note.start <= end < note.end for end in ends)} for line in sung]


def _under(piece: Piece, note: Note) -> list[int]:
    """The steps of a note that stand under a fermata."""
    return [step for step in range(note.start, note.end) if note.pitch != REST and piece.fermatas[step]]


def _parts(listed: Element, performance: Performance | None) -> None:
    group = _add(listed, "part-group", type="start", number="1")
    _add(group, "group-symbol", "bracket")
    _add(group, "group-barline", "no")
    for number, voice in enumerate(VOICES, start=1):
        part = _add(listed, "score-part", id=f"P{number}")
        _add(part, "part-name", voice.capitalize())
        _add(part, "part-abbreviation", f"{voice[0].upper()}.")
        if performance is not None:
            _instrument(part, number, performance.instrument)
    _add(listed, "part-group", type="stop", number="1")


def _instrument(part: Element, number: int, instrument: Instrument) -> None:
    """Add the instrument of a part; MusicXML counts channels and programs from 1."""
    name = f"P{number}-I1"
    described = _add(part, "score-instrument", id=name)
    _add(described, "instrument-name", instrument.title)
    _add(described, "instrument-sound", instrument.standard)
    played = _add(part, "midi-instrument", id=name)
    _add(played, "midi-channel", str(number))
    _add(played, "midi-program", str(instrument.program + 1))


def _tempi(measure: Element, tempi: Mapping[int, float], start: int, end: int) -> None:
    """Add the tempi that begin within the note head or rest that follows, from step `start` to `end`."""
    for step in range(start, end):
        if step in tempi:
            _tempo(measure, tempi[step], offset=step - start, drawn=step == 0)


def _tempo(measure: Element, bpm: float, offset: int, drawn: bool) -> None:
    """Add a tempo that holds from `offset` sixteenths after here, as a metronome mark if it is `drawn`."""
    if not drawn:
        played = _add(measure, "sound", tempo=f"{bpm:g}")
        if offset:
            _add(played, "offset", str(offset), sound="yes")
        return
    direction = _add(measure, "direction", placement="above")
    mark = _add(_add(direction, "direction-type"), "metronome")
    _add(mark, "beat-unit", "quarter")
    _add(mark, "per-minute", f"{bpm:g}")
    _add(direction, "sound", tempo=f"{bpm:g}")


def _measure(part: Element, measures: list[Bar], number: int) -> Element:
    bar = measures[number]
    if not bar.partial:
        return _add(part, "measure", number=str(bar.number))
    nth = sum(other.partial and other.number == bar.number for other in measures[:number])
    name = str(bar.number) if bar.number == 0 and not nth else f"X{bar.number}.{nth + 1}"
    return _add(part, "measure", number=name, implicit="yes")


def _attributes(
    measure: Element, bar: Bar, first: bool, fifths: int, minor: bool, clef: tuple[str, int, int], units: Units
) -> None:
    """Return the attributes before the notes: all in the first bar, later a time signature where it changes."""
    if bar.signature is None:
        return
    attributes = _add(measure, "attributes")
    if first:
        _add(attributes, "divisions", str(BEAT))
        key = _add(attributes, "key")
        _add(key, "fifths", str(fifths))
        _add(key, "mode", "minor" if minor else "major")
    beats, beat_type = fraction(bar.signature, units)
    symbol = {(4, 4): {"symbol": "common"}, (2, 2): {"symbol": "cut"}}.get((beats, beat_type), {})
    time = _add(attributes, "time", **symbol)
    _add(time, "beats", str(beats))
    _add(time, "beat-type", str(beat_type))
    if first:
        drawn = _add(attributes, "clef")
        sign, line, octave = clef
        _add(drawn, "sign", sign)
        _add(drawn, "line", str(line))
        if octave:
            _add(drawn, "clef-octave-change", str(octave))


def _heads(measure: Element, bar: Bar, heads: list[Head], tempi: Mapping[int, float]) -> None:
    """Add the notes of a bar, and the tempi that begin within them; a whole bar of silence is one rest."""
    if all(head.name is None for head in heads) and not bar.partial:
        _tempi(measure, tempi, bar.start, bar.end)
        note = _add(measure, "note")
        _add(note, "rest", measure="yes")
        _add(note, "duration", str(bar.end - bar.start or bar.signature))
        _add(note, "voice", "1")
        return
    for head in heads:
        step = bar.start - bar.first + head.written.position
        _tempi(measure, tempi, step, step + head.written.value)
        _note(_add(measure, "note"), head)


def _note(note: Element, head: Head) -> None:
    """The children of a note, in the order that MusicXML asks for."""
    one = head.written
    if head.name is None:
        _add(note, "rest")
    else:
        pitch = _add(note, "pitch")
        _add(pitch, "step", head.name.letter)
        if head.name.alter:
            _add(pitch, "alter", str(head.name.alter))
        _add(pitch, "octave", str(head.name.octave))
    _add(note, "duration", str(one.value))
    ties = [name for name, tied in (("stop", one.tied_from), ("start", one.tied_to)) if tied]
    for tie in ties:
        _add(note, "tie", type=tie)
    _add(note, "voice", "1")
    kind, dots = TYPES[one.value]
    _add(note, "type", kind)
    for _ in range(dots):
        _add(note, "dot")
    if head.name and head.mark:
        courtesy = {"cautionary": "yes", "parentheses": "yes"} if head.mark == "courtesy" else {}
        _add(note, "accidental", SIGNS[head.name.alter], **courtesy)
    for number, word in enumerate(head.beams, start=1):
        _add(note, "beam", word, number=str(number))
    if ties or head.fermata:
        notations = _add(note, "notations")
        for tie in ties:
            _add(notations, "tied", type=tie)
        if head.fermata:
            _add(notations, "fermata", type="upright")


def _add(parent: Element, tag: str, text: str | None = None, **attributes: str) -> Element:
    child = ElementTree.SubElement(parent, tag, attributes)
    child.text = text
    return child
