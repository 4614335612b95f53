"""Data sets of series: windows, scaling and background of one, and what every data set has."""

from __future__ import annotations

from dataclasses import Field
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from jaxseq.data.keys import NO_KEYS, Keys
from jaxseq.data.scaling import Scaling
from jaxseq.data.uncut import WindowSplits
from jaxseq.data.windows import Series, Windows


class Background(NamedTuple):
    """Facts about the series of a data set that their windows do not show.

    names          of the series
    period         time steps of a season; 1 is none
    series         all rows of each series; empty where every window is a series of its own
    training_rows  rows of each series, from its first one, that training takes
    missing        which values of each series were missing and are filled with the last known one; empty if none was
    floor          least value that the series can take, for the ends of intervals; None where there is no bound
    notes          remarks on how the data were read, one line each
    whole_series   all rows of each series as one window; empty unless the state is carried from window to window
    test_stride    windows of the test part from one that is judged to the next
    keys           of the series, where several columns of a table name them
    """

    names: tuple[str, ...]
    period: int
    series: tuple[Series, ...] = ()
    training_rows: tuple[int, ...] = ()
    missing: tuple[Bool[np.ndarray, "_"], ...] = ()
    floor: float | None = None
    notes: tuple[str, ...] = ()
    whole_series: tuple[Windows, ...] = ()
    test_stride: int = 1
    keys: Keys = NO_KEYS

    @property
    def training(self) -> list[Float[np.ndarray, "_"]]:
        """Training values of each series, "n", NaN where missing; empty where every window is a series of its own."""
        return [series.values[:rows] for series, rows in zip(self.known_series, self.training_rows, strict=True)]

    @property
    def known_series(self) -> tuple[Series, ...]:
        """All rows of each series, NaN where the value was missing."""
        if not self.missing:
            return self.series
        return tuple(
            Series(series.times, np.where(missing, np.nan, series.values))
            for series, missing in zip(self.series, self.missing, strict=True)
        )


class Dataset(NamedTuple):
    """A data set that is ready to train on.

    windows     inputs, targets and times of the three parts, in the series' own units
    scaling     fitted on the training rows alone
    background  facts about the series
    """

    windows: WindowSplits
    scaling: Scaling
    background: Background


@runtime_checkable
class DataOptions(Protocol):
    """Options of any data set: a frozen dataclass, whose fields are those of the command line and of `config.json`.

    Who loads it knows its class: series give windows (`SeriesData`), corpora the pieces of the three parts.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


@runtime_checkable
class SeriesData(DataOptions, Protocol):
    """A data set's recipe: where the series come from, and how they are cut into windows."""

    unit: ClassVar[str]
    """Unit of the values; may be empty."""

    @property
    def name(self) -> str:
        """Name of the data set, for titles and messages."""
        ...

    @property
    def window(self) -> int:
        """Time steps of the model's input."""
        ...

    @property
    def masks_targets(self) -> bool:
        """Whether targets may be NaN, not known; those have no weight in training."""
        ...

    @property
    def folds(self) -> int:
        """Folds of the backtest."""
        ...

    @property
    def fold(self) -> int:
        """Number of the fold that is trained and tested, from 1."""
        ...

    def load(self, horizon: int) -> Dataset:
        """Read the series and cut them into windows with `horizon` targets each.

        Raises `UsageError` for series that cannot be read, split or scaled.
        """
        ...
