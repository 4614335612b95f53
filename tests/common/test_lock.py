"""One process at a time in a folder: the second is told who the first is, and what was killed holds nothing."""

import errno
import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from jaxseq.common import lock
from jaxseq.common.errors import UsageError
from jaxseq.data.waves import Waves
from jaxseq.train import __main__ as train
from jaxseq.train import run, run_folder, study
from jaxseq.train.experiments import named
from jaxseq.train.experiments.forecasts import Model

HOLD = """
import sys, time
from pathlib import Path
from jaxseq.common import lock
with lock.hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
TINY = named("waves", data=Waves(count=200, window=6), model=Model(hidden=3), epochs=1)
WORDS = ["waves", "--data.count", "200", "--data.window", "6", "--model.hidden", "3", "--epochs", "1"]


def holder(folder: Path) -> subprocess.Popen[str]:
    """Another process that holds a folder."""
    environment = {**os.environ, "PYTHONPATH": str(Path(lock.__file__).parents[2])}
    command = [sys.executable, "-c", HOLD, str(folder)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    with process:
        process.send_signal(signal.SIGKILL)


def leave(folder: Path, pid: int, host: str = platform.node(), born: int | None = None) -> None:
    """The lock of another process, as its file says it."""
    since = "2026-01-02 03:04:05+00:00"
    (folder / lock.NAME).write_text(json.dumps({"pid": pid, "host": host, "since": since, "born": born}))


@pytest.fixture
def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks."""

    def refuse(*_: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_a_held_folder_refuses_the_second_with_process_host_and_time(tmp_path: Path) -> None:
    process = holder(tmp_path)
    for ask in (lock.check, lambda folder: lock.hold(folder).__enter__()):
        with pytest.raises(UsageError) as raised:
            ask(tmp_path)
        said = str(raised.value)
        assert f"{tmp_path} is held by process {process.pid} on {platform.node()} since 20" in said and "\n" not in said
    kill(process)


def test_the_lock_of_a_killed_process_is_taken_over_at_once(tmp_path: Path) -> None:
    kill(holder(tmp_path))
    assert (tmp_path / lock.NAME).is_file()
    lock.check(tmp_path)
    with lock.hold(tmp_path):
        assert json.loads((tmp_path / lock.NAME).read_text())["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_a_lock_is_let_go_of_whatever_happens_within(tmp_path: Path) -> None:
    with pytest.raises(KeyError), lock.hold(tmp_path):
        raise KeyError
    assert not list(tmp_path.iterdir())
    with lock.hold(tmp_path):
        (tmp_path / lock.NAME).unlink()


def test_one_process_holds_a_folder_once(tmp_path: Path) -> None:
    with lock.hold(tmp_path), pytest.raises(UsageError, match=f"held by process {os.getpid()} "):
        lock.hold(tmp_path).__enter__()


def test_a_lock_that_its_owner_removed_after_it_was_opened_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = fcntl.flock, []

    def late(descriptor: int, how: int) -> None:
        if not seen:  # between our opening of the file and our lock on it, the owner ends and another comes
            (tmp_path / lock.NAME).unlink()
            (tmp_path / lock.NAME).write_text("another's")
        seen.append(descriptor)
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with lock.hold(tmp_path):
        assert len(seen) == 2 and json.loads((tmp_path / lock.NAME).read_text())["pid"] == os.getpid()


def test_of_many_at_once_one_gets_the_folder(tmp_path: Path) -> None:
    """Each counts up by reading, waiting and writing: what two did at a time would be lost."""
    code = """
import sys, time
from pathlib import Path
from jaxseq.common import lock
from jaxseq.common.errors import UsageError
count, done = Path(sys.argv[1]) / "count", 0
print("ready", flush=True)
sys.stdin.readline()
until = time.monotonic() + 20
while done < 12 and time.monotonic() < until:
    try:
        with lock.hold(Path(sys.argv[1])):
            number = int(count.read_text())
            time.sleep(0.002)
            count.write_text(str(number + 1))
            done += 1
    except UsageError:
        pass
"""
    (tmp_path / "count").write_text("0")
    environment = {**os.environ, "PYTHONPATH": str(Path(lock.__file__).parents[2])}
    command = [sys.executable, "-c", code, str(tmp_path)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, env=environment, **pipes) for _ in range(4)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.close()
    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    assert (tmp_path / "count").read_text() == "48"
    for process in processes:
        process.stdout.close()


def test_where_a_file_cannot_be_written_it_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "nowhere"):
        with pytest.raises(UsageError, match=rf"cannot write .*{folder.name}/\.lock: "):
            lock.hold(folder).__enter__()


# Without the kernel's locks --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_locks")
def test_without_locks_the_owner_that_lives_is_believed(tmp_path: Path) -> None:
    leave(tmp_path, os.getppid(), born=lock.birth(os.getppid()))
    for ask in (lock.check, lambda folder: lock.hold(folder).__enter__()):
        with pytest.raises(UsageError, match=rf"held by process {os.getppid()} on .* since 2026-01-02 03:04:05"):
            ask(tmp_path)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_process_that_is_gone_or_another_by_now_holds_nothing(tmp_path: Path, gone: int) -> None:
    for pid, born in ((gone, None), (os.getppid(), 12345)):
        leave(tmp_path, pid, born=born)
        lock.check(tmp_path)
        with lock.hold(tmp_path):
            assert json.loads((tmp_path / lock.NAME).read_text())["pid"] == os.getpid()
        assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("no_locks")
def test_without_locks_another_host_is_believed_and_its_file_named(tmp_path: Path, gone: int) -> None:
    leave(tmp_path, gone, host="elsewhere")
    with pytest.raises(UsageError, match=rf"on elsewhere since .*: .*delete {tmp_path}/\.lock"):
        lock.hold(tmp_path).__enter__()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1e999}', "[" * 100_000, "\0"])
@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_file_that_names_nobody_holds_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / lock.NAME).write_text(content)
    with lock.hold(tmp_path):
        pass


# Runs and studies ------------------------------------------------------------------------------------------------------


def test_a_run_in_a_held_folder_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("new", "begun"):
        Path(name).mkdir()
    run_folder.write_config(Path("begun"), training_config())
    processes = [holder(Path(name)) for name in ("new", "begun")]
    for process, words in zip(processes, ([*WORDS, "--out", "new"], ["--resume", "begun"]), strict=True):
        assert train.main(words) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"jaxseq.train: {words[-1]} is held by process {process.pid} on ")
        assert error.count("\n") == 1
        kill(process)


def training_config() -> dict:
    from jaxseq.train import experiments

    return experiments.to_config(TINY)


def test_a_run_that_another_began_meanwhile_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both found the folder empty; by the time that this one has its data, the other is at work there, or has ended."""
    create = run_folder.create

    def overtaken(name: str, out: Path | None) -> Path:
        folder = create(name, out)
        (folder / "report.md").write_text("the other's")
        return folder

    monkeypatch.setattr(run_folder, "create", overtaken)
    with pytest.raises(UsageError, match="is not empty"):
        run.train(TINY, out=tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["report.md"]


def test_what_a_start_that_was_killed_left_is_no_run_and_is_cleared_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jaxseq.train.domains import forecasts

    monkeypatch.setattr(forecasts, "judge", lambda *_: None)
    kill(holder(tmp_path))
    (tmp_path / ".config.json.a1_b2c3d").write_text('{"exp')
    run.train(TINY, out=tmp_path)
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_study_in_a_held_folder_is_refused(tmp_path: Path) -> None:
    process = holder(tmp_path)
    with pytest.raises(UsageError, match=f"held by process {process.pid}"):
        study.study(TINY, seeds=2, out=tmp_path)
    kill(process)


def test_a_study_holds_its_folder_while_it_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = []

    def trained(*_: object, **__: object) -> None:
        with pytest.raises(UsageError) as raised:
            study.study(TINY, seeds=2, out=tmp_path)
        said.append(str(raised.value))
        raise KeyError

    monkeypatch.setattr(run, "train", trained)
    with pytest.raises(KeyError):
        study.study(TINY, seeds=2, out=tmp_path)
    assert f"held by process {os.getpid()}" in said[0]


def test_a_lock_is_waited_for_while_somebody_only_looks(tmp_path: Path) -> None:
    with lock.hold(tmp_path):
        begun = time.monotonic()
        with pytest.raises(UsageError):
            lock.check(tmp_path)
        assert time.monotonic() - begun >= lock.PATIENCE
