"""Commands without what takes most of their time in a test: pictures, clocks, worker processes, large budgets."""

import os
import pickle
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from jaxseq.forecasting import diagnostics, evaluate
from jaxseq.forecasting import plots as forecast_plots
from jaxseq.music import plots as music_plots
from jaxseq.report import evidence, plan
from jaxseq.sweep import pool
from jaxseq.sweep.planned import PlannedRun, is_finished
from jaxseq.train import loop
from jaxseq.train.domains import chorales, forecasts

LEAST = dict.fromkeys(("aapl", "waves", "bach", "book", "seeds", "samples", "bars", "rounds"), 1)
LEAST |= dict.fromkeys(("hidden", "book_hidden", "aapl_hidden"), 2)
"""A budget of a report that is as small as can be."""
DRAWN = (
    (diagnostics, "errors"),
    (forecast_plots, "forecast"),
    (forecast_plots, "fan"),
    (forecasts, "loss_figure"),
    (chorales, "loss_figure"),
    (music_plots, "piano_roll"),
)
"""Functions that draw a figure."""


def quicken(patch: pytest.MonkeyPatch) -> None:
    """Replace figures, clocks and worker processes, which take most of the time and differ from call to call."""
    for module, name in DRAWN:
        patch.setattr(module, name, lambda *_, **__: Figure())
    patch.setattr(os, "fsync", lambda _: None)
    ticks = iter(range(10**9))
    patch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    patch.setattr(evidence, "time", SimpleNamespace(process_time=lambda: float(next(ticks))))
    patch.setattr(pool, "train_all", train_all)
    patch.setattr(pool, "place", place_here)
    patch.setattr(pool, "map_in_workers", lambda work, items, *_: [work(item) for item in items])
    patch.setitem(plan.BUDGETS, "quick", plan.BUDGETS["quick"]._replace(**LEAST))
    patch.setattr(plan, "rows", partial(least_rows, plan.rows))
    patch.setattr(evidence, "digest", remembered(evidence.digest))
    patch.setattr(evaluate, "judge", remembered(evaluate.judge))
    patch.setattr(evaluate, "calibrate", remembered(evaluate.calibrate))


def remembered(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a pure function that computes the same result once."""
    results: dict[bytes, Any] = {}

    def once(*arguments: object, **options: object) -> Any:
        key = pickle.dumps((arguments, sorted(options.items())))
        if key not in results:
            results[key] = function(*arguments, **options)
        return results[key]

    return once


def train_all(runs: Sequence[PlannedRun], *_: object) -> None:
    failures = {}
    for planned in runs:
        if not is_finished(planned):
            failure = pool.train_run(planned)
            if failure:
                failures[planned] = failure
    pool.raise_failures(failures, len(runs))


class Here:
    """A place that trains in this process."""

    def __init__(self) -> None:
        self._running: list[PlannedRun] = []

    def start(self, runs: Sequence[PlannedRun], note: object) -> None:
        self._running += runs

    def ended(self) -> dict[PlannedRun, str]:
        run = self._running.pop(0)
        return {run: pool.train_run(run)}

    def is_stopping(self) -> bool:
        return False

    def leave(self, note: object) -> NoReturn:
        raise AssertionError("nothing stops it")


def place_here(*_: object) -> AbstractContextManager[Here]:
    return nullcontext(Here())


def least_rows(rows: Callable[..., list[plan.Row]], *arguments: object) -> list[plan.Row]:
    """Return the rows of a report with as few examples as can be."""
    changes: dict[str, dict[str, Any]] = {
        "aapl": {"data": {"window": 5}, "batch": 512},
        "waves": {"data": {"count": 60}, "batch": 16},
        "waves-book": {"data": {"count": 60}, "batch": 16},
        "jsb": {"data": {}, "batch": 4},
    }
    least = []
    for row in rows(*arguments):
        change = changes[row.recipe.name]
        data = replace(row.recipe.data, **change["data"])
        least.append(row._replace(recipe=replace(row.recipe, data=data, batch=change["batch"])))
    return least


def sales(folder: Path) -> Path:
    """Write a table of three series of 90 days."""
    path = folder / "sales.csv"
    days = pd.date_range("2021-01-01", periods=90)
    draw = np.random.default_rng(0)
    frames = []
    for store_name in ("a", "b", "c"):
        values = 50 + 10 * np.sin(2 * np.pi * np.arange(90) / 7) + draw.normal(size=90)
        frames.append(pd.DataFrame({"date": days, "store": store_name, "sales": values}))
    pd.concat(frames).to_csv(path, index=False)
    return path
