"""What finished runs say: curves by epoch, tables by row, the gradient back in time, seconds of an epoch measured in turn.

Work that needs JAX is done by the pool's workers, each on one thread, and kept beside its run: a report that is made
again computes nothing twice.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from jaxseq import __version__
from jaxseq.common import files
from jaxseq.report.plan import Row
from jaxseq.sweep import pool
from jaxseq.train import domains, experiments, run_folder
from jaxseq.train.experiments.base import Recipe

MEASURED, GRADIENTS, TIMES = ".measured.json", ".gradients.json", "times.json"
"""Endings of what is kept beside a run; the file of all times."""
FINGERPRINT = 8
"""Characters of a hash that tell recipes apart."""
INFLUENCE_ROWS = 256
"""Validation rows that the gradient back in time is a mean over."""
TIMED_ROWS = 6
"""Batches of a timed epoch; the rest cost the same."""


class Found(NamedTuple):
    """A row with its runs, in the order of their seeds.

    key     of its recipe (the seed and a file's place apart), of its data and of this version
    epochs  by name, "s e": train_loss, valid_mse, valid_nats, valid_accuracy
    runs    a line a run: what its kind says, what was measured on the training part, parameters
    """

    row: Row
    key: str
    epochs: dict[str, Float[np.ndarray, "s e"]]
    runs: pd.DataFrame

    @property
    def metric(self) -> str:
        """The validation metric that its epochs are chosen by."""
        return f"valid_{self.row.recipe.objective().select}"


def wanted(row: Row, key: str, folder: Path) -> list[pool.Wanted]:
    """The runs of a row; their folders carry its key, so that nothing else is taken for them."""
    name = f"{row.recipe.name}-{key}"
    return [
        pool.Wanted(f"{row.group}: {row.label}, seed {one.seed}", one, folder / f"{name}-seed-{one.seed}")
        for one in row.runs()
    ]


def key(recipe: Recipe, digest: str) -> str:
    """A short hash of a recipe without seed and path, of its data's digest, and of this version of the package."""
    config = experiments.to_config(recipe)
    data = {name: value for name, value in config["data"].items() if name != "path"}
    text = json.dumps({**config, "data": data, "seed": None, "rows": digest, "version": __version__}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:FINGERPRINT]


def digest(recipe: Recipe) -> str:
    """sha256 of all rows that a recipe is trained, chosen and judged on. For a worker."""
    return domains.of(recipe).prepare(recipe).rows


def measure(run: pool.Wanted) -> dict[str, float]:
    """What the best epoch of a run scores on the part that it was trained on, and its parameters. For a worker."""
    import jax

    from jaxseq.forecasting import evaluate
    from jaxseq.train import epoch, prepare

    kept = run.folder.with_suffix(MEASURED)
    if kept.is_file():
        return files.read_json(kept)
    job = domains.of(run.experiment).prepare(run.experiment)
    _, state = prepare.best(job, run.folder)
    rows = epoch.EVALUATION_BATCHES * run.experiment.batch
    scores = epoch.evaluate(job.setup, state.params, state.stats, job.data.train, rows)
    found = {f"train_{name}": float(value) for name, value in scores.items()}
    found["parameters"] = sum(leaf.size for leaf in jax.tree.leaves((state.params, state.stats)))
    if run.experiment.domain == "forecasts":
        windows, scaling = job.material.windows, job.material.scaling
        recipe: Any = run.experiment
        found["naive_loss"] = evaluate.naive_loss(windows.valid, scaling, recipe.steps_out)
    files.write_json(kept, found)
    return found


def influence(run: pool.Wanted) -> dict[str, list[float]]:
    """The gradient's norm k steps back, before and after training, on validation rows. For a worker."""
    from jaxseq.common.arrays import Batch
    from jaxseq.report import vanishing_gradients
    from jaxseq.train import prepare

    kept = run.folder.with_suffix(GRADIENTS)
    if kept.is_file():
        return files.read_json(kept)
    job = domains.of(run.experiment).prepare(run.experiment)
    states = {"before": prepare.initial_state(job), "after": prepare.best(job, run.folder)[1]}
    some = Batch(*(part[:INFLUENCE_ROWS] for part in job.data.valid))
    found = {
        name: np.asarray(vanishing_gradients.influence(job.setup, state.params, state.stats, some), np.float64).tolist()
        for name, state in states.items()
    }
    files.write_json(kept, found)
    return found


def times(recipes: dict[str, Recipe], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of an epoch by each recipe, one number a round; in a round everybody has a turn. For a worker, alone."""
    import jax

    from jaxseq.common.arrays import Batch
    from jaxseq.train import epoch, prepare

    turns: dict[str, list[Any]] = {}
    for name, recipe in recipes.items():
        job = domains.of(recipe).prepare(recipe)
        rows, state = len(job.data.train.x), prepare.initial_state(job)
        some = Batch(*(part[: TIMED_ROWS * recipe.batch] for part in job.data.train))
        turns[name] = [job.setup, state, some, recipe.batch, rows / len(some.x)]
    found: dict[str, list[float]] = {name: [] for name in recipes}
    for _ in range(rounds):
        for name, turn in turns.items():
            setup, state, some, batch, share = turn
            # Not timed: it compiles, and brings the allocator to what this recipe leaves behind, not the one before it.
            state = jax.block_until_ready(epoch.epoch(setup, state, some, batch)[0])
            began = time.process_time()
            turn[1] = jax.block_until_ready(epoch.epoch(setup, state, some, batch)[0])
            found[name].append((time.process_time() - began) * share)
    return found


def gather(row: Row, key: str, runs: Sequence[pool.Wanted], measured: Sequence[dict[str, float]]) -> Found:
    """A row as its finished runs have it."""
    domain, lines, rows = domains.of(row.recipe), [], []
    for run, more in zip(runs, measured, strict=True):
        rows.append(run_folder.read_metrics(run.folder))
        seed = run.experiment.seed
        said = domain.row(domains.Member(1, seed, run.experiment, run.folder))
        lines.append({"seed": seed, **said, **more, "train_loss": rows[-1][-1]["train_loss"]})
    names = [name for name in rows[0][0] if name == "train_loss" or name.startswith("valid_")]
    epochs = {name: np.array([[line[name] for line in each] for each in rows], np.float64) for name in names}
    frame = pd.DataFrame(lines)
    frame.attrs["baselines"] = baselines(runs[0].folder)
    made = [files.read_json(run.folder / run_folder.ENVIRONMENT) for run in runs]
    frame.attrs["commits"] = [one["git_commit"] for one in made]
    frame.attrs["versions"] = [f"jax {one['libraries']['jax']}, {one['devices']}" for one in made]
    return Found(row, key, epochs, frame)


def baselines(folder: Path) -> dict[str, dict[str, float]]:
    """What a run's scores say, by the name of the predictions: of a forecast, over its whole horizon."""
    scores = pd.read_csv(folder / run_folder.SCORES)
    if "step" in scores:
        scores = scores[scores["step"] == "all"].drop(columns="step")
    found: Any = scores.set_index(scores.columns[0]).to_dict("index")
    return found
