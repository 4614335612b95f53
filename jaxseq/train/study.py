"""A study: one experiment trained for several seeds, and on the folds of a backtest. Every member is a separate run.

A study is identified by its folder: repeated with the same `--out`, it keeps finished runs, resumes interrupted ones, and
refuses to mix recipes.
"""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from jaxseq.checkpoint import run_seal
from jaxseq.common import csv_tables, files, lock, sealed, written
from jaxseq.common.checks import MOST_RUNS, count
from jaxseq.common.console import terminal
from jaxseq.common.errors import Interrupted, UsageError
from jaxseq.common.text import counted
from jaxseq.data.dataset import SeriesData
from jaxseq.train import auto_record, domains, experiments, run, run_folder, together
from jaxseq.train.callbacks import Callback
from jaxseq.train.domains.base import NO_EXTRAS, Extras, Member
from jaxseq.train.experiments.base import Experiment

RECIPE, MEMBERS, SUMMARY = "study.json", "study.csv", "study.md"


def study(
    experiment: Experiment,
    seeds: int = 1,
    folds: int = 1,
    out: str | Path | None = None,
    console: Console | None = None,
    extras: Extras = NO_EXTRAS,
    callbacks: Sequence[Callback] = (),
) -> Path:
    """Train and judge an experiment for several seeds and folds, and return the study's folder.

    The folder holds the runs, `study.csv` with a row for each run, and `study.md`, which judges the mean over the seeds
    on all folds together. `callbacks` are called for each run. Raises as `run.train` does; an interrupted study
    resumes where it stopped.
    """
    fill = partial(_one_by_one, extras=extras, callbacks=callbacks)
    return _study(experiment, seeds=seeds, folds=folds, out=out, console=console, fill=fill)


def study_together(
    experiment: Experiment,
    seeds: int,
    folds: int = 1,
    out: str | Path | None = None,
    console: Console | None = None,
    extras: Extras = NO_EXTRAS,
    make_callbacks: Callable[[], Sequence[Callback]] = tuple,
) -> Path:
    """Do as `study`, but train the seeds of a fold together, in one compiled epoch.

    Parameters differ in the last bits from those of `study`, as `lanes` says, and a study may change between the two when
    it resumes. Callbacks see one run at a time: `make_callbacks` is called for each run, and returns its own. Raises
    `UsageError`, too, for seeds that one program cannot train.
    """
    # The program of a single lane would be that of a run alone, but for its last bits.
    count(2, most=MOST_RUNS, where=together.OPTION, seeds=seeds)
    fill = partial(_by_fold, extras=extras, make_callbacks=make_callbacks)
    return _study(experiment, seeds=seeds, folds=folds, out=out, console=console, fill=fill)


def _study(
    experiment: Experiment,
    *,
    seeds: int,
    folds: int,
    out: str | Path | None,
    console: Console | None,
    fill: Callable[[list[Member], Path, Console], None],
) -> Path:
    """Make or resume the folder of a study, let `fill` train its unfinished runs there, and sum up all of them."""
    count(most=MOST_RUNS, **{"--seeds times --backtest": seeds * folds})
    if console is None:
        console = terminal()
    domain = domains.of(experiment)
    for member in members(experiment, 1, folds, Path()):
        # Now, because invalid data of a later fold would otherwise appear after hours of training.
        domain.check(member.experiment)

    out_folder = None if out is None else files.user_path(out)
    with ExitStack() as locks:
        folder = _folder(experiment, seeds, folds, out_folder, locks)
        runs = members(experiment, seeds, folds, folder)
        fill(runs, folder, console)

        table = gather(runs)
        text = domain.summary(experiment, runs, table)
        outputs = written.Outputs(folder, partial(console.print, highlight=False, markup=False, soft_wrap=True))
        outputs.write(MEMBERS, csv_tables.content(table))
        outputs.write(SUMMARY, text.encode())

    console.print(text, highlight=False, markup=False)
    console.print(f"{folder}: {SUMMARY}, {MEMBERS}, and a folder for each run", highlight=False)
    return folder


def _one_by_one(
    runs: list[Member],
    folder: Path,
    console: Console,
    extras: Extras,
    callbacks: Sequence[Callback],
) -> None:
    """Train the unfinished runs, one after the other."""
    started = time.perf_counter()
    unfinished = [member for member in runs if not _is_finished(member, console, extras)]
    finished_before = len(runs) - len(unfinished)

    for trained, member in enumerate(unfinished):
        number = finished_before + trained + 1
        title = f"run {number} of {len(runs)}: fold {member.fold}, seed {member.seed}"
        # The first run is the only measure of how long one takes.
        if trained:
            seconds_a_run = (time.perf_counter() - started) / trained
            minutes_left = seconds_a_run * (len(unfinished) - trained) / 60
            title += f", about {minutes_left:.0f} min left"
        console.rule(title)
        try:
            _run(member, runs, console=console, extras=extras, callbacks=callbacks)
        except Interrupted as stop:
            # The interruption itself says how to resume this one run, but not the study.
            reason = f"{stop}".split(";")[0]
            console.print(f"{reason}; repeat the command with --out {folder} to resume the study", highlight=False)
            raise


def _by_fold(
    runs: list[Member],
    folder: Path,
    console: Console,
    extras: Extras,
    make_callbacks: Callable[[], Sequence[Callback]],
) -> None:
    """Train the unfinished runs, those of a fold together."""
    unfinished = [member for member in runs if not _is_finished(member, console, extras)]
    for fold in sorted({member.fold for member in unfinished}):
        seeds = [member for member in runs if member.fold == fold]
        left = [member for member in seeds if member in unfinished]
        console.rule(f"fold {fold} of {runs[-1].fold}, {counted(len(left), 'seed')} together")
        again = f"the same command with --out {shlex.quote(str(folder))}"
        failures = together.train(
            seeds,
            left,
            console=console,
            extras=extras,
            again=again,
            make_callbacks=make_callbacks,
        )
        for error in failures.values():
            raise error


def _is_finished(member: Member, console: Console, extras: Extras) -> bool:
    """Return whether a member is judged, with what is asked for, and its files are as they were written.

    It says what is damaged or lacks.
    """
    # An interrupted member resumes, and has nothing to judge again.
    if not run_seal.has_judgement(member.folder):
        return False
    reasons = run_seal.judged_damage(member.folder)
    reasons += [f"{member.folder}: without {name}" for name in extras.files if not (member.folder / name).exists()]
    if reasons:
        console.print(f"{reasons[0]}: the run is judged again", highlight=False, markup=False)
    return not reasons


def members(
    experiment: Experiment,
    seeds: int,
    folds: int,
    folder: Path,
) -> list[Member]:
    """Return the runs of a study, fold by fold. Raises `UsageError` for folds of data that has a fixed split."""
    if folds > 1 and not isinstance(experiment.data, SeriesData):
        raise UsageError(
            "a backtest needs a series; this data has a fixed split", where="--backtest", got=folds, needed=1
        )

    runs = []
    for fold in range(1, folds + 1):
        data = experiment.data
        if folds > 1:
            data = dataclasses.replace(data, folds=folds, fold=fold)
        for seed in range(experiment.seed, experiment.seed + seeds):
            run_experiment = dataclasses.replace(experiment, data=data, seed=seed)
            runs.append(Member(fold, seed, run_experiment, folder / f"fold-{fold}-seed-{seed}"))
    return runs


def _folder(
    experiment: Experiment,
    seeds: int,
    folds: int,
    out: Path | None,
    locks: ExitStack,
) -> Path:
    """Return the study's folder, which may exist already, and keep it locked."""
    recipe = {**experiments.to_config(experiment), "seeds": seeds, "folds": folds}
    if out is not None and run_folder.has_recipe(out, RECIPE, SUMMARY):
        _check_recipe(out, recipe)
        locks.enter_context(lock.hold(out))
        return out

    auto_record.check_is_of(out, experiment)
    folder = run_folder.create(f"{experiment.name}-study", out)
    locks.enter_context(lock.hold(folder))
    # Another process may have begun here before this one held the lock.
    run_folder.check_empty(folder)
    runs = members(experiment, seeds, folds, folder)
    configs = {member.folder.name: experiments.to_config(member.experiment) for member in runs}
    sealed.write(folder / RECIPE, {**recipe, **run_seal.members_record(configs, run_folder.MAY_CHANGE)})
    return folder


def _check_recipe(folder: Path, recipe: dict[str, object]) -> None:
    """Raise `UsageError` if the study in a folder has another recipe."""
    saved = _recipe(folder / RECIPE)
    changed = [name for name in recipe if saved.get(name) != recipe[name]]
    if changed:
        raise UsageError(
            f"of another study: {', '.join(changed)} differ", where=folder / RECIPE, needed="another --out"
        )


def _recipe(path: Path) -> dict[str, object]:
    """Read the recipe of a study; fields that are newer than the file have their defaults."""
    saved = sealed.read(path)
    for name in (run_seal.MEMBERS, run_seal.FIELDS):
        saved.pop(name, None)
    counts = {name: saved.pop(name, None) for name in ("seeds", "folds")}
    experiment = experiments.from_config(saved, str(path))
    return {**experiments.to_config(experiment), **counts}


def _run(member: Member, runs: Sequence[Member], **options: Any) -> None:
    """Train a member, or resume it where it was interrupted; `options` are those of `run.train`."""
    files.refuse_link(member.folder)
    if _has_begun(member):
        run.train(member.experiment, resume=member.folder, **options)
    else:
        begun = [other.folder for other in runs if other.fold == member.fold and _has_begun(other)]
        train: Callable[..., Path] = run.train
        # A file that grows while a study runs would give its later seeds other rows.
        if begun:
            train = partial(run.train_beside, begun[0])
        train(member.experiment, out=member.folder, **options)


def _has_begun(member: Member) -> bool:
    return (member.folder / run_seal.CONFIG).is_file()


def gather(runs: list[Member]) -> pd.DataFrame:
    """Return a table with a row for each finished run: fold, seed, and its row as it was judged."""
    rows = []
    for member in runs:
        place = {"fold": member.fold, "seed": member.seed}
        rows.append({**place, **run_seal.judged_row(member.folder)})
    return pd.DataFrame(rows)
