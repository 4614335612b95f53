"""Series whose law is known, for the tests of intervals: each n values from a seed."""

import numpy as np

from jaxseq.data.fitting import fit_scaling
from jaxseq.data.windows import Series, cut
from jaxseq.forecasting.intervals import Forecast
from jaxseq.forecasting.part import Part


def stationary(n, seed):
    """An autoregression y_t = 0.6 y_{t-1} + e_t about 20."""
    return 20 + _autoregression(0.6, np.random.default_rng(seed).standard_normal(n))


def trending(n, seed):
    """A random walk whose steps, like its level, grow by 0.1 % at a time: prices over many years."""
    return 20 * np.exp(np.cumsum(0.001 + 0.01 * np.random.default_rng(seed).standard_normal(n)))


def garch(n, seed):
    """A random walk with GARCH(1, 1) steps: σ²_t = 0.02 + 0.08 e²_{t-1} + 0.9 σ²_{t-1} (Bollerslev 1986)."""
    shocks = np.random.default_rng(seed).standard_normal(n)
    variance = 1.0
    steps = []
    for shock in shocks:
        steps.append(np.sqrt(variance) * shock)
        variance = 0.02 + 0.08 * steps[-1] ** 2 + 0.9 * variance
    return 500 + np.cumsum(steps)


def shifting(n, seed):
    """White noise whose level and spread jump every 200 values."""
    random = np.random.default_rng(seed)
    blocks = np.arange(n) // 200
    levels = random.normal(50, 5, blocks[-1] + 1)
    spreads = random.choice([0.5, 1.0, 2.0], blocks[-1] + 1)
    return levels[blocks] + spreads[blocks] * random.standard_normal(n)


def _autoregression(phi, noise):
    values = np.empty(len(noise))
    value = 0.0
    for index, shock in enumerate(noise):
        value = phi * value + shock
        values[index] = value
    return values


def parts(*paths, horizon=1, window=10, kind="change", train=0.5, valid=0.75):
    """Validation and test part of series, each cut at the same shares of its rows, and the naive forecast of both."""
    series = tuple(Series(np.arange(len(path)), np.asarray(path, float)) for path in paths)
    scaling = fit_scaling(
        kind, [path[: int(train * len(path))] for path in paths], [f"s{n}" for n in range(len(paths))]
    )
    return [_part(series, scaling, window, horizon, share) for share in ((train, valid), (valid, 1.0))]


def _part(series, scaling, window, horizon, share):
    from jaxseq.data.windows import join

    cuts = []
    for number, one in enumerate(series):
        first, last = (int(part * len(one.values)) for part in share)
        cuts.append(cut(one, window, horizon, first, last, number=number))
    return Part(join(cuts), scaling, series)


def naive(part):
    """The last value as a forecast."""
    last = np.repeat(part.windows.inputs[:, -1:], part.windows.targets.shape[1], axis=1)
    return Forecast(part.scaling.targets(part.windows._replace(targets=last)))
