"""Windows of many series that are cut when they are read: as arrays they would take as many times the series as a window
has time steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from jaxseq.data.windows import Windows, join

MOST_NUMBERS = 2**25
"""Most numbers of a part whose windows are arrays: 256 MiB in float64."""


class UncutWindows:
    """The windows of several series, with the fields of `Windows`; what has a time axis is laid out at each access.

    cuts  windows of each series, which are views of it
    """

    def __init__(self, cuts: Sequence[Windows]) -> None:
        self._cuts = tuple(cuts)
        # Of the row that each series begins with, and of the end.
        lengths = [len(cut.inputs) for cut in self._cuts]
        ends = np.cumsum(lengths)
        self._firsts = np.concatenate([[0], ends])
        self.times: Shaped[np.ndarray, " n"] = np.concatenate([cut.times for cut in self._cuts])
        self.series: Int[np.ndarray, " n"] = np.concatenate([cut.series for cut in self._cuts])
        self.origins: Int[np.ndarray, " n"] = np.concatenate([cut.origins for cut in self._cuts])

    @property
    def inputs(self) -> Float[np.ndarray, "n t"]:
        """Values of the windows."""
        arrays = [cut.inputs for cut in self._cuts]
        return np.concatenate(arrays)

    @property
    def targets(self) -> Float[np.ndarray, "n k"]:
        """Values that follow each window."""
        arrays = [cut.targets for cut in self._cuts]
        return np.concatenate(arrays)

    @property
    def covariates(self) -> Float[np.ndarray, "n t c"]:
        """Covariates of the windows' values."""
        arrays = [cut.covariates for cut in self._cuts]
        return np.concatenate(arrays)

    @property
    def filled(self) -> Bool[np.ndarray, "n t m"]:
        """Which values and covariates are filled in."""
        arrays = [cut.filled for cut in self._cuts]
        return np.concatenate(arrays)

    @property
    def known(self) -> Float[np.ndarray, "n u s"]:
        """Covariates that are known ahead."""
        arrays = [cut.known for cut in self._cuts]
        return np.concatenate(arrays)

    def take(self, rows: Int[np.ndarray, "_"] | Bool[np.ndarray, " n"] | slice) -> Windows:
        """Return some of the rows as arrays."""
        numbers = np.arange(len(self.series))[rows]
        # An empty selection has the axes of any series.
        if not len(numbers):
            return self._cuts[0].take(numbers)
        # The last series that begins at the row or before it.
        cut_of_row = np.searchsorted(self._firsts, numbers, side="right") - 1
        bounds = np.flatnonzero(np.diff(cut_of_row)) + 1
        parts = []
        # Consecutive rows of one series are taken together.
        for of_series in np.split(numbers, bounds):
            number = int(np.searchsorted(self._firsts, of_series[0], side="right")) - 1
            rows_of_cut = of_series - self._firsts[number]
            cut = self._cuts[number]
            parts.append(cut.take(rows_of_cut))
        return join(parts)

    def pieces(self, size: int) -> Iterator[Windows]:
        """Yield the rows in their order as arrays, `size` of them at a time; an empty piece where there is none."""
        for first in range(0, max(1, len(self.series)), size):
            yield self.take(slice(first, first + size))

    def known_until(self, steps: int) -> UncutWindows:
        """Return windows in which covariates are known ahead for the first `steps` targets alone."""
        cuts = [cut.known_until(steps) for cut in self._cuts]
        return UncutWindows(cuts)


TrainingWindows: TypeAlias = Windows | UncutWindows
"""Windows of a training part."""


class WindowSplits(NamedTuple):
    """The windows of the three parts of a data set; `test` is used once, at the end."""

    train: TrainingWindows
    valid: Windows
    test: Windows


def cut_or_not(cuts: Sequence[Windows]) -> TrainingWindows:
    """Return the windows of all series as arrays, or uncut where they are more than `MOST_NUMBERS`."""
    # Small ones are read faster as arrays.
    numbers = sum(cut.inputs.size + cut.targets.size for cut in cuts)
    if numbers <= MOST_NUMBERS:
        return join(cuts)
    return UncutWindows(cuts)
