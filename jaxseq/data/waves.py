"""Two sine waves of random frequency and phase, plus noise: a series that can be forecast, so a check on the models.

Géron, Hands-On Machine Learning, 2nd edition (2019), chapter 15: the same numbers as his notebook's at seed 42, whose
naive forecast has the mean squared error 0.020211 one step ahead and 0.256974 over ten steps on the validation part.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Float32

from jaxseq.common.arrays import Splits
from jaxseq.common.checks import check_at_least
from jaxseq.common.errors import UsageError
from jaxseq.data.folds import folds
from jaxseq.data.scaling import Scaling
from jaxseq.data.splits import Known, check_fold
from jaxseq.data.windows import Windows, WindowSplits


@dataclass(frozen=True)
class Waves:
    """Synthetic waves: `count` series, one window each; the parts are 70 / 20 / 10 % of the series."""

    count: int = 10_000
    """Series in all three parts together."""
    window: int = 50
    """Steps that the model is given."""
    seed: int = 42
    """Seed of the generator; the published figures hold for 42."""
    noise: float = 0.1
    """Width of the uniform noise; its variance, noise² / 12, is the least error possible."""
    folds: int = 1
    """Folds of a backtest that the last 10 % of the series are cut into."""
    fold: int = 1
    """Which of them: the model is trained on the series before it."""

    name: ClassVar[str] = "waves"
    unit: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Raises `UsageError` for a field that cannot be."""
        check_at_least(10, self.name, count=self.count)
        check_at_least(2, self.name, window=self.window)
        check_fold(self.name, self.folds, self.fold)
        check_at_least(0, self.name, seed=self.seed, noise=self.noise)
        if self.seed >= 2**32 or not np.isfinite(self.noise):
            raise UsageError(f"{self.name}: seed {self.seed} must be below 2**32 and noise {self.noise} finite")

    def windows(self, horizon: int) -> WindowSplits:
        """Inputs and targets of the three parts, dimensionless; `times` is the number of the wave."""
        check_at_least(1, self.name, horizon=horizon)
        waves = generate(self.count, self.window + horizon, self.seed, self.noise).astype(np.float64)
        found = folds(self.count, self.folds, 1, 1, fractions=(0.70, 0.20), source=self.name)[self.fold - 1]
        return Splits(*(self._part(waves, *rows) for rows in found))

    def _part(self, waves: Float[np.ndarray, "n t"], first: int, last: int) -> Windows:
        part, n = waves[first:last], last - first
        beside = np.zeros((n, self.window, 0))
        return Windows(part[:, : self.window], part[:, self.window :], np.arange(first, last), np.zeros(n, int), beside)

    def known(self, horizon: int) -> Known:
        """No season, and no training rows of the series that are forecast: every series is its own."""
        return Known((self.name,), 1, [])

    def scaling(self, horizon: int) -> Scaling:
        """None: the waves are of order 1, and Géron takes them as they are."""
        return Scaling("level", (0.0,), (1.0,))


@functools.lru_cache(maxsize=2)
def generate(count: int, steps: int, seed: int = 42, noise: float = 0.1) -> Float32[np.ndarray, "n t"]:
    """`count` series of `steps` values, by numpy's legacy generator and in Géron's order of draws; read-only."""
    random = np.random.RandomState(seed)
    slow, fast, first, second = random.rand(4, count, 1)
    time = np.linspace(0, 1, steps)
    waves = 0.5 * np.sin((time - first) * (slow * 10 + 10))
    waves += 0.2 * np.sin((time - second) * (fast * 20 + 20))
    waves += noise * (random.rand(count, steps) - 0.5)
    waves = waves.astype(np.float32)
    waves.flags.writeable = False
    return waves
