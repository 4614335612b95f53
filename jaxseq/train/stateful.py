"""One long series as the rows of a stateful training: consecutive windows, whose state is carried from one to the next.

The training part is cut into as many segments as a batch has rows (`feed.Segments`). A forecast is made with the state
that has been carried through the known past: from the beginning of the last segment, as in training, through the rest of
the training part and on into validation and test. Nothing is read before its time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxseq.common.errors import UsageError
from jaxseq.data.dataset import Dataset
from jaxseq.data.scaling import Scaling
from jaxseq.data.uncut import PartWindows
from jaxseq.data.windows import Series, Windows
from jaxseq.train import trained_series
from jaxseq.train.feed import Course, RowSplits, Segments
from jaxseq.train.trained_series import TrainedSeries

START = "state_start"
"""Key of `config.json`: the time of the series from which a forecast carries the state; a row number in older runs."""


class Segmented(NamedTuple):
    """The three parts of a job, and the time of the series, as text, from which validation and test carry the state."""

    splits: RowSplits
    carried_from: str


class History(NamedTuple):
    """All rows of a series, and the row from which a state is carried through them.

    Where a state starts is a question of the series and of the forecast's time alone, whichever others are asked for.

    rows     as one window
    start    first row that a forecast reads which is made after the training
    trained  rows up to the last one of the training; 0 for a series that the run was not trained on
    """

    rows: Windows
    start: int = 0
    trained: int = 0

    def first_rows(self, made_after: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Return the first row that is read for each of n forecasts, by the last known row of each."""
        # A forecast within the training would read few rows behind `start`, or none.
        return np.where(made_after + 1 >= self.trained, self.start, 0)


def segment(dataset: Dataset, batch: int) -> Segmented:
    """Cut the training part of one series into `batch` segments, and lay out the courses through the other two parts.

    Raises `UsageError` for several series, for more segments than time steps, and for a batch without a known target.
    """
    windows, scaling, background = dataset
    if len(background.names) > 1:
        raise UsageError(
            "carries its state through one series",
            where="--data.stateful",
            got=f"{len(background.names)} series",
            needed="one; leave --data.series out, or train every series by itself",
        )

    whole = background.whole_series[0]
    steps, horizon = windows.train.steps, windows.train.horizon
    x = inputs(scaling, whole)
    # Later ones have targets beyond the part.
    count = background.training_rows[0] - horizon
    # Before a number is kept for each segment.
    if batch > count:
        raise UsageError(
            "more segments than the training part has time steps",
            where="--batch",
            got=batch,
            needed=f"at most {count // steps}, the number of training windows",
        )
    ahead = slice(count + horizon - 1)
    train = Segments(
        x=x[:count],
        ahead=_one_step_targets(scaling, whole)[ahead],
        known=_has_known_target(whole)[ahead],
        window=steps,
        horizon=horizon,
        adds_up=scaling.transform.adds_up,
    )
    _check_known(train, batch)

    start = int(train.edges(batch)[-2])
    valid, test = (_course(x, part, scaling, start) for part in (windows.valid, windows.test))
    carried_from = str(background.series[0].times[start])
    return Segmented(RowSplits(train, valid, test), carried_from)


def history(rows: Windows, series: Series, trained: TrainedSeries | None, carried_from: str | int) -> History:
    """Return how a state is carried through a series: as in the training, if all rows of the training are among its own.

    rows          the series as one window
    trained       facts about the training's series of that name; None where the run does not know it
    carried_from  time of the training's series; the number of its row in a run of an older version

    The state starts at the first row of any other series: only behind the rows of the training it is known to have read
    enough. Raises `UsageError` for a start that is no row of the training.
    """
    if trained is None:
        return History(rows)
    training = trained_series.rows_of_training(trained, series)
    if training is None:
        return History(rows)

    if isinstance(carried_from, str):
        start = trained_series.row_at(series, carried_from)
    else:
        start = training.start + carried_from
    if not training.start <= start < training.stop:
        raise UsageError(
            "no row of the training", where=START, got=carried_from, needed=f"{trained.first} to {trained.last}"
        )
    return History(rows, start, training.stop)


def inputs(scaling: Scaling, whole: Windows) -> Float[np.ndarray, "n d"]:
    """Return the inputs of all time steps of a series, in float32."""
    # Scaled in float64, then rounded: in float32 the change of a high price would lose its digits.
    return scaling.inputs(whole)[0].astype(np.float32)


def _one_step_targets(scaling: Scaling, whole: Windows) -> Float[np.ndarray, " n"]:
    """Return the target one step after each time step, also where the value is filled in; NaN after the last."""
    as_known = whole._replace(filled=whole.filled[..., :0])
    return scaling.targets_at_every_step(as_known)[0, :, 0].astype(np.float32)


def _has_known_target(whole: Windows) -> Bool[np.ndarray, " n"]:
    """Return whether the value one step after each time step is known."""
    known = np.zeros(whole.inputs.shape[1], bool)
    known[:-1] = True
    if whole.filled.shape[2]:
        known[:-1] = ~whole.filled[0, 1:, 0]
    return known


def _check_known(train: Segments, batch: int) -> None:
    """Raise `UsageError` if a batch has no known target, and so no mean loss."""
    if np.all(train.known):
        return
    # A time step counts if any target of its horizon is known.
    targets = np.lib.stride_tricks.sliding_window_view(train.known, train.horizon)
    known_before = np.concatenate([[0], np.cumsum(targets.any(axis=1))])
    edges = train.edges(batch)
    for step in range(train.steps(batch)):
        first = np.minimum(edges[:-1] + step * train.window, edges[1:])
        last = np.minimum(first + train.window, edges[1:])
        if not np.any(known_before[last] > known_before[first]):
            raise UsageError(
                f"batch {step + 1} of an epoch has no known target",
                where="--data.window",
                got=train.window,
                needed="longer windows, or a larger --batch",
            )


def _course(x: Float[np.ndarray, "n d"], part: PartWindows, scaling: Scaling, start: int) -> Course:
    """Return the time steps from `start` to the last one that a part is forecast from, with the targets of the part."""
    # A forecast is made after the row before its first target.
    made_after = part.origins - 1
    first = int(made_after.min())
    last = int(made_after.max())
    y = np.full((last - first + 1, part.horizon), np.nan, np.float32)
    # Windows without a known target are left out of the part.
    y[made_after - first] = scaling.targets(part)
    return Course(x[start : last + 1], y)
