"""A loss or gradient that is not finite: stopped and named down to the leaf, or skipped as if the step had not been."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pairwise import slow_except
from quick_compilation import full_compilation

from jaxseq import cells
from jaxseq.cells.norm import Norm
from jaxseq.checkpoint import records
from jaxseq.common.arrays import Batch
from jaxseq.common.errors import UsageError
from jaxseq.data.waves import Waves
from jaxseq.nn import forecaster, heads
from jaxseq.nn.objectives import forecasting
from jaxseq.train import __main__ as train
from jaxseq.train import epoch, loop, nonfinite, run_folder
from jaxseq.train.domains import forecasts
from jaxseq.train.experiments import named
from jaxseq.train.experiments.forecasts import Model
from jaxseq.train.job import Job
from jaxseq.train.optimiser import Settings, optimiser

pytestmark = pytest.mark.usefixtures("compiled_quickly")

WORDS = "--data.count 200 --data.window 6 --model.hidden 3 --schedule constant"
WORDS = ["waves", *WORDS.split()]
OPTIMISER = optimiser(Settings(lr=0.01), steps=1)
SETUP = epoch.Setup(
    forecaster.Forecaster(cells.named("rnn"), 3, 1, 1, norm=Norm("batch")),
    forecasting(heads.point()),
    OPTIMISER.transformation,
)
SKIP = SETUP._replace(skip_nonfinite=True)


def rows(n: int) -> Batch:
    x = np.random.default_rng(0).normal(size=(n, 5, 1)).astype(np.float32)
    return Batch(jnp.asarray(x), jnp.asarray(x.mean(axis=1)))


def start() -> epoch.TrainState:
    return epoch.init(SETUP, jax.random.key(0), rows(1).x, numbers=OPTIMISER.numbers)


def numbers(state: epoch.TrainState) -> list[bytes]:
    """All of a state but its step and its key, which go on in every step."""
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves((state.params, state.stats, state.opt))]


# The step --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["x", pytest.param("y", marks=pytest.mark.slow)])
def test_a_skipped_step_changes_neither_weights_nor_moments_nor_optimiser(part: str) -> None:
    data = rows(4)
    poisoned = data._replace(**{part: getattr(data, part).at[2, 0].set(jnp.inf)})
    before = numbers(start())
    after, log = epoch.epoch(SKIP, start(), poisoned, 4)
    assert numbers(after) == before and not np.isfinite(log.loss).any() and int(after.step) == 1
    spoilt, _ = epoch.epoch(SETUP, start(), poisoned, 4)
    assert not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(spoilt.params))
    fine, _ = epoch.epoch(SKIP, start(), data, 4)
    assert numbers(fine) != before


def test_the_steps_around_a_skipped_one_are_taken() -> None:
    data = rows(8)
    poisoned = data._replace(y=data.y.at[5, 0].set(jnp.nan))
    after, log = epoch.epoch(SKIP, start(), poisoned, 2)
    assert np.isfinite(log.loss).sum() == 3 and int(after.opt.rule[0].count) == 3 and int(after.step) == 4
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((after.params, after.stats, after.opt)))


@pytest.mark.slow
def test_where_all_is_finite_to_skip_is_to_train_as_ever() -> None:
    # Adam makes much of a gradient's last bits, which differ between the two where neither is optimised.
    with full_compilation():
        one, other = (epoch.epoch(setup, start(), rows(8), 2)[0] for setup in (SETUP, SKIP))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), one.params, other.params)


@pytest.mark.slow
@pytest.mark.parametrize("step", slow_except({2}, [0, 2]))
def test_the_norms_of_the_leaves_make_the_norm_that_the_step_logged(step: int) -> None:
    _, log = epoch.epoch(SETUP, start(), rows(10), 3)
    norms = epoch.gradient_norms(SETUP, start(), rows(10), 3, step)
    assert jax.tree.structure(norms) == jax.tree.structure(start().params)
    total = np.sqrt(sum(float(norm) ** 2 for norm in jax.tree.leaves(norms)))
    np.testing.assert_allclose(total, log.gradient_norm[step], rtol=1e-5)
    assert len({float(value) for value in log.gradient_norm}) == 4


# When to stop ----------------------------------------------------------------------------------------------------------


def epoch_of(losses: list[float], valid: float = 1.0) -> epoch.Epoch:
    log: Any = epoch.StepLog(np.float32(losses), np.ones(len(losses), np.float32))
    state: Any = None
    return epoch.Epoch(3, state, log, {"mse": valid}, rows=6)


NAN, MOST = float("nan"), nonfinite.MOST_IN_A_ROW


@pytest.mark.parametrize(
    ("losses", "valid", "stop", "skip"),
    [
        ([1.0] * 4, 1.0, None, None),
        ([1.0] * 4, NAN, 3, 3),
        ([1.0, NAN, 1.0, NAN], 1.0, 1, None),
        ([1.0, NAN, 1.0], NAN, 1, 2),
        ([NAN, float("inf")], 1.0, 0, 1),
        ([1.0, *[NAN] * MOST, 1.0], 1.0, 1, None),
        ([1.0, *[NAN] * (MOST + 1), 1.0, NAN], 1.0, 1, MOST + 1),
        ([*([NAN] * MOST + [1.0]) * 3], 1.0, 0, None),
    ],
)
def test_training_stops_at_the_first_or_at_the_one_too_many(
    losses: list[float], valid: float, stop: int | None, skip: int | None
) -> None:
    finished = epoch_of(losses, valid)
    assert (nonfinite.failing_step(finished, skip=False), nonfinite.failing_step(finished, skip=True)) == (stop, skip)


def test_what_is_skipped_is_counted_and_stays_out_of_the_means() -> None:
    state: Any = epoch.TrainState(jnp.int32(12), {}, {}, {}, jax.random.key(0))
    row = loop.metrics_row(epoch_of([1.0, NAN, 3.0])._replace(state=state), 1.0, skip=True)
    assert row["train_loss"] == 2.0 and row["skipped"] == 1 and row["step"] == 12
    assert "skipped" not in loop.metrics_row(epoch_of([1.0, 3.0])._replace(state=state), 1.0, skip=False)


# What is said ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def job() -> Job:
    recipe = named("waves", data=Waves(count=200, window=6), model=Model(hidden=3), epochs=1, schedule="constant")
    return forecasts.prepare(recipe)


@pytest.mark.parametrize(
    ("norms", "said"),
    [
        ({"a": {"b": 1.0, "c": NAN}, "d": float("inf")}, ", not finite in a/c and 1 more of 3 leaves"),
        ({"a": {"b": 1.0, "c": 2.0}, "d": NAN}, ", not finite in d"),
        ({"a": {"b": 1.0, "c": 3e20}, "d": 2.0}, ", the largest that of a/c with 3e+20"),
    ],
)
def test_the_first_leaf_that_is_not_finite_or_else_the_largest_is_named(
    job: Job, norms: dict, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(epoch, "gradient_norms", lambda *_: norms)
    first = epoch_of([1.0, NAN])._replace(number=1)
    assert nonfinite.failing_leaf(job, job.setup, tmp_path, first, 1) == said
    assert nonfinite.failing_leaf(job, job.setup, tmp_path, first, 0) == "", "that step was finite"


def poison(monkeypatch: pytest.MonkeyPatch, row: int) -> None:
    """Let one training row hold what is not finite."""
    prepare = forecasts.prepare

    def poisoned(experiment: Any) -> Job:
        job = prepare(experiment)
        train_part = job.data.train._replace(x=job.data.train.x.at[row].set(jnp.nan))
        return dataclasses.replace(job, data=job.data._replace(train=train_part))

    monkeypatch.setattr(forecasts, "prepare", poisoned)


def test_a_run_stops_with_epoch_step_and_leaf_and_goes_on_if_it_may_skip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    poison(monkeypatch, 17)
    assert train.main([*WORDS, "--epochs", "2", "--out", "run"]) == 2
    said = capsys.readouterr().err
    assert (
        said.count("\n") == 1
        and "in epoch 1, step " in said
        and " of 5 (loss nan, gradient norm nan, not finite in " in said
    )
    assert "head/bias and 5 more of 6 leaves" in said, said
    assert train.main(["--resume", "run", "--on-nonfinite", "skip"]) == 0
    out = capsys.readouterr().out
    rows = run_folder.read_metrics(Path("run"))
    assert [row["skipped"] for row in rows] == [1, 1] and "epoch 2: skipped 1 of 5 steps" in out
    assert all(np.isfinite(value) for row in rows for value in row.values())
    assert "2 of 10 training steps were skipped" in Path("run/report.md").read_text()
    assert records.best_epoch(Path("run/checkpoints")) is not None


@pytest.mark.slow
def test_the_leaf_of_a_later_epoch_is_found_from_the_one_that_is_saved(job: Job, tmp_path: Path) -> None:
    assert train.main([*WORDS, "--epochs", "1", "--out", str(tmp_path / "run")]) == 0
    second = epoch_of([1.0, 1.0, NAN])._replace(number=2)
    said = nonfinite.failing_leaf(job, job.setup, tmp_path / "run", second, 2)
    assert said.startswith(", the largest that of ")
    third = second._replace(number=3)
    assert nonfinite.failing_leaf(job, job.setup, tmp_path / "run", third, 2) == "", (
        "epoch 2 is not there to begin from"
    )


def test_a_choice_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="on_nonfinite: unknown; got 'ignore', needed one of stop, skip"):
        named("waves", on_nonfinite="ignore")  # type: ignore
