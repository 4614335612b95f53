"""Figures of the benchmark's measurements."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxseq.benchmark import peers
from jaxseq.benchmark.compare import OURS, Result
from jaxseq.benchmark.growth import Sweep
from jaxseq.common.figures import ACTUAL, FORECAST, NAIVE, STYLE


def ratios(results: Sequence[Result]) -> Figure:
    """Draw each peer's time over ours as bars with their range, and our time beside that of its matrix products."""
    names = [result["workload"]["name"] for result in results]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 1.6 + 0.6 * len(results)), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        _draw_bars(left, results)
        left.axvline(1, color=ACTUAL, lw=1)
        left.set(
            yticks=np.arange(len(results)),
            yticklabels=names,
            xlabel="peer / jaxseq",
            title="Time of a step: above 1 jaxseq is faster",
        )
        # The first workload is at the top, as in the table.
        left.invert_yaxis()
        _draw_times(right, results)
    return figure


def _draw_bars(axes: Axes, results: Sequence[Result]) -> None:
    """Draw a bar for each workload and peer; each peer has one colour and one line of the legend."""
    shown = list(dict.fromkeys(name for result in results for name in result["ratio"]))
    for number, name in enumerate(shown):
        # The rest of a row parts its bars from those of the next workload.
        height = 0.8 / len(shown)
        color = matplotlib.colormaps["viridis"](number / len(shown))
        label = peers.PEERS[name].title
        for row, result in enumerate(results):
            if name not in result["ratio"]:
                continue
            ratio = result["ratio"][name]
            low, high = result["ratio_range"][name]
            place = row - 0.4 + (number + 0.5) * height
            spread = [[ratio - low], [high - ratio]]
            axes.barh(place, ratio, height, color=color, xerr=spread, error_kw={"lw": 0.8}, label=label)

    # Each bar has added its label once more.
    handles, labels = axes.get_legend_handles_labels()
    by_label = dict(zip(labels, handles, strict=True))
    axes.legend(by_label.values(), by_label.keys(), loc="best")


def _draw_times(axes: Axes, results: Sequence[Result]) -> None:
    """Draw our time and that of the products in XLA, with a line between them."""
    rows = np.arange(len(results))
    products = [result["products"]["XLA"] for result in results]
    ours = [result["ms"][OURS] for result in results]
    axes.plot(products, rows, "|", color=NAIVE, label="products in XLA", ms=7)
    axes.plot(ours, rows, "o", color=FORECAST, label="jaxseq", ms=7)
    for row, ends in enumerate(zip(products, ours, strict=True)):
        axes.plot(ends, [row, row], color=ACTUAL, lw=0.8, zorder=0)
    axes.set(xscale="log", xlabel="ms a step", title="jaxseq, and its matrix products alone")
    axes.legend(loc="best")


def growth(sweep: Sweep) -> Figure:
    """Draw milliseconds a step by window, batch and units, ours and the products', with the slopes."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 3.6), layout="constrained")
        panels = figure.subplots(1, len(sweep["axes"]), sharey=True, squeeze=False)[0]
        for panel, (name, axis) in zip(panels, sweep["axes"].items(), strict=True):
            sizes = axis["sizes"]
            label = f"jaxseq: slope {axis['slope']:.2f}"
            panel.plot(sizes, axis["ms"][OURS], "o-", color=FORECAST, ms=4, label=label)
            label = f"products: slope {axis['products_slope']:.2f}"
            panel.plot(sizes, axis["ms"]["products"], "o-", color=NAIVE, ms=4, label=label)
            fixed_sizes = [f"{other} {size}" for other, size in sweep["middle"].items() if other != name]
            panel.set(xscale="log", yscale="log", xlabel=name, title=f"{sweep['cell']}, {', '.join(fixed_sizes)}")
            # Only measured sizes are marked, not the powers of ten of a logarithmic axis.
            panel.set_xticks(sizes, [str(size) for size in sizes])
            panel.minorticks_off()
            panel.legend(loc="best")
        panels[0].set_ylabel("ms a step")
    return figure
