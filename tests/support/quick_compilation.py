"""Programs compiled without most of XLA's optimisations."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax

_QUICK = jax.make_user_context(False)
"""Part of the key of every program that JAX keeps in memory: none is taken from inside the context outside, or back."""


@contextmanager
def quick_compilation() -> Iterator[None]:
    """Compile without most of XLA's optimisations, which take longer than all that a small test computes.

    For tests of values against an oracle or against one another, and of what is written and said. Timings, and claims
    about the optimised program, such as that two processes compute the same bits, stay outside.
    """
    before = jax.config.values["jax_disable_most_optimizations"]
    with _QUICK(True):
        jax.config.update("jax_disable_most_optimizations", True)
        try:
            yield
        finally:
            jax.config.update("jax_disable_most_optimizations", before)
