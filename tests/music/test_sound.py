"""Sound: the right pitches at the right times, without clicks and without clipping."""

import io
import time
import warnings
import wave

import mido
import numpy as np
import pytest
from hypothesis import given, settings
from pieces import of_lines, pieces

from jaxseq.common.errors import UsageError
from jaxseq.music.instruments import INSTRUMENTS, ORGAN, Performance
from jaxseq.music.midi.write import midi
from jaxseq.music.notation.musicxml import musicxml
from jaxseq.music.notes import tempo_changes
from jaxseq.music.sound import ECHO, LONGEST, PEAK, RATE, sound, wav

A4 = of_lines([(69, 32)])


def spectrum(samples):
    """Frequencies and amplitudes of what both sides play together."""
    size = 1 << 18
    whole = samples.sum(axis=1)
    return np.fft.rfftfreq(size, 1 / RATE), np.abs(np.fft.rfft(whole * np.hanning(len(whole)), size))


def level(samples):
    """Root mean square of each hundredth of a second."""
    n = RATE // 100
    whole = samples[: len(samples) // n * n].reshape(-1, n * 2)
    return np.sqrt((whole**2).mean(axis=1))


@pytest.mark.parametrize("pitch", [36, 57, 60, 69, 81])
def test_a_note_sounds_at_its_pitch(pitch):
    frequencies, amplitudes = spectrum(sound(of_lines([(pitch, 16)])))
    peak = frequencies[np.argmax(amplitudes)]
    wanted = 440 * 2 ** ((pitch - 69) / 12)
    assert peak == pytest.approx(wanted, abs=1.0)
    assert peak == pytest.approx(wanted, rel=0.006), "within a tenth of a semitone"


def test_the_partials_are_those_of_the_note_and_of_no_other():
    frequencies, amplitudes = spectrum(sound(A4))
    decibel = 20 * np.log10(amplitudes / amplitudes.max() + 1e-12)
    between = np.abs(frequencies / 440 - np.round(frequencies / 440)) > 0.05
    assert decibel[between & (frequencies > 100)].max() < -60
    assert decibel[(frequencies > 870) & (frequencies < 890)].max() > -20


def test_high_partials_do_not_come_back_as_false_tones():
    high = of_lines([(127, 16)])  # 12,544 Hz lies above half the rate
    assert np.abs(sound(high)).max() == 0
    frequencies, amplitudes = spectrum(sound(of_lines([(108, 16)])))
    below = amplitudes[(frequencies > 50) & (frequencies < 4000)].max()
    assert 20 * np.log10(below / amplitudes.max()) < -60


def test_four_voices_are_heard_at_once():
    frequencies, amplitudes = spectrum(sound(of_lines([(76, 16)], [(69, 16)], [(61, 16)], [(45, 16)])))
    for pitch in (76, 69, 61, 45):
        near = np.abs(frequencies - 440 * 2 ** ((pitch - 69) / 12)) < 1
        assert amplitudes[near].max() > 0.1 * amplitudes.max()


def test_notes_are_heard_in_their_time_and_not_before():
    samples = sound(of_lines([(0, 8), (69, 4), (0, 8)]), bpm=60.0)
    loud = level(samples) / level(samples).max()
    assert (loud[:200] < 1e-9).all(), "two seconds of rest"
    assert (loud[210:300] > 0.3).all(), "one second of sound"
    assert loud[300 + int(100 * ORGAN.release) + 5 :].max() < 0.3, "and its echo"
    assert len(samples) / RATE == pytest.approx(5 + ORGAN.release + ECHO, abs=0.01)


@given(pieces(most=24))
@settings(max_examples=10)
def test_nothing_clips_and_nothing_clicks(piece):
    samples = sound(piece, bpm=160.0)
    assert np.isfinite(samples).all() and np.abs(samples).max() <= PEAK + 1e-12
    assert np.abs(samples[[0, -1]]).max() < 1e-3
    if piece.notes.any():
        assert np.abs(samples).max() == pytest.approx(PEAK)


def test_a_note_begins_and_ends_without_a_click():
    """A click is heard at all frequencies at once: above the partials there must be nothing."""
    samples = sound(of_lines([(57, 8), (57, 8), (0, 4), (60, 12)]))
    frequencies, amplitudes = spectrum(samples)
    high = amplitudes[frequencies > 4000].max() / amplitudes.max()
    assert 20 * np.log10(high) < -75
    assert np.abs(np.diff(samples, axis=0)).max() < 0.2


def test_the_tempo_is_quarter_notes_a_minute_and_fermatas_are_longer():
    seconds = lambda piece, *given: len(sound(piece, *given)) / RATE - ECHO - ORGAN.release  # noqa: E731
    assert seconds(A4, 60.0) == pytest.approx(8, abs=0.01)
    assert seconds(A4, 120.0) == pytest.approx(4, abs=0.01)
    assert seconds(A4._replace(fermatas=np.arange(32) >= 28), 60.0, 3.0) == pytest.approx(10, abs=0.01)


def test_a_repeated_note_is_heard_twice():
    once, twice = sound(of_lines([(69, 16)])), sound(of_lines([(69, 8), (69, 8)]))
    at = int(8 * 60 / 84 / 4 * RATE + ORGAN.attack * RATE)
    assert not np.allclose(once[at - 200 : at + 200], twice[at - 200 : at + 200], atol=0.01)


def test_the_same_piece_sounds_the_same_and_voices_stand_apart():
    np.testing.assert_array_equal(sound(A4), sound(A4))
    left, right = (sound(A4) ** 2).sum(axis=0)
    assert left > right
    left, right = (sound(of_lines([(0, 32)], [(0, 32)], [(0, 32)], [(45, 32)])) ** 2).sum(axis=0)
    assert left < right


def test_silence_is_silence():
    assert not sound(of_lines([(0, 16)])).any()
    assert not sound(
        A4._replace(**{name: getattr(A4, name)[:0] for name in ("notes", "onsets", "positions", "fermatas")})
    ).any()


def test_sixteen_bars_take_less_than_two_seconds():
    chorale = of_lines(*[[(pitch + n % 5, 4) for n in range(64)] for pitch in (72, 67, 60, 48)])
    started = time.process_time()
    wav(sound(chorale))
    assert time.process_time() - started < 2


def test_the_file_is_what_the_wave_module_reads():
    samples = sound(A4)
    with wave.open(io.BytesIO(wav(samples))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, RATE)
        read = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    np.testing.assert_allclose(read / 32767, samples, atol=1 / 32767)


def test_what_is_too_loud_is_cut_and_does_not_wrap_around():
    with wave.open(io.BytesIO(wav(np.array([[2.0, -2.0]])))) as file:
        assert np.frombuffer(file.readframes(1), "<i2").tolist() == [32767, -32767]


def test_what_lasts_too_long_is_refused_with_both_numbers():
    with pytest.raises(UsageError, match=r"^piece: lasts 2400 seconds at 1 bpm; 600 at most are played$"):
        sound(of_lines([(60, 160)]), 1.0)
    assert LONGEST == 600


# One timing for every file ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("instrument", "tune"),
    [
        *((name, of_lines([(72, 8), (71, 8), (69, 16)], fermatas=range(8, 16))) for name in INSTRUMENTS),
        # Of a composed soprano, no note may begin where a fermata does.
        ("organ", of_lines([(72, 4), (71, 20), (0, 8)], fermatas=[*range(8, 12), *range(26, 30)])),
    ],
)
def test_midi_musicxml_and_sound_last_equally_long_also_under_a_fermata(instrument, tune):
    """Two bars at 60, half a bar under fermatas: 8 quarters and 1 more; mido and music21 measure."""
    music21 = pytest.importorskip("music21")
    how = Performance(60.0, 1.5, INSTRUMENTS[instrument])
    assert mido.MidiFile(file=io.BytesIO(midi(tune, *how))).length == pytest.approx(9.0, rel=1e-4)
    assert len(sound(tune, *how)) / RATE - ECHO - how.instrument.release == pytest.approx(9.0, abs=0.01)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        score = music21.converter.parseData(musicxml(tune, performance=how), format="musicxml")
    (part, *_) = score.parts
    assert max(row["endTimeSeconds"] for row in part.flatten().secondsMap) == pytest.approx(9.0, rel=1e-4)
    marks = part.flatten().getElementsByClass("MetronomeMark")
    tempi = {float(4 * mark.offset): mark.number or mark.numberSounding for mark in marks}
    assert tempi == tempo_changes(tune, 60.0, 1.5)
    assert {found.midiProgram for found in score.recurse().getElementsByClass("Instrument")} == {how.instrument.program}


def test_every_instrument_sounds_at_its_pitch_and_a_piano_dies_away():
    for instrument in INSTRUMENTS.values():
        frequencies, amplitudes = spectrum(sound(A4, instrument=instrument))
        assert frequencies[np.argmax(amplitudes)] == pytest.approx(440, abs=3)
    held, struck = (level(sound(of_lines([(69, 64)]), 60.0, 1.0, INSTRUMENTS[name])) for name in ("organ", "piano"))
    # The two tones of a voice beat: the level is the mean over several beats.
    begin, later = slice(0, 400), slice(900, 1300)
    assert held[later].mean() > 0.7 * held[begin].mean() and struck[later].mean() < 0.3 * struck[begin].mean()
