"""Combinations of values that the command line of a sweep stands for."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from jaxseq.common.errors import UsageError
from jaxseq.train import options
from jaxseq.train.experiments.base import Experiment

MAX_RUNS = 10_000
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

    Raises `UsageError` for more than `MAX_RUNS` combinations, a value that stands twice, or an invalid recipe.
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
    if count > MAX_RUNS:
        raise UsageError(f"a sweep of {count} runs is too large; needed at most {MAX_RUNS}")
    return [_point(fields, combination) for combination in itertools.product(*choices)]


def _point(fields: Sequence[str], words: Sequence[str]) -> Point:
    values = {}
    for field, word in zip(fields, words, strict=True):
        # Words without a field stand for themselves in every combination.
        if field:
            values[field] = word.partition("=")[2] if word.startswith("--") else word
    return Point(values, options.parse(list(words)).experiment)


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
        if not first < last <= first + MAX_RUNS:
            raise UsageError("a range is empty or too long", got=part, needed=f"1 to {MAX_RUNS} integers")
        values.extend(map(str, range(first, last)))
    return values
