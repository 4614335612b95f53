"""Series that are 0 throughout, and those that begin with zeros as if they began later."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from jaxseq.common.errors import UsageError
from jaxseq.data.panel import Panel
from jaxseq.data.windows import called, summarise_failures

FEWEST_ZEROS = 10
"""Zeros at the beginning of a series from which on it may be one that began later."""


def check_zeros(panel: Panel) -> None:
    """Raise `UsageError` for series of which every known value is 0."""
    failures = []
    for number, name in enumerate(panel.names):
        values = panel.known_values(number)
        if not np.any(np.nan_to_num(values)):
            rule = f"all {len(values):,} values are 0: nothing can be learnt"
            failures.append((name, UsageError(f"{called(name)}: {rule}")))
    if failures:
        raise UsageError(
            f"{panel.opening}{summarise_failures('0 throughout', failures, len(panel.names))}{panel.way_out}"
        )


def zero_notes(panel: Panel) -> tuple[str, ...]:
    """Name the series that begin with zeros as if they began later; no note if there is none."""
    zeros = {}
    for number, name in enumerate(panel.names):
        leading = leading_zeros(panel.known_values(number))
        if leading:
            zeros[name] = leading
    if not zeros:
        return ()

    listed = ", ".join(f"{called(name)} ({leading:,} zeros)" for name, leading in list(zeros.items())[:5])
    if len(zeros) > 5:
        listed = f"{listed}, …"
    subject = f"{len(zeros):,} of {len(panel.names):,} series may begin later than the data, with zeros before"
    return (f"{subject}: {listed}; the network learns from these rows unless you leave them out",)


def leading_zeros(values: Float[np.ndarray, "_"]) -> int:
    """Return the zeros that a series begins with; 0 where they are few, or where it has such stretches later as well.

    Few are less than `FEWEST_ZEROS`, and a later stretch is one that is more than half as long.
    """
    # A missing value among the zeros ends no stretch.
    others = np.flatnonzero(np.nan_to_num(values))
    if not len(others) or others[0] < FEWEST_ZEROS:
        return 0
    ends = np.append(others, len(values))
    longest_later = int(np.diff(ends).max()) - 1
    if 2 * longest_later > others[0]:
        return 0
    return int(others[0])
