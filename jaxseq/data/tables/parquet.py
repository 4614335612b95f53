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
    """A Parquet file, of which nothing is read but its size and its columns. Raises `UsageError`."""
    with _parquet(path, source) as file:
        rows, schema = file.metadata.num_rows, file.schema_arrow
        # a list or a struct cannot be asked for, as a column without a name
        names = tuple("" if field.type.num_fields else field.name for field in schema)
        size = sum(file.metadata.row_group(group).total_byte_size for group in range(file.metadata.num_row_groups))
    if rows > formats.MAX_ROWS:
        raise UsageError(f"{source}: there are {rows:,} rows; at most {formats.MAX_ROWS:,} are read")
    if size > formats.MAX_BYTES:
        raise UsageError(
            f"{source}: the file unpacks to {size_of(size)}; at most {size_of(formats.MAX_BYTES)} are read"
        )
    if not rows:
        raise UsageError(f"{source}: the file has columns and no row; at least one is needed")
    return Source(source, names, rows, _from_one, functools.partial(_parquet_frames, path, source, names))


def _from_one(row: int) -> int:
    return row + 1


@contextmanager
def _parquet(path: Path, source: str, texts: Sequence[str] = ()) -> Iterator[Any]:
    """The file behind pyarrow's reader, with text kept as numbers of the words that occur in it."""
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
    del decimal  # numbers are numbers here
    wanted = sorted({*texts, *numbers})
    # of all columns: one of numbers may turn out to be text, and hold one long word a million times
    with _parquet(path, source, [names[column] for column in wanted]) as file:
        for batch in file.iter_batches(
            batch_size=formats.chunk_of(len(wanted)), columns=[names[column] for column in wanted]
        ):
            frame = batch.to_pandas(ignore_metadata=True, date_as_object=False)
            yield frame.set_axis([names.index(name) for name in frame.columns], axis=1)
