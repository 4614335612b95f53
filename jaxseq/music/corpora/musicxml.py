"""A chorale out of a MusicXML score: four voices on a grid of sixteenths, with ties, bars, key and fermatas.

Standard library alone. What MusicXML is: the W3C's MusicXML 4.0; a compressed score (.mxl) is a zip whose
META-INF/container.xml names the file of the score.
"""

from __future__ import annotations

import functools
import re
from fractions import Fraction
from typing import NamedTuple
from xml.etree import ElementTree

from jaxseq.common.errors import UsageError
from jaxseq.common.text import first_line, shown, size_of
from jaxseq.data.archive import zip_members
from jaxseq.music.corpora.measures import Bar, Chorale, Note, assemble
from jaxseq.music.piece import BEAT, VOICES

LARGEST = 16 * 2**20
"""Bytes of one score, unpacked."""
MOST_BARS = 10_000
FINEST = 10**9
"""Parts of a sixteenth that times are told apart by: fractions of ever other parts get ever longer."""
STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_CONTAINER = "META-INF/container.xml"
_ENCODINGS = {"utf-8", "us-ascii", "iso-8859-1", "windows-1252"}
_OWN_TYPE = re.compile(r"<!(?:ENTITY|ATTLIST|ELEMENT|NOTATION)|<!DOCTYPE[^>\[<]*+\[", re.IGNORECASE)
"""Declarations, as far as a single pass from left to right can recognise them."""
_LONG_NAMESPACE = re.compile(r"\sxmlns(?::[^\s=<>\"']*+)?\s*+=\s*+(?:\"[^\"]{100}|'[^']{100})")
"""It would stand in the name of every element."""
_Element = ElementTree.Element


class _State(NamedTuple):
    """State that is carried from one measure of a part to the next."""

    divisions: Fraction = Fraction(0)
    metre: Fraction | None = None
    unit: int | None = None
    fifths: int | None = None
    mode: str | None = None
    transpose: int = 0


class Part(NamedTuple):
    """A part of a score; `name` is on one line, and never empty."""

    name: str
    element: _Element

    @property
    def is_percussion(self) -> bool:
        """Whether it has notes, and all are without a pitch."""
        has_unpitched = self.element.find("measure/note/unpitched") is not None
        return has_unpitched and self.element.find("measure/note/pitch") is None


class Document(NamedTuple):
    """A score.

    parts  in the order of the score
    bpm    tempo at the start, in quarter notes a minute; None where there is none
    """

    parts: tuple[Part, ...]
    bpm: float | None


def read_parts(content: bytes, source: str) -> Document:
    """Read the parts of a score, compressed or not. Raises `UsageError`, which opens with `source`, if it cannot be."""
    score = _partwise(content, source)
    names = {part.get("id"): part.findtext("part-name") or "" for part in score.findall("part-list/score-part")}
    parts = []
    for number, part in enumerate(score.findall("part"), start=1):
        name = shown(" ".join(names.get(part.get("id"), "").split()), 40).strip("'\"")
        parts.append(Part(name or f"part {number}", part))
    return Document(tuple(parts), _first_tempo(score))


def _first_tempo(score: _Element) -> float | None:
    """Return the tempo that any part has before its first note, in quarter notes a minute."""
    for part in score.findall("part"):
        for element in part.iterfind("measure[1]/*"):
            if element.tag in ("note", "forward"):
                break
            # An offset puts it later.
            if element.find(".//offset") is not None:
                continue
            for sound in element.iter("sound"):
                tempo = _fraction(sound.get("tempo", ""))
                if tempo:
                    return float(tempo)
    return None


def bars(part: Part, source: str) -> list[Bar]:
    """Return the bars of a part. Raises `UsageError`, which opens with `source` and the bar, if they cannot be read."""
    return _bars(part.element, source)


def _partwise(content: bytes, source: str) -> _Element:
    """Return the root of a score whose parts have bars, and not the other way round."""
    score = parse_xml(unpack(content, source), source)
    if score.tag != "score-partwise":
        raise UsageError(f"{source} is a {shown(score.tag)}: only a score-partwise is read")
    return score


def read_chorale(content: bytes, name: str, source: str) -> Chorale | None:
    """The chorale called `name` of a score's bytes, compressed or not; None if its parts are not soprano, alto, tenor
    and bass (a piano piece).

    Of more parts, the instruments are left out. Where two of them are called Soprano, the first is taken; of a chord,
    the highest note. A note sounds on the grid where it sounds at the beginning of a sixteenth, so shorter ones may get
    lost, as grace notes do. Raises `UsageError`, which opens with `source`, if it cannot be read.
    """
    parts = _voices(_partwise(content, source))
    if parts is None:
        return None
    voices = [_bars(part, f"{source}: {voice}") for part, voice in zip(parts, VOICES, strict=True)]
    return assemble(voices, name, source)


def unpack(content: bytes, source: str) -> bytes:
    """The XML of a score: out of a zip, if it is one. Raises `UsageError` for a zip without one, and one too large."""
    if not content.startswith(b"PK"):
        if len(content) > LARGEST:
            raise UsageError(f"{source} has {len(content):,} bytes; a score may have {size_of(LARGEST)}")
        return content
    members = dict(zip_members(content, source, LARGEST))
    if _CONTAINER not in members:
        raise UsageError(f"{source} has no {_CONTAINER}: it is no compressed MusicXML")
    container = parse_xml(members[_CONTAINER], f"{source}: {_CONTAINER}")
    paths = [path for file in container.iter() if file.tag.endswith("rootfile") and (path := file.get("full-path"))]
    if not paths or paths[0] not in members:
        raise UsageError(f"{source}: {_CONTAINER} names no score that is in the archive")
    return members[paths[0]]


def parse_xml(content: bytes, source: str) -> _Element:
    """The root of a document. Raises `UsageError` if it is damaged, or declares what could make it grow."""
    text = _decoded(content, source)
    if _OWN_TYPE.search(text):
        raise UsageError(f"{source} declares entities or a document type of its own: such XML is refused")
    if "xmlns" in text and _LONG_NAMESPACE.search(text):
        raise UsageError(f"{source} has a namespace of 100 letters or more: such XML is refused")
    try:
        return ElementTree.fromstring(text)  # of text, not bytes: what is parsed is what was looked through
    except (ElementTree.ParseError, ValueError) as error:
        raise UsageError(f"{source} is no XML, or is damaged ({first_line(error)})") from error


def _decoded(content: bytes, source: str) -> str:
    declared = re.match(rb"\s*<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"']", content)
    encoding = declared[1].decode().lower() if declared else "utf-8"
    encoding = "us-ascii" if encoding == "ascii" else encoding
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    elif content[:3] == b"\xef\xbb\xbf":
        encoding = "utf-8-sig"
    elif encoding not in _ENCODINGS:
        raise UsageError(f"{source} is in the encoding {shown(encoding)}: UTF-8 or UTF-16 is read")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise UsageError(f"{source}: byte {error.start + 1} is no {encoding}: the file is damaged") from error


def _voices(score: _Element) -> list[_Element] | None:
    """The parts of the four voices, from the top."""
    parts = {part.get("id"): part for part in score.findall("part")}
    found: dict[str, _Element] = {}
    for listed in score.findall("part-list/score-part"):
        words = (listed.findtext("part-name") or "").lower().split()
        part = parts.get(listed.get("id"))
        if words and words[0] in VOICES and part is not None:
            found.setdefault(words[0], part)
    return [found[voice] for voice in VOICES] if len(found) == len(VOICES) else None


def _bars(part: _Element, source: str) -> list[Bar]:
    bars, state = [], _State()
    for number, measure in enumerate(part.findall("measure"), 1):
        if number > MOST_BARS:
            raise UsageError(f"{source} has more than {MOST_BARS:,} bars, the most that are read")
        bar, state = _bar(measure, state, f"{source}, bar {number}")
        bars.append(bar)
    return bars


def _bar(measure: _Element, state: _State, source: str) -> tuple[Bar, _State]:
    notes: list[Note] = []
    marks: set[str] = set()
    now = last = longest = Fraction(0)
    voice = measure.findtext("note/voice")
    for element in measure:
        if element.tag == "attributes":
            state = _attributes(element, state, source)
        elif element.tag == "barline":
            marks |= _marks(element)
        elif element.tag in ("backup", "forward"):
            now += (1 if element.tag == "forward" else -1) * _duration(element, state, source)
        elif element.tag == "note" and element.find("grace") is None:
            length = _duration(element, state, source)
            chord = element.find("chord") is not None
            start = last if chord else now
            if element.findtext("voice") == voice:
                _sound(notes, element, start, start + length, state, source)
            last, now = start, max(start + length, now) if chord else start + length
        if now.denominator > FINEST:
            raise UsageError(
                f"{source}: a time is a whole number of {now.denominator:,}ths; {FINEST:,}ths are the finest"
            )
        if now < 0:
            raise UsageError(f"{source}: a backup leads to before the bar's beginning")
        longest = max(longest, now)
    return Bar(notes, longest, state.metre, state.unit, state.fifths, state.mode, frozenset(marks)), state


def _sound(notes: list[Note], element: _Element, start: Fraction, end: Fraction, state: _State, source: str) -> None:
    pitch = element.find("pitch")
    if pitch is None or element.find("cue") is not None:
        return
    number = _midi(pitch, source) + state.transpose
    if not 0 < number <= 127:
        raise UsageError(f"{source}: a note is MIDI number {number}; they go from 1 to 127")
    continues = any(tie.get("type") == "stop" for tie in element.findall("tie"))
    note = Note(start, end, number, continues, element.find("notations/fermata") is not None)
    if notes and notes[-1].start == start:  # a chord: its highest note
        notes[-1] = max(notes[-1], note, key=lambda one: one.pitch)
    else:
        notes.append(note)


def _midi(pitch: _Element, source: str) -> int:
    step, octave = (pitch.findtext("step") or "").strip(), _integer(pitch, "octave", source)
    if step not in STEPS or octave is None:
        raise UsageError(f"{source}: a pitch has step {step[:9]!r} and octave {octave}; A4 has A and 4")
    return 12 * (octave + 1) + STEPS[step] + (_integer(pitch, "alter", source) or 0)


def _integer(element: _Element, tag: str, source: str) -> int | None:
    text = element.findtext(tag)
    if text is None:
        return None
    if not re.fullmatch(r"\s*[+-]?[0-9]{1,4}(\.0*)?\s*", text):
        raise UsageError(f"{source}: {tag} is {text[:20]!r}; it must be a whole number")
    return int(float(text))


def _duration(element: _Element, state: _State, source: str) -> Fraction:
    """In sixteenths."""
    if not state.divisions:
        raise UsageError(f"{source}: a duration comes before the part says its divisions of a quarter")
    return _sixteenths(_number(element, "duration", source), state.divisions)


@functools.lru_cache(maxsize=4096)
def _sixteenths(length: Fraction, divisions: Fraction) -> Fraction:
    return length * BEAT / divisions


def _number(element: _Element, tag: str, source: str) -> Fraction:
    text = (element.findtext(tag) or "").strip()
    number = _fraction(text)
    if number is None:
        raise UsageError(f"{source}: {tag} is {text[:20]!r}; it must be a number from 0")
    return number


@functools.lru_cache(maxsize=4096)
def _fraction(text: str) -> Fraction | None:
    return Fraction(text) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text) else None


def _attributes(element: _Element, state: _State, source: str) -> _State:
    if element.find("divisions") is not None:
        state = state._replace(divisions=_number(element, "divisions", source))
    if (key := element.find("key")) is not None:
        state = state._replace(fifths=_integer(key, "fifths", source), mode=key.findtext("mode"))
    if (time := element.find("time")) is not None and time.find("senza-misura") is None:
        beats = [part.strip() for part in (time.findtext("beats") or "").split("+")]
        unit = _number(time, "beat-type", source)
        if not unit or not all(re.fullmatch(r"[0-9]{1,3}", beat) for beat in beats):
            raise UsageError(f"{source}: a time signature must be whole beats of a whole note's part, as 3 and 4")
        state = state._replace(metre=sum(map(int, beats)) * 4 * BEAT / unit, unit=int(unit))
    if (transpose := element.find("transpose")) is not None:
        chromatic, octaves = (_integer(transpose, tag, source) or 0 for tag in ("chromatic", "octave-change"))
        state = state._replace(transpose=chromatic + 12 * octaves)
    return state


def _marks(barline: _Element) -> set[str]:
    repeat, ending = barline.find("repeat"), barline.find("ending")
    marks = set() if repeat is None else {repeat.get("direction") or ""}
    if ending is None:
        return marks
    if ending.get("type") != "start":
        return marks | {"end"}
    return marks | {f"begin {number}" for number in re.findall(r"[0-9]+", ending.get("number") or "")}
