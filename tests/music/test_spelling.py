"""Keys and the names of pitches."""

import functools
import warnings
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from pieces import of_lines, pieces

from jaxseq.common.errors import UsageError
from jaxseq.music.key import MAJOR, MINOR, correlations, key, signature
from jaxseq.music.notation.accidentals import in_signature
from jaxseq.music.notation.spelling import Name, signed, spell, spell_notes

SCALE = np.array([0, 2, 4, 5, 7, 9, 11, 12])
HARMONIC_MINOR = np.array([0, 2, 3, 5, 7, 8, 11, 12])


def written(pitches, fifths):
    return " ".join(map(str, spell_notes(np.array(pitches), fifths)))


@pytest.mark.parametrize("tonic", range(12))
def test_the_profile_of_a_key_is_in_that_key_without_a_doubt(tonic):
    for minor, profile in ((False, MAJOR), (True, MINOR)):
        durations = np.round(100 * np.roll(profile, tonic)).astype(int)
        found = key(np.repeat(np.arange(60, 72), durations))
        assert found[:2] == (signature(tonic, minor), minor)
        assert found.clarity == pytest.approx(1)


def test_signatures_are_those_of_the_circle_of_fifths():
    assert [signature(tonic, False) for tonic in range(12)] == [0, -5, 2, -3, 4, -1, 6, 1, -4, 3, -2, 5]
    assert [signature(tonic, True) for tonic in (9, 4, 2, 0, 6)] == [0, 1, -1, -3, 3]


def test_the_correlations_are_those_of_music21():
    pytest.importorskip("music21")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from music21 import analysis, note, stream

        pitches = np.random.default_rng(0).integers(36, 82, 60)
        part = stream.Stream([note.Note(int(pitch)) for pitch in pitches])
        best = analysis.discrete.KrumhanslKessler().getSolution(part)
    ours = key(pitches)
    assert (ours.fifths % 12, ours.minor) == (best.sharps % 12, best.mode == "minor")
    assert ours.clarity == pytest.approx(best.correlationCoefficient, abs=2e-3)


def test_rests_and_octaves_are_of_no_weight_and_length_is():
    notes = np.array([60, 64, 67, 67, 65, 59])
    assert key(notes) == key(np.concatenate([notes + 12, np.zeros(50, int)]))
    assert key(np.repeat([60, 64, 67, 55, 57], [8, 4, 4, 1, 1])).fifths == 0
    assert key(np.repeat([60, 64, 67, 55, 57, 50], [1, 1, 1, 4, 1, 4])).fifths != 0


@pytest.mark.parametrize("notes", [np.zeros((5, 4), int), np.zeros((0, 4), int), np.arange(60, 72)])
def test_what_is_in_no_key_has_no_clarity(notes):
    found = key(notes)
    assert found[:2] == (0, False) and np.isnan(found.clarity)
    assert np.isnan(correlations(notes)).all()


def test_a_key_that_is_known_is_not_searched_for():
    tune = of_lines([(60, 4), (64, 4), (67, 8), (60, 8)])
    assert signed(tune) == (0, False)
    assert signed(tune._replace(fifths=3)) == (3, False)
    assert signed(tune._replace(fifths=3, minor=True)) == (3, True)
    with pytest.raises(
        UsageError, match=r"^piece: a key of 8 sharps; a key signature has 7 sharps or 7 flats at most$"
    ):
        signed(tune._replace(fifths=8))


@pytest.mark.parametrize("fifths", range(-7, 8))
def test_major_and_minor_scales_are_spelt_with_each_letter_once(fifths):
    tonic = 7 * fifths % 12
    for scale in (60 + tonic + SCALE, 57 + tonic + HARMONIC_MINOR):
        names = spell_notes(scale, fifths)
        letters = ["CDEFGAB".index(name.letter) for name in names]
        assert np.all(np.diff(letters) % 7 == 1), names
        raised = [name for name in names if name.alter != (fifths - "FCGDAEB".index(name.letter) + 6) // 7]
        assert len(raised) == (0 if scale[2] - scale[0] == 4 else 1), "only the leading note leaves the signature"


@pytest.mark.parametrize(
    ("pitches", "fifths", "names"),
    [
        ([69, 71, 72, 74, 76, 77, 80, 81], 0, "A4 B4 C5 D5 E5 F5 G♯5 A5"),
        ([60, 62, 63, 65, 67, 68, 71, 72], -3, "C4 D4 E♭4 F4 G4 A♭4 B4 C5"),
        ([62, 66, 69, 72, 67, 71, 74], 1, "D4 F♯4 A4 C5 G4 B4 D5"),  # V7 I
        ([60, 64, 67, 70, 65, 69, 72], -1, "C4 E4 G4 B♭4 F4 A4 C5"),
        ([61, 65, 68, 61, 66, 70, 73], 6, "C♯4 E♯4 G♯4 C♯4 F♯4 A♯4 C♯5"),
        ([61, 65, 68, 61, 66, 70, 73], -6, "D♭4 F4 A♭4 D♭4 G♭4 B♭4 D♭5"),
        ([59, 60, 71, 72], 7, "B3 B♯3 B4 B♯4"),  # B sharp lies in the octave of the B below it
        ([59, 60, 71, 72], -7, "C♭4 C4 C♭5 C5"),
    ],
)
def test_phrases_are_spelt_as_they_are_written(pitches, fifths, names):
    assert written(pitches, fifths) == names


@given(st.lists(st.integers(1, 127), max_size=80), st.integers(-7, 7))
def test_a_name_sounds_as_its_pitch_and_stays_near_the_key(pitches, fifths):
    for pitch, (letter, alter, octave) in zip(pitches, spell_notes(np.array(pitches, int), fifths), strict=True):
        assert 12 * (octave + 1) + {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}[letter] + alter == pitch
        assert -3 <= "FCGDAEB".index(letter) - 1 + 7 * alter - fifths <= 9


@given(pieces())
def test_every_note_has_a_name_at_its_onset_and_rests_have_none(piece):
    for names, notes, onsets in zip(spell(piece), piece.notes.T, piece.onsets.T, strict=True):
        changed = onsets | ((notes != np.append(-1, notes[:-1])) & (notes != 0))
        assert sorted(names) == np.flatnonzero(changed).tolist()


def test_names_are_printed_with_their_signs():
    assert [str(Name("B", -2, 3)), str(Name("F", 1, 4)), str(Name("C", 0, -1))] == ["B♭♭3", "F♯4", "C-1"]


@functools.cache
def corpus():
    """[pitches in order, their names, fifths of the signature] of every fourth chorale of the music21 corpus."""
    music21 = pytest.importorskip("music21")
    files = sorted((Path(music21.__file__).parent / "corpus" / "bach").glob("bwv*.mxl"))
    return [chorale for file in files[::4] if (chorale := scored(music21, file))]


def scored(music21, file):
    score = music21.converter.parse(file, forceSource=True)
    if len(score.parts) != 4:
        return None
    notes = [
        (note.offset, note.pitch.midi, note.pitch) for note in score.flatten().notes if note.isNote and not tied(note)
    ]
    notes.sort(key=lambda row: row[:2])
    names = [(pitch.step, int(pitch.alter), pitch.octave) for *_, pitch in notes]
    signature = next(iter(score.recurse().getElementsByClass("KeySignature")))
    return np.array([midi for _, midi, _ in notes]), names, signature.sharps


def tied(note):
    return note.duration.isGrace or (note.tie is not None and note.tie.type != "start")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_bachs_notes_are_spelt_as_in_the_score():
    right = known = total = 0
    outside = outside_right = outside_usual = 0
    pitch_of = pytest.importorskip("music21").pitch.Pitch
    for pitches, names, fifths in corpus():
        right += sum(tuple(a) == b for a, b in zip(spell_notes(pitches, key(pitches).fifths), names, strict=True))
        for midi, ours, name in zip(pitches, spell_notes(pitches, fifths), names, strict=True):
            known += tuple(ours) == name
            if name[1] != in_signature(name[0], fifths):
                usual = pitch_of(int(midi))
                outside += 1
                outside_right += tuple(ours) == name
                outside_usual += (usual.step, int(usual.alter), usual.octave) == name
        total += len(names)
    assert len(corpus()) > 80
    assert known / total > 0.999  # measured: see the module
    assert right / total > 0.995
    # The notes outside the signature, and those as music21 names a MIDI number.
    assert outside_right / outside > 0.985 > 0.82 > outside_usual / outside
