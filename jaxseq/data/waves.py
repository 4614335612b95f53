"""Two sine waves of random frequency and phase, plus noise: a series that can be forecast, so a check on the models.

Géron, Hands-On Machine Learning, 2nd edition (2019), chapter 15: the same numbers as his notebook's at seed 42, whose
naive forecast has the mean squared error 0.020211 one step ahead and 0.256974 over ten steps on the validation part.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float32

from jaxseq.arrays import Splits
from jaxseq.data.windows import BatchSplits, Scaling, Windows, WindowSplits, batch, check_at_least, split_rows
from jaxseq.errors import UsageError


@dataclass(frozen=True)
class Waves:
    """Synthetic waves: `count` series, one window each; the parts are 70 / 20 / 10 % of the series."""

    count: int = 10_000
    """Series in all three parts together."""
    window: int = 50
    """Steps that the model is given."""
    horizon: int = 1
    """Steps that are forecast."""
    seed: int = 42
    """Seed of the generator; the published figures hold for 42."""
    noise: float = 0.1
    """Width of the uniform noise; its variance, noise² / 12, is the least error possible."""

    name: ClassVar[str] = "waves"
    unit: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Raises `UsageError` for a field that cannot be."""
        check_at_least(10, self.name, count=self.count)
        check_at_least(2, self.name, window=self.window)
        check_at_least(1, self.name, horizon=self.horizon)
        check_at_least(0, self.name, seed=self.seed, noise=self.noise)
        if self.seed >= 2**32 or not np.isfinite(self.noise):
            raise UsageError(f"{self.name}: seed {self.seed} must be below 2**32 and noise {self.noise} finite")

    def windows(self) -> WindowSplits:
        """Inputs and targets of the three parts, dimensionless; `times` is the number of the series."""
        waves = generate(self.count, self.window + self.horizon, self.seed, self.noise).astype(np.float64)
        whole = Windows(waves[:, : self.window], waves[:, self.window :], np.arange(self.count))
        valid, test = split_rows(self.count, (0.70, 0.20))
        bounds = ((0, valid), (valid, test), (test, self.count))
        return Splits(*(Windows(*(array[first:last] for array in whole)) for first, last in bounds))

    def scaling(self) -> Scaling:
        """None: the waves are of order 1, and Géron takes them as they are."""
        return Scaling("level", 0.0, 1.0)

    def load(self) -> BatchSplits:
        """The three parts as a model sees them: x "n window 1" and y "n horizon", float32."""
        return Splits(*(batch(part, self.scaling()) for part in self.windows()))


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
