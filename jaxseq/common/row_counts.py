"""Numbers of rows that share compiled programs.

JAX compiles a program for each shape. A prediction of n rows is therefore one of `shared(n)` rows, filled up with copies
of the first row, whose results are cut off. They come last: the result of a row must not depend on the rows after it. The
rows of a network's batch see no other at all, the time steps of a series those before them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Array, Shaped

from jaxseq.common.errors import UsageError


def shared(rows: int, batch: int | None = None) -> int:
    """Return the number of rows that `rows` are filled up to: at most a quarter more.

    Rows that are computed in batches, of at most `batch` rows, are filled up to a number of batches beyond the first.
    """
    if batch is None:
        return _rounded_up(rows)
    if rows <= batch:
        return min(_rounded_up(rows), batch)
    batches = -(-rows // batch)
    return _rounded_up(batches) * batch


def filled_up(x: Shaped[np.ndarray, "n *d"], rows: int) -> Shaped[np.ndarray, "m *d"]:
    """Return the rows of x, and copies of the first one up to a number of `rows`."""
    copies = np.repeat(x[:1], rows - len(x), axis=0)
    return np.concatenate([x, copies])


def computed(
    function: Callable[[Shaped[np.ndarray, "m *d"]], Shaped[Array, "m *k"]],
    x: Shaped[np.ndarray, "n *d"],
    batch: int | None = None,
) -> Shaped[np.ndarray, "n *k"]:
    """Return what a function gives for each row of x; it is called with a number of rows that is shared.

    The result of a row may depend on the rows before it, and on none after it. Raises `UsageError` where there is no row.
    """
    if not len(x):
        raise UsageError("no rows", where="x", got=f"the shape {x.shape}", needed="at least one row")
    results = function(filled_up(x, shared(len(x), batch)))
    # Cut by numpy, as JAX compiles a cut for each number of rows.
    return np.asarray(results)[: len(x)]


def _rounded_up(count: int) -> int:
    """Round up to three significant binary digits, at most a quarter more: 1 to 8, 10, 12, 14, 16, 20, ..."""
    unit = 2 ** max(0, count.bit_length() - 3)
    return -(-count // unit) * unit
