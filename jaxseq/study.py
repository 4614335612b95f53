"""One experiment many times: for each seed, and for each fold of a backtest. Every member is a run of its own.

A study is told apart by its folder: typed again with the same `--out`, it takes what is finished, goes on with what was
interrupted, and refuses to mix recipes.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from jaxseq import experiments, runlog, training
from jaxseq.errors import Interrupted, UsageError
from jaxseq.experiments import Experiment
from jaxseq.forecasting import verdict

if TYPE_CHECKING:
    from rich.console import Console

RECIPE, MEMBERS, SUMMARY = "study.json", "study.csv", "study.md"


class Member(NamedTuple):
    """One run of a study."""

    fold: int
    seed: int
    experiment: Experiment
    folder: Path


def study(
    experiment: Experiment,
    seeds: int = 1,
    folds: int = 1,
    out: str | Path | None = None,
    console: Console | None = None,
    classical: bool = False,
) -> Path:
    """Train and judge an experiment for so many seeds and folds, and return the study's folder.

    It holds a run for each, `study.csv` with a row for each, and `study.md`, which judges the mean over the seeds on all
    folds together. Raises as `training.train` does; an interrupted study goes on where it stopped.
    """
    from jaxseq import screen

    console = screen.terminal() if console is None else console
    for member in members(experiment, 1, folds, Path()):
        member.experiment.data.windows(experiment.horizon)  # its checks, before anything is written
    folder = _folder(experiment, seeds, folds, None if out is None else Path(out))
    runs, started = members(experiment, seeds, folds, folder), time.perf_counter()
    waiting = [member for member in runs if not (member.folder / runlog.REPORT).is_file()]
    for number, member in enumerate(waiting):
        left = (time.perf_counter() - started) / number * (len(waiting) - number) if number else 0
        about = f", about {left / 60:.0f} min left" if number else ""
        done = len(runs) - len(waiting) + number
        console.rule(f"run {done + 1} of {len(runs)}: fold {member.fold}, seed {member.seed}{about}")
        try:
            _run(member, console, classical)
        except Interrupted as stop:
            again = f"{stop}".split(";")[0]
            console.print(f"{again}; type the command again with --out {folder} to go on", highlight=False)
            raise
    table = gather(runs)
    runlog.write_table(folder / MEMBERS, table)
    text = summary(experiment, runs, table)
    runlog.write_text(folder / SUMMARY, text)
    console.print(text, highlight=False, markup=False)
    console.print(f"{folder}: {SUMMARY}, {MEMBERS}, and a folder for each run", highlight=False)
    return folder


def members(experiment: Experiment, seeds: int, folds: int, folder: Path) -> list[Member]:
    """The runs of a study, fold by fold."""
    found = []
    for fold in range(1, folds + 1):
        data = dataclasses.replace(experiment.data, folds=folds, fold=fold)
        for seed in range(experiment.seed, experiment.seed + seeds):
            name = f"fold-{fold}-seed-{seed}"
            found.append(Member(fold, seed, dataclasses.replace(experiment, data=data, seed=seed), folder / name))
    return found


def _folder(experiment: Experiment, seeds: int, folds: int, out: Path | None) -> Path:
    recipe = {**experiments.to_config(experiment), "seeds": seeds, "folds": folds}
    if out is not None and (out / RECIPE).is_file():
        if (there := runlog.read_json(out / RECIPE)) != recipe:
            differ = [name for name in recipe if there.get(name) != recipe[name]]
            raise UsageError(f"{out} holds another study: {', '.join(differ)} differ; name another --out")
        return out
    folder = runlog.create(f"{experiment.name}-study", out)
    runlog.write_json(folder / RECIPE, recipe)
    return folder


def _run(member: Member, console: Console, classical: bool) -> None:
    """Train a member, or go on with it where it was interrupted."""
    begun = (member.folder / runlog.CONFIG).is_file()
    where = {"resume": member.folder} if begun else {"out": member.folder}
    training.train(member.experiment, console=console, classical=classical, **where)


def gather(runs: list[Member]) -> pd.DataFrame:
    """A row for each run: its errors on its test block, relative to the last value, and its validation."""
    rows = []
    for member in runs:
        scores = pd.read_csv(member.folder / runlog.SCORES)
        whole = scores[scores["step"] == "all"]
        naive, model = whole.iloc[0], whole.iloc[-1]
        metrics = runlog.read_metrics(member.folder)
        metric = f"valid_{member.experiment.objective().select}"
        best = runlog.best_row(metrics, metric)
        rows.append(
            {"fold": member.fold, "seed": member.seed, "epoch": best["epoch"], "epochs": len(metrics)}
            | {"valid_mse": best["valid_mse"], "valid_mse_last_epoch": metrics[-1]["valid_mse"]}
            | {name: model[name] for name in ("mse", "rmse", "mae")}
            | {"relative_mse": model["mse"] / naive["mse"], "seconds": sum(row["seconds"] for row in metrics)}
        )
    return pd.DataFrame(rows)


def summary(experiment: Experiment, runs: list[Member], table: pd.DataFrame) -> str:
    """The study in Markdown: naive first, the model's mean over the seeds on all folds together, the spread."""
    name = f"{experiment.model.cell}, mean over {table['seed'].nunique()} seeds"
    rows = verdict.compare(*_pooled(runs, name), experiment.seed)
    by_seed = _ratios(runs)
    spread = f" ± {by_seed.std(ddof=1):.4f} (standard deviation over seeds)" if len(by_seed) > 1 else ""
    valid = table.groupby("seed")[["valid_mse", "valid_mse_last_epoch"]].mean()
    words = [
        f"{label} {valid[column].mean():.5f}" + (f" ± {valid[column].std(ddof=1):.5f}" if len(valid) > 1 else "")
        for label, column in (("best epoch", "valid_mse"), ("last epoch", "valid_mse_last_epoch"))
    ]
    return f"""# {experiment.name}: {experiment.data.name}, {experiment.model.cell}, {len(runs)} runs

{verdict.sentence(rows[-1])}.

{verdict.markdown(rows, experiment.data.unit)}

MSE relative to the last value over all folds, by seed: mean {by_seed.mean():.4f}{spread}; {by_seed.min():.4f} to
{by_seed.max():.4f}. In the model's row each error is the root mean square over the seeds: it is a single run's, not that of
their mean forecast. Validation MSE in the model's own scale: {"; ".join(words)}.

Folds: {table["fold"].nunique()}, each with a model that was trained, chosen and calibrated on what comes before it. One
row a run: `{MEMBERS}`.
"""


def _pooled(runs: list[Member], name: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Actual values of all folds, and forecasts: the naive one, and one whose squared errors are the mean over seeds."""
    actual, naive, size = [], [], []
    for fold in sorted({member.fold for member in runs}):
        frames = [_predictions(member) for member in runs if member.fold == fold]
        truth = _by_step(frames[0], "actual")
        actual.append(truth)
        naive.append(_by_step(frames[0], "naive"))
        size.append(np.sqrt(np.mean([(truth - _by_step(frame, "forecast")) ** 2 for frame in frames], axis=0)))
    truth = np.concatenate(actual)
    return truth, {verdict.NAIVE: np.concatenate(naive), name: truth - np.concatenate(size)}


def _ratios(runs: list[Member]) -> np.ndarray:
    """MSE over that of the last value, all folds together, for each seed."""
    found = []
    for seed in sorted({member.seed for member in runs}):
        frame = pd.concat([_predictions(member) for member in runs if member.seed == seed])
        model, naive = (np.mean((frame["actual"] - frame[column]) ** 2) for column in ("forecast", "naive"))
        found.append(model / naive)
    return np.array(found)


def _predictions(member: Member) -> pd.DataFrame:
    return pd.read_csv(member.folder / runlog.PREDICTIONS)


def _by_step(frame: pd.DataFrame, column: str) -> np.ndarray:
    steps = int(frame["step"].max()) if "step" in frame else 1
    return frame[column].to_numpy().reshape(-1, steps)
