"""Evidence from finished runs: curves by epoch, scores by row, gradients back in time, CPU seconds of an epoch.

Work that needs JAX is done by the pool's workers, each on one thread, and its results are kept beside its run: a report
that is made again computes nothing twice.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from jaxseq.checkpoint import run_seal
from jaxseq.common import csv_tables, sealed
from jaxseq.common.errors import UsageError
from jaxseq.report.plan import Row
from jaxseq.sweep.planned import PlannedRun
from jaxseq.train import domains, run_folder
from jaxseq.train.experiments.base import Experiment

if TYPE_CHECKING:
    from jaxseq.train.domains.forecasts import ForecastJob
    from jaxseq.train.epoch import TrainState

MEASURED = ".measured.json"
"""Suffix of the file of a run's scores on its training part, beside the run's folder."""
GRADIENTS = ".gradients.json"
"""Suffix of the file of a run's gradients back in time."""
TIMES = "times.json"
UNKEYED = ("seed", "path", "about")
"""Fields that do not tell one row from another."""
FINGERPRINT = 8
"""Characters of a hash that tell recipes apart."""
FED_BACK = "valid_mse_fed_back"
"""Column of the validation error of a network that is fed its own forecasts, over all steps of the horizon."""
INFLUENCE_ROWS = 256
"""Validation rows that the gradient back in time is a mean over."""
TIMED_BATCHES = 6
"""Batches of a timed epoch; the rest cost the same."""


class RowRuns(NamedTuple):
    """A row with its finished runs, in the order of their seeds.

    key     of its recipe (the seed and a file's place apart) and of its data
    epochs  by name, "s e": train_loss, valid_mse, valid_nats, valid_accuracy; NaN behind the last epoch of a seed
    runs    a line for each run: its domain's figures, those of the training part, parameters; in `attrs` the baselines'
            scores, the commits and the versions
    """

    row: Row
    key: str
    epochs: dict[str, Float[np.ndarray, "s e"]]
    runs: pd.DataFrame

    @property
    def metric(self) -> str:
        """The validation metric that chooses the best epoch."""
        return f"valid_{self.row.recipe.objective().select}"


def plan_runs(row: Row, key: str, folder: Path) -> list[PlannedRun]:
    """The runs of a row; their folders carry its key, so that no other run is mistaken for one of them."""
    name = f"{row.recipe.name}-{key}"
    return [
        PlannedRun(f"{row.group}: {row.label}, seed {recipe.seed}", recipe, folder / f"{name}-seed-{recipe.seed}")
        for recipe in row.runs()
    ]


def key(recipe: Experiment, digest: str) -> str:
    """A short hash of a recipe without seed and path, and of its data's digest.

    Fields with their default are left out: one that a later version adds changes no key, so that a report of days goes on.
    """
    text = json.dumps({**_chosen_fields(recipe), "rows": digest}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:FINGERPRINT]


def _chosen_fields(options: object) -> dict[str, object]:
    """Return the fields of a dataclass that are not their class's default, in those of its dataclasses, too."""
    chosen: dict[str, object] = {}
    for field in dataclasses.fields(options):  # pyrefly: ignore[bad-argument-type]
        value = getattr(options, field.name)
        if field.name in UNKEYED:
            continue
        if dataclasses.is_dataclass(value):
            part = _chosen_fields(value)
            if part:
                chosen[field.name] = part
        elif value != _default_of(field):
            chosen[field.name] = value
    return chosen


def _default_of(field: dataclasses.Field[object]) -> object:
    """Return the default of a field; `dataclasses.MISSING` if it has none."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def digest(recipe: Experiment) -> str:
    """The sha256 of all rows that a recipe is trained, chosen and judged on. For a worker."""
    return domains.of(recipe).prepare(recipe).rows_sha256


def measure(run: PlannedRun) -> dict[str, float]:
    """Score the best epoch of a run on the part that it was trained on, and count its parameters. For a worker."""
    # Only the workers load JAX, so that the command itself starts at once and takes no device.
    import jax

    from jaxseq.forecasting import evaluate
    from jaxseq.train import epoch
    from jaxseq.train.job import restore_best

    file = run.folder.with_name(f"{run.folder.name}{MEASURED}")
    earlier = _earlier_figures(file, run)
    if earlier is not None:
        return earlier

    job = domains.of(run.experiment).prepare(run.experiment)
    _, state = restore_best(job, run.folder)
    rows = epoch.EVALUATION_BATCHES * run.experiment.batch
    scores = epoch.evaluate(job.setup, state.params, state.stats, job.data.train, rows)
    figures = {f"train_{name}": float(value) for name, value in scores.items()}
    figures["parameters"] = sum(leaf.size for leaf in jax.tree.leaves((state.params, state.stats)))
    if run.experiment.domain == "forecasts":
        material: Any = job.material
        windows = material.windows.valid
        steps = run.experiment.steps_out  # pyrefly: ignore[missing-attribute]
        figures["naive_loss"] = evaluate.naive_loss(windows, material.scaling, steps)
        if run.experiment.task == "iterated":  # pyrefly: ignore[missing-attribute]
            figures[FED_BACK] = _fed_back_mse(job, state)  # pyrefly: ignore[bad-argument-type]
    _keep(file, run, figures)
    return figures


def _fed_back_mse(job: ForecastJob, state: TrainState) -> float:
    """Return the MSE, over all steps of the horizon, of a one-step network that reads its own forecasts on validation."""
    from jaxseq.train import forecaster

    part = job.material.windows.valid
    forecasts = job.material.scaling.invert(forecaster.forecast(job, state, part).centre, part)
    return float(np.mean((forecasts - part.targets) ** 2))


def influence(run: PlannedRun) -> dict[str, list[float]]:
    """The gradient's norm k steps back, before and after training, on validation rows. For a worker."""
    from jaxseq.common.arrays import Batch
    from jaxseq.report import vanishing_gradients
    from jaxseq.train.job import initial_state, restore_best

    file = run.folder.with_name(f"{run.folder.name}{GRADIENTS}")
    earlier = _earlier_figures(file, run)
    if earlier is not None:
        return earlier

    job = domains.of(run.experiment).prepare(run.experiment)
    assert isinstance(job.data.valid, Batch), "no run of the paper is a large panel"
    rows = Batch(*(part[:INFLUENCE_ROWS] for part in job.data.valid))
    states = {"before": initial_state(job), "after": restore_best(job, run.folder)[1]}
    norms = {}
    for moment, state in states.items():
        gradient = vanishing_gradients.influence(job.setup, state.params, state.stats, rows)
        norms[moment] = np.asarray(gradient, np.float64).tolist()
    _keep(file, run, norms)
    return norms


def _earlier_figures(file: Path, run: PlannedRun) -> dict[str, Any] | None:
    """Return what was measured of a run's state before; None if nothing was, or of another state, or if it is damaged."""
    if not file.is_file():
        return None
    # What cannot be trusted is measured again, which costs seconds.
    try:
        record = sealed.read(file)
    except UsageError:
        return None
    # The run may have been trained again since.
    if record.get("state_sha256") != _state_sha256(run):
        return None
    return record["figures"]


def _keep(file: Path, run: PlannedRun, figures: Mapping[str, Any]) -> None:
    sealed.write(file, {"state_sha256": _state_sha256(run), "figures": figures})


def _state_sha256(run: PlannedRun) -> str:
    judged = run_seal.read_judged(run.folder)
    assert judged is not None, "the runs of a report are finished before anything is measured"
    return judged.state_sha256


def times(recipes: dict[str, Experiment], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of an epoch by each recipe, one number a round; every recipe has a turn in a round.

    For a worker that runs alone.
    """
    import jax

    from jaxseq.common.arrays import Batch
    from jaxseq.train import epoch
    from jaxseq.train.job import initial_state

    jobs = {name: domains.of(recipe).prepare(recipe) for name, recipe in recipes.items()}
    states = {name: initial_state(job) for name, job in jobs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in recipes}
    for _ in range(rounds):
        for name, job in jobs.items():
            batch = job.experiment.batch
            train = job.data.train
            assert isinstance(train, Batch), "no run of the paper is stateful"
            rows = Batch(*(part[: TIMED_BATCHES * batch] for part in train))
            whole_epoch = len(train.x) / len(rows.x)

            # Not timed: it compiles, and brings the allocator to the state that this recipe leaves behind.
            state = jax.block_until_ready(epoch.epoch(job.setup, states[name], rows, batch)[0])
            began = time.process_time()
            states[name] = jax.block_until_ready(epoch.epoch(job.setup, state, rows, batch)[0])
            seconds[name].append((time.process_time() - began) * whole_epoch)
    return seconds


def read_times(file: Path) -> dict[str, Any]:
    """Return what was timed before and for which request; nothing if the file is damaged: then it is timed again."""
    try:
        return sealed.read(file)
    except UsageError:
        return {}


def gather(row: Row, key: str, runs: Sequence[PlannedRun], measured: Sequence[dict[str, float]]) -> RowRuns:
    """Read the finished runs of a row; `measured` are the figures of `measure`."""
    curves = [_curve(run.folder) for run in runs]
    lines = []
    for run, figures, curve in zip(runs, measured, curves, strict=True):
        seed = run.experiment.seed
        scores = run_seal.judged_row(run.folder)
        lines.append({"seed": seed, **scores, **figures, "train_loss": curve[-1]["train_loss"], "epochs": len(curve)})

    names = [name for name in curves[0][0] if name == "train_loss" or name.startswith("valid_")]
    epochs = {name: _beside([[line[name] for line in curve] for curve in curves]) for name in names}

    frame = pd.DataFrame(lines)
    environments = [sealed.read(run.folder / run_seal.ENVIRONMENT) for run in runs]
    frame.attrs["baselines"] = baselines(runs[0].folder)
    frame.attrs["commits"] = [environment["git_commit"] for environment in environments]
    frame.attrs["versions"] = [
        f"jax {environment['libraries']['jax']}, {environment['devices']}" for environment in environments
    ]
    return RowRuns(row, key, epochs, frame)


def _beside(curves: Sequence[Sequence[float]]) -> Float[np.ndarray, "s e"]:
    """Return curves as rows, with NaN behind the end of a shorter one."""
    rows = np.full((len(curves), max(map(len, curves))), np.nan)
    for row, curve in zip(rows, curves, strict=True):
        row[: len(curve)] = curve
    return rows


def _curve(folder: Path) -> list[run_folder.Row]:
    """Return the rows of a finished run's log. Raises `sealed.DamagedError` if they are not those of its training."""
    run_seal.check_judged_log(folder)
    return run_folder.read_metrics(folder)


def baselines(folder: Path) -> dict[str, dict[str, float]]:
    """The scores in a run's folder by the name of the predictions; of a forecast, over its whole horizon."""
    scores = csv_tables.read(folder / run_seal.SCORES)
    if "step" in scores:
        scores = scores[scores["step"] == "all"].drop(columns="step")
    return scores.set_index(scores.columns[0]).to_dict("index")  # pyrefly: ignore[bad-return]
