"""Seeds of one recipe trained in one compiled epoch: as by themselves, but for the last bits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from rich.console import Console

from jaxseq.checkpoint import records, run_seal, store
from jaxseq.common.errors import Stopped, UsageError
from jaxseq.data.waves import Waves
from jaxseq.train import domains, epoch, lanes, loop, nonfinite, run, run_folder, study, together
from jaxseq.train.callbacks import Callback, StartedRun, StopTraining
from jaxseq.train.domains.base import NO_EXTRAS, Member
from jaxseq.train.experiments import named
from jaxseq.train.experiments.forecasts import Model
from jaxseq.train.job import initial_state

TINY = named("waves", data=Waves(count=240, window=6), model=Model(cell="rnn", hidden=3), epochs=3)
MOST_APART = 2e-6
"""Largest difference of a parameter after three epochs, together and alone; the last bit of a number near 1 is 6e-8."""


@pytest.fixture
def without_judging(monkeypatch: pytest.MonkeyPatch, compiled_quickly: None) -> None:
    monkeypatch.setattr(run, "judge_by_domain", lambda trained, **how: {"seconds": 0.0})


def train(
    folder: Path,
    seeds: int = 3,
    members: list[Member] | None = None,
    make_callbacks: Callable[[], list[Callback]] = list,
) -> list[Member]:
    """Train the seeds together, or those that are given; return all of them."""
    group = study.members(TINY, seeds, 1, folder)
    failures = together.train(
        group,
        group if members is None else members,
        Console(quiet=True),
        extras=NO_EXTRAS,
        again="the same command",
        make_callbacks=make_callbacks,
    )
    for error in failures.values():
        raise error
    return group


class Listener(Callback):
    """Keeps what it hears of its run, and stops it after an epoch."""

    def __init__(self, heard: dict[str, list[object]], stop_after: int | None = None) -> None:
        self.heard = heard
        self.stop_after = stop_after

    def on_start(self, run: StartedRun) -> None:
        self.calls = self.heard.setdefault(run.folder.name[-6:], [])
        self.calls.append(len(run.rows))
        assert run.experiment.seed == int(run.folder.name[-1])

    def on_epoch(self, row: run_folder.Row) -> None:
        self.calls.append(row)
        if row["epoch"] == self.stop_after:
            raise StopTraining("enough")

    def on_end(self, error: BaseException | None) -> None:
        self.calls.append(type(error))


def losses(folder: Path) -> list[dict[str, float]]:
    """Return the rows of a run without its clocks."""
    clocks = {"seconds", "windows_per_second", "together"}
    rows = run_folder.read_metrics(folder)
    return [{name: value for name, value in row.items() if name not in clocks} for row in rows]


def params(folder: Path) -> dict[str, np.ndarray]:
    return store.load_leaves(folder / run_seal.CHECKPOINTS, len(run_folder.read_metrics(folder)))


@contextmanager
def stopping(monkeypatch: pytest.MonkeyPatch, epochs: int) -> Iterator[None]:
    """Within, a signal arrives in the epoch of that number."""

    @contextmanager
    def signalled(note: Callable[[str], None]) -> Iterator[Callable[[], int]]:
        statuses = iter([0] * (epochs - 1) + [130] * 99)
        yield lambda: next(statuses)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "stop_signals", signalled)
        yield


@pytest.mark.usefixtures("compiled_quickly")
def test_a_lane_differs_from_its_training_alone_in_the_last_bits_alone() -> None:
    # With draws in each step.
    compare_with_alone(Model(cell="rnn", hidden=4, recurrent_dropout=0.3), seeds=2)


@pytest.mark.slow
@pytest.mark.parametrize("units", [20, 64])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_so_it_does_in_the_program_of_the_command(cell: str, units: int) -> None:
    compare_with_alone(Model(cell=cell, hidden=units), seeds=5)


def compare_with_alone(model: Model, seeds: int) -> None:
    """Check three epochs of some seeds together against each alone."""
    experiment = named("waves", data=TINY.data, model=model)
    members = study.members(experiment, seeds, 1, Path())
    jobs = [domains.of(experiment).prepare(member.experiment) for member in members]
    first = jobs[0]
    in_lanes, alone = (tuple(initial_state(job) for job in jobs) for _ in range(2))

    for _ in range(3):
        in_lanes, steps = lanes.epoch(first.setup, in_lanes, first.data.train, 32)
        trained = [epoch.epoch(first.setup, state, first.data.train, 32) for state in alone]
        alone = tuple(state for state, _ in trained)
        for lane in range(seeds):
            np.testing.assert_allclose(steps[lane].loss, trained[lane][1].loss, rtol=1e-4)

    for ours, theirs in zip(in_lanes, alone, strict=True):
        # The same draws: of the order of the rows, and of all that follow.
        assert (jax.random.key_data(ours.key) == jax.random.key_data(theirs.key)).all() and ours.step == theirs.step
        pairs = zip(jax.tree.leaves(ours.params), jax.tree.leaves(theirs.params), strict=True)
        assert max(float(abs(a - b).max()) for a, b in pairs) <= MOST_APART
        metrics = lanes.metrics(first.setup, (ours, theirs), first.data.valid, 512)
        np.testing.assert_allclose(metrics[0]["mse"], metrics[1]["mse"], rtol=1e-4)


@pytest.mark.usefixtures("compiled_quickly")
def test_a_lane_sees_nothing_of_the_others() -> None:
    job = domains.of(TINY).prepare(TINY)

    def trained(number: float) -> list[np.ndarray]:
        states = [initial_state(job) for _ in range(3)]
        other = states[1]._replace(params=jax.tree.map(lambda leaf: leaf * number, states[1].params))
        after, _ = lanes.epoch(job.setup, (states[0], other, states[2]), job.data.train, 32)
        return [np.asarray(leaf) for state in (after[0], after[2]) for leaf in jax.tree.leaves(state.params)]

    for calm, beside_nan in zip(trained(1.0), trained(np.nan), strict=True):
        np.testing.assert_array_equal(calm, beside_nan)


@pytest.mark.usefixtures("without_judging")
def test_a_group_that_was_stopped_resumes_bit_for_bit_and_a_member_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tmp_path / "whole")
    with stopping(monkeypatch, epochs=2), pytest.raises(Stopped, match="the same command"):
        train(tmp_path / "stopped")
    stopped = study.members(TINY, 3, 1, tmp_path / "stopped")
    assert [records.epochs(member.folder / run_seal.CHECKPOINTS) for member in stopped] == [[1, 2]] * 3

    # One goes on alone, which leaves its lane to the other two.
    run.train(stopped[1].experiment, resume=stopped[1].folder, console=Console(quiet=True))
    train(tmp_path / "stopped", members=[stopped[0], stopped[2]])
    for seed in (0, 2):
        assert losses(stopped[seed].folder) == losses(whole[seed].folder)
        np.testing.assert_equal(params(stopped[seed].folder), params(whole[seed].folder))
    np.testing.assert_allclose(losses(stopped[1].folder)[2]["train_loss"], losses(whole[1].folder)[2]["train_loss"])
    assert [row.get("together") for row in run_folder.read_metrics(stopped[1].folder)] == [3, 3, None]


@pytest.mark.slow
@pytest.mark.usefixtures("without_judging")
def test_a_run_that_ends_early_is_written_no_more_and_changes_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tmp_path / "whole")
    # Callbacks are made in the order of the seeds.
    heard: dict[str, list[Any]] = {}
    listeners = iter([Listener(heard), Listener(heard, stop_after=1), Listener(heard)])
    step_of = nonfinite.failing_step
    # Of the three lanes of an epoch, the last one fails in the second epoch.
    calls = iter(range(99))
    monkeypatch.setattr(nonfinite, "failing_step", lambda *how: 4 if next(calls) == 4 else step_of(*how))

    with pytest.raises(UsageError, match=r"no longer finite in epoch 2.*epoch 1 is saved in .*seed-2"):
        train(tmp_path / "early", make_callbacks=lambda: [next(listeners)])
    early = study.members(TINY, 3, 1, tmp_path / "early")
    assert losses(early[0].folder) == losses(whole[0].folder)
    assert losses(early[1].folder) == losses(whole[1].folder)[:1]
    assert losses(early[2].folder) == losses(whole[2].folder)[:1]
    assert [run_seal.has_judgement(member.folder) for member in early] == [True, True, False]
    for member, error in zip(early, (type(None), type(None), UsageError), strict=True):
        assert heard[f"seed-{member.seed}"] == [0, *run_folder.read_metrics(member.folder), error]

    # Of a run that is only judged again, and of one that resumes.
    heard.clear()
    monkeypatch.undo()
    monkeypatch.setattr(run, "judge_by_domain", lambda trained, **how: {"seconds": 0.0})
    train(tmp_path / "early", members=[early[0], early[2]], make_callbacks=lambda: [Listener(heard)])
    rows = run_folder.read_metrics(early[2].folder)
    assert heard == {"seed-0": [3, type(None)], "seed-2": [1, *rows[1:], type(None)]} and len(rows) == 3


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_quickly")
def test_a_study_together_has_the_files_of_one_whose_members_are_trained_alone(
    tmp_path: Path, study_folder: Path
) -> None:
    tiny = named("waves", data=TINY.data, model=Model(hidden=3), epochs=1)
    ours = study.study_together(tiny, seeds=2, folds=2, out=tmp_path / "s", console=Console(quiet=True))

    names = [sorted(path.relative_to(folder) for path in folder.glob("*/*")) for folder in (ours, study_folder)]
    assert names[0] == names[1]
    for folder in study_folder.glob("fold-*"):
        member = ours / folder.name
        assert run_folder.read_config(member) == run_folder.read_config(folder)
        assert run_seal.judged_damage(member) == []
        for row, expected in zip(losses(member), losses(folder), strict=True):
            assert row == pytest.approx(expected, rel=1e-5)
    # Typed again without the option, it trains nothing.
    before = {path: path.read_bytes() for path in ours.rglob("*.jsonl")}
    study.study(tiny, seeds=2, folds=2, out=ours, console=Console(quiet=True))
    assert {path: path.read_bytes() for path in ours.rglob("*.jsonl")} == before


def test_what_one_program_cannot_train_is_refused_before_a_run_begins(tmp_path: Path) -> None:
    smaller = named("waves", data=TINY.data, model=Model(cell="rnn", hidden=2), epochs=3)
    longer = named("waves", data=Waves(count=300, window=6), model=TINY.model, epochs=3)
    for other, rule in ((smaller, "the model of seed 1 is not equal"), (longer, "seed 1 has other rows")):
        group = [Member(1, 0, TINY, tmp_path / "a"), Member(1, 1, other, tmp_path / "b")]
        with pytest.raises(UsageError, match=rule):
            together.train(group, group, Console(quiet=True), extras=NO_EXTRAS, again="")
    assert not list(tmp_path.iterdir())

    with pytest.raises(UsageError, match=r"together.*got 1, needed at least 2"):
        study.study_together(TINY, seeds=1, out=tmp_path / "s")
    assert not list(tmp_path.iterdir())


def test_the_command_says_where_it_does_not_pay() -> None:
    assert together.slowness(Model(cell="rnn", hidden=5)) is None
    assert "0.87 times as long" in f"{together.slowness(Model(cell='lstm', hidden=300))}"
    assert together.slowness(Model(cell="lru", hidden=300)) is None
