"""The compiled parts of `jaxseq.compose` without LLVM's optimisations, which take longer than what a test composes."""

from contextlib import contextmanager

import pytest
from problems import quickly

from jaxseq import compose


@contextmanager
def quick():
    """Within it, `compose.compose` and `compose.fill` are compiled quickly."""
    with pytest.MonkeyPatch.context() as patch:
        for name, static in {"_by_note": ("started",), "_by_chord": ("started",), "_sweeps": ()}.items():
            patch.setattr(compose, name, quickly(getattr(compose, name).__wrapped__, "model", "filters", *static))
        yield
