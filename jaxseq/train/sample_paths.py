"""Sample paths of a run's forecast beyond the end of its series: values of each step in their dependence.

An iterated distribution draws them, each value fed back. Any other forecast has the dependence of the run's own errors on
the validation part. At each step the values have the distribution that the intervals stand for.
"""

from __future__ import annotations

import jax
import numpy as np
import pandas as pd
from jaxtyping import Float

from jaxseq.common import checks
from jaxseq.common.errors import UsageError
from jaxseq.data.panel import Panel
from jaxseq.data.scaling import Scaling
from jaxseq.data.windows import Windows
from jaxseq.forecasting import coupling, predictions, quantities
from jaxseq.forecasting.intervals import above_floor, quantiles, row_sizes
from jaxseq.forecasting.part import Part
from jaxseq.train import ensemble, forecaster, future
from jaxseq.train.domains import forecasts
from jaxseq.train.forecaster import Trained
from jaxseq.train.future import Ends
from jaxseq.train.job import check_rows

OPTION = "--paths"
MOST = 100_000
"""Most paths of a forecast."""
LEAST_ERRORS = 10
"""Fewest validation windows whose errors tell how steps depend on each other."""


def sample(
    trained: Trained, panel: Panel, count: int, *, horizon: int | None = None, seed: int | None = None
) -> pd.DataFrame:
    """Return `count` paths from the end of each series of a panel: date (or row), series, step, path and value.

    The same `seed` (None is that of the run) gives the same paths. Those of different series are drawn independently.
    Raises `UsageError` for a run without intervals, and for one whose rows are gone or have changed, if its errors are
    needed.
    """
    checks.count(1, most=MOST, paths=count)
    quantities.check_values(trained.experiment.head, OPTION)
    if trained.experiment.stateful:
        raise UsageError("of a state that is carried are not drawn", where=OPTION, got="--data.stateful")
    ends = future.forecast_ends(trained, panel, horizon)
    if not ends.intervals:
        raise UsageError("are drawn through intervals, which this forecast lacks", where=OPTION, got=count)
    if seed is None:
        seed = trained.experiment.seed

    values = _paths(trained, ends, count, seed)
    names = {"value": np.moveaxis(values, 0, -1)}
    frames = []
    for number in range(count):
        of_path = {name: array[..., number] for name, array in names.items()}
        table = predictions.frame(ends.windows, ends.panel.names, of_path, {}, ends.times, keys=ends.panel.keys)
        table = table.drop(columns="actual")
        table.insert(len(table.columns) - 1, "path", number + 1)
        frames.append(table)
    return pd.concat(frames, ignore_index=True)


def _paths(trained: Trained, ends: Ends, count: int, seed: int) -> Float[np.ndarray, "p n k"]:
    """Draw paths in the series' units."""
    steps = ends.forecast.shape[1]
    generator = np.random.default_rng([seed, steps])
    scaling = future.scaling_of(trained, ends.panel)
    if trained.experiment.task == "iterated" and trained.experiment.head.draw is not None:
        template = _drawn(trained, ends.windows, scaling, count, seed)
    else:
        template = coupling.drawn_errors(_errors(trained, steps), count, len(ends.forecast), generator)

    values, levels = quantiles(ends.forecast, ends.intervals)
    paths = coupling.coupled(template, values, levels, generator)
    if trained.experiment.head.support == "counts":
        paths = np.round(paths)
    floor = None
    if trained.intervals is not None:
        floor = trained.intervals.floor
    return above_floor(paths, floor)


def _drawn(trained: Trained, windows: Windows, scaling: Scaling, count: int, seed: int) -> Float[np.ndarray, "p n k"]:
    """Draw paths of an iterated distribution, in the scale of the model; an ensemble draws as many from each member."""
    members = (trained, *trained.others)
    keys = jax.random.split(jax.random.key(seed), len(members))
    shares = np.array_split(np.arange(count), len(members))
    drawn = [
        forecaster.drawn_paths(member, windows, scaling, jax.random.split(key, len(share)))
        for member, key, share in zip(members, keys, shares, strict=True)
        if len(share)
    ]
    return np.concatenate(drawn)


def _errors(trained: Trained, steps: int) -> Float[np.ndarray, "m k"]:
    """Return the errors of the judged weights on the validation part, in sizes of the rows; windows without gaps alone."""
    folder = trained.folder
    if folder is None:
        raise UsageError("need the errors of the run, whose folder has gone", where=OPTION)
    # Weights that were trained again have seen these rows.
    judged = ensemble.restore(folder, with_refit=False)
    job = forecasts.prepare(trained.experiment)
    check_rows(job, ensemble.first_run(folder))
    # Trained forecasters read arrays.
    valid = job.material.windows.valid.take(slice(None))
    scaling = job.material.scaling
    series = job.material.background.known_series
    centre, _ = judged.forecast(valid, scaling, series=series)
    assert judged.intervals is not None, "without them there are no paths"
    part = Part(valid, scaling, series)
    sizes = row_sizes(judged.intervals, part)
    errors = part.targets - part.scaled(centre)
    errors = (errors / sizes[:, None])[:, :steps]
    known_errors = errors[np.isfinite(errors).all(axis=1)]
    if len(known_errors) < LEAST_ERRORS:
        raise UsageError(
            "too few validation windows to tell how steps depend on each other",
            where=OPTION,
            got=len(known_errors),
            needed=f"at least {LEAST_ERRORS}",
        )
    return known_errors
