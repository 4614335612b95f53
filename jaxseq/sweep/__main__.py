"""`python -m jaxseq.sweep EXPERIMENT --field a,b,c --seed 0:5`: a run for every combination, and a table of all of them."""

from __future__ import annotations

import itertools
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from jaxseq.common import command_line, files
from jaxseq.common import console as common_console
from jaxseq.common.errors import UsageError
from jaxseq.common.text import shown
from jaxseq.sweep import pool
from jaxseq.sweep import slurm as cluster
from jaxseq.train import devices, domains, options, run_folder

GRID, TABLE, SUMMARY = "sweep.json", "sweep.csv", "sweep.md"
MOST = 10_000
"""Runs of a sweep."""
USAGE = """python -m jaxseq.sweep EXPERIMENT [--field value ...] [--out FOLDER] [--workers N]

A run for every combination of the values: those of a field with commas between them, whole numbers from a up to but
without b as a:b. Everything else is as for python -m jaxseq.train, whose --help lists experiments and fields.

  python -m jaxseq.sweep aapl --model.cell rnn,lstm,gru --seed 0:5
  python -m jaxseq.sweep waves --lr 1e-3,3e-3,1e-2 --model.hidden 20,50 --seed 0:3 --workers 4

  --out FOLDER   the sweep's folder; None for the next number, say runs/aapl-sweep-0001. Typed again with the same one,
                 it takes what is finished and goes on with what was interrupted
  --workers N    runs at a time; None for one a core, with SLURM for what the queue gives
  --on slurm     submit each run as a job (needs the extra slurm) and show how far they are; Ctrl-C leaves the jobs alone,
                 and the same command with its --out finds them again
  --slurm.X V    what a job gets, as submitit names it: --slurm.partition gpu --slurm.gpus-per-node 1
                 --slurm.timeout-min 60 (a job whose time is up is queued again, and goes on after its last epoch; an epoch
                 that takes longer than 90 s needs a longer --slurm.signal-delay-s)

It leaves a folder for each run, sweep.csv with a line a run, and sweep.md with mean and standard deviation over seeds."""
HERE, CLUSTER = "here", "slurm"
OWN, SLURM = ("--out", "--workers", "--on"), "--slurm."
"""A sweep's own flags; all others are of the runs."""
RANGE = re.compile(r"(\d+):(\d+)")


class Asked(NamedTuple):
    """The words of a sweep: those of its runs' command lines, where it goes, how many runs at a time, on which cluster."""

    words: list[str]
    out: Path | None
    workers: int
    cluster: cluster.Asked | None = None


class Point(NamedTuple):
    """A combination: the values of the fields that vary, and its recipe."""

    values: dict[str, str]
    experiment: Any


def sweep(asked: Asked, console: Any = None) -> Path:
    """Train every combination and tabulate; returns the folder. Raises `UsageError`, and `Stopped` on a signal."""
    console = common_console.terminal() if console is None else console
    grid = points(asked.words)
    folder = _folder(asked, grid)
    wanted = [pool.Wanted(_name(point), point.experiment, folder / _name(point)) for point in grid]
    console.print(
        f"{folder}: {len(grid)} runs; the same command with --out {folder} goes on with them", highlight=False
    )
    again = f"the same command with --out {shlex.quote(str(folder))}"
    if asked.cluster is None:
        pool.fill(wanted, asked.workers, console, again)
    else:
        cluster.fill(wanted, asked.cluster, folder, console, again)
    table = gather(grid, wanted)
    files.write_table(folder / TABLE, table)
    text = summary(grid, table)
    files.write_text(folder / SUMMARY, text)
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    console.print(f"{folder}: {SUMMARY}, {TABLE}, and a folder for each run", highlight=False)
    return folder


def parse(words: list[str]) -> Asked:
    """The words of the command line. Raises `UsageError` for what cannot be."""
    rest, own, pairs = [], {}, iter(words)
    for word in pairs:
        flag, equals, value = word.partition("=")
        if flag not in OWN and not flag.startswith(SLURM):
            rest.append(word)
            continue
        own[flag] = value if equals else next(pairs, "")
        if not own[flag] or own[flag].startswith("--"):
            raise UsageError(f"{flag} needs a value")
    for word in rest:
        if (flag := word.partition("=")[0]) in ("--resume", "--seeds", "--backtest") or flag.startswith("--mesh."):
            raise UsageError(f"{flag} is of python -m jaxseq.train; a sweep varies --seed, and goes on by its --out")
    workers = own.get("--workers")
    if workers is not None and not (workers.isdecimal() and 1 <= int(workers[:9]) <= 1000):
        raise UsageError(f"--workers must be a whole number from 1 to 1000; it is {shown(workers)}")
    at_once = None if workers is None else int(workers)
    out = Path(own["--out"]) if "--out" in own else None
    return Asked(rest, out, at_once or devices.cores(), _cluster(own, at_once))


def _cluster(own: Mapping[str, str], at_once: int | None) -> cluster.Asked | None:
    """Where jobs go; None for here."""
    where = own.get("--on", HERE)
    resources = {flag.removeprefix(SLURM).replace("-", "_"): value for flag, value in own.items() if flag not in OWN}
    if where not in (HERE, CLUSTER):
        raise UsageError(f"--on must be {HERE} or {CLUSTER}; it is {shown(where)}")
    if where == HERE:
        if resources:
            raise UsageError(f"{SLURM}{next(iter(resources)).replace('_', '-')} is for --on {CLUSTER}")
        return None
    return cluster.Asked(CLUSTER, {name: _number(value) for name, value in resources.items()}, at_once)


def _number(text: str) -> Any:
    """A whole number or one with a point where the text is one."""
    return int(text) if re.fullmatch(r"\d{1,9}", text) else float(text) if re.fullmatch(r"\d+\.\d+", text) else text


def points(words: Sequence[str]) -> list[Point]:
    """Every combination of the values that the words give. Raises `UsageError` for a grid or a recipe that cannot be."""
    choices, names, flag = [], [], ""
    for word in words:
        head, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        flag = head or flag
        several = _values(value) if (equals or not head) and flag else [value]
        if len(set(several)) < len(several):
            raise UsageError(f"{flag} {value} has a value twice")
        names.append(flag.removeprefix("--") if len(several) > 1 else "")
        choices.append([f"{head}{equals}{one}" if head else one for one in several])
    count = 1
    for several in choices:
        count *= len(several)
    if count > MOST:
        raise UsageError(f"a sweep of {count} runs; {MOST} at most")
    found = []
    for combination in itertools.product(*choices):
        pairs = zip(names, combination, strict=True)
        values = {name: word.partition("=")[2] if word.startswith("--") else word for name, word in pairs if name}
        found.append(Point(values, options.parse(list(combination)).experiment))
    return found


def _values(text: str) -> list[str]:
    """The values that a word stands for."""
    found = []
    for part in text.split(",") if "," in text else [text]:
        ends = RANGE.fullmatch(part)
        if ends is None:
            found.append(part)
            continue
        first, last = int(ends[1]), int(ends[2])
        if not first < last <= first + MOST:
            raise UsageError(f"{part} must go from a number up to a larger one, at most {MOST} further")
        found += [str(number) for number in range(first, last)]
    return found


def _name(point: Point) -> str:
    """A run's folder: the values that it has and others have not."""
    said = [f"{name.rpartition('.')[2]}-{value}" for name, value in point.values.items()]
    return re.sub(r"[^\w.=+-]", "_", "-".join([point.experiment.name, *said]))


def _folder(asked: Asked, grid: list[Point]) -> Path:
    """The sweep's folder, new or gone on with. Raises `UsageError` if it holds another sweep."""
    names = [_name(point) for point in grid]
    if len(set(names)) < len(names):
        raise UsageError("two combinations would share a folder: name the fields' values otherwise")
    record = {"words": asked.words}
    if asked.out is not None and (asked.out / GRID).is_file():
        if (there := files.read_json(asked.out / GRID)) != record:
            raise UsageError(
                f"{asked.out} holds another sweep, {' '.join(map(str, there.get('words', [])))}: name another --out"
            )
        return asked.out
    folder = run_folder.create(f"{grid[0].experiment.name}-sweep", asked.out)
    files.write_json(folder / GRID, record)
    return folder


def gather(grid: Sequence[Point], runs: Sequence[pool.Wanted]) -> pd.DataFrame:
    """A line for each run: the values that vary, then what its kind says of it."""
    lines = []
    for point, run in zip(grid, runs, strict=True):
        member = domains.Member(1, run.experiment.seed, run.experiment, run.folder)
        lines.append({**point.values, **domains.of(run.experiment).row(member)})
    return pd.DataFrame(lines)


def summary(grid: Sequence[Point], table: pd.DataFrame) -> str:
    """Mean and standard deviation over the seeds, a line for each combination of the other fields, in Markdown."""
    fields = [name for name in grid[0].values if name != "seed"]
    measures = [name for name in table.columns if name not in grid[0].values and name != "epochs"]
    lines = [
        f"| {' | '.join([*fields, 'runs', *measures])} |",
        "|" + "---|" * len(fields) + "---:|" * (1 + len(measures)),
    ]
    groups = table.groupby(fields, sort=False) if fields else [((), table)]
    for values, some in groups:
        values = values if isinstance(values, tuple) else (values,)
        cells = [_spread(some[name]) for name in measures]
        lines.append(f"| {' | '.join([*map(str, values), str(len(some)), *cells])} |")
    body = "\n".join(lines)
    return f"""# {grid[0].experiment.name}: {len(grid)} runs

{body}

± is the standard deviation over the runs of a line. Choose by a validation column; the test columns are for the one that
was chosen. A line for each run: `{TABLE}`.
"""


def _spread(values: pd.Series) -> str:
    spread = f" ± {values.std(ddof=1):.2g}" if len(values) > 1 else ""
    return f"{values.mean():.5g}{spread}"


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status: 0, 2 for a mistake of the user, 130 if interrupted."""
    words = sys.argv[1:] if argv is None else argv
    if not words or {"-h", "--help"} & set(words):
        print(USAGE)
        return 0
    said = "stopped; the same command with --out goes on"
    return command_line.run("jaxseq.sweep", lambda: sweep(parse(words)), said)


if __name__ == "__main__":
    sys.exit(main())
