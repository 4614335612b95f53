"""A disk that is full, or may not be written: one line that says so, what was saved stays, and with space it goes on."""

import contextlib
import json
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from quick_compilation import quick_compilation

from jaxseq.checkpoint import records, run_seal, store
from jaxseq.train import __main__ as train
from jaxseq.train import loop, progress, run_folder

pytestmark = pytest.mark.usefixtures("compiled_quickly")

WORDS = ["waves", "--data.count", "200", "--data.window", "6", "--model.hidden", "8", "--schedule", "constant"]


SLOW = pytest.mark.slow


def wait_until(there: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not there():
        assert time.monotonic() < until
        time.sleep(0.01)


def trained(factory: pytest.TempPathFactory, epochs: int) -> Path:
    with quick_compilation():
        folder = factory.mktemp("trained") / "run"
        assert train.main([*WORDS, "--epochs", str(epochs), "--out", str(folder)]) == 0
        return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six epochs that nothing disturbed."""
    return trained(tmp_path_factory, 6)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its first two epochs."""
    return trained(tmp_path_factory, 2)


def leaves(folder: Path) -> dict[str, bytes]:
    kept = folder / run_seal.CHECKPOINTS
    newest = records.latest_epoch(kept)
    assert newest is not None
    return {path: array.tobytes() for path, array in store.load_leaves(kept, newest).items()}


def losses(folder: Path) -> list[float]:
    return [row["train_loss"] for row in run_folder.read_metrics(folder)]


def refused(run: Path, capsys: pytest.CaptureFixture[str], *said: str) -> None:
    """To go on ends with status 2 and one line, and what was saved is sound."""
    capsys.readouterr()
    assert train.main(["--resume", str(run), "--epochs", "6"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("jaxseq.train: cannot write "), error
    assert any(word in error for word in said), error
    kept = run / run_seal.CHECKPOINTS
    assert max(records.epochs(kept)) >= 2
    assert [store.damage(kept, step) for step in records.epochs(kept)] == [[]] * len(records.epochs(kept))


def goes_on(run: Path, whole: Path) -> None:
    """To the end, as if nothing had happened."""
    assert train.main(["--resume", str(run), "--epochs", "6"]) == 0
    assert leaves(run) == leaves(whole) and losses(run) == losses(whole)
    # The judgement of the epochs before was set aside.
    assert {path.name for path in run.iterdir()} - {"judged-2"} == {path.name for path in whole.iterdir()}


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes, as where a quota is used up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [*(pytest.param(size, marks=SLOW) for size in (0, 60, 700)), 4500])
def test_where_no_file_may_grow_the_run_stops_with_one_line_and_goes_on_later(
    begun: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], size: int
) -> None:
    """0: not even the lock; 60: no row; 700: no config; 4500: the record of a step, but not its arrays."""
    run = Path(shutil.copytree(begun, tmp_path / "run"))
    with at_most(size):
        refused(run, capsys, "File too large")
    goes_on(run, whole)


@pytest.mark.slow
def test_a_save_in_the_background_that_fails_is_told_at_once_and_ends_the_training_after_the_epoch(
    begun: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, show = Path(shutil.copytree(begun, tmp_path / "run")), progress.EpochDisplay.show
    limits, heard = contextlib.ExitStack(), []

    def shown(self: progress.EpochDisplay, row: dict[str, Any], *rest: Any, **options: Any) -> None:
        show(self, row, *rest, **options)
        if row["epoch"] == 3:
            wait_until(lambda: records.latest_epoch(run / run_seal.CHECKPOINTS) == 3)
            limits.enter_context(at_most(4500))
        if row["epoch"] == 4:  # a long one
            wait_until(lambda: any("could not be saved" in text for text in heard))

    with monkeypatch.context() as patch, limits:
        patch.setattr(progress.EpochDisplay, "show", shown)
        patch.setattr(loop, "SAVE_PAUSE", 0.0)
        patch.setattr(loop, "_warner", lambda console: heard.append)
        refused(run, capsys, "cannot write a checkpoint to")
    (told,) = [text for text in heard if "could not be saved" in text]
    assert "epoch 4 could not be saved (" in told and "stopping after this epoch" in told
    assert run_folder.read_metrics(run)[-1]["epoch"] <= 5
    assert records.latest_epoch(run / run_seal.CHECKPOINTS) == 3
    goes_on(run, whole)


# A small disk ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of two megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("file systems may not be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path, free: int) -> Path:
    """A file that leaves so many bytes free."""
    ballast = disk / "ballast"
    room = os.statvfs(disk)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - free)
    return ballast


@pytest.mark.slow
@pytest.mark.parametrize("free", [0, 4096, 16384, 32768])
def test_on_a_full_disk_the_run_stops_with_one_line_and_goes_on_with_space(
    begun: Path, whole: Path, disk: Path, capsys: pytest.CaptureFixture[str], free: int
) -> None:
    run = Path(shutil.copytree(begun, disk / "run"))
    ballast = fill(disk, free)
    refused(run, capsys, "No space left on device")
    ballast.unlink()
    goes_on(run, whole)


def test_in_a_folder_that_may_only_be_read_a_run_is_forecast_from_but_not_gone_on_with(
    begun: Path, whole: Path, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(begun, disk / "run"))
    for how in ("ro", "rw"):
        subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)
        if how == "ro":
            refused(run, capsys, "Read-only file system")
            assert train.main([*WORDS, "--out", str(disk / "new")]) == 2
            assert f"{disk / 'new'}: cannot write a run into this folder" in capsys.readouterr().err
            assert len(json.loads((run / "metrics.jsonl").read_text().splitlines()[0])) > 4
    goes_on(run, whole)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_else_is_one_line(
    begun: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(begun, tmp_path / "run"))
    run.chmod(0o500)
    refused(run, capsys, "Permission denied")
    run.chmod(0o700)
    goes_on(run, whole)
