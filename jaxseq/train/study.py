"""One experiment many times: for each seed, and for each fold of a backtest. Every member is a run of its own.

A study is told apart by its folder: typed again with the same `--out`, it takes what is finished, goes on with what was
interrupted, and refuses to mix recipes.
"""

from __future__ import annotations

import dataclasses
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from jaxseq.common import files, lock
from jaxseq.common.errors import Interrupted, UsageError
from jaxseq.train import domains, experiments, run, run_folder
from jaxseq.train.domains import Member
from jaxseq.train.experiments.base import Experiment

if TYPE_CHECKING:
    from rich.console import Console

RECIPE, MEMBERS, SUMMARY = "study.json", "study.csv", "study.md"


def study(
    experiment: Experiment,
    seeds: int = 1,
    folds: int = 1,
    out: str | Path | None = None,
    console: Console | None = None,
    classical: bool = False,
) -> Path:
    """Train and judge an experiment for so many seeds and folds, and return the study's folder.

    It holds a run for each, `study.csv` with a row for each, and `study.md`, which judges the mean over the seeds on all
    folds together. Raises as `training.train` does; an interrupted study goes on where it stopped.
    """
    from jaxseq.common import console as common_console

    console = common_console.terminal() if console is None else console
    domain = domains.of(experiment)
    for member in members(experiment, 1, folds, Path()):
        domain.check(member.experiment)  # before anything is written
    with ExitStack() as held:
        folder = _folder(experiment, seeds, folds, None if out is None else Path(out), held)
        runs = members(experiment, seeds, folds, folder)
        _fill(runs, folder, console, classical)
        table = gather(runs)
        files.write_table(folder / MEMBERS, table)
        text = domain.summary(experiment, runs, table)
        files.write_text(folder / SUMMARY, text)
    console.print(text, highlight=False, markup=False)
    console.print(f"{folder}: {SUMMARY}, {MEMBERS}, and a folder for each run", highlight=False)
    return folder


def _fill(runs: list[Member], folder: Path, console: Console, classical: bool) -> None:
    """Train what is not finished yet, one run after the other."""
    started = time.perf_counter()
    waiting = [member for member in runs if not (member.folder / run_folder.REPORT).is_file()]
    for number, member in enumerate(waiting):
        left = (time.perf_counter() - started) / number * (len(waiting) - number) if number else 0
        about = f", about {left / 60:.0f} min left" if number else ""
        done = len(runs) - len(waiting) + number
        console.rule(f"run {done + 1} of {len(runs)}: fold {member.fold}, seed {member.seed}{about}")
        try:
            _run(member, console, classical)
        except Interrupted as stop:
            again = f"{stop}".split(";")[0]
            console.print(f"{again}; type the command again with --out {folder} to go on", highlight=False)
            raise


def members(experiment: Experiment, seeds: int, folds: int, folder: Path) -> list[Member]:
    """The runs of a study, fold by fold."""
    found = []
    if folds > 1 and not hasattr(experiment.data, "folds"):
        raise UsageError(f"{experiment.data.name} is always cut into the same parts: --backtest is for series")
    for fold in range(1, folds + 1):
        data = dataclasses.replace(experiment.data, folds=folds, fold=fold) if folds > 1 else experiment.data
        for seed in range(experiment.seed, experiment.seed + seeds):
            name = f"fold-{fold}-seed-{seed}"
            found.append(Member(fold, seed, dataclasses.replace(experiment, data=data, seed=seed), folder / name))
    return found


def _folder(experiment: Experiment, seeds: int, folds: int, out: Path | None, held: ExitStack) -> Path:
    """The study's folder, new or the one that is there, which stays `held`."""
    recipe = {**experiments.to_config(experiment), "seeds": seeds, "folds": folds}
    if out is not None and (out / RECIPE).is_file():
        if (there := _recipe(out / RECIPE)) != recipe:
            differ = [name for name in recipe if there.get(name) != recipe[name]]
            raise UsageError(f"{out} holds another study: {', '.join(differ)} differ; name another --out")
        held.enter_context(lock.hold(out))
        return out
    folder = run_folder.create(f"{experiment.name}-study", out)
    held.enter_context(lock.hold(folder))
    run_folder.check_empty(folder)  # by now: another may have begun there
    files.write_json(folder / RECIPE, recipe)
    return folder


def _recipe(path: Path) -> dict[str, Any]:
    """What a study's file says; fields that came after it was written have their defaults."""
    there = files.read_json(path)
    counts = {name: there.pop(name, None) for name in ("seeds", "folds")}
    return {**experiments.to_config(experiments.from_config(there, str(path))), **counts}


def _run(member: Member, console: Console, classical: bool) -> None:
    """Train a member, or go on with it where it was interrupted."""
    begun = (member.folder / run_folder.CONFIG).is_file()
    where = {"resume": member.folder} if begun else {"out": member.folder}
    run.train(member.experiment, console=console, classical=classical, **where)


def gather(runs: list[Member]) -> pd.DataFrame:
    """A row for each run, as its domain sums it up."""
    domain = domains.of(runs[0].experiment)
    return pd.DataFrame([{"fold": m.fold, "seed": m.seed, **domain.row(m)} for m in runs])
