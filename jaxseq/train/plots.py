"""Pictures of a training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from jaxseq.checkpoint import run_seal
from jaxseq.common.figures import ACTUAL, FORECAST, NAIVE, STYLE, wrapped
from jaxseq.train.run_folder import Row

UNITS = {
    "valid_mse": "mean squared error, scaled",
    "valid_mae": "mean absolute error, scaled",
    "valid_nats": "nats",
}
"""Label of the vertical axis by metric."""


def loss_figure(
    rows: Sequence[Row],
    metric: str,
    best_epoch: int,
    naive: float | None,
    title: str,
) -> Figure:
    """Plot training loss and validation `metric` by epoch, with the epoch that was chosen.

    Epochs after the chosen one are shaded: their weights are not used. `naive` is the error of the last value on the
    validation part, drawn as a line if given.
    """
    epochs = [int(row["epoch"]) for row in rows]
    training = [row["train_loss"] for row in rows]
    validation = [row[metric] for row in rows]
    best_value = validation[epochs.index(best_epoch)]

    # The style holds for this figure alone: a caller's own settings of matplotlib stay as they are.
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.5, 4.2), layout="constrained")
        axes = figure.add_subplot()

        axes.plot(epochs, training, color=NAIVE, label="training")
        axes.plot(epochs, validation, color=FORECAST, label="validation")
        if naive is not None:
            axes.axhline(naive, color=ACTUAL, ls="--", lw=1, label="validation, naive (last value)")
        axes.plot([best_epoch], [best_value], "o", color=FORECAST, label=f"chosen: epoch {best_epoch}")
        if best_epoch < epochs[-1]:
            _shade_after(axes, best_epoch, epochs[-1])

        axes.set_xlabel("epoch")
        axes.set_ylabel(UNITS.get(metric, "loss"))
        # Half epochs do not exist, so there is no tick at them.
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axes.margins(x=0.02)
        # A density's loss may be negative, and has no logarithm then.
        if all(value > 0 for value in (*training, *validation)):
            _log_scale(axes)

        # A table's title is the name of its file, in which a dollar sign would begin a formula.
        axes.set_title(wrapped(title, 70), parse_math=False)
        # Outside the axes, where it cannot cover a curve.
        figure.legend(loc="outside lower center", ncols=3)
    return figure


def _shade_after(axes: Axes, best_epoch: int, last_epoch: int) -> None:
    """Shade the epochs whose weights are not used."""
    axes.axvline(best_epoch, color="0.5", lw=0.8)
    axes.axvspan(
        best_epoch,
        last_epoch,
        color="0.5",
        alpha=0.12,
        lw=0,
        label=f"after epoch {best_epoch}: not used",
    )


def _log_scale(axes: Axes) -> None:
    """Use a logarithmic scale whose ticks read 0.6 instead of 6 times a power of ten."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 4, 6, 8)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def judgement_figures(drawn: Iterator[Figure]) -> Iterator[tuple[str, Figure]]:
    """Return the pictures of a judgement, `Quantity.figures`, one after the other, each with the name of its file."""
    yield from zip((run_seal.FORECAST_PLOT, run_seal.ERRORS_PLOT), drawn, strict=True)
