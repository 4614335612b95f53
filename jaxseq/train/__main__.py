"""`python -m jaxseq.train [EXPERIMENT] [--field value ...]`: train and judge one run, or one for each seed and fold."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial

from jaxseq.checkpoint import run_seal
from jaxseq.common import command_line
from jaxseq.train import auto_options, loggers, options, processes
from jaxseq.train.experiments.base import Experiment
from jaxseq.train.options import Options
from jaxseq.train.saved_experiment import saved_experiment

PROGRAM = "jaxseq.train"


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status: 0, 2 for a mistake of the user, 130 if interrupted.

    In a group of several processes, one that fails does not return: it exits with its status, which is 1 if another
    process was lost.
    """
    words = argv
    if words is None:
        words = sys.argv[1:]

    status = command_line.run(PROGRAM, lambda: _train(words), "stopped before the training began")
    return processes.leave(status)


def _train(words: list[str]) -> None:
    request = options.parse(words)
    make_callbacks = partial(loggers.named, request.log)
    # Before anything is read or written: a tool may be missing. Seeds that train together have loggers of their own, and
    # these only show that the tools are there.
    callbacks = make_callbacks()

    with processes.joined(request.mesh, PROGRAM):
        # Imported here, so that --help and a mistyped field answer before Orbax is loaded.
        from jaxseq.train import compiled_programs, ensemble, refit, run, study
        from jaxseq.train.domains import forecasts
        from jaxseq.train.domains.base import Extras

        extras = Extras(classical=request.classical, explain=request.explain)
        if request.compile_cache:
            compiled_programs.keep()
        forecasts.check_extras(request.experiment, extras)
        if request.refit:
            # Before the training, which may take hours.
            refit.check(request.experiment)
        if request.ensemble is not None:
            ensemble.check(request.experiment, request.seeds, request.backtest)

        if request.auto is not None:
            request = _with_preparation(request, options.given_fields(words))

        if request.together:
            folder = study.study_together(
                request.experiment,
                seeds=request.seeds,
                folds=request.backtest,
                out=request.out,
                extras=extras,
                make_callbacks=make_callbacks,
            )
        elif request.seeds > 1 or request.backtest > 1:
            folder = study.study(
                request.experiment,
                seeds=request.seeds,
                folds=request.backtest,
                out=request.out,
                extras=extras,
                callbacks=callbacks,
            )
        elif request.warm_start is not None:
            folder = run.train_from(
                request.warm_start,
                request.experiment,
                out=request.out,
                extras=extras,
                callbacks=callbacks,
            )
        else:
            folder = run.train(
                request.experiment,
                out=request.out,
                resume=request.resume,
                from_epoch=request.from_epoch,
                extras=extras,
                callbacks=callbacks,
            )

        if request.ensemble is not None:
            ensemble.combine(folder, request.ensemble, with_refit=request.refit)
        elif request.refit:
            refit.refit(folder)


def _with_preparation(request: Options[Experiment], given: frozenset[str]) -> Options[Experiment]:
    """Return the options with the preparation that is chosen by validation, and the folder that has its record."""
    from jaxseq.train import auto, auto_record

    assert request.auto is not None
    several = request.seeds > 1 or request.backtest > 1
    chosen = auto.choose(
        request.experiment,
        auto_options.seconds_of(request.auto),
        given=given,
        out=request.out,
        name=f"{request.experiment.name}-study" if several else None,
    )
    # A study looks for its members itself.
    if not several and (chosen.folder / run_seal.CONFIG).exists():
        auto_record.check_is_of(chosen.folder, saved_experiment(chosen.folder))
        return replace(request, auto=None, out=None, resume=chosen.folder, experiment=saved_experiment(chosen.folder))
    return replace(request, auto=None, out=chosen.folder, experiment=chosen.experiment)


if __name__ == "__main__":
    sys.exit(main())
