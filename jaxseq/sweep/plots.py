"""Pictures of a search."""

from __future__ import annotations

import math

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxseq.common.figures import ACTUAL, FORECAST, NAIVE, PLAIN, annotate_empty, headline, short
from jaxseq.sweep.search import Found, Result
from jaxseq.sweep.space import Choice, Range, Space

SLICES = 4
"""Fields that have a panel of their own, the most important first."""
PRUNED = "#8a8a8a"
"""Colour of trials that were pruned."""


def trials(space: Space, found: Found) -> Figure:
    """Draw the value of each trial with the best so far, the importance of the fields, and the value by each of them."""
    fields = sorted(space.fields, key=lambda field: -found.importances.get(field, 0))[:SLICES]
    rows = 1 + -(-len(fields) // 2)
    with matplotlib.rc_context(PLAIN):
        figure = Figure(figsize=(10, 3.2 * rows), layout="constrained")
        headline(figure, f"{space.base.name}: {len(found.results)} trials by {space.metric}, smaller is better")
        panels = figure.subplots(rows, 2, squeeze=False).ravel()
        _draw_history(panels[0], space.metric, found)
        _draw_importances(panels[1], found)
        for axes, field in zip(panels[2:], fields, strict=False):
            _draw_slice(axes, space, field, found)
        # An odd number of fields leaves one empty.
        for axes in panels[2 + len(fields) :]:
            axes.remove()
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _of_state(found: Found, state: str) -> list[Result]:
    return [result for result in found.results if result.state == state and math.isfinite(result.value)]


def _draw_history(axes: Axes, metric: str, found: Found) -> None:
    complete = _of_state(found, "complete")
    numbers = [result.number for result in complete]
    values = np.array([result.value for result in complete], float)
    pruned = _of_state(found, "pruned")
    axes.plot(
        [result.number for result in pruned], [result.value for result in pruned], "x", color=PRUNED, label="pruned"
    )
    axes.plot(numbers, values, "o", color=NAIVE, ms=4, label="complete")
    axes.plot(numbers, np.minimum.accumulate(values), color=FORECAST, drawstyle="steps-post", label="best so far")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="trial", ylabel=metric, title="Value by trial")
    _scale(axes, found)


def _draw_importances(axes: Axes, found: Found) -> None:
    axes.set_title("Importance of the fields")
    if not found.importances:
        annotate_empty(axes, "too few trials")
        return
    names = list(found.importances)
    bars = axes.barh(range(len(names)), [100 * found.importances[name] for name in names], color=NAIVE)
    axes.bar_label(bars, fmt="%.0f %%", padding=3)
    axes.set_yticks(range(len(names)), [short(name, 24) for name in names])
    axes.set_xlabel("share of the differences, %")
    axes.margins(x=0.15)
    axes.invert_yaxis()


def _draw_slice(axes: Axes, space: Space, field: str, found: Found) -> None:
    """Draw the value by one field; later trials are darker."""
    domain = space.fields[field]
    for state, marker, colors in (("pruned", "x", "Greys"), ("complete", "o", "Blues")):
        results = _of_state(found, state)
        x = [_position(domain, result.values[field]) for result in results]
        shades = [0.3 + 0.7 * (result.number + 1) / len(found.results) for result in results]
        values = [result.value for result in results]
        axes.scatter(x, values, c=shades, cmap=colors, vmin=0, vmax=1, marker=marker, s=18)
    best = min(_of_state(found, "complete"), key=lambda result: (result.value, result.number))
    axes.plot(_position(domain, best.values[field]), best.value, "o", mfc="none", mec=FORECAST, ms=10)
    axes.axhline(best.value, color=ACTUAL, lw=0.6, ls=":")

    axes.set(xlabel=short(field), ylabel=space.metric)
    if isinstance(domain, Choice):
        axes.set_xticks(range(len(domain.values)), [short(value, 16) for value in domain.values])
    elif domain.is_log:
        axes.set_xscale("log")
    _scale(axes, found)


def _position(domain: Range | Choice, value: str) -> float:
    """Return the place of a value on the axis of its field."""
    if isinstance(domain, Choice):
        return float(list(domain.values).index(value))
    return float(value)


def _scale(axes: Axes, found: Found) -> None:
    """Cut off the worst trials, which would hide the differences of the others."""
    values = np.array([result.value for result in _of_state(found, "complete")], float)
    lowest, middle = np.quantile(values, [0, 0.75])
    if values.max() > middle + 3 * (middle - lowest) > lowest:
        axes.set_ylim(lowest - 0.1 * (middle - lowest), middle + 3 * (middle - lowest))
