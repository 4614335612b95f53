"""A piece as a MusicXML 4.0 score on four staves (https://www.w3.org/2021/06/musicxml40/)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from xml.etree import ElementTree

from jaxseq.music.bars import Bar, Units, bars, fraction
from jaxseq.music.instruments import Instrument, Performance
from jaxseq.music.notation.accidentals import SIGNS
from jaxseq.music.notation.note_values import TYPES
from jaxseq.music.notation.spelling import Name, signed
from jaxseq.music.notation.staves import Head, staves
from jaxseq.music.notes import tempo_changes
from jaxseq.music.piece import BAR, BEAT, VOICES, Piece

CLEFS = (("G", 2, 0), ("G", 2, 0), ("G", 2, -1), ("F", 4, 0))
"""Sign, line and octave of each voice's clef; the tenor sounds an octave below the treble clef."""
MODES = ("major", "minor")
TIME_SYMBOLS = {(4, 4): "common", (2, 2): "cut"}
COMPOSER = "jaxseq"
HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 4.0 Partwise//EN" '
    '"http://www.musicxml.org/dtds/partwise.dtd">\n'
)
UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML cannot hold."""

Element = ElementTree.Element


class Score(NamedTuple):
    """Data that all parts of a score share.

    tempi  tempo by the step in which it begins; empty for none
    """

    measures: list[Bar]
    fifths: int
    minor: bool
    units: Units
    tempi: Mapping[int, float]


def musicxml(
    piece: Piece,
    title: str | None = None,
    composer: str = COMPOSER,
    performance: Performance | None = None,
) -> str:
    """Return the score of a piece, with key, spelling, ties, beams, accidentals and fermatas.

    title        the piece's name, if not given
    performance  adds the tempo, as a metronome mark, and the instrument; a program that holds fermatas by itself holds
                 them longer

    A piece without steps has one empty bar. Raises `UsageError` for what is no MIDI number or no key signature.
    """
    if title is None:
        title = piece.name
    root = ElementTree.Element("score-partwise", version="4.0")
    _header(root, title, composer)
    _parts(_add(root, "part-list"), performance)

    fifths, minor = signed(piece)
    empty_bar = Bar(start=0, end=0, first=0, number=1, partial=False, signature=BAR, metre=BAR)
    measures = bars(piece.positions) or [empty_bar]
    tempi: dict[int, float] = {}
    if performance is not None:
        tempi = tempo_changes(piece, performance.bpm, performance.hold)
    score = Score(measures, fifths, minor, piece.units, tempi)

    for voice, staff in enumerate(staves(piece, measures, fifths)):
        part = _add(root, "part", id=f"P{voice + 1}")
        # One part has the tempo of all.
        if voice:
            score = score._replace(tempi={})
        _part(part, score, staff, CLEFS[voice])
    ElementTree.indent(root, " ")
    return HEAD + ElementTree.tostring(root, encoding="unicode") + "\n"


def _header(root: Element, title: str, composer: str) -> None:
    """Add title and composer."""
    _add(_add(root, "work"), "work-title", _printable(title))
    identification = _add(root, "identification")
    _add(identification, "creator", _printable(composer), type="composer")
    _add(_add(identification, "encoding"), "software", "jaxseq")


def _printable(text: str) -> str:
    return UNPRINTABLE.sub("\ufffd", text)


def _parts(part_list: Element, performance: Performance | None) -> None:
    """Add the list of parts, which a bracket joins."""
    group = _add(part_list, "part-group", type="start", number="1")
    _add(group, "group-symbol", "bracket")
    _add(group, "group-barline", "no")
    for number, voice in enumerate(VOICES, start=1):
        part = _add(part_list, "score-part", id=f"P{number}")
        _add(part, "part-name", voice.capitalize())
        _add(part, "part-abbreviation", f"{voice[0].upper()}.")
        if performance is not None:
            _instrument(part, number, performance.instrument)
    _add(part_list, "part-group", type="stop", number="1")


def _instrument(part: Element, number: int, instrument: Instrument) -> None:
    """Add the instrument of a part; MusicXML counts channels and programs from 1."""
    name = f"P{number}-I1"
    described = _add(part, "score-instrument", id=name)
    _add(described, "instrument-name", instrument.title)
    _add(described, "instrument-sound", instrument.standard)
    played = _add(part, "midi-instrument", id=name)
    _add(played, "midi-channel", str(number))
    _add(played, "midi-program", str(instrument.program + 1))


def _part(part: Element, score: Score, staff: list[list[Head]], clef: tuple[str, int, int]) -> None:
    """Add the bars of a part, and the double bar at its end."""
    measure = part
    for number, (bar, heads) in enumerate(zip(score.measures, staff, strict=True)):
        measure = _measure(part, score.measures, number)
        _attributes(measure, bar, score, clef, is_first=number == 0)
        _heads(measure, bar, heads, score.tempi)
    _add(_add(measure, "barline", location="right"), "bar-style", "light-heavy")


def _measure(part: Element, measures: list[Bar], number: int) -> Element:
    """Add a bar. An upbeat is number 0; other parts of bars are implicit, X and the number of the bar before them."""
    bar = measures[number]
    if not bar.partial:
        return _add(part, "measure", number=str(bar.number))

    earlier_parts = sum(other.partial and other.number == bar.number for other in measures[:number])
    name = f"X{bar.number}.{earlier_parts + 1}"
    if bar.number == 0 and not earlier_parts:
        name = "0"
    return _add(part, "measure", number=name, implicit="yes")


def _attributes(measure: Element, bar: Bar, score: Score, clef: tuple[str, int, int], is_first: bool) -> None:
    """Add the attributes before the notes: all in the first bar, later a time signature where it changes."""
    if bar.signature is None:
        return
    attributes = _add(measure, "attributes")
    if is_first:
        _add(attributes, "divisions", str(BEAT))
        key = _add(attributes, "key")
        _add(key, "fifths", str(score.fifths))
        _add(key, "mode", MODES[score.minor])
    _time(attributes, *fraction(bar.signature, score.units))
    if is_first:
        _clef(attributes, *clef)


def _time(attributes: Element, beats: int, beat_type: int) -> None:
    """Add a time signature, as C or as a cut C where there is one."""
    symbol = {}
    if (beats, beat_type) in TIME_SYMBOLS:
        symbol = {"symbol": TIME_SYMBOLS[beats, beat_type]}
    time = _add(attributes, "time", **symbol)
    _add(time, "beats", str(beats))
    _add(time, "beat-type", str(beat_type))


def _clef(attributes: Element, sign: str, line: int, octave: int) -> None:
    clef = _add(attributes, "clef")
    _add(clef, "sign", sign)
    _add(clef, "line", str(line))
    if octave:
        _add(clef, "clef-octave-change", str(octave))


def _heads(measure: Element, bar: Bar, heads: list[Head], tempi: Mapping[int, float]) -> None:
    """Add the notes of a bar, and the tempi that begin within them; a whole bar of silence is one rest."""
    is_silent = all(head.name is None for head in heads)
    if is_silent and not bar.partial:
        _tempi(measure, tempi, bar.start, bar.end)
        note = _add(measure, "note")
        _add(note, "rest", measure="yes")
        # The bar of a piece without steps is as long as its signature says.
        _add(note, "duration", str(bar.end - bar.start or bar.signature))
        _add(note, "voice", "1")
        return
    for head in heads:
        step = bar.start - bar.first + head.written.position
        _tempi(measure, tempi, step, step + head.written.value)
        _note(_add(measure, "note"), head)


def _tempi(measure: Element, tempi: Mapping[int, float], start: int, end: int) -> None:
    """Add the tempi that begin within the note head or rest that follows, from step `start` to `end`."""
    for step in range(start, end):
        if step in tempi:
            _tempo(measure, tempi[step], offset=step - start, is_drawn=step == 0)


def _tempo(measure: Element, bpm: float, offset: int, is_drawn: bool) -> None:
    """Add a tempo that holds from `offset` sixteenths after here, as a metronome mark if it is drawn."""
    tempo = f"{bpm:g}"
    if not is_drawn:
        sound = _add(measure, "sound", tempo=tempo)
        if offset:
            _add(sound, "offset", str(offset), sound="yes")
        return
    direction = _add(measure, "direction", placement="above")
    mark = _add(_add(direction, "direction-type"), "metronome")
    _add(mark, "beat-unit", "quarter")
    _add(mark, "per-minute", tempo)
    _add(direction, "sound", tempo=tempo)


def _note(note: Element, head: Head) -> None:
    """Add the children of a note, in the order that MusicXML asks for."""
    _pitch(note, head.name)
    _add(note, "duration", str(head.written.value))
    ties = []
    if head.written.tied_from:
        ties.append("stop")
    if head.written.tied_to:
        ties.append("start")
    for tie in ties:
        _add(note, "tie", type=tie)
    _add(note, "voice", "1")
    _drawn(note, head)
    if ties or head.fermata:
        notations = _add(note, "notations")
        for tie in ties:
            _add(notations, "tied", type=tie)
        if head.fermata:
            _add(notations, "fermata", type="upright")


def _pitch(note: Element, name: Name | None) -> None:
    """Add a pitch, or a rest."""
    if name is None:
        _add(note, "rest")
        return
    pitch = _add(note, "pitch")
    _add(pitch, "step", name.letter)
    if name.alter:
        _add(pitch, "alter", str(name.alter))
    _add(pitch, "octave", str(name.octave))


def _drawn(note: Element, head: Head) -> None:
    """Add how a note is drawn: its value, dots, accidental and beams."""
    kind, dots = TYPES[head.written.value]
    _add(note, "type", kind)
    for _ in range(dots):
        _add(note, "dot")
    if head.name and head.mark:
        brackets = {}
        if head.mark == "courtesy":
            brackets = {"cautionary": "yes", "parentheses": "yes"}
        _add(note, "accidental", SIGNS[head.name.alter], **brackets)
    for number, word in enumerate(head.beams, start=1):
        _add(note, "beam", word, number=str(number))


def _add(parent: Element, tag: str, text: str | None = None, **attributes: str) -> Element:
    """Add a child and return it."""
    child = ElementTree.SubElement(parent, tag, attributes)
    child.text = text
    return child
