"""`python -m jaxseq.sample` end to end, on runs that have learnt nothing: what is kept, written and refused."""

import csv
import dataclasses
import io
import json
import math
import os
import shutil
import wave
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from made_up import BARS, chorale
from pairwise import slow_except
from quick_compilation import quick_compilation
from rich.console import Console
from site_modules import site_module
from untrained import untrained

from jaxseq.checkpoint import __main__ as checkpoint
from jaxseq.checkpoint import run_seal
from jaxseq.common import files, lock
from jaxseq.common.arrays import Splits
from jaxseq.common.errors import ABSENT, UsageError
from jaxseq.common.new_folder import NewFolder
from jaxseq.common.written import Outputs
from jaxseq.music import conditions, tokens
from jaxseq.music.cadences import CADENCES, Place
from jaxseq.music.evaluation.ranges import out_of_range, voice_ranges
from jaxseq.music.evaluation.tonality import ends_on_triad
from jaxseq.music.midi import read as midi
from jaxseq.music.midi import read as midi_read
from jaxseq.music.midi import write
from jaxseq.music.notation import musicxml
from jaxseq.music.piece import BAR, BEAT, Piece, Reading, from_notes
from jaxseq.music.sampling import FREE
from jaxseq.music.sampling import weights as leaning
from jaxseq.music.tokens import LOWEST
from jaxseq.music.transposition import SOPRANO, Key
from jaxseq.report import contents
from jaxseq.sample import __main__ as sample
from jaxseq.sample import compose, given, options, report, request, sources, told, usual
from jaxseq.train import experiments
from jaxseq.train.domains.chorales import Composer

pytestmark = pytest.mark.usefixtures("compiled_quickly")


@pytest.fixture(scope="module")
def archive(small_edition: Path) -> Path:
    """An edition of twelve made-up pieces."""
    return small_edition


@pytest.fixture(scope="module")
def run_of(untrained_run: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory):
    """A copy of an untrained run of an experiment, of this process alone: tests write samples into it."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = Path(shutil.copytree(untrained_run(name), tmp_path_factory.mktemp("run") / name))
        return made[name]

    return folder


def composed(run: Path, out: Path, *words: str) -> Path:
    """Compose without composing last bars again, which takes another compiled program."""
    free = () if "--ending" in words else ("--ending", "free")
    return sampled(str(run), "--out", str(out), "--no-score", "--bpm", "400", *free, *words)


def sampled(*words: str) -> Path:
    return sample.sample(options.parse([*words]), Console(file=io.StringIO()))


def read(folder: Path, number: int = 1) -> Piece:
    return midi_read.read(folder / f"sample-{number:02d}.mid").piece


def refused(*words: str) -> UsageError:
    """The error of these words, which is one line."""
    with pytest.raises(UsageError) as raised:
        sampled(*words)
    assert "\n" not in str(raised.value)
    return raised.value


@pytest.fixture(scope="module")
def pieces(run_of, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run of chords composes: two pieces of three bars."""
    out = tmp_path_factory.mktemp("out") / "pieces"
    with quick_compilation():
        return composed(run_of("jsb-chords"), out, "--count", "2", "--bars", str(BARS))


def test_every_piece_has_its_files_and_all_say_the_same(pieces: Path) -> None:
    names = {path.name for path in pieces.iterdir()}
    expected = {f"sample-{n:02d}{end}" for n in (1, 2) for end in (".mid", ".musicxml", ".wav", ".png")}
    assert names == expected | {"samples.json", "coherence.csv", "report.md", "index.html"}
    said = json.loads((pieces / "samples.json").read_text())
    report = (pieces / "report.md").read_text()
    for number, one in enumerate(said["samples"], 1):
        piece = read(pieces, number)
        assert piece.notes.shape == (BARS * BAR, 4)
        assert one["notes_composed"] == piece.notes.size and one["seed"] == 0
        assert set(one["files"]) == {name for name in names if name.startswith(one["name"])}
        assert one["key"] in report and f"[mid]({one['name']}.mid)" in report
        assert -5 < one["log_likelihood_per_note"] < -2  # an untrained network knows next to nothing: log 47 is 3.85
    with wave.open(str(pieces / "sample-01.wav")) as sound:
        assert sound.getnframes() / sound.getframerate() > BARS * 4 * 60 / 400


def test_the_page_plays_every_piece_and_leads_to_its_files(pieces: Path, run_of) -> None:
    page = (pieces / "index.html").read_text()
    root = ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>\n"))
    told = json.loads(root.find(".//script[@id='player-data']").text)
    assert [piece["name"] for piece in told["pieces"]] == ["sample-01", "sample-02"]
    seconds = BARS * 4 * 60 / 400
    for number, shown in enumerate(told["pieces"], 1):
        assert shown["times"][-1] == pytest.approx(seconds) and set(shown["files"]) <= set(os.listdir(pieces))
        notes = read(pieces, number).notes
        for voice, line in enumerate(shown["voices"]):
            assert [notes[start, voice] for start, _, _ in line] == [pitch for _, _, pitch in line]
        assert any(fact.endswith("nats a note") for fact in shown["facts"]) and shown["score"] is None
    command = root.find(".//code[@id='player-command']").text
    assert (
        command == f"python -m jaxseq.sample {run_of('jsb-chords')} --count 2 --bars {BARS} --note-temperature 0.5 "
        "--parallels avoid --ranges keep --key-strength 0.0 --ending free --bpm 400.0 --no-score --epoch 1"
    )
    assert {link.get("href") for link in root.iter("a")} >= {"sample-01.mid", "sample-02.musicxml"}
    assert "http:" not in page.replace("http://www.w3.org/2000/svg", "") and "https:" not in page


def test_the_site_plays_kept_pieces_as_their_own_page_does(pieces: Path, tmp_path: Path) -> None:
    player = site_module("player")
    player.keep(pieces, tmp_path / "kept")
    pages = (pieces / "index.html").read_text(), player.page(tmp_path / "kept")
    roots = [ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>\n")) for page in pages]
    ours, kept = (json.loads(root.find(".//script[@id='player-data']").text) for root in roots)
    for piece in ours["pieces"]:
        piece["files"] = [f"{piece['name']}.mid"]
    assert kept == ours
    assert len({root.find(".//code[@id='player-command']").text for root in roots}) == 1
    linked = {link.get("href") for link in roots[1].iter("a")}
    assert {name for name in linked if not name.startswith("#")} == {"sample-01.mid", "sample-02.mid"}


def test_the_words_of_options_give_the_same_options() -> None:
    words = (
        "run --count 3 --top-k 5 --top-p 0.5 --parallels avoid --prime a;b --transpose auto --no-score --data.path /a/b "
        "--instrument choir --bpm 60 --keep soprano,bass --epoch 4"
    )
    chosen = options.parse(words.split())
    assert options.parse(options.words(chosen)) == chosen
    assert len(options.words(chosen)) == len(words.split())
    assert options.words(options.parse(["run"])) == [str(chosen.run)]


def test_the_table_has_bach_a_5_gram_and_a_frozen_chord_beside_the_samples(pieces: Path) -> None:
    rows = list(csv.DictReader((pieces / "coherence.csv").read_text().splitlines()))
    assert list(rows[0]) == [
        "measure",
        "samples",
        "Bach, test part",
        "Bach, as few: 5 %",
        "95 %",
        "5-gram",
        "frozen chord",
    ]
    by_name = {row["measure"]: row for row in rows}
    assert float(by_name["held-note rate"]["frozen chord"]) == 1
    assert float(by_name["longest frozen run, steps"]["frozen chord"]) == BARS * BAR
    assert by_name["parallel fifths per 100 chord changes"]["frozen chord"] == ""  # no chord ever changes
    assert float(by_name["held-note rate"]["Bach, test part"]) > 0.7 > float(by_name["held-note rate"]["samples"])
    said = json.loads((pieces / "samples.json").read_text())
    assert said["coherence"]["frozen chord"]["parallel_fifths"] is None
    assert said["coherence"]["samples"]["repeated_notes"] is None  # the edition does not tell onsets
    assert said["told_apart"] == {"auc": None, "standard_error": None, "strongest": {}}  # of two pieces
    assert "memorised" in (pieces / "report.md").read_text()


@pytest.mark.parametrize("name", ["sample-01.mid", "coherence.csv", "samples.json"])
@pytest.mark.parametrize("how", ["edited", "gone"])
def test_pieces_that_were_changed_are_reported_and_not_shown(
    pieces: Path, tmp_path: Path, capsys: pytest.CaptureFixture, name: str, how: str
) -> None:
    folder = Path(shutil.copytree(pieces, tmp_path / "pieces"))
    assert checkpoint.main(["verify", str(folder)]) == 0
    assert contents._composed(Outputs(tmp_path, print), folder)

    (folder / name).write_bytes((folder / name).read_bytes().replace(b"0", b"1"))
    if how == "gone":
        (folder / name).unlink()
    capsys.readouterr()
    assert checkpoint.main(["verify", str(folder)]) == 1
    assert str(folder / name) in capsys.readouterr().out
    with pytest.raises(UsageError, match=name):
        contents._composed(Outputs(tmp_path, print), folder)


def test_the_same_seed_is_the_same_music_to_the_byte(pieces: Path, run_of, tmp_path: Path) -> None:
    words = "--count", "2", "--bars", str(BARS)
    again = composed(run_of("jsb-chords"), tmp_path / "again", *words)
    for path in pieces.iterdir():
        if path.name.startswith("sample-"):
            assert path.read_bytes() == (again / path.name).read_bytes()
    other = composed(run_of("jsb-chords"), tmp_path / "other", *words, "--seed", "1")
    assert (read(other).notes != read(pieces).notes).any()


def test_a_sample_does_not_depend_on_their_number(pieces: Path, run_of, tmp_path: Path) -> None:
    """Neither that of pieces, nor, as its first candidate, on that of the candidates."""
    folder = composed(run_of("jsb-chords"), tmp_path / "one", "--count", "1", "--bars", str(BARS))
    np.testing.assert_array_equal(read(folder).notes, read(pieces).notes)
    numbers = compose._numbers(pieces=2, candidates=2)
    assert numbers.tolist() == [0, options.MOST_SAMPLES, 1, 1 + options.MOST_SAMPLES]


@pytest.mark.slow
def test_a_piece_ends_with_a_cadence_in_the_key_and_the_ranges_that_are_asked_for(run_of, tmp_path: Path) -> None:
    words = ("--key", "E major", "--key-strength", "50", "--ending", "cadence", "--ranges", "keep", "--best-of", "2")
    folder = composed(run_of("jsb-chords"), tmp_path / "a", "--count", "2", "--bars", "2", *words)
    ranges = voice_ranges([chorale(seed) for seed in range(8)])
    for number in (1, 2):
        notes = read(folder, number).notes
        assert ends_on_triad(notes) == 1
        assert notes[-1, 3] % 12 == 4
        assert np.isin(notes[notes != 0] % 12, [4, 6, 8, 9, 11, 1, 3]).all()
        assert not out_of_range(notes, ranges)
    said = json.loads((folder / "samples.json").read_text())
    assert said["samples"][0]["notes_composed"] == 2 * BAR * 4
    assert "best of 2" in (folder / "report.md").read_text()


def test_fermatas_count_in_the_longest_piece_that_sounds() -> None:
    held_too_long = from_notes("tune", chorale(0, bars=100))._replace(fermatas=np.ones(1600, bool))
    request._check_length(held_too_long._replace(fermatas=np.zeros(1600, bool)), 50.0)
    with pytest.raises(UsageError) as raised:
        request._check_length(held_too_long, 50.0)
    assert raised.value.where == "--bpm"


@pytest.mark.parametrize(
    "words", [("--note-temperature", "0.5"), ("--ending", "cadence"), ("--cadences", "half", "--fermatas", "1")]
)
def test_a_model_that_fills_gaps_draws_all_steps_at_once(run_of, words: tuple[str, ...]) -> None:
    assert refused(str(run_of("jsb-fill")), *words).where == words[0]


@pytest.mark.parametrize("words", [(), ("--key", "free")])
def test_a_strength_needs_a_key(run_of, words: tuple[str, ...]) -> None:
    assert refused(str(run_of("jsb-chords")), "--key-strength", "1", *words).where == "--key-strength"


@pytest.mark.parametrize(
    "words",
    [
        ("--key", "H major"),
        ("--key", "G# major"),
        ("--key", "G"),
        ("--key-strength", "nan"),
        ("--note-temperature", "0"),
        ("--best-of", "0"),
        ("--cadences", "half"),
        ("--cadences", "half,perfect", "--fermatas", "1,2"),
        ("--cadences", "half", "--fermatas", "1,2"),
        ("--cadences", "half,half,half", "--fermatas", "1,2"),
        ("--fermatas", "1,1", "--cadences", "half,authentic"),
    ],
)
def test_ways_to_draw_that_there_are_not_are_refused(words: tuple[str, ...]) -> None:
    assert refused("run", *words).where == words[0]


def test_cadences_need_a_key(run_of) -> None:
    words = ("--cadences", "half", "--fermatas", "1", "--bars", "2")
    assert refused(str(run_of("jsb-chords")), *words, "--key", "free").where == "--cadences"


def test_a_prime_is_gone_on_with(run_of, tmp_path: Path) -> None:
    folder = composed(run_of("jsb-chords"), tmp_path / "a", "--count", "1", "--bars", "3", "--prime", "chorale_009")
    notes = read(folder).notes
    np.testing.assert_array_equal(notes[: 2 * BAR], chorale(9)[: 2 * BAR])
    assert len(notes) == 3 * BAR
    again = composed(
        run_of("jsb"),
        tmp_path / "b",
        "--count",
        "1",
        "--bars",
        "2",
        "--prime-bars",
        "1",
        "--prime",
        str(folder / "sample-01.mid"),
    )
    np.testing.assert_array_equal(read(again).notes[:BAR], notes[:BAR])
    said = json.loads((again / "samples.json").read_text())
    assert said["samples"][0]["notes_composed"] == BAR * 4


@pytest.mark.slow
def test_a_model_of_windows_begins_with_a_training_piece_s_first_note(run_of, tmp_path: Path) -> None:
    folder = composed(run_of("jsb"), tmp_path / "a", "--count", "8", "--bars", "1")
    firsts = {read(folder, number).notes[0, 0] for number in range(1, 9)}
    assert firsts <= {chorale(seed)[0, 0] for seed in range(8)} and len(firsts) > 1
    assert "knows no first note" in (folder / "report.md").read_text()


@pytest.mark.parametrize("experiment", slow_except({"jsb-chords"}, ["jsb", "jsb-chords", "jsb-fill"]))
def test_a_melody_is_harmonised_as_it_is(run_of, tmp_path: Path, experiment: str) -> None:
    melody = chorale(40)
    melody[4:8, 0] = 0
    piece = from_notes("tune", melody)
    piece.onsets[2, 0] = True  # a repeated note is struck again
    (tmp_path / "tune.mid").write_bytes(write.midi(piece))
    folder = composed(
        run_of(experiment), tmp_path / "a", "--count", "1", "--melody", str(tmp_path / "tune.mid"), "--sweeps", "3"
    )
    found = read(folder)
    np.testing.assert_array_equal(found.notes[:, 0], melody[:, 0])
    np.testing.assert_array_equal(found.onsets[:, 0], piece.onsets[:, 0])
    assert (found.notes[:, 1:] != melody[:, 1:]).any()
    assert "the melody rests for 4 of 48 sixteenths" in (folder / "report.md").read_text()


def test_voices_and_bars_that_are_kept_stay_note_for_note(run_of, tmp_path: Path) -> None:
    fill, piece = run_of("jsb-fill"), chorale(10)
    words = "--prime", "chorale_010", "--count", "2", "--sweeps", "4"
    kept = read(composed(fill, tmp_path / "a", *words, "--keep", "bass,soprano"), 2).notes
    np.testing.assert_array_equal(kept[:, [0, 3]], piece[:, [0, 3]])
    assert (kept[:, 1:3] != piece[:, 1:3]).mean() > 0.5
    redone = read(composed(fill, tmp_path / "b", *words, "--redo", "2"), 2).notes
    np.testing.assert_array_equal(redone[:BAR], piece[:BAR])
    np.testing.assert_array_equal(redone[2 * BAR :], piece[2 * BAR :])
    assert (redone[BAR : 2 * BAR] != piece[BAR : 2 * BAR]).mean() > 0.5
    both = read(composed(fill, tmp_path / "c", *words, "--redo", "bars 2-3", "--keep", "soprano"), 1).notes
    np.testing.assert_array_equal(both[:, 0], piece[:, 0])
    np.testing.assert_array_equal(both[:BAR], piece[:BAR])
    assert (both[BAR:, 1:] != piece[BAR:, 1:]).mean() > 0.5


@pytest.fixture(scope="module")
def moved_run(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained run whose data are no longer there."""
    folder = tmp_path_factory.mktemp("moved")
    shutil.copy(archive, folder / "pieces.tgz")
    run = untrained("jsb-chords", folder / "pieces.tgz", folder / "run")
    (folder / "pieces.tgz").unlink()
    return run


@pytest.mark.slow
def test_a_model_composes_without_its_data(moved_run: Path, tmp_path: Path, archive: Path) -> None:
    screen = io.StringIO()
    words = [str(moved_run), "--out", str(tmp_path / "a"), "--no-score", "--bpm", "400", "--count", "1", "--bars", "1"]
    words += ["--ranges", "free", "--ending", "free"]
    folder = sample.sample(options.parse(words), Console(file=screen, width=1000))
    assert {path.name for path in folder.iterdir()} == {
        *(f"sample-01{end}" for end in (".mid", ".musicxml", ".wav", ".png")),
        *("index.html", "report.md", "samples.json"),
    }
    text = (folder / "report.md").read_text()
    assert "no figures beside Bach's" in screen.getvalue() and "no figures beside Bach's" in text
    assert str(moved_run.with_name("pieces.tgz")) in text and "| sample-01 |" in text and "memorised" not in text
    assert set(json.loads((folder / "samples.json").read_text())["samples"][0]) >= {
        "key",
        "files",
        "log_likelihood_per_note",
    }
    assert checkpoint.main(["verify", str(folder)]) == 0

    # The same pieces as with the data, which decide nothing but the figures.
    known = sampled(*words[:2], str(tmp_path / "b"), *words[3:], "--data.path", str(archive))
    assert (known / "sample-01.mid").read_bytes() == (folder / "sample-01.mid").read_bytes()
    assert (known / "coherence.csv").is_file()


def test_names_of_data_that_are_gone_are_refused(moved_run: Path, tmp_path: Path) -> None:
    for option in ("--prime", "--melody"):
        error = refused(str(moved_run), option, "chorale_009")
        assert (error.where, error.got) == (option, "chorale_009")
        assert "pieces.tgz" in error.rule and "--data.path" in str(error.needed)
    # A path that the user names has to be right.
    assert "none.tgz" in str(refused(str(moved_run), "--data.path", str(tmp_path / "none.tgz")))


def test_first_notes_without_data_lie_in_the_soprano_s_range() -> None:
    notes = compose.first_notes(None, 200, 0) + LOWEST - 1
    assert notes.min() == SOPRANO[0] and notes.max() == SOPRANO[1]


VOICES = "some of soprano, alto, tenor, bass"


@pytest.mark.parametrize(
    ("experiment", "words", "where", "got", "needed"),
    [
        ("jsb-chords", "--prime chorale_9", "--prime", "chorale_9", "a file, or a name such as chorale_009"),
        ("jsb-chords", "--melody tune", "--melody", "tune", "chorale_000"),
        ("jsb-chords", "--prime chorale_009 --prime-bars 4", "--prime-bars", 4, "at most 3, which chorale_009 has"),
        ("jsb-chords", "--prime chorale_009 --prime-bars 2 --bars 2", "--prime-bars", 2, "the 2 bars of --bars"),
        ("jsb-chords", "--prime chorale_009 --keep bass", "--keep", "a run of jsb-chords", "jaxseq.train jsb-fill"),
        ("jsb-chords", "--transpose 5", "--transpose", 5, "a file, named by --prime or --melody"),
        ("jsb-chords", "--redo 2", "--redo", ABSENT, "a piece, named by --prime"),
        ("jsb-chords", "--melody chorale_009 --prime chorale_009", "--melody", "chorale_009", ABSENT),
        ("jsb-chords", "--melody chorale_009 --bars 5", "--bars", 5, "no --bars beside --melody"),
        ("jsb-chords", "--bars 200 --bpm 40", "--bpm", "40", "600 seconds at most"),
        ("jsb-fill", "--parallels avoid", "--parallels", "avoid", "allow"),
        ("jsb-fill", "--prime chorale_009 --keep bass,alto,tenor,soprano", "--keep", "bass,alto,tenor,soprano", VOICES),
        ("jsb-fill", "--prime chorale_009 --keep sopran", "--keep", "sopran", VOICES),
        ("jsb-fill", "--prime chorale_009 --keep ,", "--keep", ",", VOICES),
        ("jsb-fill", "--prime chorale_009 --redo 3-4", "--redo", "3-4", "bars within 1-3"),
        ("jsb-fill", "--prime chorale_009 --redo 3-2", "--redo", "3-2", "2-3"),
        ("jsb-fill", "--prime chorale_009 --redo x", "--redo", "x", "bars such as 5-8"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused(run_of, experiment: str, words: str, where, got, needed) -> None:
    run = run_of(experiment)
    error = refused(str(run), *words.split())
    assert (error.where, error.got) == (where, got)
    assert error.needed is needed or needed in str(error.needed)
    assert not list(run.glob("samples-*"))


@pytest.mark.parametrize(
    ("words", "got", "needed"),
    [
        ("--temperature 0", 0, "a finite number above 0"),
        ("--temperature nan", math.nan, "a finite number above 0"),
        ("--temperature inf", math.inf, "a finite number above 0"),
        ("--top-p 0", 0, "above 0 and at most 1"),
        ("--top-p 1.01", 1.01, "above 0 and at most 1"),
        ("--top-p nan", math.nan, "above 0 and at most 1"),
        ("--top-k 0", 0, "at least 1"),
        ("--count 0", 0, "1 to 1000"),
        ("--bars 0", 0, "1 to 200"),
        ("--upbeat 24", 24, "0 to 23"),
        ("--upbeat -1", -1, "0 to 23"),
        ("--bars 10000", 10_000, "1 to 200"),
        ("--prime-bars 201", 201, "1 to 200"),
        ("--sweeps 0", 0, "1 to 10000"),
        ("--bpm 1", 1, "10 to 1000"),
        ("--bpm nan", math.nan, "10 to 1000"),
        ("--seed -1", -1, f"0 to {2**32 - 1}"),
    ],
)
def test_a_value_out_of_range_is_refused(words: str, got: float, needed: str) -> None:
    error = refused("nowhere", *words.split())
    assert (error.where, error.needed) == (words.split()[0], needed)
    np.testing.assert_equal(error.got, got)


@pytest.mark.parametrize("words", ["--tempo 3", "--count few", "--parallels maybe", ""])
def test_a_mistake_is_one_line_and_status_2(capsys, words: str, tmp_path: Path) -> None:
    assert sample.main([str(tmp_path / "none"), *words.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith("jaxseq.sample: ") and error.count("\n") == 1
    assert (words.split() or ["no run at"])[0] in error


def test_a_run_that_cannot_compose_is_refused(tmp_path: Path) -> None:
    assert "no run at" in refused(str(tmp_path / "none")).rule
    assert refused().needed == "the folder of a run, such as runs/jsb-chords-0001"
    assert "no run at" in refused(str(tmp_path)).rule
    files.write_json(tmp_path / run_seal.CONFIG, experiments.to_config(experiments.named("waves")))
    assert "is a run of waves, which composes nothing" in refused(str(tmp_path)).rule


def test_midi_that_cannot_be_read_is_refused_with_file_bar_and_voice(run_of, tmp_path: Path) -> None:
    high = chorale(0)
    high[20:24, 1] = 90
    (tmp_path / "high.mid").write_bytes(write.midi(from_notes("high", high)))
    run = str(run_of("jsb-chords"))
    assert "bar 2, alto: note 90 is out of range" in str(refused(run, "--prime", str(tmp_path / "high.mid")))

    (tmp_path / "text.mid").write_text("not MIDI")
    for option in ("--prime", "--melody"):
        assert "text.mid" in str(refused(run, option, str(tmp_path / "text.mid")))
        assert "none.mid cannot be read" in str(refused(run, option, str(tmp_path / "none.mid")))


def test_a_folder_that_cannot_be_written_stays_as_it_is(run_of, tmp_path: Path) -> None:
    run = str(run_of("jsb-chords"))
    mine = tmp_path / "mine"
    mine.write_text("x")
    for out in (tmp_path, mine):
        error = refused(run, "--out", str(out))
        assert (error.where, error.got, error.needed) == ("--out", out, "another folder")
    error = refused(run, "--out", str(mine / "a"))
    assert (error.where, error.got) == (mine / "a", mine)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"] and mine.read_text() == "x"


@pytest.mark.slow
def test_without_out_it_is_the_next_number_in_the_run(run_of) -> None:
    words = [str(run_of("jsb-chords")), "--no-score", "--bpm", "400", "--count", "1", "--bars", "1"]
    folders = [sampled(*words) for _ in range(2)]
    assert [folder.name for folder in folders] == ["samples-0001", "samples-0002"]
    for folder in folders:
        shutil.rmtree(folder)


def test_folders_of_killed_processes_are_removed_and_no_others(run_of, tmp_path: Path) -> None:
    destination = NewFolder(run_of("jsb-chords"), "samples", tmp_path / "out")
    killed, living, link = (tmp_path / files.temporary_name("samples") for _ in range(3))
    mine = [tmp_path / name for name in (".samples-abcdefgh", ".samples.old", ".samples.jaxseq-mine")]
    elsewhere = tmp_path / "elsewhere"
    for path in (killed, living, elsewhere, *mine):
        (path / "samples").mkdir(parents=True)
        (path / "samples" / "a.mid").write_text("notes")
    link.symlink_to(elsewhere)
    with lock.hold(living):
        destination.check()
        assert not killed.exists() and link.is_symlink()
        for path in (living, elsewhere, *mine):
            assert (path / "samples" / "a.mid").read_text() == "notes"
    destination.check()
    assert not living.exists()


def test_a_folder_that_is_being_filled_is_not_taken_for_a_leftover(run_of, tmp_path: Path) -> None:
    destination = NewFolder(run_of("jsb-chords"), "samples", tmp_path / "out")
    former = os.umask(0o027)
    try:
        with destination.unpublished() as draft:
            destination.check()
            files.write_text(draft / "report.md", "text")
            destination.publish(draft)
    finally:
        os.umask(former)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "out" / "report.md").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_what_was_stopped_leaves_nothing(run_of, tmp_path: Path, monkeypatch, capsys, error) -> None:
    def stop(*_):
        raise error

    monkeypatch.setattr(report, "markdown", stop)
    words = [str(run_of("jsb-chords")), "--out", str(tmp_path / "a"), "--count", "1", "--bars", "1", "--no-score"]
    status = sample.main(words)
    said = capsys.readouterr().err
    expected = (130, "stopped; nothing was written") if error is KeyboardInterrupt else (2, "No space left on device")
    assert (status, said.count("\n")) == (expected[0], 1) and expected[1] in said
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_score_is_engraved_or_said_to_need_verovio(run_of, tmp_path: Path, monkeypatch, capsys) -> None:
    from jaxseq.music.notation import engrave

    def missing(_):
        raise UsageError('verovio is not installed; to engrave a score: pip install "jaxseq[score]"')

    monkeypatch.setattr(engrave, "svg", lambda xml: ["<svg/>", "<svg/>"])
    monkeypatch.setattr(engrave, "strip", lambda xml: "<svg/>")
    monkeypatch.setattr(engrave, "png", lambda page: b"png")
    words = [str(run_of("jsb-chords")), "--count", "2", "--bars", "1", "--bpm", "400", "--out"]
    assert sample.main([*words, str(tmp_path / "a")]) == 0
    assert {path.name for path in (tmp_path / "a").glob("sample-02-score*")} == {
        f"sample-02-score{page}.{end}" for page in ("", "-2") for end in ("svg", "png")
    }
    monkeypatch.setattr(engrave, "svg", missing)
    assert sample.main([*words, str(tmp_path / "b")]) == 0
    assert capsys.readouterr().out.count("verovio is not installed") == 1
    assert not list((tmp_path / "b").glob("*score*"))


def upbeat() -> Piece:
    """An upbeat of a quarter, four bars of three quarters, and the last two quarters of the upbeat's bar."""
    positions = np.concatenate([[8, 9, 10, 11], np.tile(np.arange(12), 4), np.arange(8)])
    notes = np.tile([70, 65, 58, 48], (len(positions), 1))
    return from_notes("upbeat", notes)._replace(positions=positions, fifths=-1, minor=False)


def test_a_prime_s_upbeat_metre_and_key_go_on() -> None:
    prime = given.continued(upbeat(), 2, 5)
    is_given = prime.forced[:, 0] != FREE
    assert is_given.sum() == 4 + 2 * 12 and is_given[: is_given.sum()].all()
    np.testing.assert_array_equal(prime.pattern.positions, [8, 9, 10, 11, *np.tile(np.arange(12), 5)])
    piece = compose.completed(prime, np.full((64, 4), 60), "new")
    assert (piece.fifths, piece.minor, piece.name) == (-1, False, "new")


def test_an_upbeat_is_composed_and_stands_before_the_first_bar_of_every_file(run_of, tmp_path: Path) -> None:
    words = [str(run_of("jsb-chords")), "--out", str(tmp_path / "a"), "--count", "1", "--bars", "2", "--upbeat", "4"]
    folder = sampled(*words, "--no-score", "--bpm", "400")
    np.testing.assert_array_equal(read(folder).positions, [*range(12, 16), *range(16), *range(12)])
    measures = ElementTree.parse(folder / "sample-01.musicxml").find("part").findall("measure")
    assert [(one.get("number"), one.get("implicit")) for one in measures] == [("0", "yes"), ("1", None), ("2", None)]
    assert "with an upbeat" in (folder / "index.html").read_text()


def test_a_given_piece_gets_the_upbeat_of_the_options(tmp_path: Path) -> None:
    path = tmp_path / "tune.mid"
    path.write_bytes(write.midi(from_notes("tune", chorale(3))))
    bars = [*range(10, 16), *range(16), *range(16), *range(10)]
    for words in (["--melody", str(path)], ["--prime", str(path), "--keep", "bass"]):
        chosen = options.parse(["run", *words, "--upbeat", "6"])
        pattern = request._given(chosen, Splits((), (), ())).pattern
        np.testing.assert_array_equal(pattern.positions, bars)
        np.testing.assert_array_equal(pattern.notes[:, 0], chorale(3)[:, 0])
    # None leaves that of the piece, and 0 takes it away.
    np.testing.assert_array_equal(request._barred(upbeat(), None).positions, upbeat().positions)
    assert request._barred(upbeat(), 0).positions[0] == 0


def test_an_upbeat_of_a_bar_or_in_changing_metre_is_refused(run_of) -> None:
    error = refused(str(run_of("jsb-chords")), "--upbeat", "16")
    assert (error.where, error.got) == ("--upbeat", 16)
    with pytest.raises(UsageError, match=r"--upbeat: upbeat: 12 sixteenths .* bars of 12"):
        request._barred(upbeat(), 12)
    changing = np.concatenate([np.tile(np.arange(16), 4), np.tile(np.arange(12), 4)])
    with pytest.raises(UsageError, match="bars of 12, 16 sixteenths"):
        request._barred(upbeat()._replace(positions=changing), 4)


def test_a_melody_s_key_and_tempo_are_those_of_its_file() -> None:
    notes, struck = np.full(16, 60), np.arange(16) == 0
    tune = midi.Melody("tune", notes, struck, np.arange(16), (), Key(-1, minor=True), bpm=100.0)
    found = given.harmonised(tune)
    assert found.has_key and (found.pattern.fifths, found.pattern.minor) == (-1, True)

    words = ["run", "--melody", "tune.mid"]
    for beside, bpm in ((["--bpm", "60"], 60.0), ([], 100.0)):
        assert request._tempo(options.parse([*words, *beside]), found) == bpm
    assert request._tempo(options.parse(words), found._replace(bpm=2.0)) == 84.0
    assert not given.harmonised(tune._replace(key=None)).has_key


def test_scores_are_found_beside_midi_files_and_pieces(tmp_path: Path) -> None:
    parts = Splits((), (), ())
    path = tmp_path / "tune.musicxml"
    path.write_text(musicxml.musicxml(from_notes("tune", chorale(3))))
    np.testing.assert_array_equal(sources.find_piece(str(path), parts).piece.notes, chorale(3))
    found = given.harmonised(sources.find_melody(f"{path}:2", parts))
    np.testing.assert_array_equal(found.pattern.notes[:, 0], chorale(3)[:, 1])
    resting = Reading(piece=from_notes("rest", np.repeat([[60], [0]], 4, axis=1)))
    assert given.harmonised(resting).notes[-1] == "the melody rests for 1 of 2 sixteenths"


def test_bars_are_counted_as_in_a_score() -> None:
    free = given.changed(upbeat(), None, "2")
    np.testing.assert_array_equal(np.flatnonzero(free.forced[:, 0] == FREE), 4 + 12 + np.arange(12))
    first = given.changed(upbeat(), None, "0")
    np.testing.assert_array_equal(np.flatnonzero(first.forced[:, 0] == FREE), np.arange(4))


def test_kept_notes_are_struck_where_they_were_and_others_where_they_change() -> None:
    notes = np.full((16, 4), 60)
    piece = from_notes("p", notes)
    piece.onsets[8, 0] = True
    kept = given.changed(piece, "soprano", None)
    composed = notes.copy()
    composed[4:, 1] = 62
    composed[6:8, 2] = 0
    onsets = compose.completed(kept, composed, "new").onsets
    assert [list(np.flatnonzero(onsets[:, v])) for v in range(4)] == [[0, 8], [0, 4], [0, 8], [0]]


def test_names_are_looked_up_in_all_parts() -> None:
    parts = Splits(*((from_notes(name, np.full((1, 4), 60)),) for name in ("a", "b", "c")))
    assert [sources.find_piece(name, parts).piece.name for name in "abc"] == ["a", "b", "c"]
    with pytest.raises(UsageError) as raised:
        sources.find_melody("d", parts)
    assert (raised.value.where, raised.value.got) == ("--melody", "d")


def test_the_voices_that_are_kept_are_named_in_the_order_of_the_score() -> None:
    piece = from_notes("p", np.full((16, 4), 60))
    notes = [given.changed(piece, keep, None).notes for keep in ("alto", "bass, Alto", "tenor,bass,alto,")]
    assert notes == [
        ("alto is that of p",),
        ("alto and bass are those of p",),
        ("alto, tenor and bass are those of p",),
    ]


def test_many_pieces_are_composed_in_equal_chunks_each_to_a_cadence_of_its_own(run_of, monkeypatch) -> None:
    """Seven pieces, three at once: chunks of three, three and one, which is filled up; none is there twice."""
    monkeypatch.setattr(compose, "CHUNK", 3)
    # Where a parallel is the only note of the cadence, it goes.
    words = [str(run_of("jsb-chords")), "--count", "7", "--bars", "2", "--parallels", "allow"]
    done = []

    def notes_of(*more: str) -> np.ndarray:
        done.clear()
        wanted = request.read_request(options.parse([*words, *more]))
        composed = compose.compose(wanted, lambda *pair: done.append(pair))
        assert composed.log_probability.shape == (7, 2 * BAR, 4)
        return np.array([piece.notes for piece in composed.pieces])

    free = notes_of("--ending", "free")
    assert len(np.unique(free.reshape(7, -1), axis=0)) == 7
    assert done == [(3, 7), (6, 7), (7, 7)]

    ended = notes_of()
    np.testing.assert_array_equal(ended[:, :BAR], free[:, :BAR])
    for notes in ended:
        tonic = conditions.tonic(compose._key_that_fits(notes, BAR))
        assert notes[-1, 3] % 12 == tonic and np.isin((notes[-1] - tonic) % 12, [0, 3, 4, 7]).all()
        assert (notes[-BEAT:] == notes[-1]).all()

    # A cadence for each phrase, the last one in the place of the tonic.
    words_of_phrases = ("--key", "E minor", "--fermatas", "2,1", "--cadences", "deceptive,half")
    for notes in notes_of(*words_of_phrases):
        for end, chord in ((BAR, (11, 3, 6)), (2 * BAR, (0, 4, 7))):
            held = notes[end - 8 : end]
            assert (held == held[0]).all() and np.isin(held % 12, chord).all() and held[0, 3] % 12 == chord[0]
        assert np.isin(notes[2 * BAR - 10 : 2 * BAR - 8] % 12, [11, 3, 6, 9]).all()


def test_a_model_of_windows_says_nothing_of_a_first_note(run_of) -> None:
    wanted = request.read_request(options.parse([str(run_of("jsb")), "--count", "2", "--bars", "1"]))
    assert not wanted.composer.fills
    composed = compose.compose(wanted, lambda *_: None)
    missing = np.isnan(composed.log_probability)
    assert missing[:, 0, 0].all() and missing.sum() == 2


@pytest.fixture(scope="module")
def told_run(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained run of chords that reads what is known of a piece."""
    return untrained("jsb-chords", archive, tmp_path_factory.mktemp("run") / "told", conditions=True)


@pytest.mark.slow
def test_a_model_with_conditions_is_told_length_and_key(told_run: Path) -> None:
    words = [str(told_run), "--count", "40", "--bars", "2"]
    wanted = request.read_request(options.parse([*words, "--key", "f# minor"]))
    assert wanted.told is not None and wanted.told.keys == (Key(3, True),) * 40
    steps = wanted.told.columns[0, :, 0].tolist()
    assert steps == list(range(2 * BAR, 0, -1))
    # Nothing is known of phrases and bars in an edition of notes alone.
    assert set(wanted.told.columns[0, 0, 3:].tolist()) == {7, 2, 0} and not wanted.told.columns[..., 1:3].any()

    drawn = request.read_request(options.parse(words))
    assert drawn.parts is not None
    keys = {conditions.key_of(piece) for piece in drawn.parts.train}
    assert drawn.told is not None and len(set(drawn.told.keys)) > 2 and set(drawn.told.keys) <= keys


@pytest.mark.slow
def test_a_prime_s_key_is_told(told_run: Path) -> None:
    wanted = request.read_request(options.parse([str(told_run), "--prime", "chorale_003", "--prime-bars", "1"]))
    assert wanted.parts is not None and wanted.told is not None
    piece = sources.find_piece("chorale_003", wanted.parts).piece
    assert set(wanted.told.keys) == {conditions.key_of(piece._replace(notes=piece.notes[:BAR]))}


def chords_of(notes: Sequence[tuple[int, int, int, int]]) -> np.ndarray:
    """Symbols of chords of a quarter each."""
    return tokens.encode(np.repeat(np.array(notes), BEAT, axis=0))


def test_the_best_candidate_is_the_best_in_the_key_that_is_asked_for(run_of) -> None:
    in_minor = chords_of([(64, 59, 55, 40), (66, 59, 51, 47), (69, 60, 52, 45), (64, 59, 55, 40)] * 2)
    in_major = chords_of([(67, 62, 59, 43), (65, 62, 59, 47), (67, 64, 60, 48), (60, 55, 52, 48)] * 2)
    drawn = compose.Symbols(np.stack([in_minor, in_major]), np.zeros((2, *in_minor.shape)))

    def best(*more: str) -> np.ndarray:
        words = [str(run_of("jsb-chords")), "--count", "1", "--best-of", "2", "--bars", "2", *more]
        return compose.best_of(request.read_request(options.parse(words)), drawn).symbols[0]

    np.testing.assert_array_equal(best("--key", "C major", "--ending", "free"), in_major)
    np.testing.assert_array_equal(best("--key", "E minor", "--ending", "free"), in_minor)
    # An end that is composed again does not count.
    np.testing.assert_array_equal(best("--key", "C major", "--ending", "cadence"), in_major)


def test_the_last_bar_begins_at_its_line_and_a_quarter_before_the_end_at_the_latest() -> None:
    assert compose.last_bar(given.from_nothing(3)) == 2 * BAR
    assert compose.last_bar(given.from_nothing(3, upbeat=4)) == 2 * BAR + 4
    assert compose.last_bar(given.from_nothing(3, upbeat=14)) == 3 * BAR - BEAT


def test_of_bars_that_are_to_be_composed_no_phrase_is_told_unasked() -> None:
    chords = experiments.named("chords")
    reading = dataclasses.replace(chords, model=dataclasses.replace(chords.model, conditions=True))
    composer = Composer(reading, epoch=1, setup=None, state=None)
    prime = given.from_nothing(2).pattern._replace(notes=np.full((2 * BAR, 4), 60), fermatas=np.arange(2 * BAR) >= 28)
    continued = given.continued(prime, prime_bars=2, length=4)

    def phrases(*more: str) -> np.ndarray:
        asked = options.parse(["run", "--count", "1", *more])
        wanted = told.tell(asked, composer, None, told.with_fermatas(continued, asked.fermatas))
        assert wanted is not None
        return wanted.columns[0, :, 1:3]

    assert not phrases().any()
    # The fermata of the given bars stays beside those that are asked for.
    until = phrases("--fermatas", "4")[:, 1]
    assert until[0] == 29 and until[28] == 1 and until[2 * BAR] == 25


def test_fermatas_stand_at_the_ends_of_the_bars_that_are_named() -> None:
    under = told.with_fermatas(given.from_nothing(4), "2,4").pattern.fermatas
    assert np.flatnonzero(under).tolist() == [*range(24, 32), *range(56, 64)]
    with pytest.raises(UsageError) as error:
        told.with_fermatas(given.from_nothing(4), "5")
    assert (error.value.where, error.value.got, error.value.needed) == ("--fermatas", 5, "1 to 4")


@pytest.mark.parametrize(
    ("steps", "bar", "upbeat", "places"),
    [(32, BAR, 12, [(20, 28), (28, 32)]), (16, 8, 0, [(0, 8), (8, 16)]), (12, 6, 0, [(0, 6), (6, 12)])],
)
def test_cadences_of_short_bars_leave_notes_to_every_voice(
    steps: int, bar: int, upbeat: int, places: list[tuple[int, int]]
) -> None:
    pattern = given.from_nothing(2).pattern._replace(
        notes=np.zeros((steps, 4), np.int64), positions=(np.arange(steps) - upbeat) % bar
    )
    assert told._phrase_ends(pattern, "1,2") == places
    # Either bar may be named first.
    cadences = [Place(CADENCES["authentic"], *place) for place in reversed(told._phrase_ends(pattern, "1,2"))]
    weights = leaning.to_cadences(leaning.none(steps), [Key(0, True)], cadences)
    assert np.isfinite(weights.notes).any(axis=-1).all()


def test_the_tonic_has_one_third_within_a_piece_and_either_at_its_end() -> None:
    chords = experiments.named("chords")
    reading = dataclasses.replace(chords, model=dataclasses.replace(chords.model, conditions=True))
    composer = Composer(reading, epoch=1, setup=None, state=None)
    words = ("--key", "A minor", "--fermatas", "1,2", "--cadences", "authentic,authentic", "--ending")

    def chords_told(ending: str) -> list[set[int]]:
        asked = options.parse(["run", "--count", "1", *words, ending])
        places = told.tell(asked, composer, None, given.from_nothing(2)).cadences
        return [set(place.cadence.chord.in_minor) for place in places]

    assert chords_told("cadence") == [{0, 3, 7}, {0, 3, 4, 7}]
    # Without several endings to choose from, its voices could have both.
    assert chords_told("free") == [{0, 3, 7}, {0, 3, 7}]


def test_the_likeliest_ending_that_is_a_triad_is_taken(monkeypatch) -> None:
    wanted = request.Request(
        options=options.parse(["run", "--count", "1", "--ending", "cadence"]),
        composer=None,
        parts=None,
        given=given.from_nothing(1),
        bpm=84,
        remarks=(),
        told=told.Told((Key(0, True),)),
    )
    both_thirds = chords_of([(64, 61, 60, 45)] * 4)
    minor = chords_of([(64, 60, 57, 45)] * 4)
    candidates = np.stack([both_thirds, minor, *[both_thirds] * (compose.ENDINGS - 2)])
    likelihood = np.zeros(candidates.shape)
    likelihood[1] = -1
    drawn = compose.Symbols(minor[None], np.zeros((1, *minor.shape)))

    def ending() -> np.ndarray:
        monkeypatch.setattr(compose, "draw", lambda *_, **__: compose.Symbols(candidates, likelihood))
        return compose.ended(wanted, np.full((1, BAR, 4), FREE), drawn, lambda _: None).symbols[0]

    np.testing.assert_array_equal(ending(), minor)
    # None of them is a triad.
    candidates[1] = both_thirds
    np.testing.assert_array_equal(ending(), both_thirds)


@pytest.mark.slow
def test_fermatas_that_a_model_was_not_trained_to_read_are_refused(run_of, told_run: Path) -> None:
    for run in (run_of("jsb-chords"), told_run):
        assert refused(str(run), "--fermatas", "1").where == "--fermatas"


def usual_values(name: str, *words: str, reads: bool = False, forced: int = 0, has_data: bool = True) -> list[object]:
    """What stands for the options that `words` leave open; `forced` steps at the end of the soprano are given."""
    recipe = experiments.named(name)
    if name.endswith("chords"):
        recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, conditions=reads))
    notes = given.from_nothing(2)
    if forced:
        notes.forced[-forced:, 0] = 30
    composer = Composer(recipe, epoch=1, setup=None, state=None)
    decided = usual.decided(options.parse(["run", *words]), composer, notes, has_data)
    return [decided.note_temperature, decided.parallels, decided.ranges, decided.ending, decided.key_strength]


def test_options_that_are_left_open_follow_from_the_model_and_the_given_notes() -> None:
    lean = usual.KEY_STRENGTH
    assert usual_values("jsb-chords") == [usual.NOTE_TEMPERATURE, "avoid", "keep", "cadence", 0]
    assert usual_values("jsb-chords", "--key", "G major")[-1] == lean
    assert usual_values("jsb-chords", reads=True)[-1] == usual.STRENGTH_BESIDE_READING
    assert usual_values("jsb-chords", "--key", "free", reads=True)[-1] == 0
    # A melody has its own end.
    assert usual_values("jsb-chords", forced=3)[3] == "free"
    assert usual_values("jsb-chords", has_data=False)[2] == "free"
    # A model that fills gaps draws all steps at once.
    assert usual_values("jsb-fill")[:4] == [1, "allow", "keep", "free"]


def test_options_that_are_given_stay() -> None:
    free = {"note-temperature": 1, "parallels": "allow", "ranges": "free", "ending": "free", "key": "G major"}
    words = [word for name, value in free.items() for word in (f"--{name}", str(value))]
    words += ["--key-strength", "1"]
    for reads in (False, True):
        assert usual_values("jsb-chords", *words, reads=reads) == [1, "allow", "free", "free", 1]


@pytest.mark.slow
def test_pieces_are_written_in_the_key_that_was_told(told_run: Path, tmp_path: Path) -> None:
    out = composed(told_run, tmp_path / "out", "--count", "2", "--bars", "2", "--key", "Eb major")
    assert (read(out).fifths, read(out).minor) == (-3, False)
