"""Tables in memory, of pandas, polars or Arrow: the only door to narwhals, through which all of them are read."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections import Counter
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import narwhals as nw
import numpy as np
import pandas as pd

from jaxseq.common.errors import UsageError
from jaxseq.common.text import shown
from jaxseq.data.tables import formats
from jaxseq.data.tables.formats import Source

if TYPE_CHECKING:
    from narwhals.typing import IntoDataFrame, IntoSeries

    IntoFrame: TypeAlias = IntoDataFrame | IntoSeries
else:
    # narwhals decides on the object itself, with an error of its own.
    IntoFrame: TypeAlias = object
"""A DataFrame or Series of pandas or polars, an Arrow table, or any other eager frame that narwhals reads."""

PREFIX = "frame:"
"""Beginning of the text of a `Frame`; the sha256 of its contents follows."""
UNNAMED_SERIES = "value"
"""Name of the column of a Series that has none."""
UNNAMED_DATES = "date"
"""Name of the column of an index of dates that has none."""

_TEXT = re.compile(f"{PREFIX}[0-9a-f]{{64}}")


class Frame(str):
    """A table in memory, which stands where the path of a file does.

    As a text it is `PREFIX` and the sha256 of its contents: that is what a run's `config.json` keeps of it, and frames of
    equal contents are equal. The contents are a copy, so that later changes of the user's frame have no effect.

    names    of the columns; empty for nested columns, which nothing can name
    columns  their values; labels are the numbers of the columns
    """

    names: tuple[str, ...]
    columns: pd.DataFrame

    def __new__(cls, names: tuple[str, ...], columns: pd.DataFrame) -> Frame:
        """Make a frame of columns that nothing else changes."""
        frame = super().__new__(cls, PREFIX + _sha256(names, columns))
        frame.names = names
        frame.columns = columns
        return frame

    def __reduce__(self) -> tuple[object, ...]:
        return Frame, (self.names, self.columns)

    def __deepcopy__(self, memo: dict[int, object]) -> Frame:
        # `dataclasses.asdict` copies the fields of a recipe, and nothing changes a frame.
        return self


def label(path: str) -> str:
    """Return a path as messages and titles show it: that of a frame with the first digits of its hash."""
    if not is_frame(path):
        return path
    return f"frame {path.removeprefix(PREFIX)[:8]}"


def is_frame(path: str) -> bool:
    """Return whether a text stands for a table in memory, which this process may not have."""
    return _TEXT.fullmatch(path) is not None


def in_memory(frame: IntoFrame) -> Frame:
    """Copy a DataFrame, a Series or an Arrow table.

    A pandas index that has a name or holds dates is a column, as in `frame.to_csv()`; any other index is left out.

    Raises `UsageError` for other objects, for a frame that is too large, and for names that are there twice.
    """
    if isinstance(frame, pd.Series):
        frame = frame.to_frame(UNNAMED_SERIES if frame.name is None else frame.name)
    if isinstance(frame, pd.DataFrame):
        if frame.columns.nlevels > 1:
            raise UsageError("the names of columns have several levels", where="frame", needed="one: flatten the names")
        frame = _with_index(frame)
        _check_names([str(name) for name in frame.columns])
        # Labels may be numbers, which no option can name.
        frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    try:
        table = nw.from_native(frame, eager_only=True, allow_series=True)
    except TypeError as error:
        needed = "a DataFrame or Series of pandas or polars (eager), or an Arrow table"
        raise UsageError("no table in memory", where="frame", got=type(frame).__name__, needed=needed) from error
    except nw.exceptions.DuplicateError as error:
        raise UsageError("names of columns must differ", where="frame") from error
    if isinstance(table, nw.Series):
        table = table.alias(table.name or UNNAMED_SERIES).to_frame()

    _check_names(table.columns)
    _check_size(*table.shape)
    names = []
    columns = {}
    for number, (name, dtype) in enumerate(table.schema.items()):
        # As in a Parquet file, a list or a struct cannot be named as a column of values.
        is_nested = dtype.is_nested()
        names.append("" if is_nested else name)
        columns[number] = pd.Series([None] * len(table), dtype=object) if is_nested else _copied(table[name])
    return Frame(tuple(names), pd.DataFrame(columns))


def open_frame(frame: Frame) -> Source:
    """Return a frame as a source of columns, whose rows are counted from 0, as by `iloc`."""
    return Source(
        source=label(frame),
        names=frame.names,
        rows=len(frame.columns),
        line=_position,
        frames=functools.partial(_frames, frame),
    )


def _position(row: int) -> int:
    return row


def _frames(
    frame: Frame, texts: Sequence[int], numbers: Sequence[int], decimal: str
) -> Generator[pd.DataFrame, None, None]:
    """Yield the columns in one piece; they have their types, whatever the `decimal` mark."""
    del decimal
    yield frame.columns[sorted({*texts, *numbers})]


def _with_index(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a pandas frame with its index as columns, if that has a name or holds dates, else without it."""
    index = frame.index
    names = list(index.names)
    if names == [None] and isinstance(index, pd.DatetimeIndex | pd.PeriodIndex):
        names = [UNNAMED_DATES]
    # An index that is a column, too, says nothing new.
    if all(name is None for name in names) or set(names) & set(frame.columns):
        return frame.reset_index(drop=True)
    return frame.set_axis(index.set_names(names)).reset_index()


def _check_names(names: Sequence[str]) -> None:
    """Raise `UsageError` for a name that two columns have."""
    for name, count in Counter(names).items():
        if count > 1:
            raise UsageError(f"column {shown(name)} is there {count} times; names must differ", where="frame")


def _check_size(rows: int, columns: int) -> None:
    """Raise `UsageError` for a frame without rows, or with more than is read of a file."""
    if not rows:
        raise UsageError("no rows", where="frame", got=0, needed="at least 1")
    if rows > formats.MAX_ROWS:
        raise UsageError("too many rows", where="frame", got=rows, needed=f"at most {formats.MAX_ROWS:,}")
    if columns > formats.MAX_COLUMNS:
        raise UsageError("too many columns", where="frame", got=columns, needed=f"at most {formats.MAX_COLUMNS:,}")


def _copied(column: nw.Series[Any]) -> pd.Series:
    """Return a column of narwhals as a copy in numpy's types, and as objects where numpy has no type for it."""
    dtype = column.dtype
    is_integer = dtype.is_integer() and not isinstance(dtype, nw.Int128 | nw.UInt128)
    if dtype.is_float() or is_integer or isinstance(dtype, nw.Boolean):
        # Integers and truth values have no mark for a missing value in numpy.
        if not dtype.is_float() and column.null_count():
            column = column.cast(nw.Float64)
        return pd.Series(np.array(column.to_numpy()))

    if isinstance(dtype, nw.Date):
        return _at_moments(column.cast(nw.Datetime("us")))
    if isinstance(dtype, nw.Datetime) and dtype.time_zone is None:
        return _at_moments(column)
    if isinstance(dtype, nw.Datetime):
        # Moments in UTC are the same for every library, unlike hours on a local clock.
        in_utc = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return _at_moments(in_utc).dt.tz_localize("UTC").dt.tz_convert(dtype.time_zone)
    return pd.Series(column.to_list(), dtype=object)


def _at_moments(column: nw.Series[Any]) -> pd.Series:
    """Return times without a zone, in microseconds where these are exact, so that equal frames have equal units."""
    moments = pd.Series(np.array(column.to_numpy()))
    in_microseconds = moments.to_numpy().astype("datetime64[us]")
    is_exact = (in_microseconds == moments.to_numpy()) | np.isnat(in_microseconds)
    if np.all(is_exact):
        return pd.Series(in_microseconds)
    return moments


def _sha256(names: Sequence[str], columns: pd.DataFrame) -> str:
    """Return the hash of names, types and values, which is the same for equal frames of any library."""
    digest = hashlib.sha256(json.dumps([list(names), len(columns)]).encode())
    for number in columns:
        column = columns[number]
        digest.update(f"{column.dtype}".encode())
        if isinstance(column.dtype, pd.DatetimeTZDtype):
            column = column.dt.tz_convert(None)
        if column.dtype.kind in "biufM":
            digest.update(np.ascontiguousarray(column.to_numpy()).view(np.uint8).data)
            continue
        texts = [None if missing else str(value) for value, missing in zip(column, column.isna(), strict=True)]
        digest.update(json.dumps(texts).encode())
    return digest.hexdigest()
