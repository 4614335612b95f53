"""Two sine waves of random frequency and phase, plus noise: series that can be forecast, as a check on the models.

Géron, Hands-On Machine Learning, 2nd edition (2019), chapter 15: the same numbers as his notebook's at seed 42, whose
naive forecast has the mean squared error 0.020211 one step ahead and 0.256974 over ten steps on the validation part.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Float32

from jaxseq.common import checks
from jaxseq.data.dataset import Background, Dataset
from jaxseq.data.folds import Rows, folds
from jaxseq.data.panel_data import check_fold
from jaxseq.data.scaling import Scaling
from jaxseq.data.uncut import WindowSplits
from jaxseq.data.windows import Windows, check_memory, lay_out

FRACTIONS = (0.70, 0.20)
"""Géron's shares of the series for training and validation; the rest is for the test."""


@dataclass(frozen=True)
class Waves:
    """Synthetic waves: `count` series, one window each; the parts are 70 / 20 / 10 % of the series."""

    count: int = 10_000
    """Series in all three parts together."""
    window: int = 50
    """Time steps of the model's input."""
    seed: int = 42
    """Seed of the generator; the published figures hold for 42."""
    noise: float = 0.1
    """Width of the uniform noise; its variance, noise² / 12, is the smallest possible squared error."""
    folds: int = 1
    """Folds of a backtest over the last 10 % of the series."""
    fold: int = 1
    """Fold to train and test, from 1; training takes the series before its test block."""

    unit: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Raise `UsageError` for an invalid field."""
        checks.count(10, where=self.name, count=self.count)
        checks.count(2, where=self.name, window=self.window)
        check_fold(self.name, self.folds, self.fold)
        checks.count(0, where=self.name, most=2**32 - 1, seed=self.seed)
        checks.at_least(0, where=self.name, noise=self.noise)

    @property
    def masks_targets(self) -> bool:
        """False: no target is missing."""
        return False

    @property
    def name(self) -> str:
        """Name for titles and messages."""
        return "waves"

    def load(self, horizon: int) -> Dataset:
        """Generate the waves and cut each into one window; `times` are the numbers of the waves.

        There is no season, and no background: every series is forecast from its own window alone. Géron does not scale
        the waves, which are of order 1. Raises `UsageError` for a part without a wave.
        """
        checks.count(1, where=self.name, horizon=horizon)
        where = "--data.window"
        if self.count > self.window:
            where = "--data.count"
        check_memory(self.count, self.window + horizon, where=where)
        waves = generate(self.count, self.window + horizon, self.seed, self.noise).astype(np.float64)

        # A row is a whole series here, so that one row is enough for a part.
        split = folds(self.count, self.folds, window=1, horizon=1, fractions=FRACTIONS, source=self.name)[self.fold - 1]
        return Dataset(
            windows=WindowSplits(*(self._cut(waves, rows) for rows in split)),
            scaling=Scaling("level", (0.0,), (1.0,)),
            background=Background((self.name,), period=1),
        )

    def _cut(self, waves: Float[np.ndarray, "n t"], rows: Rows) -> Windows:
        first, last = rows
        return lay_out(
            inputs=waves[first:last, : self.window],
            targets=waves[first:last, self.window :],
            times=np.arange(first, last),
        )


@functools.lru_cache(maxsize=2)
def generate(count: int, steps: int, seed: int = 42, noise: float = 0.1) -> Float32[np.ndarray, "n t"]:
    """Draw `count` series of `steps` values, read-only.

    With numpy's legacy generator and in Géron's order of draws, which give his published numbers.
    """
    random = np.random.RandomState(seed)
    slow, fast, first, second = random.rand(4, count, 1)
    time = np.linspace(0, 1, steps)

    waves = 0.5 * np.sin((time - first) * (slow * 10 + 10))
    waves += 0.2 * np.sin((time - second) * (fast * 20 + 20))
    waves += noise * (random.rand(count, steps) - 0.5)
    waves = waves.astype(np.float32)

    # All callers share the cached array.
    waves.flags.writeable = False
    return waves
