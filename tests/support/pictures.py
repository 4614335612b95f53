"""Pictures of a single pixel in place of those of the commands, which take most of the time of a short run."""

from base64 import b64decode

import pytest

from jaxseq.common import figures

PIXEL = b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")
"""A PNG."""


def draw_none(patch: pytest.MonkeyPatch) -> None:
    """Write a pixel in place of every picture."""
    patch.setattr(figures, "drawn", lambda *_: PIXEL)
