"""One process at a time in a folder: the second is told who the first is, and what was killed holds nothing."""

import errno
import fcntl
import json
import os
import platform
import signal
import stat
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

pytestmark = pytest.mark.usefixtures("compiled_quickly")

HOLD = """
import errno, fcntl, platform, socket, sys, time
from pathlib import Path
from jaxseq.common import lock

def refuse(*_):
    raise OSError(errno.ENOLCK, "No locks available")

if "no locks" in sys.argv:
    fcntl.flock = refuse
if "elsewhere" in sys.argv:
    platform.node = socket.gethostname = lambda: "elsewhere"
with lock.hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
TINY = named("waves", data=Waves(count=200, window=6), model=Model(hidden=3), epochs=1)
WORDS = ["waves", "--data.count", "200", "--data.window", "6", "--model.hidden", "3", "--epochs", "1"]


def holder(folder: Path, *how: str) -> subprocess.Popen[str]:
    """Another process that holds a folder: on a file system with "no locks", on a host called "elsewhere"."""
    environment = {**os.environ, "PYTHONPATH": str(Path(lock.__file__).parents[2])}
    command = [sys.executable, "-c", HOLD, str(folder), *how]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    with process:
        process.send_signal(signal.SIGKILL)


def hold(folder: Path) -> None:
    with lock.hold(folder):
        pass


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks."""

    def refuse(*_: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_a_held_folder_refuses_the_second_with_process_host_and_time(tmp_path: Path) -> None:
    process = holder(tmp_path)
    for ask in (lock.check, hold):
        with pytest.raises(UsageError) as raised:
            ask(tmp_path)
        said = str(raised.value)
        assert f"{tmp_path} is held by process {process.pid} on {platform.node()} since 20" in said and "\n" not in said
    kill(process)


def test_the_lock_of_a_killed_process_is_taken_over_at_once(tmp_path: Path) -> None:
    kill(holder(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {lock.NAME, lock.OWNER}
    lock.check(tmp_path)
    with lock.hold(tmp_path):
        assert json.loads((tmp_path / lock.OWNER).read_text())["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_looking_writes_nothing(tmp_path: Path) -> None:
    def state() -> tuple[int, dict[str, bytes]]:
        # The time of the folder changes with every file that is made or removed in it.
        return tmp_path.stat().st_mtime_ns, {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    empty = state()
    lock.check(tmp_path)
    assert state() == empty

    kill(holder(tmp_path))
    left = state()
    lock.check(tmp_path)
    assert state() == left


def test_a_lock_is_let_go_of_whatever_happens_within(tmp_path: Path) -> None:
    with pytest.raises(KeyError), lock.hold(tmp_path):
        raise KeyError
    assert not list(tmp_path.iterdir())
    for name in (lock.NAME, lock.OWNER):
        with lock.hold(tmp_path):
            (tmp_path / name).unlink()
        lock.check(tmp_path)


def test_a_folder_may_vanish_while_it_is_held(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with lock.hold(folder):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    assert not folder.exists()


def test_the_lock_of_a_folder_that_was_made_anew_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with lock.hold(folder):
        folder.rename(tmp_path / "moved")
        folder.mkdir()
        process = holder(folder)
    with pytest.raises(UsageError, match=f"held by process {process.pid} "):
        lock.check(folder)
    kill(process)


def test_files_of_a_lock_have_the_permissions_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with lock.hold(tmp_path):
            assert stat.S_IMODE((tmp_path / lock.NAME).stat().st_mode) == 0o640
    finally:
        os.umask(before)


def test_one_process_holds_a_folder_once(tmp_path: Path) -> None:
    with lock.hold(tmp_path), pytest.raises(UsageError, match=f"held by process {os.getpid()} "):
        hold(tmp_path)


def test_a_lock_that_its_owner_removed_after_it_was_opened_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = fcntl.flock, []

    def late(descriptor: int, how: int) -> None:
        if not seen:  # between our opening of the file and our lock on it, the owner ends and another comes
            (tmp_path / lock.NAME).unlink()
            (tmp_path / lock.NAME).touch()
        seen.append(descriptor)
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with lock.hold(tmp_path):
        locked = os.fstat(seen[-1])
        assert len(seen) == 2 and os.path.samestat(locked, (tmp_path / lock.NAME).stat())


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


# Files that are no lock ------------------------------------------------------------------------------------------------


def test_where_a_file_cannot_be_written_it_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "nowhere"):
        with pytest.raises(UsageError, match=rf"cannot write .*{folder.name}/\.lock: "):
            hold(folder)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("name", [lock.NAME, lock.OWNER])
def test_a_folder_in_the_place_of_a_file_is_one_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(UsageError, match=rf"cannot write {tmp_path}/{name}: "):
        hold(tmp_path)
    (tmp_path / name).rmdir()
    hold(tmp_path)


def test_a_link_in_the_place_of_a_lock_is_one_error_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    for target in (victim, tmp_path / "new"):
        victim.write_text("mine")
        folder = tmp_path / f"to-{target.name}"
        folder.mkdir()
        (folder / lock.NAME).symlink_to(target)
        for ask in (lock.check, hold):
            with pytest.raises(UsageError, match=rf"cannot write {folder}/\.lock: "):
                ask(folder)
    assert victim.read_text() == "mine" and not (tmp_path / "new").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1e999}', "[" * 100_000, "\0"])
def test_a_note_that_names_nobody_holds_nothing_and_spoils_no_message(tmp_path: Path, content: str) -> None:
    (tmp_path / lock.OWNER).write_text(content)
    with lock.hold(tmp_path):
        (tmp_path / lock.OWNER).write_text(content)
        with pytest.raises(UsageError, match="another process works here") as raised:
            hold(tmp_path)
        assert "\n" not in str(raised.value)


def test_what_a_note_says_stays_on_one_line(tmp_path: Path) -> None:
    with lock.hold(tmp_path):
        (tmp_path / lock.OWNER).write_text(json.dumps({"pid": 7, "host": "\x1b[2Ja\nb" * 99, "since": "now"}))
        with pytest.raises(UsageError, match=r"process 7 on .x1b\[2Ja.nb") as raised:
            hold(tmp_path)
        assert str(raised.value).isprintable() and len(str(raised.value)) < 500


# Without the system's locks --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_locks")
def test_without_locks_the_owner_that_lives_is_believed(tmp_path: Path) -> None:
    process = holder(tmp_path, "no locks")
    for ask in (lock.check, hold):
        with pytest.raises(UsageError, match=rf"held by process {process.pid} on {platform.node()} since 20"):
            ask(tmp_path)
    kill(process)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_process_that_is_gone_holds_nothing(tmp_path: Path) -> None:
    kill(holder(tmp_path, "no locks"))
    lock.check(tmp_path)
    with lock.hold(tmp_path):
        assert json.loads((tmp_path / lock.OWNER).read_text())["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("no_locks")
def test_without_locks_another_process_of_the_same_number_holds_nothing(tmp_path: Path) -> None:
    kill(holder(tmp_path, "no locks"))
    marker = tmp_path / lock.MARKER
    # The marker says number, host and start of its process.
    _, host, start = marker.read_text().splitlines()
    marker.write_text(f"{os.getppid()}\n{host}\n{start}\n")
    hold(tmp_path)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_another_host_is_believed_and_its_file_named(tmp_path: Path) -> None:
    kill(holder(tmp_path, "no locks", "elsewhere"))
    with pytest.raises(UsageError, match=rf"on elsewhere since .*: .*delete {tmp_path}/{lock.MARKER}"):
        hold(tmp_path)
    (tmp_path / lock.MARKER).unlink()
    hold(tmp_path)


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

    monkeypatch.setattr(forecasts, "judge", lambda *_: {})
    kill(holder(tmp_path))
    (tmp_path / ".config.json.jaxseq-a1b2c3d4").write_text('{"exp')
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


def test_a_file_is_waited_for(tmp_path: Path) -> None:
    with lock.wait_for(tmp_path / "a.db", 1.0):
        with (
            pytest.raises(UsageError, match=r"a\.db: another process holds it"),
            lock.wait_for(tmp_path / "a.db", 0.05),
        ):
            pytest.fail("held twice")
        with lock.wait_for(tmp_path / "b.db", 0.05):
            pass
    with lock.wait_for(tmp_path / "a.db", 0.05):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot write"), lock.wait_for(tmp_path / "file" / "a.db", 0.05):
        pass
