"""What chorales are judged by: the published column of Bach's test set, music21's voice leading, bars counted by hand."""

import math
import re

import numpy as np
import pytest
from bach import chorales
from scipy.spatial.distance import jensenshannon

from jaxseq.music.evaluation.coherence import (
    LABELS,
    Coherence,
    Reference,
    coherence,
    fit_reference,
    repeated_notes,
    rows,
    table,
)
from jaxseq.music.evaluation.divergence import Distributions, divergence, fit_distributions, note_lengths, tonic
from jaxseq.music.evaluation.ranges import out_of_range, voice_ranges
from jaxseq.music.evaluation.tonality import ends_on_tonic, ends_on_triad, outside, raised_leading_tones, wander
from jaxseq.music.evaluation.voice_leading import crossing, dissonance, parallels, repeated_bars

CHORD = np.array([67, 64, 60, 48])
NO_PIECE = Reference(Distributions(np.zeros(12), np.zeros(0)), voice_ranges([]))


def held(chord, steps=16):
    return np.tile(chord, (steps, 1))


def moving(*chords):
    """One step for each chord."""
    return np.array(chords)


@pytest.fixture(scope="module")
def bach():
    pieces = {part: list(named.values()) for part, named in chorales().items()}
    return coherence(pieces["test"], fit_reference(pieces["train"]))


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("parallel_fifths", ".22"),
        ("parallel_octaves", ".11"),
        ("held", ".771"),
        ("frozen", "11.5"),
        ("repeated_bars", ".087"),
        ("dissonant", ".068"),
        ("crossing", ".0071"),
        ("pitch_classes", ".0003"),
        ("durations", ".0018"),
        ("outside", ".078"),
        ("triad", "1.00"),
        ("tonic", ".78"),
    ],
)
def test_bachs_own_test_set_has_the_expected_value_to_its_last_digit(bach, name, published):
    digits = len(published.split(".")[1])
    assert LABELS[name][1] == digits
    assert f"{getattr(bach, name):.{digits}f}".lstrip("0") == published


def test_bachs_own_test_set_has_the_published_key_clarity(bach):
    assert bach.clarity == pytest.approx(0.8865, abs=1e-5)  # .887 is printed: 0.886496 rounds to it by way of 0.8865


def test_a_frozen_chord_has_the_published_values():
    piece = np.concatenate([held(CHORD + np.array([1, -2, 3, -4]), 5), held(CHORD, 251)])
    found = coherence([piece], NO_PIECE)
    assert (found.parallel_fifths, found.parallel_octaves) == (0, 0)
    assert found.frozen == 251
    assert f"{found.held:.3f}" == "0.996"
    assert found.repeated_bars == 14 / 16


@pytest.mark.parametrize(
    ("before", "after", "fifths", "octaves"),
    [
        ([67, 60], [69, 62], 1, 0),
        ([67, 60], [60, 53], 1, 0),
        ([79, 60], [81, 62], 1, 0),  # twelfths
        ([72, 60], [74, 62], 0, 1),
        ([60, 60], [62, 62], 0, 1),  # unisons
        ([84, 60], [72, 48], 0, 1),  # both by an octave
        ([67, 60], [81, 62], 0, 0),  # a fifth, then a twelfth
        ([67, 60], [69, 50], 0, 0),  # in contrary motion
        ([67, 60], [67, 60], 0, 0),  # neither moves
        ([67, 60], [68, 62], 0, 0),  # the second one is diminished
        ([66, 60], [69, 62], 0, 0),  # the first one is
        ([60, 55], [62, 57], 0, 0),  # fourths
        ([55, 60], [57, 62], 1, 0),  # crossed: the voice that should be above stands a fifth above, an octave too low
        ([0, 60], [0, 62], 0, 0),
        ([67, 60], [0, 0], 0, 0),
        ([60, 60], [0, 0], 0, 0),
        ([12, 60], [0, 48], 0, 0),
        ([60, 12], [48, 0], 0, 0),
    ],
)
@pytest.mark.parametrize("pair", [(0, 1), (0, 3), (1, 2), (2, 3)])
def test_parallels_are_voices_that_keep_their_interval_as_both_move_equally_far(pair, before, after, fifths, octaves):
    piece = np.zeros((2, 4), int)
    piece[:, pair] = before, after
    for notes in (piece, piece[::-1]):
        assert (parallels(notes, 7), parallels(notes, 0)) == (fifths, octaves)


def test_parallels_are_per_hundred_steps_in_which_any_voice_moves():
    piece = moving([67, 64, 60, 40], [69, 65, 62, 40], [69, 65, 62, 40], [69, 65, 62, 41], [69, 65, 62, 43])
    found = coherence([piece], NO_PIECE)
    assert found.parallel_fifths == pytest.approx(100 / 3)
    assert found.parallel_octaves == 0


@pytest.mark.parametrize("name", ["bwv40.8", "bwv361", "bwv85.6", "bwv327", "bwv253", "bwv393"])
def test_music21_finds_the_same_parallels(name):
    pytest.importorskip("music21")
    from music21.voiceLeading import VoiceLeadingQuartet

    pitches, notes = spelled(name)
    found = {"parallelFifth": 0, "parallelOctave": 0}
    for step, high, low in [(s, h, w) for s in range(1, len(notes)) for w in range(4) for h in range(w)]:
        by = notes[step] - notes[step - 1]
        if by[high] == by[low] != 0 and notes[step - 1 : step + 1, [high, low]].all():
            above, below = pitches[step - 1 : step + 1, high], pitches[step - 1 : step + 1, low]
            quartet = VoiceLeadingQuartet(*map(three_octaves_up, above), *below)  # so that no voices cross
            for kind in found:
                found[kind] += getattr(quartet, kind)()
    assert found == {"parallelFifth": parallels(notes, 7), "parallelOctave": parallels(notes, 0)}


def spelled(name):
    """Pitches as music21's corpus spells them and as MIDI numbers, one row for each sixteenth."""
    from music21 import corpus

    parts = corpus.parse(f"bach/{name}").parts
    assert len(parts) == 4
    pitches = np.full((int(4 * max(part.highestTime for part in parts)), 4), None)
    for voice, part in enumerate(parts):
        for note in part.flatten().notes:
            pitches[int(4 * note.offset) : int(4 * (note.offset + note.quarterLength)), voice] = note.pitch
    return pitches, np.array([[pitch.midi if pitch else 0 for pitch in chord] for chord in pitches])


def three_octaves_up(pitch):
    from music21.pitch import Pitch

    return Pitch(step=pitch.step, octave=pitch.octave + 3, accidental=pitch.accidental)


def test_a_note_is_held_if_its_voice_had_it_the_step_before_and_rests_are_not_counted():
    found = coherence([moving([67, 64, 60, 0], [67, 65, 60, 0], [0, 65, 62, 48])], NO_PIECE)
    assert found.held == 3 / 6


def test_the_longest_frozen_run_is_the_most_steps_that_one_chord_lasts():
    pieces = [np.concatenate([held(CHORD, 3), held(CHORD + 1, 7), held(CHORD, 5)]), held(CHORD, 4)]
    assert coherence(pieces, NO_PIECE).frozen == (7 + 4) / 2


def test_a_bar_is_repeated_if_it_equals_any_earlier_one_and_what_is_left_is_no_bar():
    first, second = held(CHORD), held(CHORD)
    second[7, 2] += 1
    assert repeated_bars(np.concatenate([first, second, first, second, first, first[:9]])) == 3 / 5
    assert repeated_bars(np.concatenate([second, second])) == 1 / 2
    assert repeated_bars(np.concatenate([first[:1] + 9, second, second])) == 0  # bars are counted from step 0


@pytest.mark.parametrize(
    ("interval", "harsh"),
    [(0, 0), (1, 1), (2, 1), (3, 0), (4, 0), (5, 0), (6, 1), (7, 0), (8, 0), (9, 0), (10, 1), (11, 1)],
)
def test_seconds_sevenths_and_tritones_on_the_beat_are_dissonant(interval, harsh):
    for low in (60 - interval, 48 - interval, 60 + interval):  # over an octave more, and crossed
        assert dissonance(moving([60, 0, low, 0])) == harsh


def test_only_each_fourth_step_is_a_beat():
    piece = np.concatenate(
        [held([60, 59, 0, 0], 1), held([60, 48, 0, 0], 3), held([60, 57, 36, 0], 1), held([6, 5, 4, 3], 3)]
    )
    assert dissonance(piece) == 1 / 4


def test_voices_cross_where_a_lower_one_sounds_above_its_neighbour():
    piece = moving([67, 64, 60, 48], [64, 67, 60, 48], [64, 64, 60, 61], [59, 0, 60, 48])
    assert crossing(piece) == 2 / (3 + 3 + 3 + 1)


def test_pieces_count_alike_and_one_without_anything_to_measure_not_at_all():
    still, half = held(CHORD, 5), moving(CHORD, CHORD + np.array([0, 0, 1, 1]))
    silent = np.zeros((8, 4), int)
    assert coherence([still, half], NO_PIECE).held == (1 + 1 / 2) / 2
    assert coherence([silent, half, silent], NO_PIECE).held == 1 / 2


@pytest.mark.parametrize(
    "part", ["parallel_fifths", "parallel_octaves", "held", "repeated_bars", "dissonant", "crossing"]
)
def test_shares_of_random_notes_are_shares_and_a_transposition_changes_none(part):
    rng = np.random.default_rng(0)
    piece = np.where(rng.random((96, 4)) < 0.1, 0, rng.integers(40, 70, (96, 4)).repeat(2, axis=0)[:96])
    value, shifted = (getattr(coherence([notes], NO_PIECE), part) for notes in (piece, np.where(piece, piece + 7, 0)))
    assert value == shifted
    assert 0 <= value <= (100 if part.startswith("parallel") else 1)


def nan_in(found):
    return {name for name, value in found._asdict().items() if math.isnan(value)}


MOVES = {"parallel_fifths", "parallel_octaves"}
UNKNOWN = {"repeated_notes", "raised"}
DIVERGENCES = {"pitch_classes", "durations"}
REFERENCE = fit_reference([held(CHORD, 3), moving(CHORD, CHORD + 2)])


def test_a_frozen_chord_has_no_changes_to_count_parallels_in():
    found = coherence([held(CHORD, 64)], REFERENCE)
    assert nan_in(found) == MOVES | UNKNOWN
    assert (found.held, found.frozen, found.repeated_bars) == (1, 64, 3 / 4)


def test_of_rests_there_is_the_time_they_last_alone():
    found = coherence([np.zeros((64, 4), int)], REFERENCE)
    assert nan_in(found) == set(Coherence._fields) - {"frozen", "repeated_bars"}
    assert (found.frozen, found.repeated_bars) == (64, 3 / 4)


def test_one_step_has_a_chord_but_nothing_that_comes_after_it():
    found = coherence([moving(CHORD)], REFERENCE)
    assert nan_in(found) == MOVES | UNKNOWN | {"held", "repeated_bars", "wander", "triad"}
    assert found.frozen == 1


def test_less_than_a_bar_has_no_bars():
    found = coherence([moving(*(CHORD + step for step in range(15)))], REFERENCE)
    assert nan_in(found) - UNKNOWN == {"repeated_bars", "wander"}
    assert found.held == 0


@pytest.mark.parametrize("pieces", [[], [np.zeros((0, 4), int)]])
def test_of_nothing_nothing_is_measured(pieces):
    assert nan_in(coherence(pieces, REFERENCE)) == set(Coherence._fields)


def test_without_a_training_set_there_is_no_divergence_and_all_else():
    piece = np.concatenate([held(CHORD), held(CHORD + 2)])
    assert nan_in(coherence([piece], fit_reference([]))) == DIVERGENCES | UNKNOWN | {"out_of_range", "wander"}


def test_the_training_set_does_not_diverge_from_itself_in_whatever_key():
    rng = np.random.default_rng(0)
    pieces = [rng.choice([60, 62, 64, 67, 72], (40, 4)), moving(CHORD, CHORD + 2, CHORD)]
    found = coherence([piece + 5 for piece in pieces], fit_reference(pieces))
    assert found.pitch_classes == pytest.approx(0, abs=1e-12)
    assert found.durations == pytest.approx(0, abs=1e-12)


def test_a_reference_counts_the_time_of_pitch_classes_from_the_tonic_and_the_notes_of_each_length():
    rests = np.zeros((2, 4), int)
    d_major = np.concatenate([held([74, 69, 66, 50], 3), rests, held([74, 69, 66, 0], 1), held([73, 69, 64, 57], 2)])
    found = fit_distributions([d_major])
    expected = np.zeros(12)
    expected[[0, 4, 7, 11, 2]] = 4 + 3, 4, 4 + 2 + 2, 2, 2
    np.testing.assert_array_equal(found.pitch_classes, expected)
    np.testing.assert_array_equal(found.durations, [0, 2, 3, 5])  # alto: 3, then a rest, then 3 in one note


def test_a_note_ends_where_its_voices_pitch_changes_and_with_its_piece_even_beside_an_equal_one():
    piece = moving([60, 60, 60, 0], [60, 60, 62, 0], [0, 60, 62, 0], [60, 60, 60, 0])
    np.testing.assert_array_equal(note_lengths(piece), [2, 1, 4, 1, 2, 1])


@pytest.mark.parametrize(
    ("scale", "pitch_class"),
    [
        ([60, 64, 67, 72, 60, 65, 71, 62], 0),
        ([69, 72, 76, 81, 69, 74, 80, 71], 9),
        ([66, 70, 73, 78, 66, 71, 77, 68], 6),
    ],
)
def test_the_tonic_is_that_of_the_key_that_fits_best(scale, pitch_class):
    notes = np.zeros((8, 4), int)
    notes[:, 0] = scale
    assert tonic(notes) == pitch_class


def test_divergence_is_the_square_of_scipys_distance():
    rng = np.random.default_rng(0)
    for _ in range(20):
        first, second = rng.integers(0, 5, (2, 9)) + np.eye(9)[:2]
        assert divergence(first, second) == pytest.approx(jensenshannon(first, second, base=2) ** 2, abs=1e-12)


def test_divergence_lies_between_0_and_1_bit_and_the_shorter_table_goes_on_with_0():
    assert divergence(np.array([1.0, 3.0]), np.array([2.0, 6.0, 0.0])) == pytest.approx(0, abs=1e-15)
    assert divergence(np.array([1.0, 0, 0]), np.array([0, 5.0])) == 1
    assert math.isnan(divergence(np.zeros(3), np.ones(3)))
    assert math.isnan(divergence(np.ones(3), np.zeros(0)))


def test_a_table_has_a_row_for_each_measure_and_a_column_for_each_name():
    values = Coherence(*np.arange(float(len(LABELS) - 1)), math.nan)
    found = rows({"Bach": values, "model": values._replace(held=0.7714)})
    assert found[0] == ["", "Bach", "model"]
    assert found[3] == ["held-note rate", "2.000", "0.771"]
    assert found[-1] == ["divergence of durations, bits", "-", "-"]
    assert len(found) == 1 + len(Coherence._fields)
    lines = table({"Bach": values, "model": values}).splitlines()
    assert lines[1] == "|---|---:|---:|"
    assert all(len(re.findall(r"\|", line)) == 4 for line in lines)
    assert list(LABELS) == list(Coherence._fields)


C_MAJOR = [60, 62, 64, 65, 67, 69, 71, 72]
A_MINOR = [69, 71, 72, 74, 76, 77, 80, 81]


def melody(notes, each=2, bass=0):
    """A soprano of notes that last equally long, over a bass that is held."""
    piece = np.zeros((each * len(notes), 4), int)
    piece[:, 0] = np.repeat(notes, each)
    piece[:, 3] = bass
    return piece


def test_notes_outside_the_signature_count_once_each_and_raised_leading_tones_are_among_them():
    major = melody([60, 61, *C_MAJOR, 64, 67, 60])
    major[3:6, 0] = 61  # a longer note is one note
    assert outside(major) == 1 / 12
    assert math.isnan(raised_leading_tones(major))
    minor = melody([*A_MINOR, 76, 72, 69])
    assert outside(minor) == raised_leading_tones(minor) == 1 / 11
    assert outside(np.where(minor, minor + 4, 0)) == 1 / 11


def test_a_key_wanders_by_the_fifths_between_the_signatures_of_four_bars_and_of_the_piece():
    bar = [60, 64, 67, 72, 65, 71, 62, 60]
    c_major, d_major = melody(bar * 8), melody(np.array(bar * 4) + 2)
    assert wander(c_major) == 0
    # Of nine windows the last is in D, two fifths away; three have bars of both.
    found = wander(np.concatenate([c_major, d_major]))
    assert 2 / 9 <= found <= 8 / 9
    assert math.isnan(wander(c_major[:63]))


@pytest.mark.parametrize(
    ("chord", "triad"),
    [
        ([67, 64, 60, 48], 1),
        ([67, 63, 60, 48], 1),
        ([60, 64, 60, 48], 1),  # without a fifth
        ([67, 67, 60, 48], 1),  # without a third
        ([60, 60, 60, 48], 0),  # octaves alone
        ([72, 67, 64, 52], 0),  # first inversion
        ([70, 64, 60, 48], 0),  # a seventh
        ([66, 63, 60, 48], 0),  # diminished
        ([68, 64, 60, 48], 0),  # augmented
        ([67, 64, 0, 48], 0),  # not all voices
    ],
)
def test_a_piece_ends_on_a_triad_if_all_voices_hold_one_on_its_root_for_a_quarter(chord, triad):
    assert ends_on_triad(held(chord, 4)) == triad
    assert ends_on_triad(np.concatenate([held(chord, 4), np.zeros((3, 4), int)])) == triad
    assert ends_on_triad(np.concatenate([held(CHORD + 2, 5), held(chord, 3)])) == 0


def test_a_piece_ends_on_the_tonic_of_its_key_if_its_bass_does():
    piece = melody([*C_MAJOR, 64, 67, 60], bass=48)
    assert ends_on_tonic(piece) == 1
    assert ends_on_tonic(np.where(piece, piece + 5, 0)) == 1
    piece[-2:, 3] = 43
    assert ends_on_tonic(piece) == 0
    piece[-2:, 3] = 0
    assert ends_on_tonic(piece) == 0


def test_a_stretch_is_judged_by_the_end_of_its_piece():
    piece = np.concatenate([melody([*C_MAJOR, 64, 67, 60], bass=48), held(CHORD)])
    assert coherence([piece[:20]], NO_PIECE).triad == 0
    found = coherence([piece[:20]], NO_PIECE, ends=[piece])
    assert (found.triad, found.tonic) == (1, 1)


def test_repeated_notes_are_those_that_are_struck_where_the_pitch_stays():
    notes = melody([60, 60, 62, 60])
    onsets = np.zeros(notes.shape, bool)
    onsets[[0, 2, 4, 6], 0] = True
    assert repeated_notes(notes, onsets) == 1 / 4
    assert coherence([notes], NO_PIECE, onsets=[onsets]).repeated_notes == 1 / 4
    assert math.isnan(coherence([notes], NO_PIECE).repeated_notes)


def test_notes_below_or_above_the_range_of_their_voice_are_counted():
    ranges = voice_ranges([moving([60, 0, 50, 40], [72, 65, 55, 45]), moving([61, 66, 0, 0])])
    np.testing.assert_array_equal(ranges, [[60, 72], [65, 66], [50, 55], [40, 45]])
    assert out_of_range(moving([72, 64, 50, 0], [73, 66, 50, 39]), ranges) == 3 / 6
    assert math.isnan(out_of_range(moving([72, 64, 50, 0]), voice_ranges([])))
