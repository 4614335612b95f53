"""Colours, legends and titles of all figures, and their files."""

from __future__ import annotations

import io
import textwrap
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxseq.common.files import write
from jaxseq.common.text import cut

ACTUAL = "#222222"
FORECAST = "#d1495b"
NAIVE = "#2e86ab"
"""Colours of the actual values, the forecast and the naive forecast."""
STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "legend.frameon": False,
}
PLAIN = STYLE | {"text.parse_math": False}
"""Style for names that the user chose: a dollar sign in them starts no formula."""

DPI = 140
"""Pixels per inch of a figure."""


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the suffix. Raises `UsageError` if it cannot be written."""
    write(path, drawn(figure, path.suffix.removeprefix(".") or "png"))


def drawn(figure: Figure, file_format: str) -> bytes:
    """Draw a figure; returns the content of a file in this format, such as png."""
    content = io.BytesIO()
    if file_format == "png":
        # `savefig` lays out and draws every text once more before it draws the same pixels.
        figure.set_dpi(DPI)
        FigureCanvasAgg(figure).print_png(content)
    else:
        figure.savefig(content, format=file_format, dpi=DPI)
    return content.getvalue()


def headline(figure: Figure, title: str) -> None:
    """Add the title of all panels, on as many lines as it needs."""
    figure.suptitle(wrapped(title), x=0.01, ha="left", fontsize=11)


def wrapped(title: str, width: int = 90) -> str:
    """Return a title on lines of at most `width` characters."""
    # matplotlib's own wrapping takes dollar signs for a formula.
    return "\n".join(textwrap.fill(line, width) for line in title.splitlines())


def legend(axes: Axes, columns: int = 3) -> None:
    """Add a legend below the panel and its label."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=columns)


def annotate_empty(axes: Axes, text: str) -> None:
    """Write a text into a panel without data."""
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)
    axes.set(xticks=[], yticks=[])


def short(name: object, most: int = 48) -> str:
    """Return a name that fits into half a figure."""
    return cut(str(name), most)


def first_step(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a forecast that are one step ahead."""
    # Forecasts of one step have no such column.
    if "step" not in frame:
        return frame
    return frame[frame["step"] == 1]
