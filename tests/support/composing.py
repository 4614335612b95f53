"""The compiled parts of `jaxseq.compose` without LLVM's optimisations, which take longer than what a test composes."""

from contextlib import contextmanager

import pytest
from problems import quickly

from jaxseq.music import sampling


@contextmanager
def quick():
    """Within it, `compose.compose` and `compose.fill` are compiled quickly."""
    with pytest.MonkeyPatch.context() as patch:
        each = {"_by_note": ("rules", "started"), "_by_chord": ("rules", "started"), "_sweeps": ("filters",)}
        for name, static in each.items():
            patch.setattr(sampling, name, quickly(getattr(sampling, name).__wrapped__, "model", *static))
        yield
