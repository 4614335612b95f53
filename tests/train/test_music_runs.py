"""Runs of chorales: what a training leaves, its scores against numpy's and the n-gram's, going on, and mistakes."""

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up import uneven_edition
from pairwise import slow_except
from quick_compilation import quick_compilation
from served import Server
from trained_runs import NOTES

from jaxseq import forecast
from jaxseq.checkpoint import records, store
from jaxseq.common.errors import UsageError
from jaxseq.music import tokens
from jaxseq.music.corpora.jsb import Jsb
from jaxseq.music.evaluation import ngram, scores
from jaxseq.train import __main__ as train
from jaxseq.train import run_folder
from jaxseq.train.domains.chorales import restore
from jaxseq.train.domains.pianoroll import RollModel
from jaxseq.train.experiments import named
from jaxseq.train.experiments.pianoroll import Roll
from jaxseq.train.job import setup_of

pytestmark = pytest.mark.usefixtures("compiled_quickly")

CHORDS = [
    # What they read takes time to compile, and has tests of its own.
    "--model.no-conditions",
    "--model.no-reprises",
    "--model.hidden",
    "4",
    "--model.embedding",
    "4",
    "--model.voice-hidden",
    "4",
    "--stretch",
    "16",
    "--hop",
    "8",
    "--schedule",
    "constant",
]


@pytest.fixture(scope="module")
def archive(chorales_run):
    return chorales_run.parent / "few.tgz"


@pytest.fixture(scope="module", params=["jsb", "jsb-chords"])
def sound(request, chorales_run, archive, tmp_path_factory):
    """A run of two epochs of each network, and its words; copied, never changed."""
    if request.param == "jsb":
        return chorales_run, ["jsb", *NOTES, "--data.path", str(archive)]
    folder = tmp_path_factory.mktemp(request.param) / "run"
    words = ["jsb-chords", *CHORDS, "--data.path", str(archive)]
    with quick_compilation():
        assert train.main([*words, "--epochs", "2", "--out", str(folder)]) == 0
    return folder, words


def leaves(folder, step=None):
    kept = folder / "checkpoints"
    return store.load_leaves(kept, records.latest_epoch(kept) if step is None else step)


def metrics(folder):
    """The rows without what a clock says."""
    return [
        {k: row[k] for k in row if k not in ("seconds", "windows_per_second")}
        for row in run_folder.read_metrics(folder)
    ]


def complaint(capsys, program="jaxseq.train"):
    """What stands on stderr, which has to be one line."""
    error = capsys.readouterr().err
    assert error.startswith(f"{program}: ") and error.count("\n") == 1 and error.endswith("\n"), error
    return error


# What a run leaves -----------------------------------------------------------------------------------------------------


def test_a_run_leaves_its_files_and_a_finite_row_an_epoch(sound):
    folder, words = sound
    files = {"config.json", "environment.json", "metrics.jsonl", "checkpoints", "report.md", "loss.png", "judged.json"}
    assert files | {"scores.csv", "predictions.csv"} == {path.name for path in folder.iterdir()}
    rows = run_folder.read_metrics(folder)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert all(np.isfinite(list(row.values())).all() and 0 < row["valid_nats"] < 5 for row in rows)
    assert json.loads((folder / "config.json").read_text())["experiment"] == words[0]


def test_the_report_gives_the_table_of_the_scores(sound):
    folder, _ = sound
    report, frame = (folder / "report.md").read_text(), pd.read_csv(folder / "scores.csv")
    best = records.best_epoch(folder / "checkpoints")
    cell = json.loads((folder / "config.json").read_text())["model"]["cell"]
    name = f"{cell} (epoch {best})"
    rows = ["copy the last note", "5-gram", name, f"{name}, without 1 near-duplicates"]
    assert frame["predictions"].tolist() == rows
    for row in frame.itertuples():
        nats = "\N{EN DASH}" if np.isnan(row.nats) else f"{row.nats:.4f}"
        assert f"| {row.predictions} | {nats} | {row.accuracy:.4f} | {row.changed_accuracy:.4f} |" in report
    assert frame["changed_accuracy"][0] < 0.05 < frame["accuracy"][0]
    assert frame["notes"].nunique() == 2 and frame["notes"][3] < frame["notes"][2]


def test_a_network_of_chords_reads_conditions_by_default_and_is_scored_with_and_without_them(archive, tmp_path):
    sizes = [word for word in CHORDS if not word.startswith("--model.no-")]
    words = ["jsb-chords", *sizes, "--data.path", str(archive), "--epochs", "1", "--out", str(tmp_path / "run")]
    assert train.main(words) == 0
    frame = pd.read_csv(tmp_path / "run" / "scores.csv")
    name = "gru (epoch 1)"
    assert frame["predictions"].tolist()[2:] == [
        name,
        f"{name}, told ending, key of its own notes",
        f"{name}, without 1 near-duplicates",
    ]
    assert frame["notes"][2] == frame["notes"][3] and frame["nats"][2] != frame["nats"][3]


def test_the_scores_are_averages_of_the_predictions_by_piece(sound):
    folder, _ = sound
    table, pieces = (pd.read_csv(folder / f"{name}.csv") for name in ("scores", "predictions"))
    assert pieces["piece"].tolist() == ["chorale_000", "chorale_002", "chorale_374"]
    rest = pieces[pieces["piece"] != "chorale_374"]
    for row, frame, column in ((2, pieces, "nats"), (3, rest, "nats"), (1, pieces, "nats_5_gram")):
        assert table["notes"][row] == frame["notes"].sum()
        np.testing.assert_allclose(table["nats"][row], np.average(frame[column], weights=frame["notes"]), rtol=1e-6)
    for row, frame in ((2, pieces), (3, rest)):
        wanted = np.average(frame["accuracy"], weights=frame["notes"])
        np.testing.assert_allclose(table["accuracy"][row], wanted, rtol=1e-6)


def symbols_of(archive, part, windows):
    pieces = [tokens.encode(piece.notes) for piece in getattr(Jsb(str(archive)).load(), part)]
    return list(scores.windows(pieces)) if windows else pieces


def test_the_5_gram_and_copying_are_those_of_the_music_under_the_same_protocol(sound, archive):
    folder, words = sound
    windows = words[0] == "jsb"
    table = pd.read_csv(folder / "scores.csv")
    gram = ngram.fit(symbols_of(archive, "train", False))
    sums = {"copy": [], "gram": []}
    for piece in symbols_of(archive, "test", windows):
        mask = scores.all_but_the_first(piece) if windows else None
        found = ngram.log_probabilities(gram, piece), ngram.predictions(gram, piece)
        sums["gram"].append(scores.score(*found, piece, mask))
        sums["copy"].append(scores.score(None, ngram.copy_last(piece), piece, mask))
    for row, way in enumerate(("copy", "gram")):
        wanted = scores.average(sums[way])
        np.testing.assert_allclose(table.iloc[row, 1:].astype(float), list(wanted), rtol=1e-6)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_hand(weights, notes):
    """The logits of the book's network after each note of one row, in numpy, from a checkpoint's leaves."""
    p = {name.removeprefix("params/"): np.asarray(w, np.float64) for name, w in weights.items() if name[:3] != "opt"}
    z = p["notes/embedding"][notes]
    for n in range(2):
        before = np.concatenate([np.zeros((2**n, z.shape[1])), z])[: len(z)]
        kernel, moments = p[f"convolution_{n}/taps/kernel"], f"stats/batch_stats/norm_{n}/"
        z = np.maximum(np.concatenate([before, z], axis=1) @ kernel + p[f"convolution_{n}/taps/bias"], 0)
        gain = p[f"norm_{n}/scale"] / np.sqrt(p[moments + "var"] + 1e-3)
        z = (z - p[moments + "mean"]) * gain + p[f"norm_{n}/bias"]
    cell = "stack/recurrent_0/cell/"
    h = c = np.zeros(4)
    states = []
    for x in z:
        gates = x @ p[cell + "input_kernel"] + h @ p[cell + "recurrent_kernel"] + p[cell + "bias"]
        i, f, g, o = np.split(gates, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.array(states) @ p["head/kernel"] + p["head/bias"]


def test_the_books_scores_are_those_of_the_network_written_down_in_numpy(sound, archive):
    folder, words = sound
    if words[0] != "jsb":
        pytest.skip("of the network of notes")
    weights = leaves(folder, records.best_epoch(folder / "checkpoints"))
    nats = right = count = 0
    for window in symbols_of(archive, "test", True):
        flat = window.ravel()
        logits = by_hand(weights, flat[:-1])
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        nats -= log_p[np.arange(131), flat[1:]].sum()
        right, count = right + (logits.argmax(axis=1) == flat[1:]).sum(), count + 131
    table = pd.read_csv(folder / "scores.csv")
    assert table["notes"][2] == count
    np.testing.assert_allclose(table["nats"][2], nats / count, rtol=1e-5)
    np.testing.assert_allclose(table["accuracy"][2], right / count, atol=1.5 / count)


# Going on --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sound", slow_except({"jsb"}, ["jsb", "jsb-chords"]), indirect=True)
def test_a_run_taken_up_again_is_bit_for_bit_the_run_without_a_stop(sound, tmp_path, monkeypatch):
    whole, words = sound
    monkeypatch.chdir(tmp_path)
    assert train.main([*words, "--epochs", "1", "--out", "parts"]) == 0
    assert train.main(["--resume", "parts", "--epochs", "2"]) == 0
    parts = Path("parts")
    one, other = leaves(whole), leaves(parts)
    assert {name: array.tobytes() for name, array in one.items()} == {n: a.tobytes() for n, a in other.items()}
    assert {"key", "step", "params/head/kernel" if words[0] == "jsb" else "params/head_0/kernel"} < set(one)
    assert metrics(parts) == metrics(whole)
    for name in ("predictions.csv", "scores.csv", "report.md", "config.json"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name


# Mistakes --------------------------------------------------------------------------------------------------------------

MISTAKES = {
    "jsb --data.path none.tgz": ["none.tgz"],
    "jsb --data.path other.tgz": ["other.tgz"],
    "jsb --data.path text.tgz": ["text.tgz"],
    "jsb-chords --data.path FEW --hop 17 --stretch 16": ["--hop", "got 17", "--stretch 16"],
    "jsb --data.path FEW --protocol book": ["book", "windows", "pieces"],
    "jsb --data.path FEW --batch 5000": ["--batch", "got 5000", "training windows"],
    "jsb --data.path SHORT": ["chorale_000 to chorale_005", "9 sixteenths", "33", "--protocol pieces"],
    "jsb --data.path HIGH": ["chorale_000", "soprano", "notes go from 36 to 81"],
    "jsb --data.path FEW --transpose -1": ["transpose: too small", "at least 0", "-1"],
    "jsb --data.path FEW --model.convolutions 3 0": ["convolution 2: channels", "at least 1", "0"],
    "jsb-chords --data.path FEW --model.embedding 5": ["--model.embedding", "even", "5"],
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(line, archive, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("text.tgz").write_text("no archive")
    with tarfile.open("other.tgz", "w:gz") as other:
        other.add("text.tgz")
    named = {"FEW": archive, "SHORT": "short.tgz", "HIGH": "high.tgz"}
    uneven_edition("short.tgz", (9, 10))
    uneven_edition("high.tgz", low=30)
    words = [str(named.get(word, word)) for word in line.split()]
    try:
        status = train.main(words)
    except SystemExit as end:  # tyro's own refusals
        status = end.code
        error = " ".join(capsys.readouterr().err.split())
    else:
        error = complaint(capsys)
    assert status == 2
    assert all(part in error for part in MISTAKES[line]), error
    assert {path.name for path in tmp_path.iterdir()} == {"text.tgz", "other.tgz", "short.tgz", "high.tgz"}


def test_another_file_than_the_benchmark_is_no_download(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXSEQ_CACHE", str(tmp_path / "cache"))
    with Server(b"something else") as server:
        monkeypatch.setenv("JAXSEQ_MIRROR", server.root)
        assert train.main(["jsb", *NOTES]) == 2
    assert "its sha256 is" in complaint(capsys)
    assert not Path("runs").exists()


def test_a_forecast_of_a_run_of_chorales_is_refused(sound, tmp_path, monkeypatch, capsys):
    folder, _ = sound
    shutil.copytree(folder, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert forecast.main(["run"]) == 2
    assert "run is a run of jsb" in complaint(capsys, "jaxseq.forecast")


def test_positions_are_whole_numbers_from_0_beside_every_sixteenth(chorales_run):
    composer = restore(chorales_run)
    notes, positions = np.full((2, 4, 4), 60), np.arange(4)
    whole = composer.predict(notes, positions)
    np.testing.assert_array_equal(composer.predict(notes, positions[None]), whole)
    np.testing.assert_allclose(composer.predict(notes[0], positions), whole[0], rtol=1e-5)
    for wrong in (positions - 1, positions + 0.5, positions[:3], positions[:1], np.stack([positions] * 3)):
        with pytest.raises(UsageError) as error:
            composer.predict.__wrapped__(composer, notes, wrong)
        assert error.value.where == "positions"

    with pytest.raises(UsageError, match=r"^piece 2: the bass has note 99 at step 2"):
        composer.predict(np.stack([notes[0], np.where(np.indices((4, 4)).sum(0) == 4, 99, 60)]), positions)


@pytest.mark.parametrize("shape", [(0, 5, 88), (2, 0, 88), (0, 88)])
def test_piano_rolls_of_nothing_are_refused(shape):
    experiment = named("pianoroll", model=Roll(hidden=2))
    with pytest.raises(UsageError) as error:
        RollModel(experiment, 1, setup_of(experiment), None).predict(np.zeros(shape))
    assert error.value.where == "frames"
