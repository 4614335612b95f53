"""The space that a search draws its points from, read from the words of a command line.

A field with several values, separated by commas, is a choice; ``16..128`` is a range of integers or of numbers, as the
field has them, and ``log:1e-4..1e-2`` one that is drawn by its logarithm.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxseq.common.errors import UsageError
from jaxseq.sweep import grid
from jaxseq.train import options
from jaxseq.train.experiments.base import Experiment

NUMBER = r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
RANGE = re.compile(rf"(?P<log>log:)?(?P<low>{NUMBER})\.\.(?P<high>{NUMBER})")


class Range(NamedTuple):
    """Numbers from `low` to `high`, both of them included."""

    low: float
    high: float
    is_integer: bool
    is_log: bool


class Choice(NamedTuple):
    """Values by the text of each, as the command line has it."""

    values: Mapping[str, object]


class Space(NamedTuple):
    """Fields that vary, by name, each with its range or choice, the recipe that has all other fields, and their words."""

    base: Experiment
    fields: Mapping[str, Range | Choice]
    words: Sequence[str]

    @property
    def metric(self) -> str:
        """Column of the metrics whose smallest value marks the best point."""
        return f"valid_{self.base.objective().select}"

    def experiment(self, drawn: Mapping[str, object]) -> Experiment:
        """Return the recipe of a point: numbers of ranges and texts of choices, by field.

        Raises `UsageError` for values that do not fit together, or that are judged by another metric.
        """
        values = {}
        for field, domain in self.fields.items():
            values[field] = domain.values[str(drawn[field])] if isinstance(domain, Choice) else drawn[field]
        experiment = grid.with_values(self.base, values)
        metric = f"valid_{experiment.objective().select}"
        if metric != self.metric:
            raise UsageError("points by different metrics cannot be compared", got=metric, needed=self.metric)
        return experiment


def parse(words: Sequence[str]) -> Space:
    """Return the space of a command line.

    Raises `UsageError` if no field varies, for a range without numbers or of a field that has none, and for a seed that
    varies: the luckiest one would be chosen.
    """
    ends: dict[int, re.Match[str]] = {}
    lowest = []
    for position, word in enumerate(words):
        prefix, text = _value_in(word)
        match = RANGE.fullmatch(text)
        if match is not None:
            ends[position] = match
            # The lower end stands for the range where the other words are parsed.
            text = match["low"]
        lowest.append(prefix + text)

    parts = grid.split(lowest)
    first = [part.texts[0] for part in parts]
    base = options.parse(first).experiment
    names = [
        part.field or (_flag_at(words, position) if position in ends else "") for position, part in enumerate(parts)
    ]
    if "seed" in names:
        raise UsageError("a search would choose the luckiest seed", where="--seed", needed="a single one")
    fields: dict[str, Range | Choice] = {}
    for position, (field, part) in enumerate(zip(names, parts, strict=True)):
        if not field:
            continue
        # Of two, the later one would decide where the words are parsed.
        if names.count(field) > 1:
            raise UsageError("varies twice", where=f"--{field}")
        if position in ends:
            fields[field] = _range(base, first, position, field, ends[position])
        else:
            settings = grid.settings_of(base, first, position, part)
            fields[field] = Choice({setting.text: setting.value for setting in settings})

    if not fields:
        raise UsageError("no field varies", where="--optuna", needed="one with a,b or low..high or log:low..high")
    space = Space(base, fields, words)
    _check_metric(space)
    return space


def _range(
    base: Experiment,
    first: Sequence[str],
    position: int,
    field: str,
    match: re.Match[str],
) -> Range:
    """Return the range of a field, whose ends the recipe takes. Raises `UsageError` for one that is empty."""
    # Both ends go through the checks of the command line.
    highest = first[position].removesuffix(match["low"]) + match["high"]
    top = options.parse([*first[:position], highest, *first[position + 1 :]]).experiment
    low = grid.value_of(base, field)
    high = grid.value_of(top, field)
    is_number = type(low) in (int, float) and type(high) is type(low)
    if not is_number or not low < high or not math.isfinite(high) or (match["log"] and low <= 0):
        raise UsageError("no range", where=f"--{field}", got=match[0], needed="low..high, above 0 with log:")
    return Range(low, high, is_integer=type(low) is int, is_log=bool(match["log"]))


def _check_metric(space: Space) -> None:
    """Raise `UsageError` for a choice of a loss or a head that is judged by another metric than the first one."""
    for field, domain in space.fields.items():
        # A number changes no metric.
        if isinstance(domain, Choice):
            for value in domain.values.values():
                varied = Space(grid.with_values(space.base, {field: value}), {}, ())
                if varied.metric != space.metric:
                    raise UsageError(
                        "its values are judged by different metrics",
                        where=f"--{field}",
                        got=f"{space.metric} and {varied.metric}",
                        needed="one of them for all points",
                    )


def _value_in(word: str) -> tuple[str, str]:
    """Return a word as what stands before its value, and the value."""
    if not word.startswith("--"):
        return "", word
    flag, equals, text = word.partition("=")
    return flag + equals, text


def _flag_at(words: Sequence[str], position: int) -> str:
    """Return the field of the value at a position, whose flag is in the same word or before it."""
    for word in reversed(words[: position + 1]):
        if word.startswith("--"):
            return word.partition("=")[0].removeprefix("--")
    raise UsageError("a range without a field", got=words[position])
