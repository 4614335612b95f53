"""Pictures of a single pixel in place of those of the commands, which take most of the time of a short run.

No test draws a picture unless it asks for the fixture `drawn`, as those of pictures do.
"""

from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from jaxseq.common import figures

PIXEL = b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")
"""A PNG."""


_drawn = figures.drawn


@contextmanager
def drawing() -> Iterator[None]:
    """Draw pictures, as the commands do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "drawn", _drawn)
        yield


@pytest.fixture(scope="session", autouse=True)
def pixels() -> Iterator[None]:
    """A pixel is written in place of every picture."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "drawn", lambda *_: PIXEL)
        yield


@pytest.fixture(scope="module")
def drawn() -> Iterator[None]:
    """Pictures are drawn from the first test of the file on that asks for them."""
    with drawing():
        yield
