"""The loop over epochs with everything around it: the log, the checkpoints, the display, signals, and when to stop."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from jaxseq.checkpoint import records, run_seal, store
from jaxseq.checkpoint.writer import Writer
from jaxseq.common import signals
from jaxseq.common.errors import Interrupted, UsageError
from jaxseq.common.sealed import RUN_ID, DamagedError
from jaxseq.train import devices, epoch, nonfinite, processes, progress, run_folder, stopping, stream
from jaxseq.train.callbacks import Callback, StartedRun, attended
from jaxseq.train.epoch import Epoch, Setup, TrainState
from jaxseq.train.job import Job, abstract_state, initial_state, run_config, with_numbers
from jaxseq.train.run_folder import Row

SAVE_PAUSE = 3.0
"""Least seconds between two saves of quick epochs: what a killed process may lose. A save takes tens of milliseconds."""


class Run(NamedTuple):
    """A run between two epochs: its folder, its job, its config with the identity of the run, the state after its last
    epoch, and one row for each epoch.
    """

    folder: Path
    job: Job
    config: Mapping[str, Any]
    state: TrainState
    rows: list[Row]

    @property
    def metric(self) -> str:
        """The column of the metrics that chooses the best epoch."""
        return f"valid_{self.job.setup.objective.select}"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.folder / run_seal.CHECKPOINTS


class Recorder(NamedTuple):
    """Where the epochs of a run in training are recorded.

    setup   the run's, with its reaction to steps that are not finite
    writer  of the checkpoints; None in all processes but the first
    note    prints a line above the display
    lanes   runs that are trained in one compiled epoch, this one among them
    """

    run: Run
    setup: Setup
    writer: Writer | None
    note: Callable[[str], None]
    lanes: int = 1

    def record(self, finished: Epoch, seconds: float) -> Row:
        """Log an epoch, start to save it, and return its row, which is appended to `run.rows`.

        The row is written before the checkpoint, so that no saved epoch lacks its row wherever the process is stopped.
        Raises `UsageError` for an epoch that is not finite, which is neither logged nor saved.
        """
        run = self.run
        skip = self.setup.skip_nonfinite
        # The epoch before it stays the last.
        step = nonfinite.failing_step(finished, skip)
        if step is not None:
            self.wait()
            reason = nonfinite.failure(run.job, self.setup, run.folder, finished, step)
            raise UsageError(f"{reason}; {_last_saved(run.checkpoints)} in {run.folder}")

        row = metrics_row(finished, seconds, skip)
        if self.lanes > 1:
            row["together"] = self.lanes
        if row.get("skipped"):
            total = len(finished.steps.loss)
            self.note(f"epoch {finished.number}: skipped {row['skipped']} of {total} steps, not finite")
        run.rows.append(row)
        processes.from_first(partial(_log_and_save, run.folder, self.writer, finished, row))
        return row

    def wait(self) -> None:
        """Wait until the last checkpoint is written, in all processes."""
        writer = self.writer
        processes.from_first(lambda: None if writer is None else writer.wait())


def fit_epochs(run: Run, console: Console, callbacks: Sequence[Callback] = ()) -> None:
    """Train the epochs that follow those in `run.rows`, and append a row for each; its state is donated.

    Each epoch is logged, then saved in the background, quick ones every `SAVE_PAUSE` seconds; the best one and the last
    two are on disk at the end and after a stop. Then `callbacks` are called, in the first process. Raises as `run.train`
    does.
    """
    experiment = run.job.experiment
    setup = training_setup(run)
    numbers = epochs_left(run)

    with (
        checkpoint_writer(run, console) as writer,
        progress.display_of(console, run.rows, experiment.most_epochs) as display,
        stop_signals(display.note) as stop_status,
        attended_by(callbacks, run, display.note) as after_epoch,
    ):
        recorder = Recorder(run, setup, writer, display.note)
        if numbers:
            display.show_compiling()
        elif (reason := early_stop(run)) is not None:
            display.note(f"{reason}: the training stays stopped")
        started = time.perf_counter()

        for finished in _epochs(run, setup, numbers):
            row = recorder.record(finished, time.perf_counter() - started)
            display.show(row, run.metric, best=is_best(run))
            stop_reason = processes.from_first(partial(after_epoch, row))

            # Any process may have received the signal; all of them stop after the same epoch.
            status = processes.largest(stop_status())
            if status:
                recorder.wait()
                raise Interrupted(run.folder, finished.number, status)
            if stop_reason is not None:
                display.note(f"stopped after epoch {finished.number} by a callback: {stop_reason}")
                break
            reason = early_stop(run)
            if reason is not None:
                display.note(f"{reason}: stopped after epoch {finished.number}")
                break
            started = time.perf_counter()


def training_setup(run: Run) -> Setup:
    """Return the setup of a run with its reaction to steps that are not finite."""
    return run.job.setup._replace(skip_nonfinite=run.job.experiment.on_nonfinite == "skip")


def epochs_left(run: Run) -> range:
    """Return the numbers of the epochs to train; if there are any, set an earlier judgement of the run aside."""
    # A run that stopped early stays stopped: resumed with the same options, it is only judged again.
    if early_stop(run) is not None:
        return range(0)
    numbers = range(len(run.rows) + 1, run.job.experiment.most_epochs + 1)
    if numbers:
        # Beside later checkpoints, the files of an earlier judgement would pass for files about them.
        processes.from_first(partial(run_seal.set_judgement_aside, run.folder))
    return numbers


def is_best(run: Run) -> bool:
    """Return whether the last epoch of a run is the best so far."""
    return run_folder.best_row(run.rows, run.metric) is run.rows[-1]


def _epochs(run: Run, setup: Setup, numbers: Iterable[int]) -> Iterator[Epoch]:
    """Train on the rows that lie on the devices, or on the batches of the job's source."""
    job = run.job
    batch = job.experiment.batch
    if job.source is None:
        return epoch.epochs(setup, run.state, train=job.data.train, valid=job.data.valid, batch=batch, numbers=numbers)
    return stream.epochs(
        setup,
        run.state,
        job.source,
        valid=job.data.valid,
        batch=batch,
        numbers=numbers,
        put=partial(devices.split, setup.batch_sharding),
    )


def early_stop(run: Run) -> str | None:
    """Return why a run ends after its last epoch so far, as `stopping.stop_reason`; the first process decides for all."""
    return processes.from_first(partial(stopping.stop_reason, run.job.experiment, run.rows, run.metric))


def attended_by(
    callbacks: Sequence[Callback], run: Run, note: Callable[[str], None]
) -> AbstractContextManager[Callable[[Row], str | None]]:
    """Call the callbacks at start and end of a training, in the first process; in the others there are none."""
    # A copy, because the loop appends to the rows.
    started_run = StartedRun(
        folder=run.folder,
        experiment=run.job.experiment,
        config=run.config,
        metric=run.metric,
        rows=tuple(run.rows),
        note=note,
    )
    return attended(callbacks if processes.is_first() else (), started_run)


# Writing ---------------------------------------------------------------------------------------------------------------


@contextmanager
def checkpoint_writer(run: Run, console: Console) -> Iterator[Writer | None]:
    """Open the checkpoints of a run in the first process, and yield None in the others.

    Opening and closing go through `processes.from_first`, so that all processes raise its error.
    """
    writers: list[Writer] = []

    def open_writer() -> None:
        writers.append(Writer(run.checkpoints, run.config, run.metric, _warner(console), SAVE_PAUSE))

    def abandon(
        kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        # After an error the others do not wait for the first: it only tidies up its own side.
        if writers and kind is not None:
            return writers[0].__exit__(kind, error, trace)
        return None

    processes.from_first(open_writer)
    with ExitStack() as stack:
        stack.push(abandon)
        yield writers[0] if writers else None
    processes.from_first(lambda: writers[0].close())


def _log_and_save(folder: Path, writer: Writer | None, finished: Epoch, row: Row) -> None:
    assert writer is not None, "only the first process writes"
    run_folder.append_metrics(folder, row)
    losses = {name: value for name, value in row.items() if name.startswith(("train", "valid"))}
    log_sha256 = run_seal.log_sha256(folder / run_seal.METRICS, finished.number)
    writer.save(finished.number, devices.first_local_copy(finished.state), losses, log_sha256)


def metrics_row(finished: Epoch, seconds: float, skip: bool) -> Row:
    """Return an epoch's row of `metrics.jsonl`; its means leave out steps that were skipped."""
    is_nonfinite = nonfinite.nonfinite_steps(finished)
    loss = np.asarray(finished.steps.loss)[~is_nonfinite]
    norm = np.asarray(finished.steps.gradient_norm)[~is_nonfinite]

    row: Row = {"epoch": finished.number, "step": int(finished.state.step), "train_loss": float(np.mean(loss))}
    for name, value in finished.valid.items():
        row[f"valid_{name}"] = value
    row["gradient_norm"] = float(np.mean(norm))
    if skip:
        row["skipped"] = int(is_nonfinite.sum())
    row["seconds"] = round(seconds, 4)
    row["windows_per_second"] = round(finished.rows / seconds, 1)
    return row


def note_skipped_steps(job: Job, rows: Sequence[Row]) -> Job:
    """Return the job with a note on the number of skipped steps; unchanged if there are none."""
    skipped = sum(row.get("skipped", 0) for row in rows)
    if not skipped:
        return job

    total = rows[-1]["step"]
    note = f"{skipped:,} of {total:,} training steps were skipped: their loss or gradient was not finite"
    return dataclasses.replace(job, notes=(*job.notes, note))


def _last_saved(checkpoints: Path) -> str:
    number = records.latest_epoch(checkpoints)
    return "no epoch was finished" if number is None else f"epoch {number} is saved"


# Resuming --------------------------------------------------------------------------------------------------------------


def resume(job: Job, folder: Path, from_epoch: int | None, console: Console) -> Run:
    """Restore the newest intact epoch of a run, and drop the rows of later epochs, which are trained again.

    With `from_epoch`, restore that one, and drop the later ones, too; 0 is the state before the first epoch.

    Raises `UsageError` if the run has more epochs than the experiment, or if its metrics lack an epoch or a column, and
    `DamagedError` if the best epoch so far is lost and no epoch is named, or if a row was changed.
    """
    warn = _warner(console)
    total = job.experiment.most_epochs
    done, run = _restored(job, folder, from_epoch, warn)
    if done > total:
        raise UsageError(
            "the run already has more epochs", where=folder, got=f"--epochs {total}", needed=f"at least {done}"
        )

    for row in run_folder.read_metrics(folder):
        missing = [name for name in ("step", "train_loss", run.metric, "seconds") if name not in row]
        if missing:
            raise UsageError(f"epoch {row['epoch']} lacks {', '.join(missing)}", where=folder / run_seal.METRICS)

    def drop_later_epochs() -> list[Row]:
        if from_epoch is not None:
            records.remove_after(run.checkpoints, done)
        return run_folder.keep_metrics(folder, done)

    rows = processes.from_first(drop_later_epochs)
    warn(f"{folder}: resuming after epoch {done} of {total}")
    return run._replace(rows=rows)


def _restored(job: Job, folder: Path, from_epoch: int | None, warn: Callable[[str], None]) -> tuple[int, Run]:
    """Return the epoch that a run resumes from, and the run without the rows of its log."""
    checkpoints = folder / run_seal.CHECKPOINTS
    saved_config = run_folder.read_config(folder)
    config = {**run_config(job), RUN_ID: saved_config.get(RUN_ID)}

    # A run that was stopped in its first epoch has a folder, but no checkpoint yet.
    if from_epoch == 0 or (from_epoch is None and not records.epochs(checkpoints)):
        done = 0
        state = initial_state(job)
    else:
        done, state = store.restore(checkpoints, abstract_state(job), from_epoch, report=warn, config=config)
        state = with_numbers(job, state)
    # Whoever names an epoch takes on purpose what is there.
    if done and from_epoch is None:
        _check_best(Run(folder, job, config, state, []), done)
    processes.check_same(f"{done}", f"see different epochs in {folder}: all of them need the same files")
    return done, Run(folder, job, config, state, [])


def _check_best(run: Run, done: int) -> None:
    """Raise `DamagedError` if the best epoch up to `done` is damaged or gone: the run would end with a worse one."""
    checkpoints = run.checkpoints
    try:
        best_epoch = records.best_until(checkpoints, done)
        reasons = store.damage(checkpoints, best_epoch, run.config)
        where = records.place(checkpoints, best_epoch)
    except DamagedError as error:
        # It is removed when a later epoch is better, which is trained again from here, bit for bit.
        if _has_later_best(run, done):
            return
        reasons = error.reasons
        where = str(error.where)
    if reasons:
        way_out = "--from-epoch N resumes from another epoch, --from-epoch 0 trains the run anew"
        raise DamagedError(where, [f"{reasons[0]}; it is the best so far: {way_out}"])


def _has_later_best(run: Run, done: int) -> bool:
    """Return whether a sealed record says that an epoch after `done` was better than all before.

    The rows of the log say so, too, but nothing seals those after the newest sound epoch.
    """
    if records.later_best(run.checkpoints, done, run.config.get(RUN_ID)) is not None:
        return True
    # What is damaged says nothing.
    with suppress(UsageError):
        judged = run_seal.read_judged(run.folder)
        return judged is not None and judged.epoch > done
    return False


def _warner(console: Console) -> Callable[[str], None]:
    return partial(console.print, highlight=False, markup=False, soft_wrap=True, style="yellow")


# Stopping --------------------------------------------------------------------------------------------------------------


@contextmanager
def stop_signals(note: Callable[[str], None]) -> Iterator[Callable[[], int]]:
    """Within, the first Ctrl-C or SIGTERM is a request to stop: the yielded function returns its exit status, or 0.

    A second Ctrl-C raises KeyboardInterrupt. Outside the main thread, signals keep their handlers.
    """
    status = 0

    def request_stop(requested: int) -> None:
        nonlocal status
        if status:
            raise KeyboardInterrupt
        status = requested
        # Printing fails if the signal interrupts another print; the request counts all the same.
        with suppress(RuntimeError):
            note("stopping after this epoch (Ctrl-C again to stop at once)")

    with signals.caught(request_stop):
        yield lambda: status
