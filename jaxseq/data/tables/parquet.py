"""Parquet files: the only door to pyarrow."""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from jaxseq.common.errors import UsageError
from jaxseq.common.text import first_line, size_of
from jaxseq.data.tables import formats
from jaxseq.data.tables.formats import Source


def open_parquet(path: Path, source: str) -> Source:
    """Open a Parquet file, and read its size and its columns alone. Raises `UsageError`."""
    with _parquet(path, source) as file:
        rows = file.metadata.num_rows
        # A list or a struct cannot be named as a column of values.
        names = tuple("" if field.type.num_fields else field.name for field in file.schema_arrow)
        groups = range(file.metadata.num_row_groups)
        size = sum(file.metadata.row_group(group).total_byte_size for group in groups)

    if rows > formats.MAX_ROWS:
        raise UsageError(f"{source}: there are {rows:,} rows; at most {formats.MAX_ROWS:,} are read")
    if size > formats.MAX_BYTES:
        raise UsageError(
            f"{source}: the file unpacks to {size_of(size)}; at most {size_of(formats.MAX_BYTES)} are read"
        )
    if not rows:
        raise UsageError(f"{source}: the file has columns and no row; at least one is needed")
    frames = functools.partial(_parquet_frames, path, source, names)
    return Source(source, names, rows, line=_from_one, frames=frames)


def _from_one(row: int) -> int:
    return row + 1


@contextmanager
def _parquet(path: Path, source: str, texts: Sequence[str] = ()) -> Iterator[Any]:
    """Open a file with pyarrow, which keeps the `texts` as numbers of the words that occur in them."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError(
            f'{source}: Parquet needs pyarrow, which is not installed: pip install "jaxseq[parquet]"'
        ) from error
    try:
        with parquet.ParquetFile(path, read_dictionary=list(texts)) as file:
            yield file
    except (pyarrow.ArrowException, OSError, OverflowError, ValueError) as error:
        raise UsageError(f"{source}: cannot be read as Parquet: {first_line(error)}") from error


def _parquet_frames(
    path: Path, source: str, names: Sequence[str], texts: Sequence[int], numbers: Sequence[int], decimal: str
) -> Generator[pd.DataFrame, None, None]:
    """Yield the columns in pieces; numbers are numbers here, whatever their `decimal` mark."""
    del decimal
    columns = sorted({*texts, *numbers})
    column_names = [names[column] for column in columns]
    # A column of numbers may turn out to be text, and hold one long word a million times.
    with _parquet(path, source, column_names) as file:
        for batch in file.iter_batches(batch_size=formats.chunk_of(len(columns)), columns=column_names):
            frame = batch.to_pandas(ignore_metadata=True, date_as_object=False)
            yield frame.set_axis([names.index(name) for name in frame.columns], axis=1)
