"""The compiled parts of `jaxseq.music.sampling` without LLVM's optimisations, which take longer than a few notes."""

from contextlib import contextmanager

import pytest
from problems import quickly

from jaxseq.music import sampling


@contextmanager
def quick():
    """Within it, `sampling.ancestral` and `sampling.gibbs` are compiled quickly."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_by_note", "_by_chord", "_sweeps"):
            patch.setattr(sampling, name, quickly(getattr(sampling, name).__wrapped__, "model", "program"))
        yield
