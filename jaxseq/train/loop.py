"""The loop over epochs with everything around it: the log, the checkpoints, the display, signals, and when to stop."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from jaxseq.checkpoint import records, store
from jaxseq.checkpoint.writer import Writer
from jaxseq.common import signals
from jaxseq.common.errors import Interrupted, UsageError
from jaxseq.train import devices, processes, progress, run_folder
from jaxseq.train import epoch as fit
from jaxseq.train.epoch import TrainState
from jaxseq.train.job import Job, abstract_state, initial_state, run_config

IN_A_ROW = 10
"""Steps that may be skipped one after the other. The parameters do not change meanwhile, so more will not get through."""


def fit_epochs(job: Job, state: TrainState, rows: list[run_folder.Row], folder: Path, console: Console) -> None:
    """Do the epochs that follow those in `rows`, each one logged and saved in the background. Raises as `train` does.

    The row is written before the checkpoint: whatever stops the process between the two, no epoch lacks its row.
    """
    experiment = job.experiment
    metric = _metric(job)
    done = len(rows)
    setup = job.setup._replace(skip_nonfinite=experiment.on_nonfinite == "skip")
    say = _sayer(console)
    with (
        _writer(job, folder, metric, say) as writer,
        progress.EpochDisplay(console, done, experiment.epochs) as display,
        stop_signals(display.note) as stopped,
    ):
        started = time.perf_counter()
        numbers = range(done + 1, experiment.epochs + 1)
        finished = () if processes.from_first(lambda: _impatient(rows, metric, experiment.patience)) else numbers
        for epoch in fit.epochs(setup, state, job.data.train, job.data.valid, experiment.batch, finished):
            if (at := _fault(epoch, setup.skip_nonfinite)) is not None:
                processes.from_first(lambda: writer.wait())
                told = _told(epoch, at, _leaf(job, setup, folder, epoch, at))
                raise UsageError(f"{told}; {_saved(records.latest_epoch(folder / run_folder.CHECKPOINTS))} in {folder}")
            row = _row(epoch, time.perf_counter() - started, len(job.batches.train.x), setup.skip_nonfinite)
            if row.get("skipped"):
                display.note(
                    f"epoch {epoch.number}: skipped {row['skipped']} of {len(epoch.steps.loss)} steps, not finite"
                )
            rows.append(row)
            processes.from_first(partial(_keep, folder, writer, epoch, row))
            display.show(row, metric, run_folder.best_row(rows, metric) is row)
            if status := processes.largest(stopped()):
                processes.from_first(lambda: writer.wait())
                raise Interrupted(folder, epoch.number, status)
            if processes.from_first(lambda: _impatient(rows, metric, experiment.patience)):
                display.note(f"no better validation for {experiment.patience} epochs: stopped after {epoch.number}")
                break
            started = time.perf_counter()


@contextmanager
def _writer(job: Job, folder: Path, metric: str, say: Callable[[str], None]) -> Iterator[Any]:
    """What saves the steps; None in all processes but the first, which hear of it if it cannot be opened or closed."""
    held: list[Writer] = []
    processes.from_first(lambda: held.append(Writer(folder / run_folder.CHECKPOINTS, run_config(job), metric, say)))
    with ExitStack() as closing:
        closing.push(lambda *error: held[0].__exit__(*error) if held and error[0] else None)
        yield held[0] if held else None
    processes.from_first(lambda: held[0].close())


def _keep(folder: Path, writer: Writer, epoch: fit.Epoch, row: run_folder.Row) -> None:
    """Log an epoch, and begin to save it."""
    run_folder.append_metrics(folder, row)
    measured = {key: row[key] for key in row if key.startswith(("train", "valid"))}
    writer.save(epoch.number, devices.here(epoch.state), measured)


def take_up(job: Job, folder: Path, console: Console) -> tuple[TrainState, list[run_folder.Row]]:
    """The newest sound state of a run and the rows up to it; later rows are dropped, they will come again."""

    report = _sayer(console)
    kept, epochs = folder / run_folder.CHECKPOINTS, job.experiment.epochs
    if records.epochs(kept):
        done, state = store.restore(kept, abstract_state(job), report=report)
    else:
        done, state = 0, initial_state(job)
    processes.check_same(f"{done}", f"see different steps in {folder}: all of them need the same files")
    if done > epochs:
        raise UsageError(f"{folder} has {done} epochs behind it: it cannot go on to --epochs {epochs}")
    for row in run_folder.read_metrics(folder):
        if lacking := [name for name in ("step", "train_loss", _metric(job), "seconds") if name not in row]:
            raise UsageError(f"{folder / run_folder.METRICS}: epoch {row['epoch']} lacks {', '.join(lacking)}")
    rows = processes.from_first(lambda: run_folder.keep_metrics(folder, done))
    report(f"{folder}: going on after epoch {done} of {epochs}")
    return state, rows


def _sayer(console: Console) -> Callable[[str], None]:
    return partial(console.print, highlight=False, markup=False, soft_wrap=True, style="yellow")


def _metric(job: Job) -> str:
    """The column of the metrics by which the best epoch is chosen."""
    return f"valid_{job.setup.objective.select}"


def _impatient(rows: list[run_folder.Row], metric: str, patience: int | None) -> bool:
    if patience is None or not rows:
        return False
    return rows[-1]["epoch"] - run_folder.best_row(rows, metric)["epoch"] >= patience


def _row(epoch: fit.Epoch, seconds: float, windows: int, skip: bool) -> run_folder.Row:
    """An epoch for `metrics.jsonl`; means are over the steps that were not skipped."""
    bad = _not_finite(epoch)
    loss, norm = (np.asarray(values)[~bad] for values in epoch.steps)
    return {
        "epoch": epoch.number,
        "step": int(epoch.state.step),
        "train_loss": float(np.mean(loss)),
        **{f"valid_{name}": value for name, value in epoch.valid.items()},
        "gradient_norm": float(np.mean(norm)),
        **({"skipped": int(bad.sum())} if skip else {}),
        "seconds": round(seconds, 4),
        "windows_per_second": round(windows / seconds, 1),
    }


def with_skipped(job: Job, rows: list[run_folder.Row]) -> Job:
    """The job with a note that says how many steps were skipped; as it is if none was."""
    if not (skipped := sum(row.get("skipped", 0) for row in rows)):
        return job
    note = f"{skipped:,} of {rows[-1]['step']:,} training steps were skipped: their loss or gradient was not finite"
    return dataclasses.replace(job, notes=(*job.notes, note))


def _not_finite(epoch: fit.Epoch) -> np.ndarray:
    """Which of an epoch's steps had a loss or a gradient that is not finite."""
    loss, norm = np.asarray(epoch.steps.loss), np.asarray(epoch.steps.gradient_norm)
    return ~(np.isfinite(loss) & np.isfinite(norm))


def _fault(epoch: fit.Epoch, skip: bool) -> int | None:
    """The step, from 0, for which training has to stop; None if it may go on.

    It is the first that is not finite; with `skip`, the one that is too many of them in a row, or the last of an epoch
    without any other. If validation alone is not finite, it is the last step.
    """
    bad = _not_finite(epoch)
    row = np.convolve(bad, np.ones(IN_A_ROW + 1, int))[: len(bad)] > IN_A_ROW if skip else bad
    if row.any():
        return int(np.argmax(row))
    return None if all(map(math.isfinite, epoch.valid.values())) and not bad.all() else len(bad) - 1


def _told(epoch: fit.Epoch, at: int, leaf: str) -> str:
    loss, norm = (np.asarray(values) for values in epoch.steps)
    return (
        f"training is no longer finite in epoch {epoch.number}, step {at + 1} of {len(loss)} (loss {loss[at]:g}, gradient "
        f"norm {norm[at]:g}{leaf}, validation {next(iter(epoch.valid.values())):g}): take a smaller --lr or set --clip"
    )


def _leaf(job: Job, setup: fit.Setup, folder: Path, epoch: fit.Epoch, at: int) -> str:
    """Which leaf's gradient failed in a step, in words; "" if it was not the step. The epoch is done again up to it."""
    if not _not_finite(epoch)[at]:
        return ""
    state = None
    with suppress(UsageError):  # what failed is said all the same, but without its leaf
        state = _state_before(job, folder, epoch.number)
    if processes.largest(state is None) or state is None:
        return ""
    norms = fit.gradient_norms(setup, state, job.data.train, job.experiment.batch, at)
    found = {
        jax.tree_util.keystr(path, simple=True, separator="/"): float(norm)
        for path, norm in jax.tree_util.tree_leaves_with_path(norms)
    }
    if bad := [path for path, norm in found.items() if not math.isfinite(norm)]:
        return f", not finite in {bad[0]}{f' and {len(bad) - 1} more of {len(found)} leaves' if len(bad) > 1 else ''}"
    largest = max(found, key=lambda path: found[path])
    return f", the largest that of {largest} with {found[largest]:g}"


def _state_before(job: Job, folder: Path, epoch: int) -> TrainState:
    if epoch == 1:
        return initial_state(job)
    return store.restore(folder / run_folder.CHECKPOINTS, abstract_state(job), epoch - 1)[1]


def _saved(epoch: int | None) -> str:
    return "no epoch was finished" if epoch is None else f"epoch {epoch} is saved"


@contextmanager
def stop_signals(note: Callable[[str], None]) -> Iterator[Callable[[], int]]:
    """Within, the first Ctrl-C or SIGTERM only asks to stop: the function given says with which status, or 0.

    A second Ctrl-C is an ordinary KeyboardInterrupt. Outside the main thread, signals are left alone.
    """
    status = 0

    def ask(asked: int) -> None:
        nonlocal status
        if status:
            raise KeyboardInterrupt
        status = asked
        with suppress(RuntimeError):  # the signal came while another line was being written
            note("stopping after this epoch (Ctrl-C again to stop at once)")

    with signals.caught(ask):
        yield lambda: status
