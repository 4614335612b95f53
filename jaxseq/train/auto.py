"""The choice of a preparation by the validation part, within a time: `--auto`.

The preparations of a fixed list are trained for their first steps, one after the other, until the time is over. The time
decides how many are tried, never which of those is best. Each one that is finished is recorded, and the same command goes
on with the next one.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from jaxseq.checkpoint import run_seal
from jaxseq.common import files, lock
from jaxseq.common.console import terminal
from jaxseq.common.errors import EXIT_INTERRUPTED, Undecided, UsageError
from jaxseq.common.text import cut
from jaxseq.data import seasons
from jaxseq.data.dataset import Dataset
from jaxseq.data.panel_data import PanelData
from jaxseq.data.windows import fingerprint
from jaxseq.forecasting import verdict
from jaxseq.train import auto_record, experiments, feed, preparation, run_folder, trial
from jaxseq.train.auto_options import OPTION
from jaxseq.train.auto_record import Record, Tried
from jaxseq.train.domains import forecasts
from jaxseq.train.domains.forecasts import ForecastJob
from jaxseq.train.experiments.base import Experiment
from jaxseq.train.experiments.forecasts import ForecastExperiment
from jaxseq.train.preparation import Preparation

MOST_NOTED = 200
"""Characters kept of the reason why a preparation was not tried."""


class Chosen(NamedTuple):
    """An experiment with the preparation that was chosen, and the folder of its run, which has the record of the choice."""

    experiment: Experiment
    folder: Path


def choose(
    experiment: Experiment,
    seconds: float,
    *,
    given: Collection[str] = (),
    out: str | Path | None = None,
    name: str | None = None,
    console: Console | None = None,
) -> Chosen:
    """Choose a preparation by the validation part, and record it in the folder of the run that is to follow.

    seconds  from then on none begins that would not end in time, by the longest so far; the first one is always tried
    given    fields that stay as they are, such as "data.target"
    out      folder of the run; None takes the next number of `name` in `runs/`. One with a record goes on from there

    Raises `UsageError` for an experiment without such a choice, and for a folder of another one, and `Undecided` on Ctrl-C.
    """
    checked = preparation.check(experiment, OPTION)
    # Where files go, and what is judged beside, decides nothing about the preparation.
    given = frozenset(given) & frozenset(preparation.FIELDS)
    if console is None:
        console = terminal()
    folder = None if out is None else files.user_path(out)
    # The same command goes on with its choice, or finds it made.
    earlier = None if folder is None else auto_record.read(folder)
    if earlier is None:
        run_folder.check_writable(folder)
    # Data or options that cannot be used leave no folder behind.
    job = forecasts.prepare(checked)
    listed = _candidates(checked, given, job.material)
    record = _begun(job, experiment, given, len(listed))
    with ExitStack() as locks:
        if earlier is None:
            folder = run_folder.create(name or experiment.name, folder)
            locks.enter_context(lock.hold(folder))
            # Another process may have begun here before this one held the lock.
            run_folder.check_empty(folder)
            auto_record.write(folder, record)
        else:
            assert folder is not None
            locks.enter_context(lock.hold(folder))
            _check_same(earlier, record, folder)
            record = earlier
        if record.chosen is None:
            record = _try_all(record, checked, listed, job, seconds=seconds, folder=folder, console=console)
        assert record.chosen is not None

    console.print(auto_record.sentence(record), highlight=False, markup=False)
    return Chosen(preparation.applied(checked, record.tried[record.chosen].preparation), folder)


def _begun(job: ForecastJob, experiment: Experiment, given: Collection[str], listed: int) -> Record:
    """Return the record of a choice before the first trial."""
    dataset = job.material
    # As JSON has it, for the comparison with what is read.
    recipe = json.loads(json.dumps({**experiments.to_config(experiment), "given": sorted(given)}))
    # No test rows; covariates are among the inputs of the experiment as it is.
    rows_sha256 = feed.fingerprint([*dataset.background.training, job.batches.train, job.batches.valid])
    is_panel = len(dataset.background.names) > 1
    measure = verdict.mean_loss(is_panel, forecasts.judged_loss(job.experiment))
    return Record(recipe, rows_sha256, measure, listed)


def _candidates(
    experiment: ForecastExperiment[PanelData], given: Collection[str], dataset: Dataset
) -> list[Preparation]:
    background = dataset.background
    return preparation.candidates(experiment, given, seasons.plausible(background.period, background.training))


def _check_same(earlier: Record, record: Record, folder: Path) -> None:
    """Raise `UsageError` unless the record in a folder is of the same experiment and rows."""
    path = folder / run_seal.AUTO
    changed = [
        name
        for name, value in record.recipe.items()
        # The data may have been moved: their rows are compared.
        if run_seal.unmoved(earlier.recipe.get(name)) != run_seal.unmoved(value)
    ]
    if changed:
        raise UsageError(f"of another command: {', '.join(changed)} differ", where=path, needed="another --out")
    if earlier.rows_sha256 != record.rows_sha256:
        raise UsageError("of other training or validation rows", where=path, needed="the same rows, or another --out")


def _try_all(
    record: Record,
    experiment: ForecastExperiment[PanelData],
    listed: Sequence[Preparation],
    job: ForecastJob,
    *,
    seconds: float,
    folder: Path,
    console: Console,
) -> Record:
    """Try the preparations that follow, until the time is over, and return the record with the choice."""
    again = f"the same command with --out {shlex.quote(str(folder))}"
    for number in range(len(record.tried), len(listed)):
        # Those of a stopped command count as well.
        longest = max((each.seconds for each in record.tried), default=0.0)
        if record.trained and record.seconds + longest > seconds:
            break
        try:
            tried = _try(record, preparation.applied(experiment, listed[number]), job, listed[number])
        except KeyboardInterrupt:
            raise Undecided(len(record.tried), EXIT_INTERRUPTED, again) from None
        record = record._replace(tried=(*record.tried, tried))
        auto_record.write(folder, record)
        console.print(_line(record, number), highlight=False, markup=False)

    best = record.best()
    if best is None:
        raise UsageError(f"no preparation could be trained: {record.tried[0].note}", where=OPTION)
    record = record._replace(chosen=best)
    auto_record.write(folder, record)
    return record


def _try(record: Record, experiment: ForecastExperiment[PanelData], base: ForecastJob, asked: Preparation) -> Tried:
    """Try one preparation; one that cannot be used, or is an earlier one by another name, is not trained."""
    started = time.perf_counter()
    started_cpu = time.process_time()
    asked = {**preparation.asked(experiment), **asked}
    try:
        # Read anew: another target is cut and scaled otherwise.
        job = forecasts.prepare(experiment)
        asked = preparation.resolved(job)
        for number in record.trained:
            if record.tried[number].preparation == asked:
                return Tried(asked, note=f"the same as number {number + 1}")
        _check_rows(job, base)
        result = trial.run(job)
    except UsageError as error:
        return Tried(asked, note=cut(str(error), MOST_NOTED), seconds=time.perf_counter() - started)
    return Tried(
        asked,
        loss=result.loss,
        best_epoch=result.best_epoch,
        epochs=result.epochs,
        seconds=round(time.perf_counter() - started, 3),
        cpu_seconds=round(time.process_time() - started_cpu, 3),
    )


def _check_rows(job: ForecastJob, base: ForecastJob) -> None:
    """Raise `UsageError` for a preparation that forecasts other validation rows, as of a window that is too long."""
    targets = job.material.windows.valid.targets
    others = base.material.windows.valid.targets
    if fingerprint([targets]) != fingerprint([others]):
        raise UsageError("forecasts other validation rows", got=len(targets), needed=f"those of {len(others)} windows")


def _line(record: Record, number: int) -> str:
    """Return a trial as a line on the console."""
    tried = record.tried[number]
    opening = f"{number + 1} of {record.listed}: {preparation.words(tried.preparation)}"
    if tried.loss is None:
        return f"{opening}: not trained: {tried.note}"
    return f"{opening}: validation {record.measure} {tried.loss:.5g} ({tried.seconds:.0f} s)"
