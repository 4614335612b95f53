"""Reliability of probabilities: whether events come as often as they are forecast, in tenths of the forecasts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

GROUPS = 10
"""Groups of the forecasts, by deciles of the probability."""


class Group(NamedTuple):
    """Forecasts of about one probability: their number, their mean, and the share of events that came."""

    forecasts: int
    mean: float
    came: float


def by_deciles(actual: Float[np.ndarray, " n"], probability: Float[np.ndarray, " n"]) -> list[Group]:
    """Group forecasts by the deciles of their probability; equal ones stay together, and unknown events are left out."""
    known = np.isfinite(actual)
    probabilities = probability[known]
    events = actual[known]
    if not len(events):
        return []
    edges = np.unique(np.quantile(probabilities, np.linspace(0, 1, GROUPS + 1)[1:-1]))
    number = np.searchsorted(edges, probabilities, side="left")
    groups = []
    for place in np.unique(number):
        members = number == place
        group = Group(
            forecasts=int(members.sum()),
            mean=float(probabilities[members].mean()),
            came=float(events[members].mean()),
        )
        groups.append(group)
    return groups


def markdown(groups: Sequence[Group]) -> str:
    """Return the groups as a Markdown table."""
    lines = ["| forecasts | mean probability | share that came |", "|---:|---:|---:|"]
    lines += [f"| {group.forecasts:,} | {group.mean:.3f} | {group.came:.3f} |" for group in groups]
    return "\n".join(lines)
