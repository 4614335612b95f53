"""Runs of forecasts: prepared from a recipe, forecasting, and come back to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from jaxseq.common import files
from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted
from jaxseq.data.scaling import Scaling
from jaxseq.data.windows import Windows, check_series
from jaxseq.forecasting import rollout
from jaxseq.forecasting.evaluate import Forecast, Margins, bounds
from jaxseq.nn import heads
from jaxseq.train import devices, experiments, run_folder
from jaxseq.train import epoch as fit
from jaxseq.train.experiments.config import rebuild
from jaxseq.train.experiments.forecasts import ForecastExperiment
from jaxseq.train.job import Job, restore_epoch

PATHS = 200
"""Paths of the future that the quantiles of an iterated forecast are read from."""


def forecast(job: Job, state: fit.TrainState, part: Windows) -> Forecast:
    """The model's forecasts for one part of the data, in its own scale."""
    experiment, scaling = job.experiment, job.material.scaling
    x = devices.replicate(job.mesh, scaling.inputs(part).astype(np.float32))
    return _forecast(experiment, job.setup, state, scaling, x, experiment.horizon)


def _forecast(
    experiment: ForecastExperiment, setup: fit.Setup, state: fit.TrainState, scaling: Scaling, x: Array, horizon: int
) -> Forecast:
    head, rows = experiment.head, fit.EVALUATION_BATCHES * experiment.batch
    if experiment.task == "iterated":
        return _iterated(experiment, setup, state, scaling, x, horizon)
    raw = fit.predict(setup, state.params, state.stats, x, rows)
    raw = raw.reshape(len(raw), -1, head.width)
    if head.quantiles is None:
        return Forecast(np.asarray(head.centre(raw), np.float64))
    return Forecast(np.asarray(head.centre(raw), np.float64), np.asarray(head.quantiles(raw), np.float64), heads.LEVELS)


def _iterated(
    experiment: ForecastExperiment, setup: fit.Setup, state: fit.TrainState, scaling: Scaling, x: Array, horizon: int
) -> Forecast:
    how = (setup.model, experiment.head, state.params, state.stats)
    centre = scaling.add_up(np.asarray(rollout.rollout(*how, x, horizon)))
    if experiment.head.draw is None:
        return Forecast(centre)
    key = jax.random.fold_in(jax.random.key(experiment.seed), horizon)
    paths = scaling.add_up(np.asarray(rollout.paths(*how, x, horizon, key, PATHS)))
    return Forecast(centre, np.moveaxis(np.quantile(paths, heads.LEVELS, axis=0), 0, -1), heads.LEVELS)


class Trained(NamedTuple):
    """A trained forecaster, restored: call it on windows in the series' own units.

    margins are those of the run's intervals; None before the run was judged.
    """

    experiment: ForecastExperiment
    epoch: int
    setup: fit.Setup
    state: fit.TrainState
    scaling: Scaling
    margins: Margins | None = None

    def __call__(self, values: Float[np.ndarray, "*n t"]) -> Float[np.ndarray, "*n k"]:
        """Forecasts for one window "t" or for many, "n t", in the same units as the values.

        Raises `UsageError` if a window has another length than the model was trained with, or a value is not finite.
        """
        values = np.asarray(values, np.float64)
        window, beside, series = self.experiment.data.window, len(self.scaling.covariate_shift), len(self.scaling.shift)
        if beside or series > 1:
            what = f"{series} series" if series > 1 else counted(beside, "covariate")
            raise UsageError(f"the model was trained on {what}: values alone are not enough, say which by `forecast`")
        if values.ndim not in (1, 2) or values.shape[-1] != window:
            raise UsageError(f"the model was trained on windows of {window} values; given were {values.shape}")
        rows = values.reshape(-1, window)
        check_series(np.arange(rows.size), rows.ravel(), "windows")
        n = len(rows)
        nowhere, none = np.full((n, self.experiment.horizon), np.nan), np.zeros((n, window, 0))
        part = Windows(rows, nowhere, np.arange(n), np.zeros(n, int), none)
        found, _ = self.forecast(part, self.scaling)
        return found[0] if values.ndim == 1 else found

    def forecast(
        self, part: Windows, scaling: Scaling, horizon: int | None = None
    ) -> tuple[Float[np.ndarray, "n k"], dict[float, tuple[Float[np.ndarray, "n k"], Float[np.ndarray, "n k"]]]]:
        """Forecasts in the series' units, and intervals (low, high) by level where the run has them.

        Raises `UsageError` for a `horizon` beyond what the model was trained for, unless it forecasts step by step.
        """
        trained, asked = self.experiment.horizon, horizon or self.experiment.horizon
        if asked > trained and self.experiment.task != "iterated":
            raise UsageError(
                f"the model forecasts {trained} steps; {asked} were asked for: train it with --horizon {asked} or with "
                "--task iterated"
            )
        x = jax.numpy.asarray(scaling.inputs(part), np.float32)
        found = _forecast(self.experiment, self.setup, self.state, scaling, x, asked)
        kept = None if found.quantiles is None else found.quantiles[:, :asked]
        found = Forecast(found.centre[:, :asked], kept, found.levels)
        centre = scaling.invert(found.centre, part)
        known = self.margins is not None and bool(self.margins.levels)
        if not known or (asked > trained and found.quantiles is None):
            return centre, {}
        assert self.margins is not None
        sizes = tuple(_lengthen(size, asked) for size in self.margins.sizes)
        return centre, bounds(found, Margins(self.margins.levels, sizes), part, scaling)


def _lengthen(sizes: tuple[float, ...], steps: int) -> tuple[float, ...]:
    """Margins for the first steps; beyond those that were fitted, the last one's, round intervals that grow themselves."""
    return (*sizes, *[sizes[-1]] * (steps - len(sizes)))[:steps]


def restore(folder: str | Path, epoch: int | None = None) -> Trained:
    """The best epoch of a run (or the one named), verified, ready to forecast; needs neither its data nor a GPU.

    Raises `UsageError` if there is no such run or epoch, `records.DamagedError` if it is damaged.
    """
    folder = Path(folder)
    saved = run_folder.read_config(folder)
    experiment = experiments.from_config(saved, str(folder / run_folder.CONFIG))
    if not isinstance(experiment, ForecastExperiment):
        raise UsageError(f"{folder} is a run of {experiment.name}, which forecasts nothing")
    scaling = _saved_scaling(saved, str(folder / run_folder.CONFIG))
    row = jax.ShapeDtypeStruct((1, experiment.data.window, 1 + len(scaling.covariate_shift)), np.float32)
    epoch, setup, state = restore_epoch(folder, experiment, row, epoch)
    return Trained(
        experiment, epoch, setup, state, scaling, _saved_margins(folder / run_folder.INTERVALS, experiment.horizon)
    )


def _saved_margins(path: Path, horizon: int) -> Margins | None:
    """The margins of a run's intervals; None if it has none."""
    if not path.is_file():
        return None
    saved = files.read_json(path)
    levels, sizes = saved.get("levels"), saved.get("sizes")
    sound = isinstance(levels, list) and isinstance(sizes, list) and len(levels) == len(sizes)
    if not sound or not all(isinstance(size, list) and len(size) == horizon for size in sizes):
        raise UsageError(f"{path} must hold levels, and sizes with {horizon} numbers for each of them")
    return Margins(tuple(map(float, levels)), tuple(tuple(map(float, size)) for size in sizes))


def _saved_scaling(saved: Mapping[str, Any], source: str) -> Scaling:
    values = saved.get("scaling")
    if isinstance(values, Mapping):
        values = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    scaling = rebuild(Scaling("level", (), ()), values, f"{source}: scaling")
    numbers = (*scaling.shift, *scaling.scale, *scaling.covariate_shift, *scaling.covariate_scale)
    if not scaling.scale or not all(isinstance(v, float | int) and math.isfinite(v) for v in numbers):
        raise UsageError(f"{source}: scaling must be by finite numbers; it is {scaling}")
    return scaling
