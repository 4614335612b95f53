"""The cells of a column as numbers, times or texts."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from jaxseq.common.errors import UsageError
from jaxseq.common.text import shown
from jaxseq.data.dates import Dates, forms, parse, timestamps
from jaxseq.data.tables.formats import MISSING_VALUES, Source

NUMBER = re.compile(r"\s*[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf(inity)?)\s*", re.ASCII | re.IGNORECASE)
_SWAP = str.maketrans(",.", ".,")


class NotANumber(UsageError):
    """A text among numbers; the one in the highest `row` belongs to the decimal mark that fits best."""

    def __init__(self, message: str, row: int) -> None:
        super().__init__(message)
        self.row = row


def words_of(column: pd.Series) -> tuple[Int[np.ndarray, " n"], pd.Index]:
    """Return the texts that occur in a column, stripped, and the number of each row's text; "" where there is none."""
    numbers, values = pd.factorize(column.astype(object))
    words = ["" if value is None else str(value).strip() for value in values]
    return np.where(numbers < 0, len(words), numbers), pd.Index([*words, ""], dtype=object)


def read_numbers(column: pd.Series, decimal: str, file: Source, number: int, start: int) -> Float[np.ndarray, " n"]:
    """Return the numbers of a column. Raises `NotANumber` for the first other value."""
    # pandas has read the whole piece as numbers, exactly.
    if column.dtype.kind in "biuf":
        return column.to_numpy(np.float64)

    result = np.empty(len(column))
    for row, value in enumerate(column.astype(object)):
        as_number = number_of(value, decimal)
        if as_number is None:
            hint = ""
            if re.search(r"\d,\d", str(value)):
                hint = "; write a decimal point and no mark for thousands"
            raise NotANumber(
                f"{file.where(number, start + row)}: {shown(_plain(value))} is not a number{hint}", start + row
            )
        result[row] = as_number
    return result


def _plain(value: object) -> str:
    if isinstance(value, str):
        return value
    return str(value)


def number_of(value: object, decimal: str) -> float | None:
    """Return a value of a column that pandas does not take for numbers; None if it is no number."""
    if value is None or value is pd.NaT or value is pd.NA:
        return math.nan
    if isinstance(value, str):
        # pandas recognises a missing value only without spaces.
        if value.strip() in MISSING_VALUES:
            return math.nan
        text = value
        if decimal != ".":
            text = value.translate(_SWAP)
        if not NUMBER.fullmatch(text):
            return None
        return float(text)
    if type(value) is int:
        # An integer beyond float64 becomes infinite only if it is read as a text.
        return float(str(value))
    if isinstance(value, int | float | Decimal):
        return float(value)
    return None


def read_texts(column: pd.Series, places: dict[str, int]) -> Float[np.ndarray, " n"]:
    """Return the place of each row's text, NaN where there is none, and add new ones to `places`."""
    numbers, words = words_of(column)
    codes = np.full(len(words), math.nan)
    for number, word in enumerate(words):
        # Only an empty cell has no text: NA may be one.
        if word:
            codes[number] = places.setdefault(word, len(places))
    return codes[numbers]


def read_times(
    column: pd.Series, readings: dict[str, list[Dates]], where: Callable[[int], str]
) -> dict[str, list[Dates]]:
    """Return `readings` with this piece of the column, in every form that fits all pieces. Raises `UsageError`."""
    if column.dtype.kind == "M":
        pieces = {"timestamp in whole microseconds, year 2 to 9998": timestamps(column)}
    else:
        numbers, words = words_of(column)
        possible_forms = readings or forms(words[numbers[0]])
        pieces = {form: parse(words, form).take(numbers) for form in possible_forms}
    fitting = {form: [*readings.get(form, []), dates] for form, dates in pieces.items() if np.all(dates.read)}
    if fitting:
        return fitting

    # The form that gets farthest is the one that was meant.
    row, form = max(((int(np.argmin(dates.read)), form) for form, dates in pieces.items()), default=(0, ""))
    world = column
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        world = column.dt.tz_convert(None)
    value = world.to_numpy()[row]
    if pd.isna(value) or not str(value).strip():
        raise UsageError(f"{where(row)}: there is no date; every row needs one")
    rule = "a date, such as 2020-01-31, or an integer"
    if form:
        rule = f"a time in the form of the first row ({form})"
    raise UsageError(f"{where(row)}: {shown(_plain(value))} is not {rule}")
