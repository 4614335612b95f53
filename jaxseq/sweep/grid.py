"""Combinations of values that the command line of a sweep stands for."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from jaxseq.common.checks import MOST_RUNS
from jaxseq.common.errors import UsageError
from jaxseq.train import options
from jaxseq.train.experiments.base import Experiment

RANGE = re.compile(r"(\d+):(\d+)")


class Point(NamedTuple):
    """A combination of values.

    values      text of each field that varies, by the field's name
    experiment  the recipe with these values
    """

    values: dict[str, str]
    experiment: Experiment

    @property
    def name(self) -> str:
        """Name of the run's folder: the experiment, then the fields that vary, each with its value."""
        parts = [self.experiment.name]
        for field, value in self.values.items():
            parts.append(f"{field.rpartition('.')[2]}-{value}")
        return re.sub(r"[^\w.=+-]", "_", "-".join(parts))


def points(words: Sequence[str]) -> list[Point]:
    """Return every combination of the values in a command line; those of the last field vary fastest.

    Raises `UsageError` for more than `MOST_RUNS` combinations, a value that stands twice, or an invalid recipe.
    """
    choices: list[list[str]] = []
    fields: list[str] = []
    flag = ""
    for word in words:
        # `--flag=value` is one word; otherwise the value is the word after `--flag`.
        prefix = ""
        text = word
        if word.startswith("--"):
            flag, equals, text = word.partition("=")
            prefix = flag + equals
        is_value = bool(flag) and prefix != flag
        values = _expand(text) if is_value else [text]
        if len(set(values)) < len(values):
            raise UsageError("a value stands twice", where=flag, got=text)
        choices.append([prefix + value for value in values])
        fields.append(flag.removeprefix("--") if len(values) > 1 else "")

    count = math.prod(map(len, choices))
    if count > MOST_RUNS:
        raise UsageError(
            "too many combinations", where="a sweep", got=f"{count:,} runs", needed=f"at most {MOST_RUNS:,}"
        )
    recipes: dict[tuple[str, ...], Experiment] = {}
    return [_point(fields, combination, recipes) for combination in itertools.product(*choices)]


def _point(fields: Sequence[str], words: Sequence[str], recipes: dict[tuple[str, ...], Experiment]) -> Point:
    """Return one combination; `recipes` keeps those with the seed 0, by their words."""
    values = {}
    without_seed = []
    for field, word in zip(fields, words, strict=True):
        # Words without a field stand for themselves in every combination.
        if field:
            values[field] = word.partition("=")[2] if word.startswith("--") else word
        if field == "seed" and values[field].isdecimal():
            word = word.removesuffix(values[field]) + "0"
        without_seed.append(word)

    # Parsing takes some milliseconds, which would be minutes for thousands of seeds.
    key = tuple(without_seed)
    if key not in recipes:
        recipes[key] = options.parse(without_seed).experiment
    experiment = recipes[key]
    if key != tuple(words):
        experiment = dataclasses.replace(experiment, seed=int(values["seed"]))
    return Point(values, experiment)


def _expand(text: str) -> list[str]:
    """Return the values of a list with commas; a part a:b stands for the integers from a to b - 1."""
    values = []
    for part in text.split(","):
        ends = RANGE.fullmatch(part)
        if ends is None:
            values.append(part)
            continue
        first, last = map(int, ends.groups())
        # Bounded here: a mistyped end would fill the memory before the runs are counted.
        if not first < last <= first + MOST_RUNS:
            raise UsageError("a range is empty or too long", got=part, needed=f"1 to {MOST_RUNS} integers")
        values.extend(map(str, range(first, last)))
    return values
