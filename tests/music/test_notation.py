"""Scores: bars, note values, accidentals and beams by hand, and the whole as music21 reads it."""

import warnings
from itertools import pairwise
from xml.etree import ElementTree

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from pieces import of_lines, pieces

from jaxseq.common.errors import UsageError
from jaxseq.music.bars import Bar, bars, fraction
from jaxseq.music.notation.accidentals import marks
from jaxseq.music.notation.beams import beams
from jaxseq.music.notation.musicxml import musicxml
from jaxseq.music.notation.note_values import TYPES, note_value, rest_value, written
from jaxseq.music.notation.spelling import Name, spell
from jaxseq.music.notes import Note, clock, grid, line, lines
from jaxseq.music.piece import REST, from_notes


def document(piece, **given):
    return ElementTree.fromstring(musicxml(piece, **given))


def measures(piece, voice=0):
    return document(piece).findall("part")[voice].findall("measure")


def parsed(piece):
    """The piece as music21 reads its score."""
    music21 = pytest.importorskip("music21")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return music21.converter.parseData(musicxml(piece), format="musicxml")


def sung(part):
    """(first step, steps, MIDI number, letter, alteration, octave) of each note of a part, ties joined."""
    made = []
    for note in part.flatten().notes:
        pitch = note.pitch
        row = [4 * float(note.offset), 4 * float(note.quarterLength)]
        row += [pitch.midi, pitch.step, int(pitch.alter), pitch.octave]
        if note.tie is not None and note.tie.type != "start":
            assert made[-1][2:] == row[2:] and sum(made[-1][:2]) == row[0], "a tie joins one pitch without a gap"
            made[-1][1] += row[1]
        else:
            made.append(row)
    return [tuple(row) for row in made]


@settings(max_examples=40)
@given(pieces(most=50))
def test_music21_reads_the_same_notes_with_the_same_names(piece):
    names = spell(piece)
    for voice, (part, notes) in enumerate(zip(parsed(piece).parts, lines(piece), strict=True)):
        wanted = [(n.start, n.steps, n.pitch, *names[voice][n.start]) for n in notes if n.pitch != REST]
        assert sung(part) == wanted


def test_music21_reads_bars_key_metre_clefs_and_fermatas():
    tune = of_lines([(62, 4), (66, 16), (69, 16), (62, 12)], first=12, fermatas=(4, 5), fifths=2, minor=False)
    score = parsed(tune)
    assert [m.number for m in score.parts[0].getElementsByClass("Measure")] == [0, 1, 2, 3]
    assert [float(m.offset) for m in score.parts[3].getElementsByClass("Measure")] == [0, 1, 5, 9]
    (key,) = score.parts[1].flatten().getElementsByClass("KeySignature")
    (metre,) = score.parts[1].flatten().getElementsByClass("TimeSignature")
    assert (key.sharps, key.mode, metre.ratioString) == (2, "major", "4/4")
    clefs = [part.flatten().getElementsByClass("Clef")[0] for part in score.parts]
    assert [(clef.sign, clef.line, clef.octaveChange) for clef in clefs] == [
        ("G", 2, 0),
        ("G", 2, 0),
        ("G", 2, -1),
        ("F", 4, 0),
    ]
    marked = [note for note in score.parts[0].flatten().notes if note.expressions]
    assert [(float(note.offset), note.expressions[0].name) for note in marked] == [(1, "fermata")]
    assert (score.metadata.title, score.metadata.composer) == ("piece", "jaxseq")


@given(pieces())
def test_bars_cover_every_step_once_and_begin_at_the_bar_lines(piece):
    found = bars(piece.positions)
    assert found[0].start == 0 and found[-1].end == len(piece.positions)
    assert all(one.end == other.start for one, other in pairwise(found))
    for bar in found:
        assert np.array_equal(piece.positions[bar.start : bar.end], bar.first + np.arange(bar.end - bar.start))


def shape(*lengths, first=0):
    """Positions of bars of these lengths, the first an upbeat where it begins at `first`."""
    return np.concatenate([np.arange(length) + (0 if i else first) for i, length in enumerate(lengths)])


def test_the_time_signature_is_that_of_most_bars():
    assert [bar.signature for bar in bars(shape(16, 16, 16))] == [16, None, None]
    assert [bar.signature for bar in bars(shape(4, 16, 16, 12, first=12))] == [16, None, None, None]
    assert [bar.signature for bar in bars(shape(12, 12, 4))] == [12, None, None]
    assert [bar.signature for bar in bars(shape(4, first=8))] == [12]
    assert [bar.signature for bar in bars(shape(8))] == [8]
    assert [bar.signature for bar in bars(shape(12, 16))] == [12, 16]  # the last may be cut short, and has no vote


def test_the_time_signature_changes_for_longer_bars_and_for_three_short_ones():
    assert [bar.signature for bar in bars(shape(16, 16, 16, 24, 16, 8))] == [16, None, None, 24, 16, None]
    assert [bar.signature for bar in bars(shape(16, 16, 16, 16, 12, 12, 12, 4))] == [16, *[None] * 3, 12, *[None] * 3]
    assert [bar.signature for bar in bars(shape(16, 16, 16, 24, 24, 12))] == [16, None, None, 24, None, None]


def test_parts_of_a_bar_are_not_counted():
    halves = bars(shape(16, 16, 8, 8, 16, 16))
    assert [(bar.number, bar.signature) for bar in halves] == [
        (1, 16),
        (2, None),
        (2, None),
        (2, None),
        (3, None),
        (4, None),
    ]
    found = bars(shape(4, 16, 12, 4, 16, 12, first=12))
    assert [bar.partial for bar in found] == [True, False, True, True, False, False]
    assert [bar.number for bar in found] == [0, 1, 1, 1, 2, 3]
    tune = from_notes("x", np.full((64, 4), 60))._replace(positions=shape(4, 16, 12, 4, 16, 12, first=12))
    numbers = [measure.get("number") for measure in measures(tune)]
    assert numbers == ["0", "1", "X1.1", "X1.2", "2", "3"]


def test_a_piece_without_steps_has_one_empty_bar():
    assert bars(np.zeros(0, int)) == []
    (only,) = measures(from_notes("nothing", np.zeros((0, 4), int)))
    assert [note.find("rest").get("measure") for note in only.findall("note")] == ["yes"]
    assert parsed(from_notes("nothing", np.zeros((0, 4), int))).parts[0].flatten().notes.stream().elements == ()


@pytest.mark.parametrize(
    ("length", "signature"),
    [(16, (4, 4)), (12, (3, 4)), (8, (2, 4)), (24, (3, 2)), (32, (4, 2)), (20, (5, 4)), (10, (5, 8)), (7, (7, 16))],
)
def test_lengths_of_bars_are_usual_time_signatures(length, signature):
    assert fraction(length) == signature


@pytest.mark.parametrize(
    ("position", "steps", "values"),
    [
        (0, 16, [16]),
        (4, 8, [8]),
        (0, 6, [6]),
        (0, 5, [4, 1]),
        (0, 7, [4, 3]),
        (0, 14, [12, 2]),
        (2, 4, [4]),  # short, long, short
        (2, 6, [6]),
        (6, 4, [2, 2]),  # the middle of the bar has to be seen
        (2, 8, [2, 6]),
        (1, 2, [2]),
        (1, 6, [3, 3]),
        (3, 4, [1, 3]),
        (14, 2, [2]),
        (12, 20, [4, 16]),
    ],
)
def test_a_note_is_cut_where_the_beats_have_to_be_seen(position, steps, values):
    bar = [Bar(0, 16 - position, position, 1, False, 16, 16), Bar(16 - position, 32 - position, 0, 2, False, None, 16)]
    rows = written([Note(0, steps, 60), Note(steps, 32 - position - steps, 0)], bar)
    assert [one.value for row in rows for one in row if one.note.pitch] == values


@given(st.integers(0, 30), st.integers(1, 40))
def test_every_value_can_be_printed_and_none_is_too_long(position, left):
    assert note_value(position, left) in TYPES and note_value(position, left) <= left
    value = rest_value(position, left)
    assert value in TYPES and TYPES[value][1] == 0 and value <= left and position % value == 0


def test_ties_join_what_a_bar_line_cuts():
    first, second = measures(of_lines([(60, 12), (62, 12), (0, 8)]))
    assert [tie.get("type") for tie in first.iter("tied")] == ["start"]
    assert [tie.get("type") for tie in second.iter("tied")] == ["stop"]
    again = measures(of_lines([(60, 16), (60, 16)]))
    assert not [tie for m in again for tie in m.iter("tied")], "a note that is struck again is not tied"


def row(*names):
    """Names like F#4, with a ~ before one that a tie leads to."""
    return [(Name(n.strip("~")[0], n.count("#") - n.count("b"), int(n[-1])), n.startswith("~")) for n in names]


@pytest.mark.parametrize(
    ("fifths", "given_bars", "wanted"),
    [
        (0, [row("F#4", "F#4", "F4", "F4")], [["needed", None, "needed", None]]),
        (1, [row("F#4", "F4", "F#4")], [[None, "needed", "needed"]]),
        (-1, [row("Bb4", "B4", "Bb4")], [[None, "needed", "needed"]]),
        (0, [row("F#4", "F#5")], [["needed", "needed"]]),  # an accidental is for its octave
        (0, [row("F#4", "F5", "F5")], [["needed", "courtesy", None]]),
        (0, [row("F#4"), row("F4", "F4")], [["needed"], ["courtesy", None]]),  # the bar line ends it
        (0, [row("F#4"), row("G4"), row("F4")], [["needed"], [None], [None]]),
        (0, [row("F#4"), row("~F#4", "F#4")], [["needed"], [None, "needed"]]),
        (0, [row("F#4"), row("~F#4", "F4")], [["needed"], [None, "courtesy"]]),
        (2, [row("C#5", "F#4", "G4")], [[None, None, None]]),
        (-7, [row("Fb4", "F4")], [[None, "needed"]]),
    ],
)
def test_accidentals_hold_for_their_octave_until_the_bar_line(fifths, given_bars, wanted):
    assert marks(given_bars, fifths) == wanted


def test_the_accidentals_that_are_drawn_are_those():
    tune = of_lines([(66, 4), (65, 4), (66, 8), (65, 16)], fifths=0)
    drawn = [(a.text, a.get("parentheses")) for m in measures(tune) for a in m.iter("accidental")]
    assert drawn == [("sharp", None), ("natural", None), ("sharp", None), ("natural", "yes")]


def beamed(*values):
    at, heads = 0, []
    for value in values:
        heads.append(Note(at, abs(value), 60 if value > 0 else 0))
        at += abs(value)
    (written_bar,) = written(heads, [Bar(0, at, 0, 1, False, 16, 16)])
    return beams(written_bar)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ((2, 2, 2, 2), [("begin",), ("end",), ("begin",), ("end",)]),
        ((1, 1, 1, 1), [("begin", "begin"), ("continue", "continue"), ("continue", "continue"), ("end", "end")]),
        ((3, 1), [("begin",), ("end", "backward hook")]),
        ((1, 3), [("begin", "forward hook"), ("end",)]),
        ((2, 1, 1), [("begin",), ("continue", "begin"), ("end", "end")]),
        ((1, 2, 1), [("begin", "forward hook"), ("continue",), ("end", "backward hook")]),
        ((2, -2, -2, 2, 4, 2, -2), [(), (), (), (), (), (), ()]),
        ((4, 2, 2), [(), ("begin",), ("end",)]),
        ((2, 4, 2), [(), (), ()]),
    ],
)
def test_short_notes_of_one_beat_share_a_beam(values, wanted):
    assert beamed(*values) == wanted


def in_sixes(*values):
    """A tune in 6/8."""
    tune = of_lines([(60, value) if value > 0 else (0, -value) for value in values])
    steps = len(tune.notes)
    return tune._replace(positions=np.arange(steps) % 12, units=((12, 8),))


def test_eighths_of_six_are_joined_in_threes_and_music21_beams_them_so():
    first, second = measures(in_sixes(2, 2, 2, 2, 2, 2, 4, 2, 6))
    assert [first.findtext(f"attributes/time/{name}") for name in ("beats", "beat-type")] == ["6", "8"]
    assert [note.findtext("beam") for note in first.findall("note")] == ["begin", "continue", "end"] * 2
    assert [note.findtext("type") for note in second.findall("note")] == ["quarter", "eighth", "quarter"]
    assert [len(note.findall("dot")) for note in second.findall("note")] == [0, 0, 1]

    music21 = pytest.importorskip("music21")
    theirs = music21.stream.Measure(
        [music21.meter.TimeSignature("6/8"), *(music21.note.Note(60, quarterLength=0.5) for _ in range(6))]
    )
    theirs.makeBeams(inPlace=True)
    assert [note.beams.getTypeByNumber(1) for note in theirs.notes] == ["start", "continue", "stop"] * 2


@pytest.mark.parametrize(
    ("position", "steps", "values"),
    [
        (0, 12, [12]),
        (0, 18, [12, 6]),
        (0, 5, [4, 1]),
        (2, 4, [4]),
        (2, 10, [4, 6]),
        (4, 8, [2, 6]),
        (1, 5, [1, 4]),
        (3, 3, [3]),
    ],
)
def test_a_note_is_cut_where_dotted_quarters_have_to_be_seen(position, steps, values):
    found, left = [], steps
    while left:
        found.append(note_value(position, left, 6))
        position, left = position + found[-1], left - found[-1]
    assert found == values


@given(st.integers(0, 30), st.integers(1, 40))
def test_every_value_of_a_compound_metre_can_be_printed_and_none_is_too_long(position, left):
    for value in (note_value(position, left, 6), rest_value(position, left, 6)):
        assert value in TYPES and value <= left
        assert position % 6 == 0 or value <= 6 - position % 6


def test_all_voices_hold_the_chord_at_the_end_of_a_fermata():
    chorale = of_lines(
        [(72, 4), (71, 8)], [(67, 12)], [(64, 8), (62, 4)], [(48, 4), (43, 4), (0, 4)], fermatas=range(4, 12)
    )
    notes = [[note for m in measures(chorale, voice) for note in m.findall("note")] for voice in range(4)]
    held = [[note.find("notations/fermata") is not None for note in voice] for voice in notes]
    assert held == [[False, True], [True], [False, True], [False, False, False]]


def test_a_fermata_stands_at_the_last_of_tied_notes_alone():
    tied = of_lines([(60, 12), (62, 8), (0, 12)], fermatas=range(12, 20))
    first, second = measures(tied)
    assert [note.find("notations/fermata") is not None for note in first.findall("note")] == [False, False]
    assert [note.find("notations/fermata") is not None for note in second.findall("note")][:2] == [True, False]


def test_a_title_is_written_as_it_is_but_for_what_xml_cannot_hold():
    tune = of_lines([(60, 4)], name="a < b & c")
    assert document(tune).findtext("work/work-title") == "a < b & c"
    assert document(tune, title="no\x00 \ud800").findtext("work/work-title") == "no\ufffd \ufffd"
    assert document(tune, composer="nobody").findtext("identification/creator") == "nobody"


def test_what_is_no_midi_number_is_refused_with_its_place():
    notes = np.full((3, 4), 60)
    notes[2, 1] = 128
    with pytest.raises(UsageError, match=r"^x: the alto has note 128 at step 3; MIDI numbers go from 1 to 127"):
        musicxml(from_notes("x", notes))


@given(pieces())
def test_notes_and_grid_are_each_others_inverse(piece):
    notes, onsets = grid(lines(piece), len(piece.notes))
    assert np.array_equal(notes, piece.notes)
    assert [line(n, o) for n, o in zip(notes.T, onsets.T, strict=True)] == lines(piece)


def test_steps_under_a_fermata_take_longer():
    tune = of_lines([(60, 4)], fermatas=(2, 3))
    np.testing.assert_allclose(clock(tune, 60.0, 2.0), [0.25, 0.25, 0.5, 0.5])
    for bpm, hold, message in [(0.0, 1.0, "bpm is 0"), (np.inf, 1.0, "bpm is inf"), (60.0, np.nan, "hold is nan")]:
        with pytest.raises(UsageError, match=f"^{message}; it must be a positive number$"):
            clock(tune, bpm, hold)
