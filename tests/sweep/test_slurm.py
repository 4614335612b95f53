"""Runs as jobs of a cluster: submitted once, found again by their numbers, told of when they end without a result.

SLURM is played by scripts that do what its `sbatch`, `srun` and `squeue` do for a job of ours; submitit is the real one.
"""

import io
import json
import os
import pickle
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console
from test_pool import tiny
from test_search import needs_optuna

from jaxseq.common import sealed
from jaxseq.common.errors import Detached, Interrupted, UsageError
from jaxseq.sweep import __main__ as sweep
from jaxseq.sweep import pool, slurm
from jaxseq.sweep.options import Options
from jaxseq.sweep.planned import PRUNED, PlannedRun, is_finished
from jaxseq.sweep.slurm import Cluster
from jaxseq.train import run_folder

submitit = pytest.importorskip("submitit")

SCRIPTS = {
    "sbatch": """
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
echo "Submitted batch job 7"
for task in $(seq 0 "${last:-0}"); do
  if [ -n "$last" ]; then export SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$task; fi
  SLURM_JOB_ID=7 setsid bash "$1" >/dev/null 2>&1 &
done
""",
    "srun": """
while [ "${1#-}" != "$1" ]; do
  case "$1" in --output|--error) shift;; esac
  shift
done
exec "$@"
""",
    "squeue": 'cat "$QUEUE"',
    "sacct": "exit 1",
}


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the queue is."""
    commands, queue = tmp_path / "bin", tmp_path / "queue"
    commands.mkdir()
    queue.write_text("")
    for name, text in SCRIPTS.items():
        (commands / name).write_text(f"#!/usr/bin/env bash{text if text[0] == chr(10) else chr(10) + text}\n")
        (commands / name).chmod(0o755 | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("QUEUE", str(queue))
    monkeypatch.setenv("PYTHONPATH", str(Path(slurm.__file__).parents[2]))
    monkeypatch.setattr(slurm, "LOOK", 0.1)
    monkeypatch.setattr(slurm, "GRACE", 0.5)
    return queue


def filled(runs: list[PlannedRun], asked: Cluster, folder: Path) -> str:
    said = io.StringIO()
    slurm.train_all(runs, asked, folder, Console(file=said, width=120), "the same command")
    return said.getvalue()


@pytest.mark.slow
def test_jobs_of_slurm_train_every_run_and_the_one_that_cannot_is_named(tmp_path: Path, queue: Path) -> None:
    queue.write_text("7_0\n7_1\n")
    runs = [tiny(tmp_path / "runs", seed) for seed in range(2)]
    runs[1].folder.mkdir(parents=True)
    (runs[1].folder / "mine").write_text("in the way")
    asked = Cluster("slurm", {"partition": "all", "cpus_per_task": 2}, 1)
    with pytest.raises(UsageError, match=r"1 of 2 runs failed, first tiny 1: .*not empty"):
        filled(runs, asked, tmp_path / "out")
    assert is_finished(runs[0]) and "naive" in runs[0].folder.with_suffix(".log").read_text()
    script = next((tmp_path / "out/jobs").glob("*submission.sh")).read_text()
    for line in ("--array=0-1%1", "--partition=all", "--cpus-per-task=2", "--time=60", "--job-name=jaxseq"):
        assert f"#SBATCH {line}\n" in script
    assert slurm._read_numbers(tmp_path / "out/jobs/jobs.json") == {"tiny-0": "7_0", "tiny-1": "7_1"}
    assert filled(runs[:1], asked, tmp_path / "out") == "", "what is finished is not submitted again"


def submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: dict[str, str]) -> list[str]:
    """The runs that are submitted where jobs have these numbers, and the queue is as it is."""
    seen: list[str] = []

    class Counting(submitit.AutoExecutor):
        def submit(self, job, *rest):
            seen.append(job.run.folder.name)
            return super().submit(job, *rest)

    monkeypatch.setattr(submitit, "AutoExecutor", Counting)
    (tmp_path / "out/jobs").mkdir(parents=True, exist_ok=True)
    (tmp_path / "out/jobs/jobs.json").write_text(json.dumps(numbers))
    asked = Cluster("slurm", {})
    executor = slurm._executor(asked, tmp_path / "out/jobs")
    runs = [tiny(tmp_path / "runs", seed) for seed in range(3)]
    monkeypatch.setattr(slurm.Job, "__call__", lambda job: "")
    jobs = slurm._submit(runs, executor, slurm._Queue("slurm"), asked, tmp_path / "out/jobs/jobs.json")
    assert [jobs[run].job_id for run in runs[:2]] == ["3_0", "3_1"]
    return seen


def test_a_job_that_waits_or_runs_is_found_again_and_only_the_others_are_submitted(
    tmp_path: Path, queue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of the second one a search has pruned the run, and nobody was there to count it.
    queue.write_text("3_0\n12\n")
    (tmp_path / "out/jobs").mkdir(parents=True)
    sealed.write(tmp_path / "out/jobs/3_1_result.json", {"failure": PRUNED})
    assert submitted(tmp_path, monkeypatch, {"tiny-0": "3_0", "tiny-1": "3_1", "tiny-2": "3_2"}) == ["tiny-2"]
    numbers = {"tiny-0": "3_0", "tiny-1": "3_1", "tiny-2": "7"}
    assert slurm._read_numbers(tmp_path / "out/jobs/jobs.json") == numbers

    # A copy of the sweep has no jobs, wherever the original is: those under way train the runs of the original.
    shutil.copytree(tmp_path / "out", tmp_path / "copy")
    assert slurm._read_numbers(tmp_path / "copy/jobs/jobs.json") == {}
    (tmp_path / "out").rename(tmp_path / "moved")
    assert slurm._read_numbers(tmp_path / "copy/jobs/jobs.json") == {}
    (tmp_path / "out").symlink_to("moved")
    assert slurm._read_numbers(tmp_path / "moved/jobs/jobs.json") == numbers


def test_a_job_that_left_the_queue_without_a_result_has_failed_and_says_its_last_line(
    tmp_path: Path, queue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (queue.parent / "bin/srun").write_text("#!/usr/bin/env bash\necho oom-kill >&2\nexit 137\n")
    sbatch = queue.parent / "bin/sbatch"
    stderr = '"$(dirname "$1")"/7_0_log.err'
    sbatch.write_text(sbatch.read_text().replace(">/dev/null 2>&1 &", f">/dev/null 2>{stderr} &"))
    with pytest.raises(UsageError, match=r"first tiny 0: job 7 ended without a result: .*oom-kill"):
        filled([tiny(tmp_path / "runs")], Cluster("slurm", {}), tmp_path / "out")


def test_jobs_that_are_refused_are_one_line(tmp_path: Path, queue: Path) -> None:
    (queue.parent / "bin/sbatch").write_text("#!/usr/bin/env bash\necho 'invalid partition' >&2\nexit 1\n")
    with pytest.raises(UsageError, match=r"--on slurm: the jobs were refused: .*") as found:
        filled([tiny(tmp_path / "runs")], Cluster("slurm", {"partition": "moon"}), tmp_path / "out")
    assert "\n" not in str(found.value)


def test_a_signal_leaves_the_jobs_to_themselves(tmp_path: Path, queue: Path) -> None:
    queue.write_text("7\n")
    (queue.parent / "bin/srun").write_text("#!/usr/bin/env bash\nsleep 0\n")
    before = signal.getsignal(signal.SIGINT)
    jobs = tmp_path / "out/jobs/jobs.json"
    words = f"""import os, pathlib, time
while not pathlib.Path({str(jobs)!r}).is_file():
    time.sleep(0.05)
os.kill({os.getpid()}, {int(signal.SIGINT)})"""
    with (
        subprocess.Popen([sys.executable, "-c", words]),
        pytest.raises(Detached, match=r"the same command finds them again, scancel 7 ends") as found,
    ):
        filled([tiny(tmp_path / "runs")], Cluster("slurm", {}), tmp_path / "out")
    assert found.value.status == 130 and signal.getsignal(signal.SIGINT) is before


def test_a_queue_that_does_not_answer_ends_no_job(tmp_path: Path, queue: Path) -> None:
    queue.write_text("7\n")
    jobs = slurm._Queue("slurm")
    job = submitit.SlurmJob(folder=tmp_path, job_id="7")
    assert jobs.holds(job) and not jobs.has_ended(job)
    queue.unlink()
    time.sleep(0.2)
    assert jobs.holds(job) and not jobs.has_ended(job)


def test_where_the_queue_was_never_seen_nothing_is_submitted_twice_and_nothing_has_ended(
    tmp_path: Path, queue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.unlink()
    job = submitit.SlurmJob(folder=tmp_path, job_id="7")
    assert not slurm._Queue("slurm").has_ended(job)
    with pytest.raises(UsageError, match="squeue does not answer: 2 runs have jobs"):
        submitted(tmp_path, monkeypatch, {"tiny-0": "3_0", "tiny-1": "3_1"})


def test_a_job_that_a_signal_stops_ends_without_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SLURM may queue it again; a result would say that it is through."""

    def stopped(planned: PlannedRun) -> str:
        raise Interrupted(planned.folder, 3, 143)

    monkeypatch.setattr(pool, "train_run", stopped)
    run = tiny(tmp_path)
    with pytest.raises(SystemExit) as found:
        slurm.Job(run, tmp_path)()
    assert found.value.code == 143


def test_a_job_that_is_queued_again_is_the_same_job(tmp_path: Path) -> None:
    run = tiny(tmp_path)
    again = slurm.Job(run, tmp_path).checkpoint()
    assert again.function.run == run


class Trap:
    """An object whose pickle runs code."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_result_is_read_from_json_and_no_pickle_is_loaded(tmp_path: Path) -> None:
    """Somebody else may write into the shared folder of the jobs."""
    sprung = tmp_path / "sprung"
    job = submitit.SlurmJob(folder=tmp_path, job_id="7")
    job.paths.result_pickle.write_bytes(pickle.dumps(("success", Trap(sprung))))
    assert slurm._Queue("slurm").has_ended(job)
    job.paths.stderr.write_text("first\nout of \x1b[2Jmemory\n")
    assert slurm._failure(job) == r"job 7 ended without a result: out of \x1b[2Jmemory"

    result = tmp_path / "7_result.json"
    for failure in ("", "not empty \x1b[2J"):
        sealed.write(result, {"failure": failure})
        assert slurm._failure(job) == failure.replace("\x1b", r"\x1b")
    for damaged in (result.read_text().replace("empty", "full"), "{}", "", "[" * 10_000):
        result.write_text(damaged)
        assert slurm._failure(job).startswith("the result of job 7 cannot be read")
    assert not sprung.exists()
    pickle.loads(job.paths.result_pickle.read_bytes())
    assert sprung.exists(), "the trap works"


def words(epochs: int) -> list[str]:
    """Words of a search."""
    run = ["waves", "--data.count", "60", "--data.window", "8", "--batch", "16", "--model.cell", "rnn"]
    return [*run, "--model.hidden=2..8", "--epochs", str(epochs)]


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Processes of this machine in place of a cluster."""
    pytest.importorskip("optuna")
    monkeypatch.setenv("PYTHONPATH", str(Path(slurm.__file__).parents[2]))
    return Cluster("local", {}, 2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_processes_of_this_machine_do_what_a_cluster_does(
    tmp_path: Path, local: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitit.core.utils, "pickle_load", lambda _: pytest.fail("loaded a pickle"))
    screen = io.StringIO()
    folder = sweep.sweep(Options(words(2), tmp_path / "out", 1, local, trials=1), Console(file=screen, width=120))
    assert "trial 0 (1 of 1): model.hidden" in screen.getvalue()
    (result,) = (folder / "jobs").glob("*_result.json")
    assert sealed.read(result) == {"failure": ""}
    # The job reported its epochs to the journal of the search.
    reports = [line for line in (folder / "optuna.log").read_text().splitlines() if "intermediate_value" in line]
    assert [json.loads(line)["step"] for line in reports] == [1, 2]


SEARCH = """
import sys
from pathlib import Path
from jaxseq.common import command_line
from jaxseq.sweep import __main__ as sweep
from jaxseq.sweep.options import Options
from jaxseq.sweep.slurm import Cluster
from jaxseq.train import run_folder
from test_slurm import words

options = Options(words(int(sys.argv[2])), Path(sys.argv[1]), 1, Cluster("local", {}, 2), trials=4)
sys.exit(command_line.run("sweep", lambda: sweep.sweep(options), "stopped"))
"""


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(number) for number in found.stdout.split()]


@pytest.mark.slow
def test_a_search_that_is_killed_with_its_jobs_resumes_its_trials_and_so_does_a_job_that_is_preempted(
    tmp_path: Path, local: Cluster
) -> None:
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here.parents[1]}:{here}:{here.parent / 'support'}"}
    epochs, out = 300, tmp_path / "out"

    def start() -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-c", SEARCH, str(out), str(epochs)], env=environment)

    def trained() -> dict[str, int]:
        return {path.parent.name: path.read_text().count("\n") for path in out.glob("*/metrics.jsonl")}

    def task_after(command: subprocess.Popen, name: str, least: int) -> int:
        """Wait until a run has trained some epochs; return the process that trains it."""
        deadline = time.monotonic() + 300
        while trained().get(name, 0) < least:
            assert time.monotonic() < deadline and command.poll() is None
            time.sleep(0.05)
        (task,) = children(int(json.loads((out / "jobs/jobs.json").read_text())[name]))
        return task

    command = start()
    task_after(command, "waves-trial-0000", 30)
    command.kill()
    command.wait()
    for number in slurm._read_numbers(out / "jobs/jobs.json").values():
        for pid in [*children(int(number)), int(number)]:
            os.kill(pid, signal.SIGKILL)
    before = trained()
    assert set(before) <= {"waves-trial-0000", "waves-trial-0001"} and min(before.values()) < epochs

    command = start()
    # As SLURM does before it queues a job again.
    os.kill(task_after(command, "waves-trial-0002", 30), signal.SIGUSR2)
    assert command.wait(timeout=500) == 0
    logs = [path.read_text() for path in (out / "jobs").glob("*_log.out")]
    assert sum("Requeued" in log for log in logs) == 1 and len(logs) == 6
    assert trained() == {f"waves-trial-{number:04d}": epochs for number in range(4)}
    for folder in out.glob("waves-trial-*/"):
        assert [row["epoch"] for row in run_folder.read_metrics(folder)] == list(range(1, epochs + 1))
    table = (out / "sweep.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in table[1:]] == [[str(number), "complete"] for number in range(4)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--on", "moon"], "--on: unknown place; got 'moon', needed here or slurm"),
        (["--on", "local"], "--on: unknown place; got 'local', needed here or slurm"),
        (
            ["--on", "slurm", "--slurm.tasks-per-node", "2"],
            "a job is one process on one node: leave out tasks_per_node",
        ),
        (["--on", "slurm", "--slurm.moon", "3"], "Unknown argument 'moon'"),
        (["--on", "slurm", "--slurm.timeout-min", "soon"], '"timeout_min" expected type'),
        (["--slurm.partition", "gpu"], "--slurm.partition needs --on slurm"),
        (["--on", "slurm", "--slurm.partition"], "--slurm.partition needs a value"),
        pytest.param(
            ["--optuna", "2", "--lr=1e-3..1e-2", "--on", "slurm", "--slurm.moon", "3"],
            "Unknown argument 'moon'",
            marks=needs_optuna,
        ),
        (["--mesh.processes", "2"], "--mesh.processes belongs to python -m jaxseq.train"),
    ],
)
def test_a_cluster_that_cannot_be_is_one_line(
    words: list[str], said: str, queue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep.main(["aapl", "--epochs", "1", *words, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


@pytest.mark.parametrize("search", [[], pytest.param(["--optuna", "2"], marks=needs_optuna)])
def test_without_submitit_it_is_said_what_to_install(
    search: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert sweep.main([*words(1), *search, "--on", "slurm", "--out", str(tmp_path / "new")]) == 2
    assert 'pip install "jaxseq[slurm]"' in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    with pytest.raises(UsageError, match=r"pip install \"jaxseq\[slurm\]\""):
        filled([tiny(tmp_path)], Cluster("slurm", {}), tmp_path / "out")
