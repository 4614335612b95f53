"""Draw what a derivative keeps of a time step: `python docs/site/draw_saved.py` writes docs/figures/saved.png.

The arrays are those that `jax.vjp` holds between the forward and the backward pass.
"""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure

from jaxseq.cells import CELLS, recurrence
from jaxseq.common import figures

STEPS, ROWS, FEATURES, HIDDEN = 100, 32, 1, 64
PATH = Path(__file__).resolve().parents[1] / "figures" / "saved.png"


class Kept(NamedTuple):
    """Widths in units of h of the arrays "t b ..." that a derivative keeps, the widest first."""

    by_adjoint: list[float]
    by_autodiff: list[float]


def kept(name):
    """Return what the derivatives of a cell keep of each time step."""
    cell = CELLS[name]
    params = cell.init(jax.random.key(0), FEATURES, HIDDEN)
    x = jnp.ones((STEPS, ROWS, FEATURES))
    start = cell.start((ROWS, HIDDEN))

    def widths(scan):
        derivative = jax.vjp(lambda params: scan(cell, params, x, start)[1], params)[1]
        arrays = [array for array in jax.tree.leaves(derivative) if array.shape[:2] == (STEPS, ROWS)]
        return sorted((array.shape[2] / HIDDEN for array in arrays), reverse=True)

    return Kept(widths(recurrence.scan), widths(recurrence.scan_by_autodiff))


def draw(names=("rnn", "lstm", "gru")):
    """Return the figure: a bar for each cell and each derivative, a piece for each array."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots()
    labels = []
    for name in names:
        for label, widths in zip(("adjoint", "autodiff"), kept(name), strict=True):
            left = 0.0
            for width in widths:
                colour = "#d1495b" if label == "adjoint" else "#8d8d8d"
                axes.barh(len(labels), width, left=left, color=colour, edgecolor="white", linewidth=1.5)
                if width >= 1:
                    axes.text(left + width / 2, len(labels), f"{width:.0f}h", ha="center", va="center", color="white")
                left += width
            axes.text(left + 0.15, len(labels), f"{left:.1f} h", va="center")
            labels.append(f"{name.upper()}, {label}")
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xlim(0, axes.get_xlim()[1] * 1.05)
    axes.set_xlabel("numbers kept of a time step and row, in units of h")
    axes.set_title(f"What a derivative keeps, {HIDDEN} units, {FEATURES} feature", loc="left")
    return figure


if __name__ == "__main__":
    figures.save(draw(), PATH)
    print(PATH)
