"""The chorales of the literature for tests that need them: read from the copy beside the checkout, skipped without it."""

import functools
from pathlib import Path

import pytest

from jaxseq.music.corpora.jsb import Jsb

ARCHIVE = Path(__file__).parents[3] / "shared" / "data" / "jsb_chorales.tgz"


@functools.cache
def chorales():
    """{train, valid, test: {name: notes "t 4"}}."""
    if not ARCHIVE.exists():
        pytest.skip(f"needs {ARCHIVE.name} in {ARCHIVE.parent}")
    return {
        part: {piece.name: piece.notes for piece in pieces}
        for part, pieces in Jsb(str(ARCHIVE)).load()._asdict().items()
    }
