"""Runs of a grid that differ in numbers alone, trained together: as by themselves but for the last bits."""

from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from jaxseq.checkpoint import run_seal, store
from jaxseq.common import memory
from jaxseq.common.errors import UsageError
from jaxseq.sweep import __main__ as sweep
from jaxseq.sweep import grid, grouped
from jaxseq.sweep.planned import PlannedRun
from jaxseq.train import domains, job, nonfinite, run, run_folder, together
from jaxseq.train.domains import forecasts

TINY = ["waves", "--data.count", "240", "--data.window", "6", "--model.cell", "rnn", "--epochs", "3"]


def planned(*words: str) -> list[PlannedRun]:
    return [PlannedRun(point.name, point.experiment, Path(point.name)) for point in grid.points([*TINY, *words])]


def names(groups: list[list[PlannedRun]]) -> list[list[str]]:
    return [[member.name.removeprefix("waves-") for member in group] for group in groups]


def test_runs_are_grouped_by_what_is_compiled() -> None:
    groups = together.groups(planned("--lr", "0.01,0.02", "--model.hidden", "2,3", "--clip", "1,2"))
    assert [len(group) for group in groups] == [4, 4]
    assert all(len({member.experiment.model.hidden for member in group}) == 1 for group in groups)

    # A rule, a schedule and the presence of a number are other programs; their lengths and values are not.
    assert names(together.groups(planned("--decay", "0,0.1,0.2"))) == [["decay-0"], ["decay-0.1", "decay-0.2"]]
    assert names(together.groups(planned("--clip", "None,1,2"))) == [["clip-None"], ["clip-1", "clip-2"]]
    assert [len(group) for group in together.groups(planned("--optimiser", "adam,sgd", "--seed", "0:2"))] == [2, 2]
    assert [len(group) for group in together.groups(planned("--epochs", "2,5", "--schedule", "cosine"))] == [2]
    assert [len(group) for group in together.groups(planned("--data.window", "6,7", "--batch", "8,16"))] == [1] * 4


def test_a_group_is_as_large_as_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = planned("--seed", "0:5")
    # The test part's inputs are needed until they are read: a job without them has a smaller footprint than it began with.
    monkeypatch.setattr(forecasts, "_without_test_inputs", lambda job: job)
    first = domains.of(runs[0].experiment).prepare(runs[0].experiment)
    of_one = job._footprint(first.experiment, first.setup, first.batches)
    assert job.most_lanes(first, 5) == 5
    for lanes in (1, 2, 4):
        devices = len(jax.local_devices())
        limit = sum(of_one.of_lanes(lanes).within(devices)) + 1
        monkeypatch.setattr(memory, "limit", lambda limit=limit: limit)
        assert job.most_lanes(first, 5) == lanes
        assert [len(group) for group in together.groups(runs)] == {1: [1] * 5, 2: [2, 2, 1], 4: [4, 1]}[lanes]


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_quickly")
def test_a_grid_is_trained_in_one_program_and_resumes_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "judge_by_domain", lambda trained, **how: {"seconds": 0.0})
    words = [*TINY[:-2], "--model.hidden", "3", "--lr", "0.01,0.02", "--epochs", "3,2"]
    # The last lane fails in its second epoch.
    step_of = nonfinite.failing_step
    calls = iter(range(99))
    with monkeypatch.context() as patch:
        patch.setattr(nonfinite, "failing_step", lambda *how: 4 if next(calls) == 7 else step_of(*how))
        assert sweep.main([*words, "--together", "--out", str(tmp_path / "failed")]) == 2
    failed = sorted(tmp_path.glob("failed/waves-*/"))
    assert [run_seal.has_judgement(folder) for folder in failed] == [True, True, False, True]
    assert sweep.main([*words, "--together", "--out", str(tmp_path / "failed")]) == 0
    assert sweep.main([*words, "--together", "--out", str(tmp_path / "whole")]) == 0

    for point in grid.points(words):
        rows = run_folder.read_metrics(tmp_path / "whole" / point.name)
        assert [row["together"] for row in rows] == [4] * point.experiment.epochs
        leaves = [
            store.load_leaves(tmp_path / name / point.name / run_seal.CHECKPOINTS, point.experiment.epochs)
            for name in ("whole", "failed")
        ]
        np.testing.assert_equal(*leaves)

    # The last one, whose rate is not that of the first, is what it is alone.
    run.train(point.experiment, out=tmp_path / "alone", console=Console(quiet=True))
    for row, expected in zip(rows, run_folder.read_metrics(tmp_path / "alone"), strict=True):
        assert row["valid_mse"] == pytest.approx(expected["valid_mse"], rel=1e-4)


def test_a_group_that_cannot_be_trained_ends_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [run_._replace(folder=tmp_path / run_.name) for run_ in planned("--model.hidden", "2,3,4", "--seed", "0:2")]
    # Of the last size there is a single run.
    runs.pop()
    alone: list[str] = []

    def trained(group: list[PlannedRun], *_: object, **__: object) -> dict[str, UsageError]:
        if group[0].experiment.model.hidden == 2:
            raise UsageError("no memory")
        return {group[1].name: UsageError("diverged")}

    monkeypatch.setattr(together, "train", trained)
    monkeypatch.setattr(grouped, "_train_alone", lambda run_, *_: alone.append(run_.name))
    with pytest.raises(UsageError, match=r"3 of 5 runs failed, first waves-hidden-2-seed-0: no memory"):
        grouped.train_all(runs, Console(quiet=True), "the same command")
    assert alone == [runs[-1].name]


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (["--together=no"], "takes no value"),
        (["--together", "--on", "slurm"], "on this machine"),
    ],
)
def test_what_it_does_not_go_with_is_refused(words: list[str], rule: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rule):
        sweep.parse([*TINY, *words])
