"""Importance of a network's inputs: by how much its error grows when they are drawn from other windows, and its gradients.

A group of inputs is a covariate, with all of its columns and time steps, or the values of some time steps of the window.
Permutation importance (Breiman 2001, Machine Learning 45(1)) exchanges a group between the windows of the test part, which
leaves its distribution as it was and takes away what it says about the target. It is the loss with exchanged inputs
relative to that of the forecast, less one; its interval is that of a skill (`confidence`), over blocks of time or series.
Inputs that say the same replace each other: exchanging one of them may cost little where the network reads both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int
from matplotlib.figure import Figure

from jaxseq.common.console import Progress
from jaxseq.common.figures import ACTUAL, FORECAST, PLAIN, headline, short
from jaxseq.common.markdown import escaped
from jaxseq.forecasting import verdict
from jaxseq.forecasting.bootstrap import Interval
from jaxseq.forecasting.confidence import skill_intervals
from jaxseq.forecasting.losses import Loss, Losses, Rows, pair_losses, skill
from jaxseq.forecasting.metrics import Values
from jaxseq.forecasting.rollout import Inputs

SINGLE_LAGS = 12
"""Longest window whose lags are groups by themselves; of longer ones a group has twice the lags of the one before."""
REPEATS = 5
"""Permutations of each group, over which the loss is averaged."""
CHANCE = "#b8b8b8"
"""Colour of a bar that chance alone could make."""
SHOWN = 20
"""Most groups that a table or a figure shows, the most important first."""

Kind: TypeAlias = Literal["lags", "covariate"]


class Layout(NamedTuple):
    """Columns of a network's input in each time step, in their order.

    window  time steps of the values; further ones have what is known ahead alone
    values  columns of the values
    past    name of the covariate of each column that is known up to the present
    masks   numbers of the columns with a mask of missing values: 0 is the value, 1 the first covariate
    known   name of the covariate of each column that is known ahead
    period  time steps of a season; 1 is none
    """

    window: int
    values: int
    past: tuple[str, ...]
    masks: tuple[int, ...]
    known: tuple[str, ...]
    period: int = 1


class Group(NamedTuple):
    """Inputs that are exchanged together.

    steps    time steps of the window
    columns  of the input
    ahead    columns of the covariates that are known beyond the input, for steps that are fed back
    """

    name: str
    kind: Kind
    steps: slice
    columns: tuple[int, ...]
    ahead: tuple[int, ...] = ()


class Targets(NamedTuple):
    """Values that were forecast, and how losses of them are compared.

    rows  places of the windows in time and among the series
    seed  of the permutations and of the bootstrap
    """

    actual: Values
    rows: Rows
    loss: Loss
    seed: int


class Importance(NamedTuple):
    """Importance of one group of inputs.

    permutation  loss with exchanged inputs over that of the forecast, less one
    interval     95 % interval of it; NaN where there are too few windows for one
    gradient     mean absolute change of the forecast, in the model's scale, over that of an input by its standard
                 deviation; summed over the inputs of the group
    """

    group: Group
    permutation: float
    interval: Interval
    gradient: float


# Groups ----------------------------------------------------------------------------------------------------------------


def groups(layout: Layout) -> list[Group]:
    """Return the groups of a network's inputs: covariates, then lags, the latest first."""
    first_mask = layout.values + len(layout.past)
    first_known = first_mask + len(layout.masks)
    mask_of = {column: first_mask + place for place, column in enumerate(layout.masks)}
    every_step = slice(None)
    listed = []
    # Texts, and an entry of the calendar, have several columns, which say nothing one by one.
    for name in dict.fromkeys(layout.past):
        columns: tuple[int, ...] = ()
        for place, other in enumerate(layout.past):
            if other == name:
                # The first mask is that of the value.
                columns += (layout.values + place, *_present(mask_of.get(place + 1)))
        listed.append(Group(name, "covariate", every_step, columns))
    for name in dict.fromkeys(layout.known):
        ahead = tuple(place for place, known in enumerate(layout.known) if known == name)
        columns = tuple(first_known + place for place in ahead)
        listed.append(Group(name, "covariate", every_step, columns, ahead))

    value_columns = (*range(layout.values), *_present(mask_of.get(0)))
    for first, last in lag_ranges(layout.window, layout.period):
        steps = slice(layout.window - last, layout.window - first + 1)
        listed.append(Group(_lag_name(first, last), "lags", steps, value_columns))
    return listed


def _present(number: int | None) -> tuple[int, ...]:
    if number is None:
        return ()
    return (number,)


def lag_ranges(window: int, period: int) -> list[tuple[int, int]]:
    """Return the first and the last lag of each group, from 1 on; that of a season stands by itself."""
    if window <= SINGLE_LAGS:
        return [(lag, lag) for lag in range(1, window + 1)]
    firsts = {2**power for power in range(window.bit_length())}
    if 1 < period <= window:
        firsts |= {period, period + 1}
    bounds = sorted(first for first in firsts if first <= window)
    bounds.append(window + 1)
    return [(first, following - 1) for first, following in pairwise(bounds)]


def _lag_name(first: int, last: int) -> str:
    if first == last:
        return f"lag {first}"
    return f"lags {first} to {last}"


# Permutations ----------------------------------------------------------------------------------------------------------


def exchanged(inputs: Inputs, group: Group, order: Int[np.ndarray, " n"]) -> Inputs:
    """Return inputs in which each row has the group of the row that `order` names."""
    x = np.array(inputs.x)
    ahead = np.array(inputs.ahead)
    for column in group.columns:
        x[:, group.steps, column] = x[order, group.steps, column]
    for column in group.ahead:
        ahead[:, :, column] = ahead[order, :, column]
    return Inputs(x, ahead)


def measure(
    forecast: Callable[[Inputs], Values],
    inputs: Inputs,
    targets: Targets,
    listed: Sequence[Group],
    *,
    gradients: Sequence[float],
    progress: Progress,
) -> list[Importance]:
    """Return the importance of each group for a forecast, a function from inputs to values in the series' units.

    `gradients` are those of each group, as `gradient_shares` returns them.
    """
    actual, rows, loss, seed = targets
    total = 1 + REPEATS * len(listed)
    plain = forecast(inputs)
    progress(1, total)
    generator = np.random.default_rng(seed)
    pairs = []
    for number, group in enumerate(listed):
        losses = []
        for repeat in range(REPEATS):
            order = generator.permutation(len(actual))
            changed_inputs = exchanged(inputs, group, order)
            changed = forecast(changed_inputs)
            losses.append(pair_losses(actual, changed, plain, rows, loss))
            progress(2 + number * REPEATS + repeat, total)
        # The draw of a permutation is not what an interval is to be about.
        mean = np.mean([pair.forecast for pair in losses], axis=0)
        pairs.append(Losses(mean, losses[0].reference, losses[0].horizon))

    intervals = skill_intervals(pairs, seed=seed)
    measured = []
    for group, pair, interval, gradient in zip(listed, pairs, intervals, gradients, strict=True):
        # A skill of -0.3 is a loss that has grown by 0.3.
        permutation = -skill(pair)
        ends = Interval(-interval.high, -interval.low)
        measured.append(Importance(group, permutation, ends, gradient))
    return measured


# Gradients -------------------------------------------------------------------------------------------------------------


def absolute_gradients(
    forecast: Callable[[Float[Array, "b t d"], Float[Array, "b v s"]], Float[Array, "b k"]],
    x: Float[Array, "b t d"],
    ahead: Float[Array, "b v s"],
) -> tuple[Float[Array, "t d"], Float[Array, "v s"]]:
    """Return the absolute gradient of a forecast by each input, the mean over rows and steps of the horizon.

    Each row's forecast may depend on its own inputs alone.
    """
    centre, pull_back = jax.vjp(forecast, x, ahead)

    def of_step(step: Float[Array, "k"]) -> tuple[Float[Array, "t d"], Float[Array, "v s"]]:
        by_x, by_ahead = pull_back(jnp.broadcast_to(step, centre.shape).astype(centre.dtype))
        return jnp.abs(by_x).mean(axis=0), jnp.abs(by_ahead).mean(axis=0)

    # One step after the other: the gradients of a long horizon would not fit into memory together.
    by_x, by_ahead = jax.lax.map(of_step, jnp.eye(centre.shape[1]))
    return by_x.mean(axis=0), by_ahead.mean(axis=0)


def gradient_shares(
    listed: Sequence[Group],
    inputs: Inputs,
    by_x: Float[np.ndarray, "t d"],
    by_ahead: Float[np.ndarray, "v s"],
) -> list[float]:
    """Return the gradient of each group: absolute gradients times the inputs' standard deviations, summed."""
    scaled_x = by_x * np.std(np.asarray(inputs.x, np.float64), axis=0)
    scaled_ahead = by_ahead * np.std(np.asarray(inputs.ahead, np.float64), axis=0)
    sums = []
    for group in listed:
        in_window = scaled_x[group.steps, list(group.columns)]
        beyond = scaled_ahead[:, list(group.ahead)]
        sums.append(float(in_window.sum() + beyond.sum()))
    return sums


# Tables and figure -----------------------------------------------------------------------------------------------------


def table(measured: Sequence[Importance]) -> pd.DataFrame:
    """Return a row for each group: input, kind, permutation with both ends of its interval, gradient."""
    rows = [
        {
            "input": importance.group.name,
            "kind": importance.group.kind,
            "permutation": importance.permutation,
            "low_95%": importance.interval.low,
            "high_95%": importance.interval.high,
            "gradient": importance.gradient,
        }
        for importance in measured
    ]
    return pd.DataFrame(rows)


def ranked(measured: Sequence[Importance]) -> list[Importance]:
    """Return the groups with the largest permutation importance, that one first."""
    return sorted(measured, key=lambda importance: -importance.permutation)[:SHOWN]


def markdown(measured: Sequence[Importance], loss_name: str) -> str:
    """Return the ranked groups as a Markdown table; `loss_name` is the mean loss that grows."""
    total = sum(importance.gradient for importance in measured)
    lines = [f"| input | {loss_name}, relative change | 95 % interval | gradient |", "|---|---:|---:|---:|"]
    for importance in ranked(measured):
        name = escaped(importance.group.name)
        low, high = importance.interval
        ends = verdict.DASH
        if not math.isnan(low):
            ends = f"{verdict.signed(low)} to {verdict.signed(high)}"
        share = verdict.DASH
        if total:
            share = f"{importance.gradient / total:.1%}".replace("%", " %")
        change = verdict.signed(importance.permutation)
        lines.append(f"| {name} | {change} | {ends} | {share} |")
    return "\n".join(lines)


def figure(measured: Sequence[Importance], loss_name: str, title: str) -> Figure:
    """Draw the ranked groups as bars with their intervals."""
    shown = ranked(measured)[::-1]
    places = np.arange(len(shown))
    with matplotlib.rc_context(PLAIN):
        picture = Figure(figsize=(8, 1.6 + 0.28 * len(shown)), layout="constrained")
        axes = picture.add_subplot()
        for place, importance in zip(places, shown, strict=True):
            color = FORECAST
            # Chance alone could make it, for all that is known.
            if not importance.interval.low > 0:
                color = CHANCE
            axes.barh(place, importance.permutation, color=color, height=0.7)
            axes.plot(importance.interval, [place, place], color=ACTUAL, lw=1)
        axes.axvline(0, color=ACTUAL, lw=0.8)
        axes.set_yticks(places, [short(importance.group.name) for importance in shown])
        axes.set_xlabel(f"{loss_name} with inputs of other windows, relative change; {_grey_words(shown)}")
        axes.grid(axis="y", visible=False)
        headline(picture, title)
    return picture


def _grey_words(shown: Sequence[Importance]) -> str:
    """Return why bars are grey; few windows have no intervals."""
    has_interval = [not math.isnan(importance.interval.low) for importance in shown]
    if not any(has_interval):
        return "grey: too few windows for an interval"
    if not all(has_interval):
        return "grey: the interval reaches 0, or there is none"
    return "grey: the interval reaches 0"
