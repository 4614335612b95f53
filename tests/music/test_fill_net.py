"""Hiding notes: which, how many, and what is then a target; and a model of hidden notes trained, judged and restored."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_up import edition
from rich.console import Console

from jaxseq.common.errors import UsageError
from jaxseq.music import tokens
from jaxseq.music.networks import inputs, objectives
from jaxseq.train import experiments

pytestmark = pytest.mark.usefixtures("compiled_quickly")

HIGHEST = tokens.VOCABULARY - 1
ROWS, STEPS = 2000, 5


def rows():
    """Many times the same five chords and one step of padding."""
    chords = np.array([[30, 20, 10, 5], [30, 20, 0, 5], [31, 20, 10, 4], [29, 19, 9, 3], [30, 20, 10, 5]])
    row = inputs.pad([inputs.fills(chords, np.arange(STEPS))], STEPS + 1)
    return tuple(jnp.asarray(np.repeat(part, ROWS, axis=0)) for part in row)


@pytest.mark.parametrize("transpose", [0, 3])
def test_what_is_hidden_is_a_target_and_nothing_else_is(transpose):
    x, y = rows()
    hidden, targets = objectives.hidden_symbols(4, tokens.MASKED, transpose, 1, HIGHEST).augment(
        jax.random.key(0), x, y
    )
    masked = np.asarray(hidden[..., :4]) == tokens.MASKED
    np.testing.assert_array_equal(masked, np.asarray(targets) >= 0)
    seen = np.where(masked, targets, hidden[..., :4])[:, :STEPS]
    moved = np.where(np.asarray(y)[:, :STEPS] > 0, seen - np.asarray(y)[:, :STEPS], 0)
    shift = moved[:, :1, :1]
    np.testing.assert_array_equal(moved, np.where(np.asarray(y)[:, :STEPS] > 0, shift, 0))  # rests are in every key
    assert set(np.unique(shift)) == set(range(-min(transpose, 2), transpose + 1))  # the lowest note is the third
    np.testing.assert_array_equal(np.asarray(hidden)[:, :, 4], np.asarray(x)[:, :, 4])
    assert (np.asarray(targets)[:, STEPS] == tokens.UNSCORED).all() and (np.asarray(hidden)[:, STEPS, 0] == -1).all()


def test_any_number_of_notes_is_hidden_equally_often():
    x, y = rows()
    _, targets = objectives.hidden_symbols(4, tokens.MASKED).augment(jax.random.key(1), x, y)
    counts = np.bincount((np.asarray(targets) >= 0).sum(axis=(1, 2)), minlength=4 * STEPS + 1)
    expected = ROWS / (4 * STEPS + 1)
    assert len(counts) == 4 * STEPS + 1
    assert ((counts - expected) ** 2 / expected).sum() < 45.3  # chi-square with 20 degrees of freedom, p = 0.001


def test_each_row_s_loss_is_the_mean_over_its_hidden_notes():
    task = objectives.hidden_symbols(4, tokens.MASKED)
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4, 47)), jnp.float32)
    y = np.full((2, 3, 4), tokens.UNSCORED)
    y[0, 1, 2], y[1, :2, 0] = 7, (8, 9)
    log_p = np.asarray(jax.nn.log_softmax(logits))
    expected = [-log_p[0, 1, 2, 7], -(log_p[1, 0, 0, 8] + log_p[1, 1, 0, 9]) / 2]
    np.testing.assert_allclose(task.loss(logits, jnp.asarray(y)), expected, rtol=1e-5)
    assert task.weight is None  # rows count alike, however many notes they hide


def test_validation_hides_the_same_notes_each_time():
    chords = np.random.default_rng(0).integers(1, 47, (40, 4))
    row = inputs.fills(chords, np.arange(40) % 16)
    first, second = (inputs.hide(row, np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(first.x, second.x)
    masked = first.x[:, :4] == tokens.MASKED
    np.testing.assert_array_equal(masked, first.y >= 0)
    np.testing.assert_array_equal(np.where(masked, first.y, first.x[:, :4]), chords)
    assert 0 < masked.sum() < masked.size


def test_a_model_that_fills_is_trained_on_whole_pieces():
    with pytest.raises(UsageError, match=r"^config: --protocol: .*'windows', needed pieces"):
        experiments.from_config({"experiment": "jsb-fill", "protocol": "windows"}, "config")


@pytest.mark.slow
def test_a_training_leaves_a_run_that_says_how_well_hidden_notes_are_found(tmp_path):
    from jaxseq.train import run
    from jaxseq.train.domains import chorales

    fields = {"data": {"path": str(edition(tmp_path))}, "model": {"hidden": 6, "embedding": 4, "voice_hidden": 5}}
    small = {"epochs": 2, "batch": 4, "stretch": 32, "hop": 32}
    experiment = experiments.from_config({"experiment": "jsb-fill", **fields, **small}, "test")
    folder = run.train(experiment, tmp_path / "run", console=Console(file=io.StringIO()))
    report = (folder / "report.md").read_text()
    assert "hidden notes" in report and "they alone are counted" in report
    scores = {line.split(",")[0]: line.split(",")[-1] for line in (folder / "scores.csv").read_text().splitlines()[1:]}
    job = chorales.prepare(experiment)
    hidden = int((np.asarray(job.batches.test.y) >= 0).sum())
    assert {int(float(notes)) for notes in scores.values()} == {hidden}
    restored = chorales.restore(folder)
    assert restored.epoch in (1, 2) and type(restored.model).__name__ == "FillNet"
