"""Combinations of values that the command line of a sweep stands for."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxseq.common.checks import MOST_RUNS
from jaxseq.common.errors import UsageError
from jaxseq.train import options
from jaxseq.train.experiments.base import Experiment

RANGE = re.compile(r"(\d+):(\d+)")
PLAIN_NUMBER = {int: re.compile(r"\d{1,18}", re.ASCII), float: re.compile(r"\d+(\.\d*)?(e-?\d+)?", re.ASCII)}
"""Numbers that need no parsing of the whole command line."""
MOST_PARSED = 500
"""Values of a field that may need it: a minute."""


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


class Word(NamedTuple):
    """A word of the command line, once for each value.

    field    the field that varies, empty for a word that stays the same
    texts    the word with each value
    values   the values alone
    """

    field: str
    texts: list[str]
    values: list[str]


def points(words: Sequence[str]) -> list[Point]:
    """Return every combination of the values in a command line; those of the last field vary fastest.

    Raises `UsageError` for more than `MOST_RUNS` combinations, a value that stands twice, or an invalid recipe.
    """
    parts = split(words)
    count = math.prod(len(part.texts) for part in parts)
    if count > MOST_RUNS:
        raise UsageError(
            "too many combinations", where="a sweep", got=f"{count:,} runs", needed=f"at most {MOST_RUNS:,}"
        )

    first = [part.texts[0] for part in parts]
    base = options.parse(first).experiment
    varied = [(position, part) for position, part in enumerate(parts) if part.field]
    fields = [part.field for _, part in varied]
    # Words of one option: each alone says nothing.
    if len(set(fields)) < len(fields):
        raise UsageError("only one word of an option may vary", where=f"--{max(fields, key=fields.count)}")

    settings = [settings_of(base, first, position, part) for position, part in varied]
    points = []
    for combination in itertools.product(*settings):
        values = {field: setting.text for field, setting in zip(fields, combination, strict=True)}
        changes = {field: setting.value for field, setting in zip(fields, combination, strict=True)}
        points.append(Point(values, with_values(base, changes)))
    return points


def split(words: Sequence[str]) -> list[Word]:
    """Return the words of a command line, each with its values. Raises `UsageError` for a value that stands twice."""
    parts = []
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

        field = ""
        if len(values) > 1:
            field = flag.removeprefix("--")
        parts.append(Word(field, [prefix + value for value in values], values))
    return parts


class Setting(NamedTuple):
    """A value of a field: as text, and as the recipe has it."""

    text: str
    value: object


def settings_of(base: Experiment, first: Sequence[str], position: int, part: Word) -> list[Setting]:
    """Return the values of a field as the command line of a training would parse them.

    `base` is the recipe of the words `first`, of which the one at `position` varies.
    """
    first_value = value_of(base, part.field)
    settings = [Setting(part.values[0], first_value)]
    number = type(first_value)
    parsed = 0
    for text, value in zip(part.texts[1:], part.values[1:], strict=True):
        # Parsing takes a tenth of a second, which would be minutes for thousands of values.
        if number in PLAIN_NUMBER and PLAIN_NUMBER[number].fullmatch(value):
            settings.append(Setting(value, number(value)))
            continue
        parsed += 1
        if parsed > MOST_PARSED:
            raise UsageError(
                "too many values that are no plain numbers", where=f"--{part.field}", needed=f"at most {MOST_PARSED}"
            )
        words = [*first[:position], text, *first[position + 1 :]]
        settings.append(Setting(value, value_of(options.parse(words).experiment, part.field)))
    return settings


def value_of(experiment: Experiment, field: str) -> Any:
    """Return the value of a field such as model.hidden. Raises `UsageError` for what is no field of a recipe."""
    value: object = experiment
    for name in _path(field):
        if not hasattr(value, name):
            raise UsageError("is no field of a recipe, so that it cannot vary", where=f"--{field}")
        value = getattr(value, name)
    return value


def with_values(experiment: Experiment, values: Mapping[str, object]) -> Experiment:
    """Return a recipe with other values of some fields, by name; raises as the recipe does for values that do not fit."""
    return _replaced(experiment, {tuple(_path(field)): value for field, value in values.items()})


def _path(field: str) -> list[str]:
    """Return the names of a field and of those it lies in: model.hidden is that of `experiment.model.hidden`."""
    return field.replace("-", "_").split(".")


def _replaced(base: Any, changes: Mapping[tuple[str, ...], object]) -> Any:
    """Return a dataclass with other values of some fields, by path, all set at once: some may fit together alone."""
    nested: dict[str, dict[tuple[str, ...], object]] = {}
    values: dict[str, Any] = {}
    for (name, *inner), value in changes.items():
        if inner:
            nested.setdefault(name, {})[tuple(inner)] = value
        else:
            values[name] = value
    for name, inner_changes in nested.items():
        values[name] = _replaced(getattr(base, name), inner_changes)
    return dataclasses.replace(base, **values)


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
