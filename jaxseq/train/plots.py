"""The training of a run."""

from __future__ import annotations

from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from jaxseq.common.figures import ACTUAL, FORECAST, NAIVE, STYLE, wrapped


def loss(rows: list[dict[str, Any]], metric: str, best_epoch: int, naive: float | None, title: str) -> Figure:
    """Training loss and validation `metric` by epoch, the epoch that was chosen, and the last value's own error where it
    has one."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.5, 4.2), layout="constrained")
        axes = figure.add_subplot()
        epochs = [row["epoch"] for row in rows]
        axes.plot(epochs, [row["train_loss"] for row in rows], color=NAIVE, label="training")
        axes.plot(epochs, [row[metric] for row in rows], color=FORECAST, label="validation")
        if naive is not None:
            axes.axhline(naive, color=ACTUAL, ls="--", lw=1, label="validation, naive (last value)")
        chosen = next(row[metric] for row in rows if row["epoch"] == best_epoch)
        axes.plot([best_epoch], [chosen], "o", color=FORECAST, label=f"best epoch: {best_epoch}")
        scale = "log" if all(row[name] > 0 for row in rows for name in ("train_loss", metric)) else "linear"
        ylabel = {"valid_mse": "mean squared error, scaled", "valid_nats": "nats"}.get(metric, "loss")
        axes.set(xlabel="epoch", ylabel=ylabel, yscale=scale)
        if scale == "log":  # 0.6, and not 6 times a power of ten
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 4, 6, 8)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axes.set_title(wrapped(title, 70), parse_math=False)
        axes.margins(x=0.02)
        figure.legend(loc="outside lower center", ncols=4)
    return figure
