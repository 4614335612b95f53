"""Rows of sequences in buckets of similar length, each padded to its own longest sequence.

One padding for all takes time and memory by the longest: 7 times the frames of a corpus of folk tunes. A bucket is a shape
that is compiled by itself, so there are few of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxseq.common.arrays import Batch

MOST_EDGES = 128
"""Maximum number of lengths that may end a bucket: quantiles, where there are more."""
LEAST_SAVING = 0.03
"""Smallest share of the padded steps that another bucket has to save."""


class Buckets(NamedTuple):
    """Rows in any order, divided by length: each part is as long as its longest row, and the last one has the longest."""

    parts: tuple[Batch, ...]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(len(part.y) for part in self.parts)

    @property
    def steps(self) -> int:
        """Number of time steps with their padding."""
        return sum(part.x.shape[0] * part.x.shape[1] for part in self.parts)


def divided(lengths: Sequence[int], most: int, batch: int) -> list[Int[np.ndarray, " _"]]:
    """Divide rows into at most `most` buckets by length, so that batches of one bucket each have the fewest time steps.

    Returns the numbers of the rows of each bucket, the shortest first; rows of equal length share a bucket. A batch that
    is not full is padded with rows, which count as well. A bucket that saves less than `LEAST_SAVING` is left out.
    """
    sizes = np.asarray(lengths)
    order = np.argsort(sizes, kind="stable")
    edges = _possible_edges(sizes[order])
    # Time steps of a bucket by its first and its last edge; a bucket has rows, so the others are never chosen.
    rows = edges[None, :] - edges[:, None]
    longest = sizes[order][edges - 1]
    costs = np.where(rows > 0, np.ceil(rows / batch) * batch * longest[None, :], np.inf)

    chosen = [0, len(edges) - 1]
    fewest = costs[0, -1]
    for count in range(2, most + 1):
        cost, cuts = _cheapest(costs, count)
        if cost > (1 - LEAST_SAVING) * fewest:
            break
        fewest, chosen = cost, cuts
    return [order[edges[first] : edges[last]] for first, last in itertools.pairwise(chosen)]


def _possible_edges(lengths: Int[np.ndarray, " n"]) -> Int[np.ndarray, " _"]:
    """Return the numbers of sorted rows at which a bucket may begin or end, from 0 to n: where the length changes."""
    changes = np.flatnonzero(np.diff(lengths)) + 1
    if len(changes) > MOST_EDGES:
        changes = changes[np.linspace(0, len(changes) - 1, MOST_EDGES).round().astype(int)]
    return np.concatenate([[0], changes, [len(lengths)]])


def _cheapest(costs: Float[np.ndarray, "m m"], count: int) -> tuple[float, list[int]]:
    """Return the least cost of `count` buckets, infinite where there are too few rows, and their edges."""
    # Cheapest way from the first edge to each one, by one more bucket in each turn (dynamic programming).
    best = costs[0]
    before: list[Int[np.ndarray, " m"]] = []
    for _ in range(count - 1):
        ways = best[:, None] + costs
        before.append(np.argmin(ways, axis=0))
        best = np.min(ways, axis=0)

    cuts = [len(costs) - 1]
    for previous in reversed(before):
        cuts.append(int(previous[cuts[-1]]))
    return float(best[-1]), [0, *reversed(cuts)]
