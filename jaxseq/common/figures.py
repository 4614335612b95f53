"""What all pictures share: colours, legends, and how they get on disk."""

from __future__ import annotations

import io
import textwrap
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxseq.common.files import write

ACTUAL, FORECAST, NAIVE = "#222222", "#d1495b", "#2e86ab"
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
"""For names that the user gave: a dollar sign in them opens no formula."""


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the suffix. Raises `UsageError` if it cannot be written."""
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix.removeprefix(".") or "png", dpi=140)
    write(path, content.getvalue())


def headline(figure: Figure, title: str) -> None:
    """The title of all panels, on as many lines as it needs."""
    figure.suptitle(wrapped(title), x=0.01, ha="left", fontsize=11)


def wrapped(title: str, width: int = 90) -> str:
    """The title on lines of at most `width` characters; matplotlib's own wrapping takes dollar signs for a formula."""
    return "\n".join(textwrap.fill(line, width) for line in title.splitlines())


def key(axes: Axes, columns: int = 3) -> None:
    """The legend, below the panel and its label."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=columns)


def say(axes: Axes, text: str) -> None:
    """What is said in a panel in which nothing can be drawn."""
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)
    axes.set(xticks=[], yticks=[])


def short(name: object, most: int = 48) -> str:
    """A name that fits into half a figure."""
    return text if len(text := str(name)) <= most else f"{text[: most - 1]}…"


def first_step(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of a forecast that are one step ahead."""
    return frame[frame["step"] == 1] if "step" in frame else frame
