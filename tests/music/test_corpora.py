"""Scores onto the grid: small ones written by hand, and the corpus of an installed music21 held against music21."""

import csv
import gc
import importlib.util
import math
import os
import subprocess
import sys
import warnings
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from bach import ARCHIVE
from hypothesis import given
from hypothesis import strategies as st
from scores import attributes, compressed, note, score

from jaxseq.common.errors import UsageError
from jaxseq.music.corpora import music21_corpus
from jaxseq.music.corpora.chorales import NEAR_DUPLICATES, Chorales, literature, with_repeats
from jaxseq.music.corpora.jsb import Jsb
from jaxseq.music.corpora.measures import played
from jaxseq.music.corpora.musicxml import read_chorale
from jaxseq.music.corpora.near_duplicates import TWIN, assign, likeness

MAP = ARCHIVE.parent / "bwv_split_map.csv"
with_map = pytest.mark.skipif(not MAP.exists(), reason=f"needs {MAP}")
FOUR = attributes()
FULL = FOUR + note("C4", 16)


def read(content, name="piece", source="my.xml"):
    return read_chorale(content, name, source)


def soprano(*bars, **options):
    return read(score(list(bars), **options)).piece


def refusal(content):
    with pytest.raises(UsageError) as caught:
        read(content)
    assert "\n" not in str(caught.value)
    return str(caught.value)


PROGRAM = """
import sys, time
from jaxseq.music.corpora.chorales import Chorales
times = []
for _ in range(3):
    begun = time.perf_counter()
    Chorales().load()
    times.append(time.perf_counter() - begun)
assert "music21" not in sys.modules
print(times[0], min(times[1:]))
"""


@pytest.fixture(scope="module")
def seconds(tmp_path_factory):
    """How long another process takes to load the corpus, for the first time and again; its cache is this module's."""
    if importlib.util.find_spec("music21") is None:
        pytest.skip("needs music21 for its corpus")
    folder = tmp_path_factory.mktemp("cache")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "JAXSEQ_CACHE": str(folder)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXSEQ_CACHE", str(folder))
        yield tuple(map(float, done.stdout.split()))


@pytest.fixture(scope="module")
def chorales(seconds):
    """{name: Chorale} of the corpus of music21."""
    return {chorale.piece.name: chorale for chorale in music21_corpus.load(None, literature()).chorales}


# notes


def test_four_voices_stand_in_four_columns():
    content = score([FULL], [FOUR + note("A3", 16)], [FOUR + note("F#3", 16)], [FOUR + note("Bb2", 8) + note(None, 8)])
    piece = read(content).piece
    assert piece.notes[[0, 15]].tolist() == [[60, 57, 54, 46], [60, 57, 54, 0]]
    assert piece.onsets.nonzero()[0].tolist() == [0, 0, 0, 0]
    assert piece.name == "piece"


def test_a_tied_note_is_held_and_a_repeated_one_struck_again():
    start, stop = '<tie type="start"/>', '<tie type="stop"/>'
    piece = soprano(FOUR + note("C4", 12, start) + note("C4", 4, stop + start), note("C4", 4, stop) + note("C4", 12))
    assert piece.onsets[:, 0].nonzero()[0].tolist() == [0, 20]
    assert set(piece.notes[:, 0]) == {60}


@pytest.mark.parametrize("before", ["D4", None])
def test_the_end_of_a_tie_that_begins_nowhere_is_struck(before):
    piece = soprano(FOUR + note(before, 4) + note("C4", 12, '<tie type="stop"/>'))
    assert piece.onsets[:, 0].nonzero()[0].tolist() == ([4] if before is None else [0, 4])


def test_divisions_of_a_quarter_may_change_and_need_not_be_whole():
    piece = soprano(
        attributes(divisions=1) + note("C4", 2) + "<attributes><divisions>0.5</divisions></attributes>" + note("D4", 1),
        "<attributes><divisions>480</divisions></attributes>" + note("E4", 360) + note("F4", 1560),
    )
    assert piece.notes[:, 0].tolist() == [60] * 8 + [62] * 8 + [64] * 3 + [65] * 13


def test_a_triplet_sounds_where_it_sounds_at_the_beginning_of_a_sixteenth():
    # three thirds of a quarter: from 0, from 4/3 and from 8/3 of a sixteenth
    piece = soprano(attributes(divisions=12) + note("C4", 4) + note("D4", 4) + note("E4", 4) + note("F4", 36))
    assert piece.notes[:5, 0].tolist() == [60, 60, 62, 64, 65]
    assert piece.onsets[:6, 0].tolist() == [True, False, True, True, True, False]


def test_a_note_between_two_sixteenths_is_lost():
    piece = soprano(attributes(divisions=8) + note("C4", 1) + note("D4", 1) + note("E4", 30))
    assert piece.notes[:2, 0].tolist() == [60, 64]


def test_a_grace_note_takes_no_time_and_is_left_out():
    grace = "<note><grace/><pitch><step>B</step><octave>4</octave></pitch></note>"
    assert soprano(FOUR + note("C4", 8) + grace + note("D4", 8)).notes[:, 0].tolist() == [60] * 8 + [62] * 8


def test_of_a_chord_the_highest_note_is_taken():
    piece = soprano(
        FOUR + note("C4", 8) + note("E4", 8, before="<chord/>") + note("A3", 8, before="<chord/>") + note("D4", 8)
    )
    assert piece.notes[:, 0].tolist() == [64] * 8 + [62] * 8


def test_of_two_voices_in_a_part_the_first_is_taken():
    first, second = "<voice>1</voice>", "<voice>2</voice>"
    back = "<backup><duration>16</duration></backup>"
    piece = soprano(FOUR + note("C4", 16, first) + back + note("G4", 8, second) + note("A4", 8, second))
    assert set(piece.notes[:, 0]) == {60}


def test_a_gap_and_a_cue_are_rests():
    gap = "<forward><duration>4</duration></forward>"
    piece = soprano(FOUR + note("C4", 4) + gap + note("D4", 4, before="<cue/>") + note("E4", 4))
    assert piece.notes[:, 0].tolist() == [60] * 4 + [0] * 8 + [64] * 4
    assert piece.onsets[:, 0].nonzero()[0].tolist() == [0, 12]


def test_an_instrument_that_transposes_is_written_as_it_sounds():
    clarinet = "<transpose><chromatic>-2</chromatic><octave-change>1</octave-change></transpose>"
    assert soprano(attributes(more=clarinet) + note("C4", 16)).notes[0].tolist() == [70] * 4


def test_a_bar_of_rests_without_a_type_is_silent():
    piece = soprano(FOUR + '<note><rest measure="yes"/><duration>16</duration></note>')
    assert not piece.notes.any()
    assert not piece.onsets.any()


# parts


def test_instruments_are_left_out_and_of_two_sopranos_the_first_is_taken():
    others = [("Trumpet 1", [FOUR + note("C6", 16)]), ("Soprano 1", [FOUR + note("G4", 16)])]
    names = ("Soprano 2", "Alto\rViola", "tenor", "BASS  Continuo")
    assert soprano(FULL, others=others, names=names).notes[0].tolist() == [67, 60, 60, 60]


def test_a_piano_piece_is_no_chorale():
    assert read(score([FULL], names=("Piano", "Piano", "Tenor", "Bass"))) is None


def test_a_bar_is_as_long_as_the_longest_voice():
    piece = read(score([FOUR + note("C4", 4), note("D4", 16)], [FOUR + note("A3", 16), note("A3", 16)])).piece
    assert piece.notes[:, 0].tolist() == [60] * 4 + [0] * 12 + [62] * 16


# bars, keys, fermatas


def test_an_upbeat_ends_where_its_bar_ends():
    last = "<barline><bar-style>light-heavy</bar-style></barline>"
    piece = soprano(FOUR + note("C4", 4), note("D4", 16), note("E4", 12) + last)
    assert piece.positions.tolist() == [12, 13, 14, 15, *range(16), *range(12)]


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ((16, 12, 4, 16), [*range(16), *range(16), *range(16)]),  # a bar with a repeat in it
        ((16, 4, 12, 16), [*range(16), *range(16), *range(16)]),
        ((16, 4, 16), [*range(16), *range(12, 16), *range(16)]),  # an upbeat within the piece
        ((16, 12, 16), [*range(16), *range(12), *range(16)]),  # a bar that is merely short
        ((16, 16, 4), [*range(16), *range(16), *range(4)]),  # the last
        ((16, 40, 16), [*range(16)] * 3 + [*range(8)] + [*range(16)]),  # too long
    ],
)
def test_short_bars_are_upbeats_or_complete_each_other(lengths, expected):
    first, *others = lengths
    assert soprano(FOUR + note("C4", first), *(note("D4", length) for length in others)).positions.tolist() == expected


@pytest.mark.parametrize(
    ("beats", "unit", "length", "units"),
    [(3, 4, 12, ()), (6, 8, 12, ((12, 8),)), (3, 2, 24, ()), ("3+2", 8, 10, ()), (2, 2, 16, ((16, 2),))],
)
def test_positions_and_units_follow_the_metre(beats, unit, length, units):
    piece = soprano(attributes(beats=beats, unit=unit) + note("C4", length), note("D4", length))
    assert piece.positions.tolist() == [*range(length)] * 2
    assert piece.units == units


def test_positions_follow_a_change_of_metre():
    piece = soprano(
        FULL, "<attributes><time><beats>3</beats><beat-type>4</beat-type></time></attributes>" + note("C4", 12)
    )
    assert piece.positions.tolist() == [*range(16), *range(12)]


@pytest.mark.parametrize(("mode", "minor"), [("major", False), ("minor", True), ("dorian", None)])
def test_the_key_is_that_of_the_first_signature(mode, minor):
    later = "<attributes><key><fifths>5</fifths></key></attributes>"
    piece = soprano(attributes(fifths=-3, mode=mode) + note("C4", 16), later + note("C4", 16))
    assert (piece.fifths, piece.minor) == (-3, minor)


def test_without_a_signature_there_is_no_key():
    piece = soprano("<attributes><divisions>4</divisions></attributes>" + note("C4", 10))
    assert (piece.fifths, piece.minor) == (None, None)
    assert piece.positions.tolist() == [*range(10)]


def test_a_fermata_holds_for_the_whole_of_the_sopranos_note():
    held = "<notations><fermata/></notations>"
    alto = [FOUR + note("C4", 16, held)]
    piece = read(score([FOUR + note("C4", 8) + note("D4", 4, held) + note("E4", 4)], alto)).piece
    assert piece.fermatas.nonzero()[0].tolist() == [8, 9, 10, 11]


# repeats


def repeat(direction="backward", location="right"):
    return f'<barline location="{location}"><repeat direction="{direction}"/></barline>'


def ending(number, kind, more=""):
    return f'<barline><ending number="{number}" type="{kind}"/>{more}</barline>'


@pytest.mark.parametrize(
    ("marks", "order"),
    [
        ("- - -", [0, 1, 2]),
        ("- B - -", [0, 1, 0, 1, 2, 3]),
        ("- FB -", [0, 1, 1, 2]),
        ("B B", [0, 0, 1, 1]),
        ("F B F B -", [0, 1, 0, 1, 2, 3, 2, 3, 4]),
        ("- B - F B", [0, 1, 0, 1, 2, 3, 4, 3, 4]),
        ("F 1B 2 -", [0, 1, 0, 2, 3]),
        ("F 1 .B 2 . -", [0, 1, 2, 0, 3, 4, 5]),
        ("F 1B 2 B", [0, 1, 0, 2, 3, 3]),
        ("3 3", [0, 1]),
    ],
)
def test_what_stands_before_a_backward_repeat_is_played_twice(marks, order):
    # F forward, B backward, 1 2 3 the ending that begins here and ends before the next, or after a dot
    words = marks.split()
    bars = []
    for word, after in zip(words, [*words[1:], "-"], strict=True):
        here = {"forward"} if "F" in word else set()
        here |= {"backward"} if "B" in word else set()
        here |= {f"begin {digit}" for digit in word if digit.isdigit()}
        here |= {"end"} if (word[0].isdigit() or word[0] == ".") and after[0] != "." else set()
        bars.append(frozenset(here))
    assert played(bars) == order


def test_repeats_and_endings_are_read_from_the_bar_lines():
    chorale = read(
        score(
            [
                FOUR + repeat("forward", "left") + note("C4", 16),
                ending(1, "start") + note("D4", 16) + ending(1, "stop", '<repeat direction="backward"/>'),
                ending(2, "start") + note("E4", 16) + ending(2, "discontinue"),
                note("F4", 16),
            ]
        )
    )
    assert chorale.piece.notes[::16, 0].tolist() == [60, 62, 64, 65]
    piece = with_repeats(chorale)
    assert piece.notes[::16, 0].tolist() == [60, 62, 60, 64, 65]
    assert len(piece.onsets) == len(piece.positions) == len(piece.fermatas) == 80


def test_a_note_is_struck_where_a_repeat_leaps_to_it():
    tie = note("C4", 16, '<tie type="start"/>')
    chorale = read(
        score([FOUR + tie, repeat("forward", "left") + note("C4", 8, '<tie type="stop"/>') + note("D4", 8) + repeat()])
    )
    assert chorale.piece.onsets[:, 0].nonzero()[0].tolist() == [0, 24]
    assert with_repeats(chorale).onsets[:, 0].nonzero()[0].tolist() == [0, 24, 32, 40]


@given(st.lists(st.sets(st.sampled_from(["forward", "backward", "begin 1", "begin 2", "end"])), max_size=12))
def test_any_marks_are_played_through_in_finite_time(marks):
    order = played([frozenset(here) for here in marks])
    assert len(order) <= 2 * len(marks)
    assert set(order) <= set(range(len(marks)))
    assert bool(order) == bool(marks)


# what cannot be read


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "my.xml is no XML, or is damaged (no element found"),
        (score([FULL])[:-30], "my.xml is no XML, or is damaged"),
        (score([FULL]).replace(b"score-partwise>", b"score-timewise>"), "is a 'score-timewise': only a score-partwise"),
        (score([FULL]).replace(b"UTF-8", b"cp037"), "my.xml is in the encoding 'cp037': UTF-8 or UTF-16 is read"),
        (score([FULL]).replace(b"Soprano", b"Sopr\xe4no"), "is no utf-8: the file is damaged"),
        (score([note("C4", 16)]), "my.xml: soprano, bar 1: a duration comes before the part says its divisions"),
        (score([attributes(divisions=0) + note("C4", 16)]), "a duration comes before the part says its divisions"),
        (score([attributes(divisions=-4)]), "soprano, bar 1: divisions is '-4'; it must be a number from 0"),
        (score([FULL, note("C4", "1e999999999")]), "soprano, bar 2: duration is '1e999999999'; it must be a number"),
        (score([FULL, note("C4", "1/3")]), "duration is '1/3'"),
        (score([FULL], [FOUR + note("H4", 16)]), "alto, bar 1: a pitch has step 'H' and octave 4; A4 has A and 4"),
        (score([FOUR + note("C4", 16).replace("<octave>4</octave>", "")]), "has step 'C' and octave None"),
        (score([FOUR + note("C4", 16).replace(">4<", ">99<")]), "a note is MIDI number 1200; they go from 1 to 127"),
        (score([FOUR + note("C#4", 16).replace(">1<", ">0.5<")]), "alter is '0.5'; it must be a whole number"),
        (score([attributes(fifths="x") + note("C4", 16)]), "fifths is 'x'; it must be a whole number"),
        (score([attributes(unit=0)]), "a time signature must be whole beats of a whole note's part"),
        (score([attributes(beats="x")]), "a time signature must be whole beats"),
        (score([FOUR + "<backup><duration>1</duration></backup>"]), "a backup leads to before the bar's beginning"),
        (
            score([FULL], [FULL, FULL]),
            "my.xml: the voices have different numbers of bars (1 in the soprano, 2 in the alto",
        ),
        (score([attributes(divisions=3) + note("C4", 5)]), "bar 1 lasts 6.66667 sixteenths; it must be a whole number"),
        (score([FOUR]), "my.xml has 0 sixteenths; 1 to 100,000 are read"),
        (score([]), "my.xml has 0 sixteenths"),
        (score([FOUR + note("C4", 999_999_999)]), "my.xml has 999,999,999 sixteenths; 1 to 100,000 are read"),
        (score([FOUR + note("C4", 60_000) + repeat()]), "more than 100,000 sixteenths with its repeats"),
    ],
)
def test_a_score_that_cannot_be_read_is_refused_by_voice_and_bar(content, said):
    assert said in refusal(content)


LAUGHS = '<!DOCTYPE s [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig"])
@pytest.mark.parametrize("head", [LAUGHS, LAUGHS.lower().replace("entity", "ENTITY"), '<!DOCTYPE s SYSTEM "x" [ ]>'])
def test_entities_are_refused_in_every_encoding_before_they_grow(head, encoding):
    message = refusal(score([FULL], head=head).decode().encode(encoding))
    assert message == "my.xml declares entities or a document type of its own: such XML is refused"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "latin-1"])
def test_other_encodings_are_read(encoding):
    declared = "ISO-8859-1" if encoding == "latin-1" else "UTF-8"
    content = score([FULL]).decode().replace("UTF-8", declared).replace("score-partwise>", "score-partwise><!--ä-->", 1)
    assert read(content.encode(encoding)).piece.notes[0].tolist() == [60] * 4


def test_a_compressed_score_is_the_same():
    plain, packed = (read(content).piece for content in (score([FULL]), compressed(score([FULL]), "a/b.musicxml")))
    np.testing.assert_array_equal(plain.notes, packed.notes)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (compressed(score([FULL]))[:-40], "my.xml is no zip archive, or is damaged"),
        (compressed(score([FULL]), named="other.xml"), "META-INF/container.xml names no score that is in the archive"),
        (compressed(score([FULL]), "../score.xml"), "member '../score.xml' points outside of the archive"),
        (compressed(bytes(17 * 2**20)), "my.xml unpacks to more than 16,777,216 bytes, the most that is read"),
        (compressed(b"").replace(b"META-INF", b"META-OUT"), "my.xml has no META-INF/container.xml"),
    ],
)
def test_an_archive_that_cannot_be_read_is_refused(content, said):
    assert said in refusal(content)


@given(st.binary(max_size=60), st.integers(0, 10**6), st.integers(0, 200), st.booleans())
def test_damage_anywhere_is_a_usage_error_or_a_right_reading(noise, place, cut, packed):
    sound = score([FULL, note("D4", 12) + repeat(), note("E4", 4)])
    sound = compressed(sound) if packed else sound
    place %= len(sound)
    for content in (noise, sound[:place] + noise + sound[place + cut :]):
        try:
            chorale = read(content)
        except UsageError as error:
            assert "\n" not in str(error)
        else:
            assert chorale is None or ((chorale.piece.notes >= 0) & (chorale.piece.notes <= 127)).all()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["duration", "divisions", "beats", "beat-type", "fifths", "octave", "alter", "step"]),
            st.text("0123456789.-+/eECx ٣\n", max_size=6),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_any_number_in_a_score_is_a_usage_error_or_read(changes):
    content = score([FULL, note("D#4", 12)]).decode()
    for tag, text in changes:
        content = content.replace(f"<{tag}>", f"<{tag}>{text}", 1)
    try:
        read(content.encode())
    except UsageError as error:
        assert "\n" not in str(error)


# folders, wheels and the cache


def folder(place, **pieces):
    place.mkdir(parents=True, exist_ok=True)
    for name, content in pieces.items():
        (place / f"{name}.mxl").write_bytes(compressed(content))
    return place


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSEQ_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def same(piece, other):
    assert (piece.name, piece.fifths, piece.minor) == (other.name, other.fifths, other.minor)
    for one, two in zip(piece[1:5], other[1:5], strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("within", ["", "bach", "corpus/bach", "music21/corpus/bach"])
def test_a_folder_of_scores_is_found_at_every_height(tmp_path, cache, within):
    folder(tmp_path / "scores" / within, bwv1=score([FULL]), piano=score([FULL], names=("Piano", "A", "B", "C")))
    splits = Chorales(str(tmp_path / "scores")).load()
    assert [piece.name for piece in splits.train] == ["bwv1"]
    assert splits.valid == splits.test == ()


def test_a_wheel_is_read_without_being_unpacked(tmp_path, cache):
    with zipfile.ZipFile(tmp_path / "m.whl", "w") as wheel:
        wheel.writestr("music21/corpus/bach/bwv1.mxl", compressed(score([FULL])))
        wheel.writestr("music21/corpus/haydn/opus1.mxl", b"no score")
        wheel.writestr("music21/corpus/bach/bwv2.krn", b"not read")
    assert [piece.name for piece in Chorales(str(tmp_path / "m.whl")).load().train] == ["bwv1"]
    with zipfile.ZipFile(tmp_path / "empty.whl", "w") as wheel:
        wheel.writestr("music21/corpus/haydn/opus1.mxl", b"no score")
    with pytest.raises(UsageError, match="has no scores of Bach's chorales"):
        Chorales(str(tmp_path / "empty.whl")).load()


def test_what_was_read_is_kept_and_the_same(tmp_path, cache, monkeypatch):
    held = "<notations><fermata/></notations>"
    content = score([attributes(fifths=-2, mode="minor") + note("C4", 4), note("D4", 16, held) + repeat()])
    bare = score(["<attributes><divisions>4</divisions></attributes>" + note("C4", 8)])
    recipe = Chorales(str(folder(tmp_path / "scores", bwv1=content, bwv2=bare)), repeats=True)
    first = recipe.load()
    monkeypatch.setattr(music21_corpus, "read_chorale", None)  # would fail
    for piece, other in zip(first.train, recipe.load().train, strict=True):
        same(piece, other)
    assert [len(piece.notes) for piece in first.train] == [40, 8]
    assert len(list(cache.iterdir())) == 1


def test_a_changed_score_is_read_again(tmp_path, cache):
    recipe = Chorales(str(folder(tmp_path / "scores", bwv1=score([FULL]))))
    assert recipe.load().train[0].notes[0, 0] == 60
    folder(tmp_path / "scores", bwv1=score([FOUR + note("D4", 16)]))
    assert recipe.load().train[0].notes[0, 0] == 62


def test_damage_anywhere_in_the_cache_is_seen_and_mended(tmp_path, cache):
    recipe = Chorales(str(folder(tmp_path / "scores", bwv1=score([FULL]), bwv2=score([FULL, note("D4", 16)]))))
    first = recipe.load()
    (file,) = cache.iterdir()
    sound = file.read_bytes()
    for content in [b"", sound[:-9], *(flipped(sound, place) for place in range(3, len(sound), 61))]:
        file.write_bytes(content)
        for piece, other in zip(first.train, recipe.load().train, strict=True):
            same(piece, other)


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 0x11]) + content[place + 1 :]


def test_a_cache_that_cannot_be_written_is_said_and_nothing_more(tmp_path, cache):
    cache.write_bytes(b"a file, not a folder")
    recipe = Chorales(str(folder(tmp_path / "scores", bwv1=score([FULL]))))
    assert len(recipe.load().train) == 1
    notes = recipe.notes()
    assert notes[0] == "1 chorale, 0 of them in the literature's set"
    assert notes[1] == "374 of the literature's set are missing, the first is bwv1.6"
    assert "cannot be written" in notes[2]


def test_without_music21_it_is_said_what_to_do(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UsageError, match=r"music21 is not installed: install music21, .* or give its wheel or folder by --data.path"
    ):
        Chorales().load()


@pytest.mark.parametrize(
    ("path", "said"),
    [("none", "none does not exist: give music21's wheel"), ("empty", "has no scores (.mxl, .xml, .musicxml)"),
     ("piano", "has no score for soprano, alto, tenor and bass"), ("damaged", "damaged: bwv1.mxl is no XML"),
     ("text", "text is no zip archive, or is damaged")],
)  # fmt: skip
def test_a_path_without_chorales_is_refused_by_its_name(tmp_path, cache, path, said):
    folder(tmp_path / "empty")
    folder(tmp_path / "piano", bwv1=score([FULL], names=("Piano", "A", "B", "C")))
    folder(tmp_path / "damaged", bwv1=b"<score")
    (tmp_path / "text").write_bytes(b"text")
    with pytest.raises(UsageError) as caught:
        Chorales(str(tmp_path / path)).load()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_path_is_refused():
    with pytest.raises(UsageError, match="path is empty"):
        Chorales("  ")


def test_the_collector_of_garbage_is_left_as_it_was(tmp_path, cache):
    for enabled in (True, False):
        (gc.enable if enabled else gc.disable)()
        try:
            with pytest.raises(UsageError):
                music21_corpus.read(music21_corpus.find(str(folder(tmp_path / "damaged", bwv1=b"<score"))), {})
            assert gc.isenabled() == enabled
        finally:
            gc.enable()


# twins


def tune(seed, steps=64):
    return np.random.default_rng(seed).integers(48, 72, (steps // 4, 4)).repeat(4, axis=0)


def test_a_piece_in_another_key_and_shifted_in_time_is_the_same():
    one = tune(0)
    found = likeness([one, one + 5, np.concatenate([one[:8] * 0, one[:32] - 3]), tune(1)], [0])
    assert found.tolist() == [[1, 1, 1, 0]]


def test_silence_is_like_nothing():
    one = tune(0)
    rests = np.zeros_like(one)
    assert likeness([rests, one * 0, one], [0, 2]).tolist() == [[0, 0, 0], [0, 0, 1]]
    assert likeness([np.concatenate([rests, one]), np.concatenate([rests, tune(1)])], [0])[0, 1] < TWIN


def test_likeness_is_the_share_of_equal_steps_of_the_shorter_piece():
    one, other = tune(0), tune(0)
    other[16:32] = tune(2)[16:32]
    assert likeness([one, np.concatenate([other, tune(3)])], [0])[0, 1] == 0.75


def test_a_new_piece_follows_its_twin_and_is_trained_on_without_one():
    pieces = {"known": tune(0), "held": tune(1), "twin": tune(1) + 2, "twin of it": tune(1) - 2, "new": tune(4)}
    parts = assign(pieces, {"known": "train", "held": "test"})
    assert parts == {"known": "train", "held": "test", "twin": "test", "twin of it": "test", "new": "train"}


def test_a_twin_of_two_parts_goes_where_it_is_not_trained_on():
    pieces = {"a": tune(0), "b": tune(0) + 1, "new": tune(0) + 2}
    for parts, expected in [(("train", "valid"), "valid"), (("valid", "test"), "test"), (("train", "test"), "test")]:
        assert assign(pieces, dict(zip("ab", parts, strict=True)))["new"] == expected


def test_a_twin_of_a_twin_that_is_only_half_like_follows_too():
    one, two = tune(0), tune(0)
    two[32:] = tune(5)[32:]
    three = two.copy()
    three[:32] = tune(6)[:32]
    assert likeness([one, two, three], [0])[0, 2] < TWIN
    assert assign({"three": three, "two": two, "one": one}, {"one": "test"})["three"] == "test"


# the corpus of music21


def test_the_corpus_has_409_chorales_of_which_374_are_the_literatures(chorales):
    splits = Chorales().load()
    assert [len(part) for part in splits] == [255, 73, 81]
    assert len(chorales) == 409
    assert len(literature()) == len(literature().keys() & chorales.keys()) == 374
    assert Chorales().notes()[0] == "409 chorales, 374 of them in the literature's set"
    assert chorales["bwv248.23-2"].piece.units == ((24, 8),), "it is in 12/8"


def test_pieces_of_the_literature_stay_in_its_parts_and_their_twins_with_them(chorales):
    parts = {piece.name: part for part, pieces in Chorales().load()._asdict().items() for piece in pieces}
    assert {name: parts[name] for name in literature()} == literature()
    new = {name: part for name, part in parts.items() if name not in literature() and part != "train"}
    assert new == {
        "bwv112.5-sc": "test",
        "bwv12.7": "test",
        "bwv120.8-a": "test",
        "bwv171.6": "test",
        "bwv324": "valid",
    }


def test_near_duplicates_are_the_twins_of_training_pieces_and_all_of_them_the_literatures(chorales):
    splits = Chorales().load()
    train, held = splits.train, splits.valid + splits.test
    found = likeness([piece.notes for piece in train + held], range(len(train), len(train) + len(held)))[
        :, : len(train)
    ]
    twins = [piece.name for piece, row in zip(held, found, strict=True) if (row >= TWIN).any()]
    assert tuple(twins) == NEAR_DUPLICATES
    assert all(name in literature() for name in twins)


@with_map
def test_grids_equal_those_of_the_literature_in_as_many_frames_as_an_independent_count(chorales):
    theirs = {piece.name: piece.notes for part in Jsb(str(ARCHIVE)).load() for piece in part}
    equal = 0
    for row in csv.DictReader(MAP.read_text().splitlines()):
        chorale = chorales[row["music21_file"].rsplit(".", 1)[0]]
        piece = with_repeats(chorale) if row["repeats_expanded"] == "1" else chorale.piece
        ours = np.where(piece.notes > 0, piece.notes + int(row["transposition"]), 0)
        other = theirs[row["geron_csv"].removesuffix(".csv")]
        assert round(best_match(ours, other), 3) == float(row["frame_match"]), row
        assert literature()[piece.name] == row["split"]
        equal += np.array_equal(ours, other)
    assert equal == 26


def best_match(ours, other):
    """The share of equal frames at the shift that suits best."""
    shifts = range(-len(ours) + 1, len(other))
    overlaps = ((ours[max(0, -s) : len(other) - s], other[max(0, s) : len(ours) + s]) for s in shifts)
    most = max(int((one == two).all(axis=1).sum()) for one, two in overlaps)
    return most / max(len(ours), len(other))


HARD = ["bwv253", "bwv299", "bwv315", "bwv8.6", "bwv248.9-1", "bwv227.3", "bwv67.4", "bwv304", "bwv4.8", "bwv324"]


@pytest.mark.slow
@pytest.mark.parametrize("name", HARD)
def test_notes_onsets_fermatas_and_key_are_those_that_music21_reads(name, chorales):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from music21 import converter

        place = Path(importlib.util.find_spec("music21").submodule_search_locations[0], "corpus", "bach")
        (file,) = (file for file in place.glob(f"{name}.*") if file.suffix in (".mxl", ".xml"))
        parsed = converter.parse(file, forceSource=True)
    piece = chorales[name].piece
    notes, onsets, fermatas = np.zeros_like(piece.notes), np.zeros_like(piece.onsets), np.zeros_like(piece.fermatas)
    for voice, part in enumerate(music21_voices(parsed)):
        for element in part.flatten().notes:
            first, last = (
                math.ceil(4 * Fraction(at)) for at in (element.offset, element.offset + element.quarterLength)
            )
            if not element.duration.isGrace and first < last:
                notes[first:last, voice] = max(pitch.midi for pitch in element.pitches)
                onsets[first:last, voice] = False
                onsets[first, voice] = not (element.tie and element.tie.type in ("stop", "continue"))
                if voice == 0:
                    fermatas[first:last] = any("Fermata" in each.classes for each in element.expressions)
    for found, expected in ((piece.notes, notes), (piece.onsets, onsets), (piece.fermatas, fermatas)):
        np.testing.assert_array_equal(found, expected)
    key = next(iter(music21_voices(parsed)[0].flatten().getElementsByClass("KeySignature")))
    assert (piece.fifths, piece.minor) == (key.sharps, getattr(key, "mode", None) == "minor")


def music21_voices(parsed):
    words = [(part.partName.lower().split()[0], part) for part in parsed.parts]
    return [next(part for word, part in words if word == voice) for voice in ("soprano", "alto", "tenor", "bass")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bwv253", "bwv299", "bwv362", "bwv269"])
def test_positions_are_the_beats_that_music21_counts(name, chorales):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from music21 import converter

        place = Path(importlib.util.find_spec("music21").submodule_search_locations[0], "corpus", "bach")
        parsed = converter.parse(place / f"{name}.mxl", forceSource=True)
    piece = chorales[name].piece
    for element in music21_voices(parsed)[3].flatten().notesAndRests:
        if element.offset == int(element.offset):
            assert piece.positions[int(4 * element.offset)] == 4 * (Fraction(element.beat) - 1), element.offset


def test_the_second_load_is_quick_and_music21_is_not_imported(seconds):
    cold, warm = seconds
    assert cold < 60  # 4 s of computing; tests share their cores
    assert warm < 0.1


def test_every_piece_of_the_corpus_is_sound(chorales):
    for chorale in chorales.values():
        piece = chorale.piece
        assert piece.notes.min() >= 0
        assert piece.notes[piece.notes > 0].min() >= 36
        assert piece.notes.max() <= 81
        assert not (piece.onsets & (piece.notes == 0)).any()
        changed = piece.notes[1:] != piece.notes[:-1]
        assert not (changed & (piece.notes[1:] > 0) & ~piece.onsets[1:]).any()
        assert set(np.diff(piece.positions)) <= {1, *range(-23, 0), 4, 8, 12}
        assert piece.positions.max() < 24
        assert set(np.unique(chorale.played)) == set(range(len(piece.notes))) or piece.name == "bwv8.6"
