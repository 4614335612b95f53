"""Search for the best point of a space, by Optuna's tree-structured Parzen estimator (Bergstra et al. 2011).

Points are drawn when there is room for a run, with what is known of the earlier ones, and a run that does worse than the
median of the others at the same epoch is pruned. A journal in the folder of the sweep keeps the trials, so that a search
resumes; runs report to it themselves, from workers of this machine or from the nodes of a cluster.

With `search_journal`, `sealed_journal`, `trial_values` and `pruning`, the door to optuna.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, TrialState
from rich.console import Console

from jaxseq.checkpoint import run_seal
from jaxseq.common import files
from jaxseq.common.errors import UsageError
from jaxseq.sweep import pruning, sealed_journal, search_journal
from jaxseq.sweep.places import Place, train
from jaxseq.sweep.planned import PRUNED, PlannedRun, is_finished, log_of
from jaxseq.sweep.search_journal import be_quiet, open_journal
from jaxseq.sweep.space import Choice, Range, Space
from jaxseq.sweep.trial_values import best_value, has_reports, is_equal, logged_values
from jaxseq.train import loggers

JOURNAL = run_seal.SEARCH_LOG
"""File in the sweep's folder with the trials; Optuna appends to it."""


class Result(NamedTuple):
    """A trial that has ended.

    state   "complete", "pruned" or "failed"
    values  text of each field
    value   the validation metric of its best epoch, by the sealed record of that epoch; NaN if it has none
    """

    number: int
    state: str
    values: dict[str, str]
    run: PlannedRun
    value: float


class Found(NamedTuple):
    """The trials of a search, and the share of each field in the spread of their values, where it can be estimated."""

    results: list[Result]
    importances: Mapping[str, float]


def search(
    space: Space,
    trials: int,
    folder: Path,
    *,
    place: Place,
    at_once: int,
    console: Console,
    log: str | None = None,
) -> Found:
    """Train `trials` points of a space at a place, `at_once` at a time; those of an earlier call are kept, or resume.

    One at a time, the points depend on the space and the seed of its recipe alone, also if the search is interrupted.
    A finished trial whose files were damaged is judged again. Raises what the place raises, and `UsageError` if no trial
    could be completed, or if the journal and the runs of its trials say different things.
    """
    be_quiet()
    # Optuna would append to what a link points to.
    files.refuse_link(folder / JOURNAL)
    trial_runs = _Search(space, folder, trials=trials, is_parallel=at_once > 1, log=log, console=console)
    train(trial_runs, place, at_once)
    return trial_runs.found()


class _Search:
    """A search under way, as a source: which run is next, and what becomes of one that has ended."""

    def __init__(
        self,
        space: Space,
        folder: Path,
        *,
        trials: int,
        is_parallel: bool,
        log: str | None,
        console: Console,
    ) -> None:
        self._journal = folder / JOURNAL
        self._start = run_seal.journal_start(space.words)
        sealed_journal.check(self._journal, self._start)
        self._storage, study = open_journal(self._journal, space.base.most_epochs, self._start)
        self._space = space
        self._trials = trials
        self._is_parallel = is_parallel
        self._folder = folder
        self._study = study
        self._log = log
        self._console = console
        self._numbers: dict[PlannedRun, int] = {}
        self._damaged: dict[PlannedRun, str] = {}
        trials_so_far = study.get_trials()
        # Those that a signal or a kill left.
        self._interrupted = [trial for trial in trials_so_far if trial.state == TrialState.RUNNING]
        runs = [self._checked_run(trial) for trial in trials_so_far]
        self._to_mend = [run for run in runs if run is not None]

    def next_run(self) -> PlannedRun | None:
        """Return the run of the next trial that has anything to train; None after the last one."""
        if self._to_mend:
            return self._to_mend.pop(0)
        while self._has_next():
            trial = self._interrupted.pop(0) if self._interrupted else self._draw()
            try:
                run = self._run(trial.number, self._point(trial))
            except UsageError as error:
                # Values that do not fit together, or a model that does not fit into memory.
                self._study.tell(trial.number, state=TrialState.FAIL)
                self.print(f"trial {trial.number}: failed: {error}")
                continue
            self._numbers[run] = trial.number
            if not self._is_finished(run):
                return run
            # Its end was not told before a kill, or the journal was cut since.
            self._report(trial.number, run)
            self.end(run, "")
        return None

    def _has_next(self) -> bool:
        # Points would be drawn without a value that only its damaged run can tell.
        if self._damaged:
            return False
        return bool(self._interrupted) or len(self._study.get_trials(deepcopy=False)) < self._trials

    def _checked_run(self, trial: FrozenTrial) -> PlannedRun | None:
        """Return the run of a complete trial that is to be judged again; None for every other trial.

        Raises `UsageError` unless the journal has the point and the values of the trial's run.
        """
        space = {field: _distribution(domain) for field, domain in self._space.fields.items()}
        if not trial.distributions.items() <= space.items():
            raise _differs(self._journal, trial, "its point is of another space")
        # A search enqueues nothing.
        if trial.state == TrialState.WAITING:
            raise _differs(self._journal, trial, "it waits to be drawn")
        if trial.params.keys() != self._space.fields.keys():
            if trial.state.is_finished():
                raise _differs(self._journal, trial, "its point lacks a value")
            # It was killed while it was drawn.
            return None
        try:
            run = self._run(trial.number, trial.params)
        except UsageError:
            # A point that is no recipe: `next_run` tells so where a kill has kept it from being told.
            if trial.state in (TrialState.FAIL, TrialState.RUNNING):
                return None
            raise
        is_judged = self._is_finished(run)
        if trial.state == TrialState.COMPLETE and not is_judged:
            # Without the callback that would prune it, compared with later trials.
            run = run._replace(callbacks=partial(loggers.named, self._log))
            self._numbers[run] = trial.number
            return run
        self._check_values(trial, run, is_judged)
        return None

    def _is_finished(self, run: PlannedRun) -> bool:
        """Return whether a run is trained and judged. Raises `UsageError`, which names the journal, for another recipe."""
        try:
            return is_finished(run)
        except UsageError as error:
            raise UsageError(f"{error}", where=self._journal) from error

    def _check_values(self, trial: FrozenTrial, run: PlannedRun, is_judged: bool) -> None:
        """Raise `UsageError` unless the journal says of a trial that has ended what its run does."""
        metric = self._space.metric
        is_same = True
        if trial.state == TrialState.COMPLETE:
            is_same = is_equal(trial.value, best_value(run, metric)) and has_reports(trial, run, metric)
        # Somebody may remove a pruned run, which holds nothing that the sealed journal does not say.
        elif trial.state == TrialState.PRUNED and os.path.lexists(run.folder):
            is_same = not is_judged and has_reports(trial, run, metric)
        elif trial.state == TrialState.FAIL and is_judged:
            is_same = not math.isfinite(best_value(run, metric))
        if not is_same:
            raise _differs(self._journal, trial, f"it has other values than {run.folder}")

    def _draw(self) -> Trial:
        """Draw the next point, by a generator of its own: a search that resumes does not draw the first ones again."""
        self._study.sampler = self._sampler(len(self._study.get_trials(deepcopy=False)))
        return self._study.ask({field: _distribution(domain) for field, domain in self._space.fields.items()})

    def _sampler(self, number: int) -> optuna.samplers.TPESampler:
        seeds = np.random.SeedSequence([self._space.base.seed, number])
        return optuna.samplers.TPESampler(
            seed=int(seeds.generate_state(1)[0]),
            # Runs under way count as bad ones, so that those of one batch do not lie beside each other.
            constant_liar=self._is_parallel,
        )

    def _point(self, trial: Trial | FrozenTrial) -> Mapping[str, object]:
        """Return the values of a trial; those that a kill kept out of the journal are drawn as they would have been."""
        missing = self._space.fields.keys() - trial.params.keys()
        if not missing or not isinstance(trial, FrozenTrial):
            return trial.params
        sampler = self._sampler(trial.number)
        self._study.sampler = sampler
        trial_id = search_journal.trial_id(self._storage, trial.number)
        # Draws the fields that are drawn together.
        together = Trial(self._study, trial_id).relative_params
        point: dict[str, object] = {}
        # All of the others, too, as each draw moves the generator on.
        for field, domain in self._space.fields.items():
            distribution = _distribution(domain)
            if field in together:
                point[field] = together[field]
            else:
                point[field] = sampler.sample_independent(self._study, trial, field, distribution)
            if field in missing:
                internal = distribution.to_internal_repr(point[field])
                self._storage.set_trial_param(trial_id, field, internal, distribution)
        return point

    def _run(self, number: int, params: Mapping[str, object]) -> PlannedRun:
        name = f"{self._space.base.name}-trial-{number:04d}"
        # The job of a cluster may begin in another folder.
        callbacks = partial(pruning.callbacks, self._journal.absolute(), number, self._space.metric, self._log)
        # As the text says it, so that the words of a point train the same run.
        point = {field: _rounded(value) for field, value in params.items()}
        return PlannedRun(name, self._space.experiment(point), self._folder / name, callbacks)

    def _report(self, number: int, run: PlannedRun) -> None:
        """Report the epochs of a finished run that the journal lacks: later trials are compared with them."""
        trial_id = search_journal.trial_id(self._storage, number)
        reported = self._storage.get_trial(trial_id).intermediate_values
        for epoch, value in logged_values(run, self._space.metric).items():
            if epoch not in reported:
                self._storage.set_trial_intermediate_value(trial_id, epoch, value)

    def end(self, run: PlannedRun, failure: str) -> None:
        """Tell Optuna how a trial has ended, and print a line."""
        number = self._numbers[run]
        trial = self._study.get_trials(deepcopy=False)[number]
        has_ended_before = trial.state.is_finished()
        # A failure of damaged files says nothing about the point.
        if failure not in ("", PRUNED) and (has_ended_before or _is_damaged(run.folder)):
            self._damaged[run] = failure
            return
        if has_ended_before:
            self._check_values(trial, run, is_judged=True)
            self.print(f"trial {number}: judged again, as its files were changed since")
            return

        value = best_value(run, self._space.metric)
        outcome = f"{self._space.metric} {value:.6g}"
        if failure == PRUNED:
            self._study.tell(number, state=TrialState.PRUNED)
            outcome = f"pruned, {outcome}"
        # A metric that is not finite says nothing about the neighbourhood.
        elif failure or not math.isfinite(value):
            self._study.tell(number, state=TrialState.FAIL)
            outcome = f"failed: {failure or outcome}"
        else:
            self._study.tell(number, value)
        trial = self._study.get_trials(deepcopy=False)[number]
        point = ", ".join(f"{field} {as_text(value)}" for field, value in trial.params.items())
        self.print(f"trial {number} ({number + 1} of {self._trials}): {point}: {outcome}")

    def update(self) -> None:
        """Show nothing between two trials."""

    def print(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def found(self) -> Found:
        """Return the trials that have ended. Raises `UsageError` if none was completed, or if one is damaged."""
        for run, reason in self._damaged.items():
            raise UsageError(f"{run.name} is damaged: {reason} (see {log_of(run.folder)})")
        # What was changed meanwhile would be sealed with the rest.
        sealed_journal.check(self._journal, self._start)
        results = [self._result(trial) for trial in self._study.get_trials(deepcopy=False)]
        if not any(result.state == "complete" for result in results):
            raise UsageError("no trial was completed", where=f"{self._folder}", got=f"{len(results)} trials")
        return Found(results, _importances(self._study))

    def _result(self, trial: FrozenTrial) -> Result:
        values = {field: as_text(value) for field, value in trial.params.items()}
        state = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}.get(trial.state, "failed")
        # Its point may be no recipe.
        if state == "failed":
            name = f"{self._space.base.name}-trial-{trial.number:04d}"
            run = PlannedRun(name, self._space.base, self._folder / name)
            return Result(trial.number, state, values, run, math.nan)
        run = self._run(trial.number, trial.params)
        # A record of Optuna's may have been edited; whoever chooses by it would choose another run.
        value = best_value(run, self._space.metric)
        # Of a pruned run that was removed, the journal alone has values.
        if state == "pruned" and not os.path.lexists(run.folder):
            value = min(trial.intermediate_values.values(), default=math.nan)
        return Result(trial.number, state, values, run, value)


def as_text(value: object) -> str:
    """Return a value of a point as the command line takes it."""
    return str(_rounded(value))


def _rounded(value: object) -> object:
    """Return a value of a point, a number with six digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return value


def _distribution(domain: Range | Choice) -> optuna.distributions.BaseDistribution:
    if isinstance(domain, Choice):
        return CategoricalDistribution(list(domain.values))
    if domain.is_integer:
        return IntDistribution(int(domain.low), int(domain.high), log=domain.is_log)
    return FloatDistribution(domain.low, domain.high, log=domain.is_log)


def _is_damaged(folder: Path) -> bool:
    """Return whether a file of a run that has begun is not as it was written."""
    has_begun = any(os.path.lexists(folder / name) for name in (run_seal.CONFIG, run_seal.CHECKPOINTS))
    return has_begun and any(run_seal.damage(folder))


def _differs(journal: Path, trial: FrozenTrial, rule: str) -> UsageError:
    return UsageError(
        rule, where=f"{journal}, trial {trial.number}", needed="the journal as the search left it, or another --out"
    )


def _importances(study: optuna.Study) -> Mapping[str, float]:
    """Return the share of each field by PED-ANOVA (Watanabe et al. 2023); empty where there are too few trials."""
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    # Equal values say nothing, and Optuna divides by their spread.
    if len({trial.value for trial in complete}) < 2:
        return {}
    # The default one needs scikit-learn.
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    try:
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except (ValueError, RuntimeError):
        return {}
    return {field: float(share) for field, share in shares.items()}
