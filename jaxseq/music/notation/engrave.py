"""A MusicXML score as pages of notes: SVG by verovio, PNG by resvg. Both are in the extra `score`."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from jaxseq.common.errors import UsageError

WIDTH, HEIGHT, SCALE = 840, 1188, 40
"""A page in pixels (A4, upright), and verovio's scale in percent of its own units."""
OPTIONS = {
    "pageWidth": WIDTH * 100 // SCALE,
    "pageHeight": HEIGHT * 100 // SCALE,
    "pageMarginTop": 220,
    "scale": SCALE,
    "adjustPageHeight": True,
    "header": "none",
    "footer": "none",
    "xmlIdSeed": 1,
}
STRIP_MARGIN = 40
STRIP_OPTIONS = OPTIONS | {
    "breaks": "none",
    "adjustPageWidth": True,
    "pageMarginTop": STRIP_MARGIN,
    "pageMarginBottom": STRIP_MARGIN,
    "pageMarginLeft": STRIP_MARGIN,
    "pageMarginRight": STRIP_MARGIN,
    "svgViewBox": True,
}
"""One system of any width, which scales with the place that it has."""
LARGE, SMALL = 26, 14
"""Sizes of the title and the composer, in pixels."""
ZOOM = 2
"""Pixels of the PNG for one of the SVG."""


def svg(musicxml: str) -> list[str]:
    """The pages of a score, one SVG each, with title and composer on the first; equal scores give equal pages.

    Raises `UsageError` if verovio is not installed or cannot read the score.
    """
    root = _parsed(musicxml)
    pages = _drawn(musicxml, OPTIONS)
    heading = _heading(root.findtext("work/work-title", ""), root.findtext("identification/creator", ""))
    return [_under(pages[0], heading), *pages[1:]]


def strip(musicxml: str) -> str:
    """Return a score that `notation.musicxml` wrote as one SVG, a single system of any width without a title.

    The element of a note or rest that voice V sings from step S on, for N sixteenths, has the id vVsSnN; voices and steps
    count from 0. Raises as `svg` does.
    """
    root = _parsed(musicxml)
    for voice, part in enumerate(root.iter("part")):
        step = 0
        for note in part.iter("note"):
            steps = int(note.findtext("duration", "0"))
            note.set("id", f"v{voice}s{step}n{steps}")
            step += steps
    (page,) = _drawn(ElementTree.tostring(root, encoding="unicode"), STRIP_OPTIONS)
    return page


def _parsed(musicxml: str) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(musicxml)
    except ElementTree.ParseError as error:
        raise UsageError(f"the score is no XML: {error}") from error


def _drawn(musicxml: str, options: Mapping[str, object]) -> list[str]:
    """Return the pages that verovio draws, at least one."""
    verovio = _installed("verovio")
    verovio.enableLog(verovio.LOG_OFF)
    toolkit = verovio.toolkit()
    toolkit.setOptions(dict(options))
    if not toolkit.loadData(musicxml) or not toolkit.getPageCount():
        raise UsageError("verovio cannot read the score as MusicXML")
    return [toolkit.renderToSVG(number) for number in range(1, toolkit.getPageCount() + 1)]


def png(page: str) -> bytes:
    """An SVG page as PNG on white, with the fonts that come with matplotlib, so that it looks the same everywhere.

    Raises `UsageError` if resvg_py is not installed or cannot draw the page.
    """
    resvg = _installed("resvg_py")
    fonts = {"skip_system_fonts": True, "font_dirs": [str(_fonts())], "serif_family": "STIXGeneral"}
    try:
        return bytes(resvg.svg_to_bytes(svg_string=page, background="white", zoom=ZOOM, **fonts))
    except ValueError as error:
        raise UsageError(f"resvg cannot draw the page: {' '.join(str(error).split())}") from error


def _heading(title: str, composer: str) -> str:
    """Title and composer as SVG; a long title is set smaller, so that it stays on the page."""
    size = min(LARGE, 2 * WIDTH // max(len(title), 1))
    words = [(title, WIDTH // 2, "middle", size, 36), (composer, WIDTH - 20, "end", SMALL, 66)]
    return "".join(
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}px" font-family="Times, serif">'
        f"{escape(text)}</text>\n"
        for text, x, anchor, size, y in words
        if text
    )


def _under(page: str, heading: str) -> str:
    """The page with a heading drawn last, in the pixels of the outermost SVG."""
    before, end, after = page.rpartition("</svg>")
    return before + heading + end + after


def _fonts() -> Path:
    """The folder of fonts within matplotlib, found without importing it."""
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        raise UsageError("matplotlib is not installed; its fonts are needed to draw a score")
    return Path(found.origin).parent / "mpl-data" / "fonts" / "ttf"


def _installed(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(f'{name} is not installed; to engrave a score: pip install "jaxseq[score]"') from error
