"""Classical forecasts of a sample of windows: ARIMA, exponential smoothing, theta, MSTL and Croston, by statsforecast.

It is optional: pip install "jaxseq[classical]". Each window has fits of its own to the values before it, in worker
processes. A fit takes from a hundredth of a second to minutes, by method, season and length: a sample is all that is tried.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxseq.common.console import Progress
from jaxseq.common.errors import UsageError
from jaxseq.data.dataset import Background
from jaxseq.data.seasons import LONGER_SEASON
from jaxseq.data.uncut import PartWindows
from jaxseq.forecasting.metrics import Values

MOST_WINDOWS = 50
"""Most windows of a part that are forecast."""
SEASONS = 10
FEWEST_VALUES = 200
"""A fit takes the last 10 seasons of what came before the forecast, and at least 200 values where there are as many."""

ARIMA = "AutoARIMA"
ETS = "AutoETS"
THETA = "AutoTheta"
MSTL = "MSTL"
CROSTON = "CrostonOptimized"
"""Methods, by the names that statsforecast has for them."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
"""Environment of a worker process: the matrices are small, and more threads would wait for each other."""


class Task(NamedTuple):
    """One window to be forecast by one method.

    past     values before the forecast
    periods  time steps of its seasons, the shortest first; 1 is none
    """

    method: str
    past: Float[np.ndarray, " t"]
    periods: tuple[int, ...]
    horizon: int


class Fit(NamedTuple):
    """Forecast of one window; None, and the reason, where there is none."""

    path: Float[np.ndarray, " k"] | None
    reason: str = ""


class Forecasts(NamedTuple):
    """Forecasts by the name of their method, and notes on windows whose fit failed, which repeat the last season."""

    values: dict[str, Values]
    notes: list[str]


def available() -> bool:
    """Return whether statsforecast is installed."""
    return importlib.util.find_spec("statsforecast") is not None


def check() -> None:
    """Raise `UsageError` where statsforecast is not installed."""
    if not available():
        needed = 'pip install "jaxseq[classical]"'
        raise UsageError("the classical forecasts need statsforecast", where="--classical", needed=needed)


def sample(count: int, seed: int) -> Int[np.ndarray, " m"]:
    """Return the rows of at most `MOST_WINDOWS` windows of `count`, drawn without replacement, in their order."""
    if count <= MOST_WINDOWS:
        return np.arange(count)
    rows = np.random.default_rng(seed).choice(count, MOST_WINDOWS, replace=False)
    return np.sort(rows)


def forecast(part: PartWindows, background: Background, progress: Progress) -> Forecasts:
    """Forecast each window by every method that suits the series, from the values before it.

    Raises `UsageError` where statsforecast is not installed.
    """
    check()
    pasts = _pasts(part, background)
    methods = _methods(pasts, background.period)
    horizon = part.horizon
    tasks = []
    for method in methods:
        for past in pasts:
            periods = _periods(past, background.period)
            tasks.append(Task(method, past, periods, horizon))

    fits = []
    for done, fit in enumerate(_in_parallel(tasks), start=1):
        fits.append(fit)
        progress(done, len(tasks))
    return _gathered(methods, tasks, fits)


def _pasts(part: PartWindows, background: Background) -> list[Float[np.ndarray, "_"]]:
    """Return the values before each forecast: all that are known, or those of the window where it is a series itself."""
    most = max(FEWEST_VALUES, SEASONS * background.period)
    pasts = []
    inputs = part.inputs
    for row, origin in enumerate(part.origins.tolist()):
        values = inputs[row]
        if background.series:
            # A missing value is the last known one here, as it is for the network.
            values = background.series[int(part.series[row])].values[:origin]
        pasts.append(np.asarray(values[-most:], np.float64))
    return pasts


def _methods(pasts: Sequence[Float[np.ndarray, "_"]], period: int) -> list[str]:
    """Return the methods that suit all of the series."""
    methods = [ARIMA, ETS, THETA]
    # Without a season there is nothing for MSTL to take apart.
    if all(_periods(past, period)[0] > 1 for past in pasts):
        methods.append(MSTL)
    # Croston's method is for demand that is often 0, and never below it.
    least = min(past.min() for past in pasts)
    if least == 0:
        methods.append(CROSTON)
    return methods


def _periods(past: Float[np.ndarray, "_"], period: int) -> tuple[int, ...]:
    """Return the seasons that fit at least twice into the past of a window."""
    longest = len(past) // 2
    seasons = [period, LONGER_SEASON.get(period, 1)]
    fitting = [length for length in seasons if 1 < length <= longest]
    if not fitting:
        return (1,)
    return tuple(fitting)


def _in_parallel(tasks: Sequence[Task]) -> Iterable[Fit]:
    """Fit the tasks in worker processes, in their order."""
    workers = min(len(tasks), os.cpu_count() or 1)
    # A fork of a process with JAX's threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_follow_parent) as pool:
        # Tasks start the workers, as many as they need.
        with _one_thread():
            fits = pool.map(fit_one, tasks)
        yield from fits


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let processes that are started meanwhile compute on one thread: they read it when they import numpy."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _follow_parent() -> None:
    """End with the process that started this one."""
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "called in a worker process"
    parent.join()
    # A process that was killed could not stop its workers, which would wait for their next task.
    os._exit(1)


def fit_one(task: Task) -> Fit:
    """Fit one method to the past of one window, without any warning."""
    # A series that does not move is repeated: there is nothing to fit.
    largest = np.abs(task.past).max()
    rounding = 8 * np.finfo(np.float64).eps * largest
    if np.ptp(task.past) <= rounding:
        return Fit(np.full(task.horizon, task.past[-1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            path = _fitted(task)
        except (TypeError, NameError, AttributeError, ImportError):
            # A mistake of the program is no failed fit.
            raise
        except Exception as error:
            # The package raises bare exceptions for series that it cannot fit.
            return Fit(None, f"{type(error).__name__}: {error}")
    if not np.all(np.isfinite(path)):
        return Fit(None, "the forecast is not finite")
    return Fit(path)


def _fitted(task: Task) -> Float[np.ndarray, " k"]:
    """Return the forecast of one method."""
    # It is optional, and takes seconds to import.
    from statsforecast import models

    if task.method == MSTL:
        model = models.MSTL(season_length=list(task.periods))
    elif task.method == CROSTON:
        model = models.CrostonOptimized()
    else:
        model = getattr(models, task.method)(season_length=task.periods[0])
    # Optimisers have absolute tolerances, and a series may have any unit.
    scale = float(np.abs(task.past).max())
    forecast = model.forecast(y=task.past / scale, h=task.horizon)
    return scale * np.asarray(forecast["mean"], np.float64)


def _gathered(methods: Sequence[str], tasks: Sequence[Task], fits: Sequence[Fit]) -> Forecasts:
    """Return the forecasts of all windows by method; where a fit failed, the last season stands in."""
    values = {}
    notes = []
    windows = len(tasks) // len(methods)
    for number, method in enumerate(methods):
        first = number * windows
        of_method = slice(first, first + windows)
        paths = []
        reasons = []
        for task, fit in zip(tasks[of_method], fits[of_method], strict=True):
            path = fit.path
            if path is None:
                reasons.append(fit.reason)
                season = task.past[-task.periods[0] :]
                path = np.resize(season, task.horizon)
            paths.append(path)
        values[method] = np.stack(paths)
        if reasons:
            notes.append(
                f"{method}: {len(reasons)} of {windows} fits failed, which have the last season: the first, {reasons[0]}"
            )
    return Forecasts(values, notes)
