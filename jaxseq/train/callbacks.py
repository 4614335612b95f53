"""Callbacks of a training: functions of the user's that are called at its start, after each epoch, and at its end.

class Print(Callback):
    def on_epoch(self, row):
        print(row["epoch"], row["valid_mse"])

run.train(experiment, callbacks=[Print()])
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, runtime_checkable

from jaxseq.train.experiments.base import Training
from jaxseq.train.run_folder import Row


class StopTraining(Exception):
    """Raised in `Callback.on_epoch` to end the training after this epoch; its text is shown.

    The run ends as it does when its patience is over: it is judged and sealed. Nothing of the stop is stored, so that
    a run that resumes trains its remaining epochs, unless a callback stops it again.
    """


class StartedRun(NamedTuple):
    """A run whose training starts or resumes, as callbacks see it.

    folder      of the run
    experiment  its recipe
    config      the content of config.json: the recipe, what was fitted to the training part, the run's identity
    metric      column of the rows whose smallest value marks the best epoch, such as valid_mse
    rows        one for each epoch that was trained before
    note        prints a line above the display
    """

    folder: Path
    experiment: Training
    config: Mapping[str, object]
    metric: str
    rows: Sequence[Row]
    note: Callable[[str], None]


@runtime_checkable
class Callback(Protocol):
    """Functions that a training calls; a subclass overrides those that it needs.

    Of several processes, the first one alone calls them. An exception passes through and ends the training: the epochs so
    far are saved, and the run resumes bit for bit. `StopTraining` ends it in good order.
    """

    def on_start(self, run: StartedRun) -> None:
        """Called once before the first epoch, also of a run that resumes with nothing left to train."""
        return

    def on_epoch(self, row: Row) -> None:
        """Called after each epoch with a copy of its row of metrics.jsonl, when it is logged and given to be saved."""
        return

    def on_end(self, error: BaseException | None) -> None:
        """Called after the last epoch, before the run is judged; `error` is what ended the training before its end.

        It is None after the last epoch, after `StopTraining` and when patience is over. A callback whose `on_start` failed
        is not called.
        """
        # Without a statement, a type checker takes the method for an abstract one.
        return


@contextmanager
def attended(callbacks: Sequence[Callback], run: StartedRun) -> Iterator[Callable[[Row], str | None]]:
    """Call callbacks at the start and, whatever happens, at the end of a training.

    Yields the function to be called after each epoch: it returns why a callback stops the training, None if none does.
    """

    def end(
        callback: Callback,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        callback.on_end(error)

    def after_epoch(row: Row) -> str | None:
        reason = None
        for callback in callbacks:
            # All of them see the last epoch.
            try:
                callback.on_epoch(dict(row))
            except StopTraining as stop:
                reason = f"{stop}" or type(callback).__name__
        return reason

    with ExitStack() as stack:
        for callback in callbacks:
            callback.on_start(run)
            stack.push(partial(end, callback))
        yield after_epoch
