"""A run from start to end: train an experiment, judge it on the test part, and leave a folder behind.

A run begins in a new folder, or resumes in its own. A resumed run continues bit for bit as if it had not stopped; with
more epochs than before, it is extended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from rich.console import Console

from jaxseq.checkpoint import records, run_seal
from jaxseq.common import files, lock, memory
from jaxseq.common.console import terminal
from jaxseq.common.errors import EXIT_INTERRUPTED, Interrupted
from jaxseq.common.sealed import RUN_ID
from jaxseq.train import auto_record, devices, domains, loop, overrides, processes, run_folder, warm_start
from jaxseq.train.callbacks import Callback
from jaxseq.train.domains.base import NO_EXTRAS, Extras, RunRow
from jaxseq.train.experiments.base import AUTO, Experiment
from jaxseq.train.experiments.config import OVERRIDES
from jaxseq.train.job import Job, check_rows, epochs_note, initial_state, on_local_devices, run_config, size_note
from jaxseq.train.loop import Run
from jaxseq.train.resume import check_resumable


def train(
    experiment: Experiment,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    console: Console | None = None,
    extras: Extras = NO_EXTRAS,
    from_epoch: int | None = None,
    callbacks: Sequence[Callback] = (),
) -> Path:
    """Train an experiment, judge it on the test part, and return the run's folder.

    A new run is written to `out`, or to the next number in `runs/`. With `resume`, the run in that folder continues up
    to the experiment's epochs, from its newest intact epoch or after `from_epoch`, 0 to train it anew. `extras` are
    those of the judgement. `callbacks` are called as `callbacks.Callback` says.

    Raises `UsageError` for an invalid request, before anything is written wherever it can be known, and if another
    process works in the folder. Raises `Interrupted` on Ctrl-C or SIGTERM, and whatever a callback raises, after the last
    finished epoch is saved.
    """
    open_run: Callable[[Console, ExitStack], Run] = partial(_open_new, experiment, out, None, None)
    if resume is not None:
        open_run = partial(_open_old, experiment, resume, from_epoch)
    processes.check_same(f"{experiment} {resume is None}", RECIPES)
    return _train(open_run, console, extras, callbacks)


def train_from(
    source: str | Path,
    experiment: Experiment,
    out: str | Path | None = None,
    console: Console | None = None,
    extras: Extras = NO_EXTRAS,
    callbacks: Sequence[Callback] = (),
) -> Path:
    """Train an experiment as `train` does, beginning with the parameters of the finished run in the folder `source`.

    The architecture has to be that of the source, which stays as it is; `train` resumes the new run. Raises `UsageError` as
    `train` and `warm_start.begun` do.
    """
    processes.check_same(f"{experiment} {source}", RECIPES)
    return _train(partial(_open_new, experiment, out, source, None), console, extras, callbacks)


def train_beside(
    other: Path,
    experiment: Experiment,
    out: str | Path | None = None,
    console: Console | None = None,
    extras: Extras = NO_EXTRAS,
    callbacks: Sequence[Callback] = (),
) -> Path:
    """Train an experiment as `train` does, on the rows of the run in the folder `other`: other rows are a `UsageError`."""
    processes.check_same(f"{experiment} {other}", RECIPES)
    return _train(partial(_open_new, experiment, out, None, other), console, extras, callbacks)


RECIPES = "have different recipes: all of them need the same command"
"""Error of processes that would wait for each other in different collective operations."""


def _train(
    open_run: Callable[[Console, ExitStack], Run],
    console: Console | None,
    extras: Extras,
    callbacks: Sequence[Callback],
) -> Path:
    """Begin or resume a run by `open_run`, train and judge it, and return its folder."""
    if console is None:
        console = terminal()
    # Otherwise every line would appear once for each process.
    if not processes.is_first():
        console.quiet = True

    with ExitStack() as locks:
        run = open_run(console, locks)
        judge = partial(judge_by_domain, console=console, extras=extras)
        fit_and_judge(run, console, callbacks, judge)
        _print_memory(run.job, console)
    return run.folder


def _print_memory(job: Job, console: Console) -> None:
    """Print what a large run has taken, beside its estimate."""
    peak = memory.peak()
    if peak is None or job.needed < memory.GIB:
        return
    words = f"memory: {peak / memory.GIB:.1f} GiB, by the estimate at most {job.needed / memory.GIB:.1f}"
    console.print(words, highlight=False)


def _open_new(
    experiment: Experiment,
    out: str | Path | None,
    source: str | Path | None,
    same_rows_as: Path | None,
    console: Console,
    locks: ExitStack,
) -> Run:
    """Begin a run in a new folder, with the parameters of a finished one if `source` names it."""
    out_folder = None if out is None else files.user_path(out)
    processes.from_first(lambda: run_folder.check_writable(out_folder))
    auto_record.check_is_of(out_folder, experiment)
    if source is not None:
        # Before the data are read, which may take a while.
        warm_start.check(experiment, files.user_path(source))
    job = domains.of(experiment).prepare(experiment)
    if same_rows_as is not None:
        check_rows(job, same_rows_as)
    if source is not None:
        job = warm_start.begun(job, source)
    _print_notes(job, console)
    if experiment.epochs == AUTO:
        console.print(epochs_note(job), highlight=False, markup=False)
    note = size_note(job)
    if note:
        console.print(note, highlight=False, markup=False)
    return begin(job, out_folder, locks)


def _open_old(
    experiment: Experiment,
    resume: str | Path,
    from_epoch: int | None,
    console: Console,
    locks: ExitStack,
) -> Run:
    """Resume the run of an experiment in its folder."""
    folder = files.user_path(resume)
    check_resumable(folder, experiment)
    processes.from_first(lambda: locks.enter_context(lock.hold(folder)))
    job = domains.of(experiment).prepare(experiment)
    _print_notes(job, console)
    return resume_run(job, folder, from_epoch, console)


def _print_notes(job: Job, console: Console) -> None:
    for note in job.notes:
        console.print(note, highlight=False, markup=False)


# A new run -------------------------------------------------------------------------------------------------------------


def begin(job: Job, out: Path | None, locks: ExitStack) -> Run:
    """Draw the first state and make the run's folder, which stays locked until `locks` are closed."""
    # First, because a model that does not fit into memory should leave no folder behind.
    state = initial_state(job)
    config = run_config(job)
    config[RUN_ID] = run_folder.identity(config)
    folder = processes.from_first(lambda: str(_new_folder(job, config, out, locks)))
    return Run(Path(folder), job, config, state, rows=[])


def _new_folder(job: Job, config: Mapping[str, object], out: Path | None, locks: ExitStack) -> Path:
    folder = run_folder.create(job.experiment.name, out)
    locks.enter_context(lock.hold(folder))
    # Another process may have begun and ended a run here before this one held the lock.
    run_folder.check_empty(folder)
    run_folder.remove_leftovers(folder)

    # The config makes the folder a run, so it is written before everything else.
    run_folder.write_config(folder, config)
    run_folder.write_environment(folder, devices.describe(job.mesh))
    return folder


# A run that resumes ----------------------------------------------------------------------------------------------------


def resume_run(job: Job, folder: Path, from_epoch: int | None, console: Console) -> Run:
    """Restore the newest intact epoch of a run, or the given one; write its config with the fields that may change."""

    def update_config() -> None:
        run_folder.remove_leftovers(folder)
        run_folder.write_config(folder, run.config)
        run_folder.keep_environment(folder, devices.describe(job.mesh))

    check_rows(job, folder)
    job = warm_start.continued(job, folder, anew=from_epoch == 0)
    overrides.check_same(run_config(job).get(OVERRIDES), folder)
    run = loop.resume(job, folder, from_epoch, console)
    processes.from_first(update_config)
    return run


# To the end of a run ---------------------------------------------------------------------------------------------------


def fit_and_judge(run: Run, console: Console, callbacks: Sequence[Callback], judge: Callable[[Run], RunRow]) -> None:
    """Train the remaining epochs, then judge the best one in the first process, and seal the judgement.

    Raises as `judge_and_seal` does, and `Interrupted` on a second Ctrl-C, too.
    """
    try:
        loop.fit_epochs(run, console, callbacks)
        processes.from_first(lambda: judge_and_seal(run, judge))
    except KeyboardInterrupt:
        last_epoch = records.latest_epoch(run.checkpoints)
        raise Interrupted(run.folder, last_epoch, EXIT_INTERRUPTED) from None


def judge_and_seal(run: Run, judge: Callable[[Run], RunRow]) -> None:
    """Judge the best epoch of a run and seal the judgement.

    `judge` writes the files of the judgement, and returns the run as a row of a table.
    """
    # Until all of its files are written again, the run counts as not judged.
    run_seal.break_seal(run.folder)
    row = judge(run)
    run_seal.write_judged(
        run.folder,
        run.config,
        epoch=records.best_until(run.checkpoints, len(run.rows)),
        epochs=len(run.rows),
        row=row,
    )


def judge_by_domain(run: Run, console: Console, extras: Extras) -> RunRow:
    """Judge a trained run of an experiment on the test part, as its domain does."""
    noted_job = on_local_devices(loop.note_skipped_steps(run.job, run.rows))
    return domains.of(run.job.experiment).judge(noted_job, run.folder, console, extras)
