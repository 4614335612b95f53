"""Scores in MusicXML as users have them: a chorale to go on with, or a melody."""

import re

import numpy as np
import pytest
from scores import attributes, compressed, note, score

from jaxseq.common.errors import UsageError
from jaxseq.music import scores
from jaxseq.music.midi.write import midi
from jaxseq.music.notation.musicxml import musicxml

FERMATA = "<notations><fermata/></notations>"
TUNE = [attributes(fifths=-1, beats=3, unit=4) + note("A4", 4), note("C5", 8) + note("F4", 4, FERMATA)]
"""An upbeat of a quarter, and a bar of three."""


@pytest.fixture
def file(tmp_path):
    return tmp_path / "tune.musicxml"


def saved(path, content):
    path.write_bytes(content)
    return path


def refused(message, read, path, *given):
    with pytest.raises(UsageError, match=re.escape(f"{path}{message}")) as caught:
        read(path, *given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "others"),
    [
        (("Sopran", "Alt", "Tenor", "Bass"), [("Orgel", TUNE)]),
        (("S", "A", "T", "B"), []),
        (("Violin I", "Violin II", "Viola", "Cello"), []),
    ],
)
def test_a_chorale_keeps_upbeat_key_metre_and_fermatas(file, names, others):
    lines = [
        TUNE,
        *([attributes(fifths=-1, beats=3) + note(pitch, 4), note(pitch, 12)] for pitch in ("F4", "C4", "F3")),
    ]
    found = scores.read(saved(file, score(*lines, others=others, names=names)))
    piece = found.piece
    assert piece.positions.tolist() == [8, 9, 10, 11, *range(12)]
    assert piece.notes[4].tolist() == [72, 65, 60, 53] and (piece.fifths, piece.minor) == (-1, False)
    assert np.flatnonzero(piece.fermatas).tolist() == [12, 13, 14, 15]
    assert found.said == tuple(f"left out: part {name}" for name, _ in others)


def test_a_melody_is_the_part_that_is_named_so_or_the_first_or_that_of_a_number(file):
    flute = [attributes() + note("C6", 16)]
    path = saved(file, score(flute, TUNE, flute, flute, names=("Flute", "Melody", "Oboe", "Horn")))
    found = scores.read_melody(path)
    assert found.piece.notes[4:, 0].tolist() == [72] * 8 + [65] * 4
    assert found.said == ("of 4 parts, Melody is the melody, by its name; FILE:N takes part N",)

    path = saved(file, score(TUNE, flute, flute, flute, names=("Violin", "", "Oboe", "Horn")))
    assert scores.read_melody(path).said[0].startswith("of 4 parts, Violin is the melody, the first")
    assert scores.read_melody(path, -12, 3).piece.notes[0, 0] == 72
    refused(": no part 5; it has 4 parts", scores.read_melody, path, 0, 5)
    refused(": 4 voices are needed, a part each; it has 1 part: Voice", scores.read, saved(file, lead_sheet(TUNE)))


def lead_sheet(bars, tempo=""):
    """A score of a single part, whose first bar plays at a tempo."""
    measures = "".join(f"<measure>{tempo * (not number)}{bar}</measure>" for number, bar in enumerate(bars))
    listed = '<part-list><score-part id="P1"><part-name>Voice</part-name></score-part></part-list>'
    return f'<score-partwise>{listed}<part id="P1">{measures}</part></score-partwise>'.encode()


def test_a_compressed_lead_sheet_has_its_tempo_and_is_transposed_with_its_key(file):
    path = saved(file.with_suffix(".mxl"), compressed(lead_sheet(TUNE, '<sound tempo="96"/>')))
    found = scores.read_melody(path, 2)
    assert (found.bpm, found.piece.fifths) == (96.0, 1)
    assert found.piece.notes[0, 0] == 71 and found.said == ("transposed by +2 semitones",)

    high = saved(file, lead_sheet([attributes() + note("C7", 16)]))
    assert scores.read_melody(high, "auto").piece.notes[0, 0] == 72
    assert scores.read_melody(high).bpm is None


def test_what_we_write_is_read_back_note_for_note(file):
    lines = [[attributes(beats=6, unit=8) + note(pitch, 6) + note(None, 6)] * 2 for pitch in ("C5", "G4", "E4", "C3")]
    piece = scores.read(saved(file, score(*lines))).piece
    again = scores.read(saved(file, musicxml(piece).encode())).piece
    assert piece.units == again.units == ((12, 8),)
    for field in ("notes", "onsets", "positions", "fermatas"):
        np.testing.assert_array_equal(getattr(again, field), getattr(piece, field))


def test_what_is_no_score_is_refused_by_its_file(file):
    refused(" is no XML", scores.read_melody, saved(file, b"<score"))
    refused(" is a 'html'", scores.read, saved(file, b"<html/>"))
    refused(": there is no part in it", scores.read_melody, saved(file, b"<score-partwise/>"))
    refused(
        ": there is not one note in the part 'Voice'",
        scores.read_melody,
        saved(file, lead_sheet([attributes() + note(None, 16)])),
    )
    refused(" does not exist: give a score in MusicXML", scores.read, file.with_name("none.musicxml"))


def test_voices_with_different_numbers_of_bars_are_refused(file):
    bar = attributes() + note("C5", 16)
    path = saved(file, score([bar, bar], [bar, bar], [bar], [bar, bar]))
    refused(": the voices have different numbers of bars (2 in the soprano, 2 in the alto, 1", scores.read, path)


def test_a_metre_in_thirds_and_a_key_of_eight_sharps_are_written_as_they_can_be(file):
    found = scores.read(saved(file, score([attributes(fifths=8, beats=3, unit=3) + note("C5", 16)])))
    assert (found.piece.units, found.piece.fifths, found.piece.minor) == ((), None, None)
    assert found.said == ("left out: a key signature of 8 sharps",)
    assert midi(found.piece) and musicxml(found.piece)


def test_voices_without_a_name_are_ordered_by_pitch_and_that_is_said(file):
    lines = [[attributes() + note(pitch, 16)] for pitch in ("C3", "C5", "G4", "E4")]
    drums = [attributes() + "<note><unpitched/><duration>16</duration></note>"]
    path = saved(file, score(*lines, others=[("Kit", drums)], names=("I", "II", "III", "IV")))
    found = scores.read(path)
    assert found.piece.notes[0].tolist() == [72, 67, 64, 48]
    assert found.said == ("left out: part Kit", "voices ordered by pitch: 2, 3, 4, 1 of the file")

    melody = scores.read_melody(path)
    assert melody.piece.notes[0, 0] == 48
    assert melody.said[0] == "of 5 parts, I is the melody, the first; FILE:N takes part N"
    assert "low for a soprano" in melody.said[1]
    refused(": there is not one note in the part 'Kit'", scores.read_melody, path, 0, 1)


def test_a_tempo_after_the_start_is_a_change(file):
    tempo = '<direction><sound tempo="50"/></direction>'
    assert (
        scores.read_melody(saved(file, lead_sheet([attributes() + note("C5", 8) + tempo + note("C5", 8)]))).bpm is None
    )
    assert scores.read_melody(saved(file, lead_sheet([tempo + attributes() + note("C5", 16)]))).bpm == 50
    moved = tempo.replace("<sound", "<offset>8</offset><sound")
    assert scores.read_melody(saved(file, lead_sheet([moved + attributes() + note("C5", 16)]))).bpm is None
