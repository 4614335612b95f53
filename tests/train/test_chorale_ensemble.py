"""Runs of chorales as one: the mean of their probabilities is that of a plain computation, note by note."""

import io
from pathlib import Path

import jax
import numpy as np
import pytest
from made_up import uneven_edition
from quick_compilation import quick_compilation
from rich.console import Console
from trained_runs import NOTES

from jaxseq.checkpoint import __main__ as checkpoint
from jaxseq.common import csv_tables
from jaxseq.common.errors import UsageError
from jaxseq.music import tokens
from jaxseq.train import __main__ as train
from jaxseq.train import ensemble, experiments, options
from jaxseq.train.domains import chorale_ensemble, chorales
from jaxseq.train.domains.chorale_ensemble import Member
from jaxseq.train.domains.chorale_scores import Stretch, stretches
from jaxseq.train.domains.chorales import Composer
from jaxseq.train.job import initial_state

pytestmark = pytest.mark.usefixtures("compiled_quickly")

TRANSPOSE = 1
SHIFTS = range(-TRANSPOSE, TRANSPOSE + 1)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> chorales.ChoraleJob:
    """Short pieces whose bass leaves the range when it is transposed down."""
    archive = uneven_edition(tmp_path_factory.mktemp("low") / "low.tgz", steps=(16, 17), low=-4)
    fields = {
        "experiment": "jsb-chords",
        "data": {"path": str(archive)},
        "model": {"hidden": 5, "embedding": 4, "voice_hidden": 5, "conditions": False},
        "transpose": TRANSPOSE,
        "batch": 4,
    }
    return chorales.prepare(experiments.from_config(fields, "test"))


def members_of(job: chorales.ChoraleJob) -> list[Member]:
    """Two members with large random weights, so that they differ."""
    source = np.random.default_rng(3)
    members = []
    for name in ("first", "second"):
        state = initial_state(job)
        params = jax.tree.map(lambda p: np.asarray(source.normal(0, 0.3, p.shape), p.dtype), state.params)
        members.append(Member(name, state._replace(params=params)))
    return members


def plain_probabilities(job: chorales.ChoraleJob, member: Member, piece: Stretch, shift: int) -> list[float]:
    """The probability of each note of a piece that is read higher, up to the first one that is out of range there."""
    composer = Composer(job.experiment, 1, job.setup, member.state)
    higher = [note + shift if note else 0 for note in piece.symbols.ravel()]
    # Whatever stands after the first note out of range is not looked at.
    readable = [note if 0 <= note < tokens.VOCABULARY and (note or not shift) else 20 for note in higher]
    notes = tokens.decode(np.reshape(readable, piece.symbols.shape))
    log_p = composer.predict(notes, piece.positions).reshape(len(higher), -1)
    probabilities = []
    for number, note in enumerate(higher):
        if not 1 <= note < tokens.VOCABULARY:
            return [*probabilities, 0.0]
        # The probability of all that has a counterpart in the piece's own key: rests, and notes in range there.
        reachable = [0, *(pitch for pitch in range(1, tokens.VOCABULARY) if 1 <= pitch - shift < tokens.VOCABULARY)]
        of_all = np.exp(np.float64(log_p[number]))
        probabilities.append(float(of_all[note] / of_all[reachable].sum()))
    return probabilities


def plain_nats(job: chorales.ChoraleJob, members: list[Member], part: list[Stretch], shifts) -> float:
    """Nats a note, of the mean over whatever has a probability of it."""
    nats = []
    for piece in part:
        read = [plain_probabilities(job, member, piece, shift) for member in members for shift in shifts]
        for number in range(piece.symbols.size):
            nats.append(-np.log(np.mean([values[number] for values in read if number < len(values)])))
    return float(np.mean(nats))


def test_the_mean_over_runs_and_transpositions_is_that_of_a_plain_computation(job: chorales.ChoraleJob) -> None:
    members = members_of(job)
    part = stretches(job.material.test, job.experiment)
    # Some transpositions leave the range within a piece; no voice rests.
    symbols = np.concatenate([piece.symbols for piece in part])
    assert 0 < symbols.min() <= TRANSPOSE

    scores = chorale_ensemble._scores(job, members, job.batches.test, part)
    assert list(scores) == [
        *("first", "first, 3 transpositions", "second", "second, 3 transpositions"),
        *("mean of 2 seeds", "mean of 2 seeds, 3 transpositions"),
    ]
    for name, of, shifts in (("first", members[:1], [0]), ("mean of 2 seeds, 3 transpositions", members, SHIFTS)):
        assert scores[name].nats == pytest.approx(plain_nats(job, of, part, shifts), abs=2e-5)
    # A mean of probabilities is never worse than the mean of the members' nats.
    assert scores["mean of 2 seeds"].nats < (scores["first"].nats + scores["second"].nats) / 2


def test_every_mean_is_a_distribution(job: chorales.ChoraleJob) -> None:
    member = members_of(job)[0]
    part = stretches(job.material.test, job.experiment)
    mixtures = dict(chorale_ensemble._mixtures(job, [member], job.batches.test, part))
    for of_pieces in mixtures.values():
        for mixture in of_pieces:
            np.testing.assert_allclose(np.exp(mixture.log_mean).sum(axis=-1), 1, atol=1e-5)


def test_a_median_is_refused(job: chorales.ChoraleJob, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        chorale_ensemble.judged([tmp_path], [job.experiment], "median", Console(file=io.StringIO()))
    assert (error.value.where, error.value.got) == ("--ensemble", "median")
    # Before anything is trained.
    with pytest.raises(UsageError, match="mixture"):
        options.parse(["jsb", "--seeds", "2", "--ensemble", "median"])


@pytest.mark.slow
def test_a_study_of_chorales_is_judged_as_one_by_its_command(tmp_path: Path) -> None:
    archive = uneven_edition(tmp_path / "few.tgz")
    words = ["jsb", *NOTES, "--data.path", str(archive), "--transpose", "1", "--epochs", "1", "--seeds", "2"]
    folder = tmp_path / "study"
    with quick_compilation():
        assert train.main([*words, "--ensemble", "--out", str(folder)]) == 0
    table = csv_tables.read(folder / "scores.csv").set_index("predictions")
    for seed in (0, 1):
        alone = csv_tables.read(folder / f"fold-1-seed-{seed}" / "scores.csv").set_index("predictions")
        name = f"lstm, seed {seed} (epoch 1)"
        for column in ("nats", "accuracy", "changed_accuracy"):
            assert table.loc[name, column] == pytest.approx(alone.loc["lstm (epoch 1)", column], rel=1e-5)
    assert "mean of 2 seeds, 3 transpositions" in (folder / "report.md").read_text()
    assert checkpoint.main(["verify", str(folder)]) == 0

    before = (folder / "ensemble.json").read_bytes()
    ensemble.combine(folder)
    assert (folder / "ensemble.json").read_bytes() == before
