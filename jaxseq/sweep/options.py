"""Options of `python -m jaxseq.sweep`."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxseq.common.checks import MOST_RUNS, MOST_WORKERS
from jaxseq.common.errors import UsageError
from jaxseq.common.files import user_path
from jaxseq.sweep.slurm import NO_SUBMITIT, Cluster
from jaxseq.train import devices, loggers
from jaxseq.train.together import OPTION as TOGETHER

SEARCHED_AT_ONCE = 4
"""Default number of jobs of a search on a cluster: of more, most points would be drawn before any result is known."""
HELP = f"""usage: python -m jaxseq.sweep EXPERIMENT [--field value ...] [--out FOLDER] [--workers N]

Train a run for every combination of values and summarise them over the seeds. Separate the values of a field by commas;
a:b stands for the integers from a to b - 1. All other options are those of python -m jaxseq.train, whose --help lists
experiments and fields.

  python -m jaxseq.sweep aapl --model.cell rnn,lstm,gru --seed 0:5
  python -m jaxseq.sweep aapl --optuna 30 --lr log:1e-4..1e-2 --model.hidden 16..128 --model.cell rnn,lstm,gru
  python -m jaxseq.sweep waves --lr 1e-3,3e-3,1e-2 --model.hidden 20,50 --seed 0:3 --workers 4

options:
  --out FOLDER       folder of the sweep (default: the next number, for example runs/aapl-sweep-0001). With the folder of
                     an earlier sweep, finished runs are skipped and interrupted ones resume
  --optuna N         search N points of a space in the place of a grid (needs the extra optuna): a field may be a,b,c or a
                     range, 16..128 or log:1e-4..1e-2. Points follow what the earlier ones achieved in validation, and runs
                     behind the median are pruned. The same command with --out resumes, or adds trials with a larger N
  --workers N        runs trained at a time (default: one per core; with --on slurm, as many as the queue starts, and
                     {SEARCHED_AT_ONCE} of a search)
  --together         train runs that differ in seed, epochs or a number of the optimiser alone in one compiled epoch, as
                     many as the memory holds: for networks of a few units, and devices that one run does not fill.
                     Results differ in the last bits from those of runs alone
  --log TOOLS        copy every epoch to these tools, separated by commas ({", ".join(loggers.TOOLS)})
  --on {{here,slurm}}  train on this machine, or submit every run as a job (needs the extra slurm). Ctrl-C leaves the jobs
                     alone; the same command with --out shows their progress again, and draws the further points of a
                     search (default: here)
  --slurm.NAME VALUE parameter of every job, by its name in submitit: --slurm.partition gpu --slurm.gpus-per-node 1
                     --slurm.timeout-min 60. A job that runs out of time is queued again and resumes after its last epoch;
                     if an epoch takes longer than 90 s, raise --slurm.signal-delay-s

Writes a folder for each run, sweep.csv with a row for each run, and sweep.md with mean and standard deviation over the
seeds."""

HERE = "here"
SLURM = "slurm"
OWN_FLAGS = ("--out", "--workers", "--on", "--log", "--optuna", TOGETHER)
"""Flags of the sweep; all others but those with `RESOURCE` belong to its runs."""
RESOURCE = "--slurm."
"""Prefix of the flags for the parameters of a job."""


class Options(NamedTuple):
    """Options of a sweep.

    words     command line of its runs, with several values where a field varies
    out       folder of the sweep; None takes the next number
    workers   runs at a time on this machine
    cluster   cluster to train on; None trains here
    trials    points that Optuna searches; None trains a grid
    log       tools that the epochs are copied to, as `--log` of a training names them
    together  whether runs of one shape are trained in one compiled epoch
    """

    words: list[str]
    out: Path | None
    workers: int
    cluster: Cluster | None = None
    log: str | None = None
    trials: int | None = None
    together: bool = False

    @property
    def searched_at_once(self) -> int:
        """Number of trials of a search that are under way at a time."""
        if self.cluster is None:
            return self.workers
        return self.cluster.at_once or SEARCHED_AT_ONCE


def parse(words: Sequence[str]) -> Options:
    """Parse the words of the command line. Raises `UsageError` for an unknown option or a value that does not fit."""
    run_words: list[str] = []
    values: dict[str, str] = {}
    remaining = iter(words)
    for word in remaining:
        flag, equals, value = word.partition("=")
        if flag not in OWN_FLAGS and not flag.startswith(RESOURCE):
            run_words.append(word)
            continue
        if flag == TOGETHER and not equals:
            value = "yes"
        elif not equals:
            value = next(remaining, "")
        # A forgotten value would swallow the next flag.
        if not value or value.startswith("--"):
            raise UsageError(f"{flag} needs a value")
        values[flag] = value

    _check_run_words(run_words)
    # Now, because each run would fail by itself.
    loggers.named(values.get("--log"))
    at_once = _at_once(values.get("--workers"))
    out = None
    if "--out" in values:
        out = user_path(values["--out"])
    return Options(
        words=run_words,
        out=out,
        workers=at_once or devices.cores(),
        cluster=_cluster(values, at_once),
        log=values.get("--log"),
        trials=_trials(values),
        together=_together(values),
    )


def _together(values: Mapping[str, str]) -> bool:
    """Return whether runs are trained together. Raises `UsageError` beside options that it does not go with."""
    if TOGETHER not in values:
        return False
    if values[TOGETHER] != "yes":
        raise UsageError("takes no value", where=TOGETHER, got=values[TOGETHER])
    if values.get("--on", HERE) != HERE:
        raise UsageError(
            f"trains on this machine, one group after the other; leave out --on {values['--on']}", where=TOGETHER
        )
    if "--optuna" in values:
        raise UsageError("trains a grid: a search draws a point when the earlier ones have ended", where=TOGETHER)
    return True


def _check_run_words(words: Sequence[str]) -> None:
    """Raise `UsageError` for options of a training that make no sense in a sweep."""
    for word in words:
        flag = word.partition("=")[0]
        if flag in ("--resume", "--seeds", "--backtest") or flag.startswith("--mesh."):
            raise UsageError(f"{flag} belongs to python -m jaxseq.train; a sweep varies --seed and resumes with --out")


def _at_once(text: str | None) -> int | None:
    """Return the number of runs at a time; None where it is not given."""
    if text is None:
        return None
    # Of a longer text nine digits are enough to see that it is out of range.
    if not text.isdecimal() or not 1 <= int(text[:9]) <= MOST_WORKERS:
        raise UsageError("out of range", where="--workers", got=text, needed=f"an integer from 1 to {MOST_WORKERS}")
    return int(text)


def _trials(values: Mapping[str, str]) -> int | None:
    """Return the number of points to search; None where none is given. Raises `UsageError` without Optuna."""
    text = values.get("--optuna")
    if text is None:
        return None
    if not text.isdecimal() or not 1 <= int(text[:9]) <= MOST_RUNS:
        raise UsageError("out of range", where="--optuna", got=text, needed=f"an integer from 1 to {MOST_RUNS}")
    if importlib.util.find_spec("optuna") is None:
        raise UsageError('optuna is not installed: pip install "jaxseq[optuna]"', where="--optuna")
    return int(text)


def _cluster(values: Mapping[str, str], at_once: int | None) -> Cluster | None:
    """Return the cluster that the options name; None for this machine."""
    place = values.get("--on", HERE)
    if place not in (HERE, SLURM):
        raise UsageError("unknown place", where="--on", got=place, needed=f"{HERE} or {SLURM}")

    resources = {}
    for flag, value in values.items():
        if flag in OWN_FLAGS:
            continue
        # Ignored here, it would leave the user waiting for a GPU that no run has.
        if place == HERE:
            raise UsageError(f"{flag} needs --on {SLURM}")
        name = flag.removeprefix(RESOURCE).replace("-", "_")
        resources[name] = _number_or_text(value)

    if place == HERE:
        return None
    # Now, before a folder is made.
    if importlib.util.find_spec("submitit") is None:
        raise UsageError(NO_SUBMITIT, where="--on slurm")
    return Cluster(SLURM, resources, at_once)


def _number_or_text(text: str) -> int | float | str:
    """Return a value of the type that submitit expects: it takes "60" for no number."""
    if re.fullmatch(r"\d{1,9}", text):
        return int(text)
    if re.fullmatch(r"\d+\.\d+", text):
        return float(text)
    return text
