"""The loop over epochs with everything around it: the log, the checkpoints, the display, signals, and when to stop."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import numpy as np
from rich.console import Console

from jaxseq import fit, runlog, screen
from jaxseq import job as jobs
from jaxseq.checkpoint import records, store
from jaxseq.errors import EXIT_INTERRUPTED, EXIT_TERMINATED, Interrupted, UsageError
from jaxseq.fit import TrainState
from jaxseq.job import Job


def fit_epochs(job: Job, state: TrainState, rows: list[runlog.Row], folder: Path, console: Console) -> None:
    """Do the epochs that follow those in `rows`, each one logged and saved in the background. Raises as `train` does.

    The row is written before the checkpoint: whatever stops the process between the two, no epoch lacks its row.
    """
    experiment, metric, done = job.experiment, f"valid_{job.setup.task.select}", len(rows)
    with (
        store.Writer(folder / runlog.CHECKPOINTS, jobs.config(job), metric) as writer,
        screen.EpochDisplay(console, done, experiment.epochs) as display,
        stop_signals(display.note) as stopped,
    ):
        started = time.perf_counter()
        numbers = range(done + 1, experiment.epochs + 1)
        finished = () if _impatient(rows, metric, experiment.patience) else numbers
        for epoch in fit.epochs(job.setup, state, job.data.train, job.data.valid, experiment.batch, finished):
            row = _row(epoch, time.perf_counter() - started, len(job.batches.train.x))
            if fault := _not_finite(epoch):
                writer.wait()
                raise UsageError(f"{fault}; {_saved(records.latest_step(writer.folder))} in {folder}")
            runlog.append_metrics(folder, row)
            rows.append(row)
            writer.save(epoch.number, epoch.state, {key: row[key] for key in row if key.startswith(("train", "valid"))})
            display.show(row, metric, runlog.best_row(rows, metric) is row)
            if status := stopped():
                writer.wait()
                raise Interrupted(folder, epoch.number, status)
            if _impatient(rows, metric, experiment.patience):
                display.note(f"no better validation for {experiment.patience} epochs: stopped after {epoch.number}")
                break
            started = time.perf_counter()


def take_up(job: Job, folder: Path, console: Console) -> tuple[TrainState, list[runlog.Row]]:
    """The newest sound state of a run and the rows up to it; later rows are dropped, they will come again."""

    def report(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True, style="yellow")

    kept, epochs = folder / runlog.CHECKPOINTS, job.experiment.epochs
    if records.steps(kept):
        done, state = store.restore(kept, jobs.abstract_state(job), report=report)
    else:
        done, state = 0, jobs.initial_state(job)
    if done > epochs:
        raise UsageError(f"{folder} has {done} epochs behind it: it cannot go on to --epochs {epochs}")
    rows = runlog.keep_metrics(folder, done)
    report(f"{folder}: going on after epoch {done} of {epochs}")
    return state, rows


def _impatient(rows: list[runlog.Row], metric: str, patience: int | None) -> bool:
    if patience is None or not rows:
        return False
    return rows[-1]["epoch"] - runlog.best_row(rows, metric)["epoch"] >= patience


def _row(epoch: fit.Epoch, seconds: float, windows: int) -> runlog.Row:
    return {
        "epoch": epoch.number,
        "step": int(epoch.state.step),
        "train_loss": float(np.mean(epoch.steps.loss)),
        **{f"valid_{name}": value for name, value in epoch.valid.items()},
        "gradient_norm": float(np.mean(epoch.steps.gradient_norm)),
        "seconds": round(seconds, 4),
        "windows_per_second": round(windows / seconds, 1),
    }


def _not_finite(epoch: fit.Epoch) -> str:
    """Where an epoch has left the finite numbers, with epoch and step; "" if it has not."""
    loss, norm = np.asarray(epoch.steps.loss), np.asarray(epoch.steps.gradient_norm)
    bad = ~(np.isfinite(loss) & np.isfinite(norm))
    if not bad.any() and all(math.isfinite(value) for value in epoch.valid.values()):
        return ""
    at = int(np.argmax(bad)) if bad.any() else len(loss) - 1
    return (
        f"training is no longer finite in epoch {epoch.number}, step {at + 1} of {len(loss)} (loss {loss[at]:g}, "
        f"gradient norm {norm[at]:g}, validation {next(iter(epoch.valid.values())):g}): take a smaller --lr or set --clip"
    )


def _saved(epoch: int | None) -> str:
    return "no epoch was finished" if epoch is None else f"epoch {epoch} is saved"


@contextmanager
def stop_signals(note: Callable[[str], None]) -> Iterator[Callable[[], int]]:
    """Within, the first Ctrl-C or SIGTERM only asks to stop: the function given says with which status, or 0.

    A second Ctrl-C is an ordinary KeyboardInterrupt. Outside the main thread, signals are left alone.
    """
    status = 0

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal status
        if status:
            raise KeyboardInterrupt
        status = EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_TERMINATED
        with suppress(RuntimeError):  # the signal came while another line was being written
            note("stopping after this epoch (Ctrl-C again to stop at once)")

    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, ask)
    except ValueError:  # not the main thread
        before = {}
    try:
        yield lambda: status
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
