"""A paper's figures drawn over seeds: training curves in panels, and how far back the gradient reaches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from jaxseq.common.errors import UsageError
from jaxseq.common.figures import ACTUAL, PLAIN, wrapped

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""From Okabe and Ito's palette, which the colour-blind can tell apart."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""One more than colours, so that the two together tell 42 curves apart."""
SHADES, MARKS = 0.18, 7
"""Opacity of a band, and about how many markers stand on a curve."""
GREY, WIDE = "#666666", 100
"""Of what stands in the legend for all curves; about how many letters one row of it has room for."""
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
REFERENCES = ("-.", ":", (0, (1, 3)))
"""How the horizontal lines are drawn, the first label's first."""


class Curve(NamedTuple):
    """One model's losses by epoch, a row for each seed; other curves may have other seeds and epochs."""

    label: str
    valid: Float[np.ndarray, "s e"]
    train: Float[np.ndarray, "s e"] | None = None


class Reference(NamedTuple):
    """A horizontal line, such as the error of a naive forecast."""

    label: str
    value: float


class Panel(NamedTuple):
    """The curves that share one pair of axes; `ylabel` says the unit.

    The axis is logarithmic, so that a curve far above the others leaves them readable, unless `log` is false or
    something that is drawn is not above 0.
    """

    title: str
    ylabel: str
    curves: Sequence[Curve]
    log: bool = True
    reference: Reference | None = None


class Norms(NamedTuple):
    """Norm of the gradient k = 0..t-1 steps back, by label, a row for each seed."""

    title: str
    lines: Mapping[str, Float[np.ndarray, "s t"]]


class Look(NamedTuple):
    """How the curve of one label is drawn; `turn` in 0..1 sets its markers apart from the other curves'."""

    color: str
    marker: str
    turn: float


def curves(panels: Sequence[Panel]) -> Figure:
    """Losses by epoch: mean over seeds as a line, smallest to largest as a band, two panels in a row.

    Validation is solid, training dashed. The band is the range and no standard deviation, because the mean less a
    standard deviation may lie below 0, where a logarithmic axis has no place. A label has one colour and marker in all
    panels, and panels with the same `ylabel` and scale share their axis. Raises `UsageError` for a loss that is not
    finite, `ValueError` where there is nothing to draw.
    """
    every = [curve for panel in panels for curve in panel.curves]
    looks = _looks(curve.label for curve in every)
    names = dict.fromkeys(panel.reference.label for panel in panels if panel.reference)
    strokes = dict(zip(names, itertools.cycle(REFERENCES), strict=False))
    with matplotlib.rc_context(PLAIN):
        figure, grid = _grid(len(panels))
        for axes, panel in zip(grid, panels, strict=True):
            _losses(axes, panel, looks, strokes)
        _share(grid)
        lines = [Line2D([], [], color=ACTUAL, ls=stroke, lw=1.2, label=name) for name, stroke in strokes.items()]
        meanings = [*_parts(every), *_band(curve.valid for curve in every), *lines]
        _legend(figure, _keys(looks), meanings)
    return figure


def gradients(panels: Sequence[Norms], ylabel: str = "norm of the loss's gradient at the state") -> Figure:
    """Norm of the gradient against steps back, all panels on one logarithmic axis; mean and range over seeds.

    A norm that float32 rounds to 0 has no place on that axis: there the line ends. Raises `UsageError` for a norm that
    is not finite or is below 0, `ValueError` where there is nothing to draw. Bengio, Simard & Frasconi (1994),
    "Learning long-term dependencies with gradient descent is difficult", IEEE Transactions on Neural Networks 5(2).
    """
    looks = _looks(label for panel in panels for label in panel.lines)
    every = [norms for panel in panels for norms in panel.lines.values()]
    scale = "log" if any((norms > 0).any() for norms in every) else "linear"
    with matplotlib.rc_context(PLAIN):
        figure, grid = _grid(len(panels))
        for axes, panel in zip(grid, panels, strict=True):
            axes.set(xlabel="steps back from the last one", ylabel=ylabel, title=wrapped(panel.title, 44))
            axes.set_yscale(scale)
            for label, norms in panel.lines.items():
                where = f"panel {panel.title!r}, {label!r}"
                _check(norms, where, ("norm", "step back", 0))
                if norms.min() < 0:
                    raise UsageError(f"{where}: the smallest norm is {norms.min():g}; a norm is at least 0")
                _draw(axes, norms, looks[label], 0, label)
        _share(grid)
        _legend(figure, _keys(looks), _band(every))
    return figure


def _looks(labels: Iterable[str]) -> dict[str, Look]:
    """A colour and a marker for each label, in order of first appearance."""
    names = list(dict.fromkeys(labels))
    ways = zip(itertools.cycle(COLOURS), itertools.cycle(MARKERS), strict=False)
    return {name: Look(*way, number / len(names)) for number, (name, way) in enumerate(zip(names, ways, strict=False))}


def _grid(count: int) -> tuple[Figure, list[Axes]]:
    if not count:
        raise ValueError("no panel to draw")
    columns = min(count, 2)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(7.5, 3.6 if count == 1 else 0.8 + 2.7 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for axes in panels[count:]:
        axes.remove()
    return figure, panels[:count]


def _losses(axes: Axes, panel: Panel, looks: Mapping[str, Look], strokes: Mapping[str, object]) -> None:
    drawn = [np.array([[panel.reference.value]])] if panel.reference else []
    for curve in panel.curves:
        where = f"panel {panel.title!r}, {curve.label!r}"
        for part, losses, stroke in (("training", curve.train, "--"), ("validation", curve.valid, "-")):
            if losses is not None:
                _check(losses, f"{where}, {part}", ("loss", "epoch", 1))
                _draw(axes, losses, looks[curve.label], 1, f"{curve.label}, {part}", stroke)
                drawn.append(losses)
    if panel.reference:
        stroke = strokes[panel.reference.label]
        axes.axhline(panel.reference.value, color=ACTUAL, ls=stroke, lw=1.2, label=panel.reference.label)
    scale = "log" if panel.log and all(losses.min() > 0 for losses in drawn) else "linear"
    axes.set(xlabel="epoch", ylabel=panel.ylabel, title=wrapped(panel.title, 44), yscale=scale)


def _check(values: Float[np.ndarray, "s e"], where: str, names: tuple[str, str, int]) -> None:
    """All finite; `names` are the value's, its column's, and the first column's number."""
    value, column, first = names
    if not values.size:
        raise ValueError(f"{where}: nothing to draw in an array of shape {values.shape}")
    if len(bad := np.argwhere(~np.isfinite(values))):
        run, at = bad[0]
        found = f"the {value} of run {run + 1} of {len(values)} is {values[run, at]:g} at {column} {at + first}"
        raise UsageError(f"{where}: {found}; a curve needs finite numbers: leave that run out, and say so")


def _draw(
    axes: Axes, values: Float[np.ndarray, "s e"], look: Look, first: int, label: str, stroke: object = "-"
) -> None:
    """The mean over rows, and behind it the band from the smallest to the largest."""
    x, mean = np.arange(first, first + values.shape[1]), values.mean(axis=0)
    every = math.ceil(len(x) / MARKS)
    shape: dict[str, Any] = {"marker": look.marker, "ms": 3.5, "markevery": (int(look.turn * every), every)}
    if stroke != "-":  # only where a single epoch leaves no line to see
        shape = {"marker": look.marker, "ms": 5, "mfc": "none"} if len(x) == 1 else {}
    if axes.get_yscale() == "log":
        mean = np.where(mean > 0, mean, np.nan)
    axes.plot(x, mean, ls=stroke, color=look.color, lw=1.4, label=label, **shape)
    if len(values) > 1:
        low, high = values.min(axis=0), values.max(axis=0)
        axes.fill_between(x, low, high, color=look.color, alpha=SHADES, lw=0, zorder=1, label=label)


def _share(grid: Sequence[Axes]) -> None:
    """One axis for the panels that measure the same, named once a row, and numbers on it that can be read."""
    kinds = [(axes.get_ylabel(), axes.get_yscale()) for axes in grid]
    for number, (axes, kind) in enumerate(zip(grid, kinds, strict=True)):
        first = kinds.index(kind)
        if first < number:
            axes.sharey(grid[first])
        if number % 2 and kind == kinds[number - 1]:
            axes.set_ylabel("")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
        axes.margins(x=0.02)
    for axes in grid:  # once all that share an axis have said what they need
        axes.autoscale_view()
        if axes.get_yscale() == "log":
            _ticks(axes)


def _ticks(axes: Axes) -> None:
    """Numbers on a logarithmic axis: 0.6, and not 6 times a power of ten; powers alone where it is very long."""
    low, high = axes.get_ylim()
    decades = math.log10(high / low)
    subs = (1, 1.5, 2, 3, 4, 6, 8) if decades < 1 else (1, 2, 5) if decades < 3 else (1,)
    plain = low >= 1e-5 and high <= 1e5
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}") if plain else FuncFormatter(_power))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _power(value: float, _: int | None = None) -> str:
    """2×10⁻⁶, without a formula, which labels do not have here."""
    digits, exponent = f"{value:.5e}".split("e")
    power = f"10{str(int(exponent)).translate(RAISED)}"
    return power if float(digits) == 1 else f"{float(digits):g}\N{MULTIPLICATION SIGN}{power}"


def _keys(looks: Mapping[str, Look]) -> list[Artist]:
    return [
        Line2D([], [], color=look.color, marker=look.marker, ms=3.5, lw=1.4, label=name) for name, look in looks.items()
    ]


def _parts(shown: Iterable[Curve]) -> list[Artist]:
    """What solid and dashed mean, where both are drawn."""
    if all(curve.train is None for curve in shown):
        return []
    names = (("validation", "-"), ("training", "--"))
    return [Line2D([], [], color=GREY, ls=stroke, lw=1.4, label=name) for name, stroke in names]


def _band(drawn: Iterable[np.ndarray]) -> list[Artist]:
    """What line and band mean, where there is a band."""
    counts = [len(values) for values in drawn]
    least, most = min(counts), max(counts)
    if most == 1:
        return []
    seeds = f"{most}" if least == most else f"{least} to {most}"
    return [Patch(color=GREY, alpha=SHADES, lw=0, label=f"mean and range of {seeds} seeds")]


def _legend(figure: Figure, names: list[Artist], meanings: list[Artist]) -> None:
    """Below all panels: in one row if that is wide enough, else the curves' names left and what is meant right."""
    both = names + meanings
    if sum(len(str(handle.get_label())) + 7 for handle in both) <= WIDE:
        figure.legend(handles=both, loc="outside lower center", ncols=len(both))
        return
    rows = max(len(names), len(meanings))
    blank = [Line2D([], [], ls="", label=" ")]
    left, right = (part + blank * (rows - len(part)) for part in (names, meanings))
    figure.legend(handles=left + right, loc="outside lower center", ncols=2)
    figure.set_figheight(figure.get_figheight() + 0.18 * (rows - 1))  # what its rows would take from the panels
