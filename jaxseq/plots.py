"""Pictures of a run: the only file that knows matplotlib. Each function returns a figure; `save` writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from jaxseq.errors import UsageError

ACTUAL, FORECAST, NAIVE = "#222222", "#d1495b", "#2e86ab"
STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "legend.frameon": False,
}
ZOOM = 40
"""Test rows in the zoom: few enough that one day's delay can be seen."""


def loss(rows: list[dict[str, Any]], metric: str, best_epoch: int, naive: float, title: str) -> Figure:
    """Training loss and validation `metric` by epoch, the epoch that was chosen, and the last value's own error."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.5, 4.2), layout="constrained")
        axes = figure.add_subplot()
        epochs = [row["epoch"] for row in rows]
        axes.plot(epochs, [row["train_loss"] for row in rows], color=NAIVE, label="training")
        axes.plot(epochs, [row[metric] for row in rows], color=FORECAST, label="validation")
        axes.axhline(naive, color=ACTUAL, ls="--", lw=1, label="validation, naive (last value)")
        chosen = next(row[metric] for row in rows if row["epoch"] == best_epoch)
        axes.plot([best_epoch], [chosen], "o", color=FORECAST, label=f"best epoch: {best_epoch}")
        axes.set(xlabel="epoch", ylabel="mean squared error, scaled", title=title, yscale="log")
        axes.margins(x=0.02)
        figure.legend(loc="outside lower center", ncols=4)
    return figure


def forecast(frame: pd.DataFrame, unit: str, title: str) -> Figure:
    """The test part of a forecast (a frame with actual, forecast, naive): all of it, a zoom, and change against change.

    In the zoom a forecast that only copies lies on the naive one; in the last panel it is a flat band.
    """
    time = frame.columns[0]
    first = frame[frame["step"] == 1] if "step" in frame else frame
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 7), layout="constrained")
        grid = figure.add_gridspec(2, 5)
        whole, zoom = figure.add_subplot(grid[0, :]), figure.add_subplot(grid[1, :3])
        _curves(whole, first, time, unit, marked=time != "date")
        whole.set_title(title)
        whole.legend(loc="best", ncols=3)
        _curves(zoom, first.tail(ZOOM), time, unit, marked=True)
        zoom.set_title(f"The last {min(ZOOM, len(first))} test {'days' if time == 'date' else 'rows'}")
        if time == "date":
            zoom.xaxis.set_major_formatter(ConciseDateFormatter(AutoDateLocator()))
        _changes(figure.add_subplot(grid[1, 3:]), first, unit)
    return figure


def _curves(axes: Axes, frame: pd.DataFrame, time: str, unit: str, marked: bool) -> None:
    """Curves over dates; rows that are not in time have no line between them."""
    line = "-" if time == "date" else ""
    marker, size = ("." if marked else ""), 4
    x = frame[time].to_numpy()
    axes.plot(
        x,
        frame["naive"],
        ls=":" if line else "",
        color=NAIVE,
        lw=1.2,
        label="naive (last value)",
        marker=marker,
        ms=size,
    )
    axes.plot(x, frame["forecast"], ls=line, color=FORECAST, lw=1.1, label="forecast", marker=marker, ms=size)
    axes.plot(x, frame["actual"], ls=line, color=ACTUAL, lw=1.1, label="actual", marker=marker, ms=size)
    axes.set_ylabel(unit or "value")
    axes.set_xlabel("" if time == "date" else "test row")


def _changes(axes: Axes, frame: pd.DataFrame, unit: str) -> None:
    """Forecast change against actual change, both from the last value, on one scale."""
    actual, predicted = frame["actual"] - frame["naive"], frame["forecast"] - frame["naive"]
    limit = 1.05 * float(np.abs(np.concatenate([actual, predicted])).max())
    axes.plot([-limit, limit], [-limit, limit], color=ACTUAL, ls="--", lw=1, label="perfect")
    axes.axhline(0, color=NAIVE, ls=":", lw=1.2, label="naive")
    axes.plot(actual, predicted, ".", color=FORECAST, ms=3, alpha=0.6)
    suffix = f", {unit}" if unit else ""
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), title="Change from the last value", aspect="equal")
    axes.set(xlabel=f"actual{suffix}", ylabel=f"forecast{suffix}")
    axes.legend(loc="upper left")


def ratios(results: list[dict[str, Any]]) -> Figure:
    """The benchmark: each peer's time over ours as bars with their range, and our time over its matrix products'.

    `results` are those of the benchmark's JSON file.
    """
    names = [result["workload"]["name"] for result in results]
    peers = list(dict.fromkeys(name for result in results for name in result["ratio"]))
    rows = np.arange(len(results))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 1.6 + 0.6 * len(results)), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        for number, peer in enumerate(peers):
            height, color = 0.8 / len(peers), matplotlib.colormaps["viridis"](number / len(peers))
            for row, result in zip(rows, results, strict=True):
                if peer in result["ratio"]:
                    ratio, (low, high) = result["ratio"][peer], result["ratio_range"][peer]
                    at, spread = row - 0.4 + (number + 0.5) * height, [[ratio - low], [high - ratio]]
                    left.barh(at, ratio, height, color=color, xerr=spread, error_kw={"lw": 0.8}, label=peer)
        left.axvline(1, color=ACTUAL, lw=1)
        left.set(yticks=rows, yticklabels=names, xlabel="peer / ours", title="Time of a step: above 1 we are faster")
        left.invert_yaxis()
        shown = dict(zip(*reversed(left.get_legend_handles_labels()), strict=True))
        left.legend(shown.values(), shown.keys(), loc="best")
        for name, color, marker in (("floor", NAIVE, "|"), ("ours", FORECAST, "o")):
            right.plot([result["ms"][name] for result in results], rows, marker, color=color, label=name, ms=7)
        for row, result in zip(rows, results, strict=True):
            right.plot([result["ms"]["floor"], result["ms"]["ours"]], [row, row], color=ACTUAL, lw=0.8, zorder=0)
        right.set(xscale="log", xlabel="ms a step", title="Ours, and its matrix products alone")
        right.legend(loc="best")
    return figure


def growth(sweep: dict[str, Any]) -> Figure:
    """The benchmark's sweep: milliseconds a step by window, batch and units, ours and the floor's, with the slopes."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 3.6), layout="constrained")
        panels = figure.subplots(1, len(sweep["axes"]), sharey=True, squeeze=False)[0]
        for axes, (name, found) in zip(panels, sweep["axes"].items(), strict=True):
            for who, color, slope in (("ours", FORECAST, "slope"), ("floor", NAIVE, "floor_slope")):
                label = f"{who}: slope {found[slope]:.2f}"
                axes.plot(found["sizes"], found["ms"][who], "o-", color=color, ms=4, label=label)
            fixed = ", ".join(f"{other} {size}" for other, size in sweep["middle"].items() if other != name)
            axes.set(xscale="log", yscale="log", xlabel=name, title=f"{sweep['cell']}, {fixed}")
            axes.set_xticks(found["sizes"], [str(size) for size in found["sizes"]])
            axes.minorticks_off()
            axes.legend(loc="best")
        panels[0].set_ylabel("ms a step")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG. Raises `UsageError` if it cannot be written."""
    try:
        figure.savefig(path, dpi=140)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
