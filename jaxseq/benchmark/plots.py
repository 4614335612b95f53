"""The benchmark's measurements."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from jaxseq.common.figures import ACTUAL, FORECAST, NAIVE, STYLE


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
