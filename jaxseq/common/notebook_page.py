"""Pieces of the pages by which results show themselves in a notebook: texts are escaped, and nothing is loaded."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

WIDTH = 640
"""Largest width of a picture in pixels."""


def picture(content: bytes, text: str) -> str:
    """Return a PNG as an image that is inside the page, with a text for those who do not see it."""
    encoded = base64.b64encode(content).decode()
    return f'<img style="max-width:{WIDTH}px" alt="{html.escape(text)}" src="data:image/png;base64,{encoded}">'


def sentences(texts: Sequence[str]) -> str:
    """Return sentences, which may quote names of series and columns, as a paragraph each."""
    return "".join(f"<p>{html.escape(text)}</p>" for text in texts)
