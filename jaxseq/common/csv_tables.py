"""Tables as CSV, which a spreadsheet must not take for formulas, and the same tables read back.

A spreadsheet computes a cell that begins with one of ``= + - @``, a tab or a carriage return: a name out of somebody's file
would be run as a formula. Such a text is written with a single quote in front, and read without it; so is a text that
begins with quotes before such a character, so that every text comes back as it was. Numbers are left as they are.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import pandas as pd

from jaxseq.common import files

FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""Beginning of a text that has to be guarded; that of one that has been guarded begins with a quote."""


def content(frame: pd.DataFrame, digits: int | None = 7) -> bytes:
    """Return a table as CSV, with numbers to this many significant digits; None keeps every digit."""
    float_format = None
    if digits is not None:
        float_format = f"%.{digits}g"
    safe = _mapped(frame, guarded)
    text = safe.to_csv(index=False, float_format=float_format, lineterminator="\n")
    # A carriage return without quotes around it would end a line for readers.
    if "\r" in text:
        text = safe.to_csv(index=False, float_format=float_format, lineterminator="\n", quoting=csv.QUOTE_ALL)
    return text.encode()


def write(path: Path, frame: pd.DataFrame, digits: int | None = 7) -> None:
    """Write a table as CSV whole or not at all, as `content` gives it. Raises `UsageError` if it cannot be written."""
    files.write(path, content(frame, digits))


def read(path: Path | io.BytesIO, **options: Any) -> pd.DataFrame:
    """Read a table that `write` has written; `options` are those of `pandas.read_csv`. Raises as that does."""
    return _mapped(pd.read_csv(path, **options), _unguarded)


def guarded(text: str) -> str:
    """Return a text as it is written into a cell."""
    if FORMULA.match(text) and not _is_number(text):
        return f"'{text}"
    return text


def _unguarded(text: str) -> str:
    if text.startswith("'") and FORMULA.match(text):
        return text[1:]
    return text


def _is_number(text: str) -> bool:
    # A quote, a space or a word is no part of a number; a number is no formula.
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text, re.ASCII) is not None


def _mapped(frame: pd.DataFrame, change: Any) -> pd.DataFrame:
    """Return a table whose texts, those of its header too, are changed by a function."""
    changed = frame.rename(columns=lambda name: change(name) if isinstance(name, str) else name)
    for number, name in enumerate(changed.columns):
        column = changed.iloc[:, number]
        # Numbers and dates begin with no formula.
        if pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_datetime64_any_dtype(column.dtype):
            continue
        changed[name] = column.map(lambda value: change(value) if isinstance(value, str) else value)
    return changed
