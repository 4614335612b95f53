"""MIDI files: what is written is read back, what is no chorale is refused in one line."""

import io
import re
import time
from pathlib import Path

import hypothesis.strategies as st
import mido
import numpy as np
import pytest
from hypothesis import given, settings
from pieces import of_lines, pieces

from jaxseq.common.errors import UsageError
from jaxseq.music import voice_names
from jaxseq.music.bars import units_of
from jaxseq.music.midi.read import file_and_track, read, read_melody
from jaxseq.music.midi.write import TICKS, key_name, midi
from jaxseq.music.notes import lines
from jaxseq.music.piece import REST, VOICES, from_notes
from jaxseq.music.transposition import Key

STEP = TICKS // 4
CHORALE = of_lines([(72, 8), (71, 8)], [(67, 16)], [(64, 4), (62, 12)], [(48, 8), (43, 8)], name="chorale")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "tune.mid"


def saved(path, *tracks, type=1, ticks=TICKS):
    """A file of these tracks; a message is its type, the tick at which it is sent, and its fields."""
    made = mido.MidiFile(type=type, ticks_per_beat=ticks)
    for track in tracks:
        now, messages = 0, mido.MidiTrack()
        for kind, tick, fields in sorted(track, key=lambda message: message[1]):
            meta = kind in ("time_signature", "key_signature", "track_name", "end_of_track", "set_tempo")
            messages.append((mido.MetaMessage if meta else mido.Message)(kind, time=tick - now, **fields))
            now = tick
        made.tracks.append(messages)
    made.save(path)
    return path


def note(start, end, pitch, channel=0):
    """The two messages of a note, in ticks."""
    return [
        ("note_on", start, {"note": pitch, "channel": channel, "velocity": 64}),
        ("note_off", end, {"note": pitch, "channel": channel}),
    ]


def four(*soprano, channels=False):
    """Tracks of four voices: the soprano's messages, and a whole note in each other voice."""
    low = [note(0, 16 * STEP, pitch, n + 1 if channels else 0) for n, pitch in enumerate((60, 55, 48))]
    return [list(soprano), *low]


def refused(message, path, reader=read):
    with pytest.raises(UsageError, match="^" + re.escape(f"{path}{message}")) as caught:
        reader(path)
    assert "\n" not in str(caught.value)


@settings(max_examples=60)
@given(pieces())
def test_what_is_written_is_read_back(tmp_path_factory, piece):
    path = tmp_path_factory.getbasetemp() / "there and back.mid"
    path.write_bytes(midi(piece))
    if not piece.notes.any():
        refused(": there is not one note in it", path)
        return
    found = read(path)
    np.testing.assert_array_equal(found.piece.notes, piece.notes)
    np.testing.assert_array_equal(found.piece.onsets, piece.onsets)
    assert found.said == ()
    if piece.fifths is not None and piece.minor is not None:
        assert (found.piece.fifths, found.piece.minor) == (piece.fifths, piece.minor)


@pytest.mark.parametrize(("first", "bar"), [(0, 16), (12, 16), (8, 12), (2, 16), (0, 12), (7, 10)])
def test_bars_and_upbeats_are_read_back(file, first, bar):
    tune = of_lines([(60, 24), (62, 24)], first=first, bar=bar)
    file.write_bytes(midi(tune))
    np.testing.assert_array_equal(read(file).piece.positions, tune.positions)
    np.testing.assert_array_equal(read_melody(file).positions, tune.positions)


def test_parts_of_a_bar_are_read_back(file):
    positions = np.concatenate([np.arange(n) for n in (16, 12, 4, 16, 8)])
    file.write_bytes(midi(from_notes("x", np.full((56, 4), 60))._replace(positions=positions)))
    np.testing.assert_array_equal(read(file).piece.positions, positions)


def test_the_file_is_what_mido_says_it_should_be():
    tune = CHORALE._replace(fifths=-3, minor=True, fermatas=np.arange(16) >= 12)
    found = mido.MidiFile(file=io.BytesIO(midi(tune, 90.0, 2.0)))
    assert (found.type, found.ticks_per_beat) == (1, TICKS)
    assert [track.name for track in found.tracks] == ["chorale", "Soprano", "Alto", "Tenor", "Bass"]
    metre = [m for m in found.tracks[0] if m.is_meta and m.type not in ("track_name", "end_of_track")]
    assert [m.key for m in metre if m.type == "key_signature"] == ["Cm"]
    assert [(m.numerator, m.denominator) for m in metre if m.type == "time_signature"] == [(4, 4)]
    assert [m.tempo for m in metre if m.type == "set_tempo"] == [666_667, 1_333_333]
    assert {m.program for track in found.tracks for m in track if m.type == "program_change"} == {19}, (
        "the church organ"
    )
    assert found.length == pytest.approx((12 + 4 * 2) / 4 * 60 / 90, abs=1e-5)
    for line, track in zip(lines(tune), found.tracks[1:], strict=True):
        played = [m.note for m in track if m.type == "note_on" and m.velocity]
        assert played == [n.pitch for n in line if n.pitch != REST]
        assert sum(m.time for m in track) == 16 * STEP


@pytest.mark.filterwarnings("ignore")
def test_music21_hears_the_same_notes(file):
    music21 = pytest.importorskip("music21")
    file.write_bytes(midi(CHORALE))
    score = music21.converter.parse(file, forceSource=True)
    for part, line in zip(score.parts, lines(CHORALE), strict=True):
        heard = [(float(n.offset), float(n.quarterLength), n.pitch.midi) for n in part.flatten().notes]
        assert heard == [(n.start / 4, n.steps / 4, n.pitch) for n in line]


def test_a_repeated_note_is_two_notes_and_a_long_one_is_one(file):
    tune = of_lines([(60, 4), (60, 4), (60, 8)], [(55, 16)], [(50, 16)], [(45, 16)])
    file.write_bytes(midi(tune))
    assert np.flatnonzero(read(file).piece.onsets[:, 0]).tolist() == [0, 4, 8]
    assert np.flatnonzero(read(file).piece.onsets[:, 1]).tolist() == [0]


@pytest.mark.parametrize("fifths", range(-7, 8))
@pytest.mark.parametrize("minor", [False, True])
def test_keys_have_the_formats_names(file, fifths, minor):
    file.write_bytes(midi(CHORALE._replace(fifths=fifths, minor=minor)))
    found = read(file).piece
    assert (found.fifths, found.minor) == (fifths, minor)
    assert [key_name(*key) for key in ((0, False), (0, True), (-2, False), (3, True))] == ["C", "Am", "Bb", "F#m"]


def test_voices_on_four_channels_of_one_track_are_told_apart(file):
    whole = [message for track in four(*note(0, 16 * STEP, 72), channels=True) for message in track]
    for type in (0, 1):
        found = read(saved(file, whole, type=type))
        assert found.piece.notes[0].tolist() == [72, 60, 55, 48] and found.said == ()


def test_voices_without_a_name_are_ordered_by_pitch_and_that_is_said(file):
    found = read(saved(file, *reversed(four(*note(0, 16 * STEP, 72)))))
    assert found.piece.notes[0].tolist() == [72, 60, 55, 48]
    assert found.said == ("voices ordered by pitch: 4, 3, 2, 1 of the file",)


def test_named_tracks_are_the_voices_whatever_else_there_is(file):
    names = [[("track_name", 0, {"name": f" {name.upper()}"})] for name in VOICES]
    tracks = [[*name, *track] for name, track in zip(names, four(*note(0, 16 * STEP, 40)), strict=True)]
    organ = [("track_name", 0, {"name": "Organ\n and\tpedal"}), *note(0, 8 * STEP, 36)]
    found = read(saved(file, organ, *tracks))
    assert found.piece.notes[0].tolist() == [40, 60, 55, 48]
    assert found.said == ("left out: track Organ and pedal",)


def test_what_is_off_the_grid_is_rounded_and_said(file):
    soprano = [*note(20, 4 * STEP, 72), *note(4 * STEP, 8 * STEP - 9, 71), *note(8 * STEP + 7, 16 * STEP, 69)]
    found = read(saved(file, *four(*soprano)))
    assert found.piece.notes[[0, 3, 4, 7, 8, 15], 0].tolist() == [72, 72, 71, 71, 69, 69]
    assert found.said == (
        "2 notes moved to the grid, the furthest by 20 of 480 ticks",
        "1 note ended off the grid, the furthest by 9 of 480 ticks",
    )
    grace = [*note(0, 30, 74), *note(30, 16 * STEP, 72)]
    found = read(saved(file, *four(*grace)))
    assert set(found.piece.notes[:, 0]) == {72}
    assert found.said[-1] == "1 note too short for the grid: left out"


def test_resolutions_that_no_sixteenth_divides_are_read_too(file):
    found = read(saved(file, *[note(0, 16, pitch) for pitch in (72, 60, 55, 48)], ticks=6))
    assert len(found.piece.notes) == 11 and found.said[0].startswith("4 notes ended off the grid")


def test_a_note_without_an_end_is_held_and_that_is_said(file):
    found = read(saved(file, *four(*note(0, 16 * STEP, 72)[:1], ("end_of_track", 16 * STEP, {}))))
    assert (found.piece.notes[:, 0] == 72).all() and found.said == (
        "1 note without an end: held to the end of the track",
    )


def test_what_is_no_chorale_is_refused_with_bar_and_voice(file):
    low, high = note(20 * STEP, 24 * STEP, 35), note(40 * STEP, 44 * STEP, 82)
    refused(
        ": bar 2, soprano: note 35 is out of range; notes go from 36 to 81",
        saved(file, *four(*note(0, STEP, 81), *note(STEP, 2 * STEP, 81), *low)),
    )
    refused(": bar 3, soprano: note 82 is out of range", saved(file, *four(*high)))
    chord = [*note(0, 20 * STEP, 72), *note(17 * STEP, 20 * STEP, 76)]
    refused(": bar 2, soprano: notes 72 and 76 sound at once; a voice sings one at a time", saved(file, *four(*chord)))
    upbeat = [
        ("time_signature", 0, {"numerator": 1, "denominator": 4}),
        ("time_signature", 4 * STEP, {"numerator": 3, "denominator": 4}),
    ]
    refused(": bar 0, soprano: note 82", saved(file, upbeat, *four(*note(0, STEP, 82))))
    refused(": bar 2, soprano: note 82", saved(file, upbeat, *four(*note(16 * STEP, 17 * STEP, 82))))


def test_other_numbers_of_voices_are_refused_with_how_many_there_are(file):
    tracks = four(*note(0, 16 * STEP, 72))
    refused(": 4 voices are needed; it has 3 tracks with notes, on 1 channel", saved(file, *tracks[:3]))
    refused(": 4 voices are needed; it has 5 tracks with notes, on 2 channels", saved(file, *tracks, note(0, 9, 50, 5)))
    refused(": there is not one note in it", saved(file, [], []))
    short = [note(0, 10, pitch) for pitch in (72, 60, 55, 48)]
    refused(": there is not one note in it that lasts half a sixteenth", saved(file, *short))


def test_metres_that_no_sixteenth_divides_are_refused(file):
    metre = [("time_signature", 0, {"numerator": 3, "denominator": 32})]
    refused(": a time signature of 3/32; a bar must be a whole number", saved(file, metre, *four(*note(0, 99, 72))))


def test_what_is_too_long_is_refused_at_once(file):
    started = time.monotonic()
    refused(": lasts 100001 sixteenths; 100000 at most", saved(file, *four(*note(0, 100_001 * STEP, 72))))
    assert time.monotonic() - started < 5


def header(type=1, tracks=1, division=TICKS):
    return b"MThd" + (6).to_bytes(4) + type.to_bytes(2) + tracks.to_bytes(2) + division.to_bytes(2)


def chunk(content):
    return b"MTrk" + len(content).to_bytes(4) + content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ": the file is empty"),
        (b"RIFF....", ": no MIDI file: it begins with b'RIFF', and not with b'MThd'"),
        (header(), r": damaged: the file ends within a track \(14 bytes\)"),
        (header(type=2) + chunk(b"\x00\xff\x2f\x00"), ": MIDI format 2; formats 0 and 1 can be read"),
        (header(division=0xE728) + chunk(b"\x00\xff\x2f\x00"), ": times are SMPTE frames and not beats"),
        (header(division=0) + chunk(b"\x00\xff\x2f\x00"), ": damaged: 0 ticks per quarter note, at least 1 is needed"),
        (header(tracks=0), ": there is not one note in it"),
        (header() + chunk(b"\xff\xff\xff\xff\x7f\x90\x40\x40"), ": damaged: track 1 waits 34359738367 ticks"),
        (header() + chunk(b"\xff" * 400 + b"\x7f\x90\x40\x40"), r": damaged: track 1 waits more than 10\^12 ticks"),
        (header() + chunk(b"\xff" * 400_000 + b"\x7f\x90\x40\x40"), ": damaged: a number of more than 1000 bytes"),
        (header() + b"\x00" * 1_000_000, ": more than 500000 bytes; that is no chorale"),
    ],
)
def test_what_is_no_sound_file_is_refused_and_named(file, content, message):
    file.write_bytes(content)
    started = time.monotonic()
    with pytest.raises(UsageError, match=f"^{re.escape(str(file))}{message}"):
        read(file)
    assert time.monotonic() - started < 5


def test_a_file_that_is_not_there_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "none.mid", Path("a\0b")):
        with pytest.raises(UsageError, match=f"^{re.escape(str(path))} cannot be read: "):
            read(path)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=8), st.integers(0, 400))
def test_a_damaged_file_is_read_or_refused_and_nothing_else(tmp_path_factory, changes, cut):
    content = bytearray(midi(CHORALE._replace(fifths=1)))
    for place, byte in changes:
        content[place % len(content)] = byte
    path = tmp_path_factory.getbasetemp() / "damaged.mid"
    path.write_bytes(content[: len(content) - cut if cut < 200 else None])
    for reader in (read, read_melody):
        try:
            found = reader(path)
        except UsageError as error:
            assert "\n" not in str(error)
        else:
            notes = found.piece.notes if reader is read else found.notes
            assert ((notes == REST) | ((notes >= 36) & (notes <= 81))).all()


@settings(max_examples=60)
@given(st.binary(max_size=60), st.integers(0, 3), st.integers(0, 65535))
def test_random_bytes_are_read_or_refused_and_nothing_else(tmp_path_factory, content, type, division):
    path = tmp_path_factory.getbasetemp() / "random.mid"
    path.write_bytes(header(type, 1, division) + chunk(content))
    for reader in (read, read_melody):
        try:
            reader(path)
        except UsageError as error:
            assert "\n" not in str(error)


def test_a_melody_is_the_highest_line(file):
    tracks = [
        [("time_signature", 0, {"numerator": 1, "denominator": 4}), ("time_signature", 4 * STEP, {"numerator": 4})],
        [("track_name", 0, {"name": "Flute"}), *note(0, 4 * STEP, 67), *note(6 * STEP, 8 * STEP, 72)],
        note(0, 64 * STEP, 40),
    ]
    found = read_melody(saved(file, *tracks))
    assert found.notes.tolist() == [67] * 4 + [0] * 2 + [72] * 2
    assert np.flatnonzero(found.onsets).tolist() == [0, 6]
    assert found.positions.tolist() == [12, 13, 14, 15, 0, 1, 2, 3]
    assert (found.name, found.said) == (
        "tune",
        ("of 2 lines, track 2 (Flute) is the melody, the highest; tune.mid:N takes track N",),
    )


def test_a_melody_is_rounded_and_said_and_refused_like_a_chorale(file):
    found = read_melody(saved(file, note(10, 4 * STEP, 67)))
    assert found.notes.tolist() == [67] * 4
    assert found.said == ("1 note moved to the grid, the furthest by 10 of 480 ticks",)
    refused(": bar 1, melody: note 90 is out of range", saved(file, note(0, STEP, 90)), read_melody)
    chord = [*note(0, STEP, 60), *note(0, STEP, 64)]
    refused(": bar 1, melody: notes 60 and 64 sound at once", saved(file, chord), read_melody)
    refused(": there is not one note in it", saved(file, []), read_melody)


@pytest.mark.parametrize(
    ("bpm", "message"), [(3.0, "20000000 microseconds"), (0.0, "bpm is 0"), (1e9, "0 microseconds")]
)
def test_tempi_that_the_format_has_no_room_for_are_refused(bpm, message):
    with pytest.raises(UsageError, match=message):
        midi(CHORALE, bpm)


def test_a_bar_that_the_format_has_no_room_for_is_refused():
    endless = from_notes("x", np.full((5000, 4), 60))._replace(positions=np.arange(5000))
    with pytest.raises(UsageError, match=r"^x: bar 1 has 625 beats; a MIDI file has room for 255$"):
        midi(endless)


# Files of other programs -----------------------------------------------------------------------------------------------


def named(name, *messages):
    return [("track_name", 0, {"name": name}), *messages]


def test_repeated_notes_that_are_held_into_the_next_one_all_sound(file):
    """Each of four quarters ends a sixteenth after the next has begun: first on, first off."""
    quarters = [message for place in range(4) for message in note(4 * place * STEP, (4 * place + 5) * STEP, 71)]
    ordered = sorted(quarters, key=lambda message: (message[1], message[0] == "note_off"))
    found = read_melody(saved(file, ordered))
    assert np.flatnonzero(found.onsets).tolist() == [0, 4, 8, 12]
    assert found.notes.tolist() == [71] * 17


@pytest.mark.parametrize(
    ("tracks", "title"),
    [
        ([named("Drums", *note(0, STEP, 36, channel=9)), named("", *note(0, STEP, 60))], None),
        ([named("Bass", *note(0, STEP, 60)), named("Soprano", *note(0, STEP, 59))], "Soprano"),
        ([named("Violin", *note(0, STEP, 80)), named("Voice 1", *note(0, STEP, 60))], "Voice 1"),
        ([named("Voice", *note(0, STEP, 80)), named("Melodie", *note(0, STEP, 60))], "Melodie"),
        ([named("Piano", *note(0, STEP, 80), *note(0, STEP, 76)), named("", *note(0, STEP, 60))], "without a name"),
        ([named("", *note(0, STEP, 48)), named("", *note(0, STEP, 60))], "without a name"),
    ],
)
def test_a_melody_is_found_by_its_name_or_as_the_highest_single_line_and_never_in_drums(file, tracks, title):
    found = read_melody(saved(file, *tracks))
    assert found.notes.tolist() == [59 if title == "Soprano" else 60]
    assert [f"({title})" in said for said in found.said if "melody," in said] == ([] if title is None else [True])


def test_a_track_is_named_by_its_number(file):
    path = saved(file, note(0, STEP, 72), named("Alt", *note(0, STEP, 65)))
    assert file_and_track(f"{path}:2") == (str(path), 2)
    assert file_and_track(str(path)) == (str(path), None)
    assert read_melody(path, track=2).notes.tolist() == [65]
    refused(": no notes in track 3; those with notes: 1 (without a name), 2 (Alt)", path, track_3)


def track_3(path):
    return read_melody(path, track=3)


def test_drums_alone_are_no_melody(file):
    refused(": only drums: all notes are on channel 10", saved(file, note(0, STEP, 40, channel=9)), read_melody)


@pytest.mark.parametrize(
    ("names", "others"),
    [
        (("Sopran", "Alt", "Tenor", "Bass"), ("Klavier",)),
        (("S", "A", "T", "B"), ("Piano", "Drums")),
        (("Soprano 1", "Contralto", "Tenore", "Basso"), ("Organo",)),
        (("SOPRANO I", "Altus", "tenor.", "Bassus"), ()),
    ],
)
def test_voices_are_known_by_the_names_that_choirs_write(file, names, others):
    lines = four(*note(0, 16 * STEP, 72))
    tracks = [named(name, *line) for name, line in zip(names, lines, strict=True)]
    beside = [named(name, *note(0, 16 * STEP, 90, channel=9 if name == "Drums" else 5)) for name in others]
    found = read(saved(file, *beside, *reversed(tracks)))
    assert found.piece.notes[0].tolist() == [72, 60, 55, 48]
    assert found.said == tuple(f"left out: track {name}" for name in others)


def test_a_hymn_in_two_tracks_has_four_voices(file):
    """Two notes at once, then one that both sing, then one that begins below another that is held."""
    high = [*note(0, 4 * STEP, 72), *note(0, 4 * STEP, 67), *note(4 * STEP, 8 * STEP, 69)]
    high += [*note(8 * STEP, 16 * STEP, 72), *note(8 * STEP, 12 * STEP, 67), *note(12 * STEP, 16 * STEP, 65)]
    low = [*note(0, 16 * STEP, 55), *note(0, 16 * STEP, 48)]
    found = read(saved(file, low, high))
    assert found.piece.notes[::4].tolist() == [[72, 67, 55, 48], [69, 69, 55, 48], [72, 67, 55, 48], [72, 65, 55, 48]]
    assert len(found.said) == 1 and "the upper voice sings the higher" in found.said[0]

    three = [message for pitch in (76, 72, 67) for message in note(4 * STEP, 8 * STEP, pitch)]
    refused(
        ": quarter 2: more than two notes at once", saved(file, low, [*note(0, STEP, 70), *note(0, STEP, 65), *three])
    )
    refused(": 4 voices are needed; it has 2 tracks with notes", saved(file, note(0, STEP, 70), note(0, STEP, 50)))


def test_silence_after_the_bar_of_the_last_note_is_no_music(file):
    tracks = four(*note(0, 16 * STEP, 72))
    found = read(saved(file, [*tracks[0], ("end_of_track", 96 * STEP, {})], *tracks[1:]))
    assert len(found.piece.notes) == 16
    assert found.said == ("80 sixteenths of silence after the last bar: left out",)


def test_key_and_tempo_of_a_melody_are_its_own(file):
    head = [("key_signature", 0, {"key": "Cb"}), ("set_tempo", 0, {"tempo": 600_000})]
    found = read_melody(saved(file, head, note(0, STEP, 71)))
    assert (found.key, found.bpm) == (Key(-7, minor=False), 100)
    assert read_melody(file, 2).key == Key(-5, minor=False)
    assert (read_melody(saved(file, note(0, STEP, 71))).key, read_melody(file).bpm) == (None, None)


@pytest.mark.parametrize(
    ("fifths", "semitones", "expected"), [(0, 7, 1), (0, 5, -1), (1, 12, 1), (6, 1, 1), (-7, -12, -7)]
)
def test_a_key_is_transposed_round_the_circle_of_fifths(fifths, semitones, expected):
    assert Key(fifths, minor=True).transposed(semitones) == Key(expected, minor=True)


def test_a_melody_out_of_range_is_moved_by_octaves(file):
    path = saved(file, [*note(0, STEP, 91), *note(STEP, 2 * STEP, 93)])
    refused(": bar 1, melody: note 91 is out of range; notes go from 36 to 81 (--transpose auto", path, read_melody)
    found = read_melody(path, "auto")
    assert found.notes.tolist() == [79, 81] and found.said == ("transposed by -12 semitones",)
    assert read_melody(path, -20).notes.tolist() == [71, 73]

    low = read_melody(saved(file, note(0, STEP, 48)))
    assert low.notes.tolist() == [48] and "low for a soprano" in low.said[0]
    assert read_melody(file, "auto").notes.tolist() == [60]
    whole = saved(
        file,
        *(
            [(kind, tick, fields | {"note": fields["note"] + 24}) for kind, tick, fields in line]
            for line in four(*note(0, 16 * STEP, 72))
        ),
    )
    assert read(whole, "auto").piece.notes[0].tolist() == [72, 60, 55, 48]


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (b"XFIH\x00\x00\x00\x02ab", "left out: a part of the kind 'XFIH'"),
        (b"", "left out: a key signature of 9 sharps and mode 0"),
        (None, "values above 127 taken as 127"),
    ],
)
def test_what_a_reader_must_skip_is_skipped_and_said(file, extra, said):
    """An unknown chunk, which the format tells readers to ignore; a key of nine sharps; a velocity of 200."""
    key = b"\x00\xff\x59\x02\x09\x00" if extra == b"" else b""
    velocity = b"\xc8" if extra is None else b"\x40"
    body = key + b"\x00\x90\x47" + velocity + b"\x83\x60\x80\x47\x00\x00\xff\x2f\x00"
    file.write_bytes(header() + (extra or b"") + chunk(body))
    found = read_melody(file)
    assert found.notes.tolist() == [71] * 4 and found.said == (said,)


@pytest.mark.parametrize(
    ("beats", "unit", "units"), [(6, 8, ((12, 8),)), (3, 4, ()), (12, 8, ((24, 8),)), (6, 4, ((24, 4),)), (3, 2, ())]
)
def test_a_metre_is_its_beats_and_their_unit(file, beats, unit, units):
    metre = [("time_signature", 0, {"numerator": beats, "denominator": unit})]
    length = 16 * beats // unit * STEP
    found = read(saved(file, metre, *four(*note(0, length, 72)))).piece
    assert found.units == units == read_melody(file).units
    written = mido.MidiFile(file=io.BytesIO(midi(found)))
    (again,) = [message for message in written.tracks[0] if message.type == "time_signature"]
    assert (again.numerator, again.denominator) == (beats, unit)


def test_a_unit_that_is_no_note_value_is_none():
    assert units_of([(3, 3), (6, 8), (512, 512)]) == ((12, 8),)


def test_a_lost_note_off_leaves_the_note_to_the_next_message_of_its_pitch(file):
    """60 is struck and not released, struck again and released; legato before that keeps its ends."""
    lost = [*note(8 * STEP, 99, 60)[:1], *note(12 * STEP, 16 * STEP, 60), *note(16 * STEP, 20 * STEP, 62)]
    found = read_melody(saved(file, lost))
    assert found.notes.tolist() == [0] * 8 + [60] * 8 + [62] * 4
    assert np.flatnonzero(found.onsets).tolist() == [8, 12, 16]
    assert found.said == ("1 note without an end: ended by the next message of its pitch",)

    legato = [*note(0, 5 * STEP, 60), *note(4 * STEP, 8 * STEP, 60)]
    found = read_melody(saved(file, sorted([*legato, *lost], key=lambda message: message[1])))
    assert found.notes.tolist() == [60] * 16 + [62] * 4
    assert np.flatnonzero(found.onsets).tolist() == [0, 4, 8, 12, 16]


def test_a_doubled_note_is_one_and_a_hymns_unison_is_two_voices(file):
    doubled = [*note(0, 2 * STEP, 60), *note(0, 4 * STEP, 60), *note(4 * STEP, 8 * STEP, 62)]
    found = read_melody(saved(file, note(0, 8 * STEP, 50), doubled))
    assert found.notes.tolist() == [60] * 4 + [62] * 4
    assert found.said[1:] == ("1 note doubled within a voice: left out",)

    high = [
        *note(0, 4 * STEP, 72),
        *note(0, 4 * STEP, 67),
        *note(4 * STEP, 8 * STEP, 69),
        *note(4 * STEP, 8 * STEP, 69),
    ]
    low = [*note(0, 8 * STEP, 55), *note(0, 8 * STEP, 48)]
    hymn = read(saved(file, high, low))
    assert hymn.piece.notes[4].tolist() == [69, 69, 55, 48] and len(hymn.said) == 1


@pytest.mark.parametrize("charset", ["utf-8", "latin1"])
def test_names_of_tracks_are_utf_8_or_latin_1(file, charset):
    made = mido.MidiFile(charset=charset)
    for place, name in enumerate(("Sopran", "Alt", "Ténor", "Baß", "Orgel")):
        track = [mido.MetaMessage("track_name", name=name), *sounding(72 - 7 * place)]
        made.tracks.append(mido.MidiTrack(track))
    made.tracks[3][0] = mido.MetaMessage("track_name", name="Bass")
    made.save(file)
    assert read(file).said == ("left out: track Orgel",)


def sounding(pitch):
    return [mido.Message("note_on", note=pitch), mido.Message("note_off", note=pitch, time=4 * TICKS)]


def test_what_is_left_out_is_said_once(file):
    body = b"\x00\xff\x59\x02\x09\x00" * 3 + b"\x00\x90\x47\x40\x83\x60\x80\x47\x00\x00\xff\x2f\x00"
    kinds = b"".join(b"X%03d" % number + bytes(4) for number in range(9)) + b"\x01'\\x" + bytes(4)
    file.write_bytes(header() + b"\x01'\\x" + bytes(4) + kinds + chunk(body) + bytes(4000))
    assert read_melody(file).said == (
        f"left out: a part of the kind {chr(1) + chr(39) + chr(92) + 'x'!r}",
        "left out: a part of the kind 'X000'",
        "left out: a part of the kind 'X001'",
        "left out: 7 other kinds of parts",
        "left out: a key signature of 9 sharps and mode 0",
    )


def test_a_long_name_is_read_at_once():
    started = time.monotonic()
    assert voice_names.voice_of("." * 490_000 + "x") is None and voice_names.likeness("." * 490_000 + "x") == 0
    assert voice_names.voice_of("Soprano 1") == "soprano"
    assert time.monotonic() - started < 1


def test_a_tempo_after_the_start_is_a_change(file):
    later = [("set_tempo", 4 * STEP, {"tempo": 600_000})]
    assert read_melody(saved(file, later, note(0, 8 * STEP, 71))).bpm is None
    assert read_melody(saved(file, [("set_tempo", 0, {"tempo": 500_000}), *later], note(0, 8 * STEP, 71))).bpm == 120
