"""A copy of a finished or an unfinished folder goes on in its new place, whether the original is there or not.

Nothing is written into the original.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from run_contents import metrics
from trained_runs import SWEEP

from jaxseq.checkpoint import __main__ as checkpoint
from jaxseq.checkpoint import run_seal
from jaxseq.data.waves import Waves
from jaxseq.sweep import __main__ as sweep
from jaxseq.sweep import pool
from jaxseq.sweep.planned import PlannedRun, is_finished
from jaxseq.train import __main__ as train
from jaxseq.train import study
from jaxseq.train.experiments import named
from jaxseq.train.experiments.forecasts import Model

pytestmark = pytest.mark.usefixtures("compiled_quickly")

TINY = named("waves", data=Waves(count=240, window=6), model=Model(hidden=3), epochs=1)
"""The experiment of `study_folder`."""


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time and content of every file of a folder."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def sweep_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train_all(runs: Sequence[PlannedRun], *_: object) -> None:
        for planned in runs:
            if not is_finished(planned):
                assert pool.train_run(planned) == ""

    # A worker would first load JAX.
    monkeypatch.setattr(pool, "train_all", train_all)
    assert sweep.main([*SWEEP, "--seed", "0:2", "--workers", "2", "--out", str(folder)]) == 0


def study_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study.study(TINY, seeds=2, folds=2, out=folder)


FOLDERS = {
    "sweep": ("sweep_folder", "aapl-seed-0", sweep_again),
    "study": ("study_folder", "fold-1-seed-0", study_again),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", FOLDERS)
def test_a_copied_sweep_or_study_goes_on_in_its_new_place(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixture, member, repeat = FOLDERS[kind]
    finished = request.getfixturevalue(fixture)
    original = tmp_path / "original"
    shutil.copytree(finished, original)
    # Stopped before one run was judged, and before another began.
    (original / member / run_seal.JUDGED).unlink()
    gone = member.replace("seed-0", "seed-1")
    shutil.rmtree(original / gone)
    before = state(original)

    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(original, copy)
    repeat(copy, monkeypatch)
    assert state(original) == before
    shutil.rmtree(original)
    repeat(copy, monkeypatch)
    assert not original.exists()

    assert checkpoint.main(["verify", str(copy)]) == 0
    # Other programs may have compiled the one and the other.
    for name in (member, gone):
        for row, again in zip(metrics(finished / name), metrics(copy / name), strict=True):
            assert again == pytest.approx(row, rel=1e-5)


@pytest.mark.slow
def test_a_copied_run_resumes_in_its_new_place(aapl_run: Path, tmp_path: Path) -> None:
    before = state(aapl_run)
    for name in ("a", "b"):
        shutil.copytree(aapl_run, tmp_path / name)
    assert train.main(["--resume", str(tmp_path / "a"), "--epochs", "3"]) == 0
    assert state(aapl_run) == before
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    shutil.rmtree(tmp_path / "a")
    for name in ("b", "c"):
        assert train.main(["--resume", str(tmp_path / name), "--epochs", "4"]) == 0
    assert not (tmp_path / "a").exists()
    assert metrics(tmp_path / "b") == metrics(tmp_path / "c")
